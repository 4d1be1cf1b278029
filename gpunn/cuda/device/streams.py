"""Work of the host as work of a stream: how libraries that are served by NumPy keep to the order of streams."""

from __future__ import annotations

from collections.abc import Callable

from gpunn.cuda import device


def enqueue(stream: int, work: Callable[[], object]) -> None:
    """Have ``work()`` done when the stream with this handle comes to it.

    In the eager mode that is now, and what it raises comes through. Late, or when a captured graph is launched, the
    device is broken by it, as by a kernel that fails: every later call raises, and says why.
    """
    from cupy_backends.cuda.api import runtime

    raised: list[BaseException] = []
    returned = False

    def call(_: int) -> None:
        try:
            work()
        except BaseException as error:
            if returned:
                device.fail(error)
            else:
                raised.append(error)

    runtime.launchHostFunc(stream, call, 0)
    returned = True
    if raised:
        raise raised[0]
