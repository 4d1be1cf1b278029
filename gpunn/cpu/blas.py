"""NumPy's BLAS on one thread, while several threads call it: theirs and its own would wait for each other.

OpenBLAS, which NumPy's wheels bring, has one number of threads for the whole process, and no other way to change it
than its C functions. Where they are not found (another BLAS, Windows) nothing changes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Lock

_NAMES = [
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
]
_lock = Lock()
_uses = _before = 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it BLAS computes in the thread that calls it, whoever calls; afterwards as it did before."""
    global _uses, _before
    functions = _functions()
    if functions is None:
        yield
        return
    threads, change = functions
    with _lock:
        _uses += 1
        if _uses == 1:
            _before = threads()
            change(1)
    try:
        yield
    finally:
        with _lock:
            _uses -= 1
            if _uses == 0:
                change(_before)


@lru_cache(1)
def _functions() -> tuple[Callable[[], int], Callable[[int], object]] | None:
    """Those that tell and change the number of threads."""
    try:
        from numpy.linalg import _umath_linalg  # no public name of NumPy's, but linked with its BLAS

        library = ctypes.CDLL(_umath_linalg.__file__)
    except (ImportError, OSError):
        return None
    for name in _NAMES:
        threads, change = (getattr(library, name.format(verb), None) for verb in ("get", "set"))
        if threads is not None and change is not None:
            return threads, change
    return None


def _restore() -> None:
    """In a forked child, where the threads that were within are not."""
    global _lock, _uses
    functions = _functions() if _uses else None
    if functions is not None:
        functions[1](_before)
    _lock, _uses = Lock(), 0


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_restore)
