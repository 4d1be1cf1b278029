"""Work of the host as work of a stream: how libraries that are served by NumPy keep to the order of streams."""

from __future__ import annotations

from collections.abc import Callable


def enqueue(stream: int, work: Callable[[], object]) -> None:
    """Have ``work()`` done when the stream with this handle comes to it.

    In the eager mode that is now, and what it raises comes through; late, or when a captured graph is launched, Python
    prints it as an exception that nobody can catch.
    """
    from cupy_backends.cuda.api import runtime

    raised: list[BaseException] = []
    returned = False

    def call(_: int) -> None:
        try:
            work()
        except BaseException as error:
            if returned:
                raise
            raised.append(error)

    runtime.launchHostFunc(stream, call, 0)
    returned = True
    if raised:
        raise raised[0]
