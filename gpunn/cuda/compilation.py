"""What is told while a kernel is compiled: to the log, to listeners, and as a sum.

A kernel is compiled when it is first launched, so it is in the middle of a computation that the user waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from gpunn.cuda import cache


@dataclass
class Compilation:
    """One run of a compiler: what it makes, and the wall time it took, None while it is under way.

    >>> str(Compilation("pool.cu for sm_90"))  # doctest: +ELLIPSIS
    'compiling pool.cu for sm_90 (first use; kept in ...)'
    """

    what: str
    kernel: bool = True
    """False for the emulator's own runtime."""
    seconds: float | None = None

    def __str__(self) -> str:
        return f"compiling {self.what} (first use; kept in {cache.folder()})"


class Compiled(NamedTuple):
    """How many kernels were compiled, a specialisation each, and the wall time of the compilers.

    >>> str(Compiled(12, 3.42))
    'compiled 12 kernels in 3.4 s; kept for the next run'
    """

    kernels: int
    seconds: float

    def plus(self, done: Compilation) -> Compiled:
        """These and ``done``."""
        return Compiled(self.kernels + done.kernel, self.seconds + (done.seconds or 0.0))

    def __str__(self) -> str:
        counted = "1 kernel" if self.kernels == 1 else f"{self.kernels} kernels"
        return f"compiled {counted} in {self.seconds:.1f} s{'; kept for the next run' if cache.is_kept() else ''}"


Listener = Callable[[Compilation], None]

_listeners: list[Listener] = []
_total = Compiled(0, 0.0)
_lock = threading.Lock()


def compiled() -> Compiled:
    """What this process has compiled so far."""
    return _total


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within this context ``listener`` is called at the beginning of each compilation, in any thread, and at its end.

    >>> with listening(lambda compilation: print(compilation.what, compilation.seconds is None)):
    ...     with compiling("pool.cu for sm_90"):
    ...         pass
    pool.cu for sm_90 True
    pool.cu for sm_90 False
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def compiling(what: str, kernel: bool = True) -> Iterator[None]:
    """A context in which a compiler runs; the logger ``gpunn`` says so at INFO, and at DEBUG how long it took."""
    global _total
    import logging  # it would slow down every `import gpunn`

    logger = logging.getLogger("gpunn")
    compilation = Compilation(what, kernel)
    logger.info("%s", compilation)
    for listener in tuple(_listeners):
        listener(compilation)
    begin = time.perf_counter()
    try:
        yield
    except BaseException:
        compilation.kernel = False
        raise
    finally:
        compilation.seconds = time.perf_counter() - begin
        with _lock:
            _total = _total.plus(compilation)
        for listener in tuple(_listeners):
            listener(compilation)
        logger.debug("compiled %s in %.2f s", what, compilation.seconds)
