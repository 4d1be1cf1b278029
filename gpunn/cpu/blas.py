"""NumPy's BLAS on one thread, while others compute, and for what is small: threads would wait for each other.

OpenBLAS, which NumPy's wheels bring, has one number of threads for the whole process, and no other way to change it
than its C functions. Where they are not found (another BLAS, Windows) nothing changes.

A thread of OpenBLAS that has done its part asks for more in a loop for a tenth of a second, and takes that processor
from others: a training step in oneDNN's threads took four times as long beside it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import RLock
from typing import Any

import numpy as np

from gpunn.cpu import number
from gpunn.cpu.library import usable

_NAMES = [
    "scipy_openblas_{}_num_threads64_",
    "scipy_openblas_{}_num_threads",
    "openblas_{}_num_threads64_",
    "openblas_{}_num_threads",
]
_lock = RLock()  # a signal's handler may come while it is held
_uses = _before = 0
_FEW_PRODUCTS = 1 << 18  # of two matrices, for which OpenBLAS has one thread anyway
_SMALL = 1 << 24  # products of two matrices, a millisecond in one thread: what two could save, waiting costs
_FEW_ELEMENTS = 9216  # of a matrix that is multiplied with a vector, for which it has one, too


def matmul(xp: Any, a: Any, b: Any, out: Any = None) -> Any:
    """``xp.matmul``; on the CPU in one thread where oneDNN has several, and for what is small: :mod:`gpunn.cpu.number`.

    >>> matmul(np, np.eye(2), np.ones(2)).tolist()
    [1.0, 1.0]
    """
    columns = b.shape[-1] if b.ndim > 1 else 1
    products = a.size * columns
    if (
        xp is not np
        or products <= _FEW_ELEMENTS
        or (products <= _FEW_PRODUCTS and columns > 1 and a.ndim > 1 and a.shape[-2] > 1)
        or not _wants_one_thread(products)
    ):
        return xp.matmul(a, b, out=out)
    with one_thread():
        return np.matmul(a, b, out=out)


def _wants_one_thread(products: int) -> bool:
    library = usable()
    if library is not None and library.threads() > 1:
        return True
    return _is_free() and products <= _SMALL


@lru_cache(1)
def _is_free() -> bool:
    """Whether small products are to have one thread; else BLAS gets what ``GPUNN_NUM_THREADS`` asks for, if it does."""
    asked, functions = number.own(), _functions()
    if asked is not None and functions is not None:
        functions[1](asked)
    return number.is_free()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it BLAS computes in the thread that calls it, whoever calls; afterwards as it did before."""
    global _uses, _before
    functions = _functions()
    if functions is None:
        yield
        return
    threads, change = functions
    entered, interrupt = False, None
    try:
        with _lock:
            _uses += 1
            entered = True
            if _uses == 1:
                _before = threads()
                change(1)
        yield
    finally:
        while entered:
            try:
                with _lock:
                    if _uses == 1:
                        change(_before)
                    _uses -= 1
                    entered = False
            except BaseException as error:  # of a signal's handler: until it is as it was before
                interrupt = error
        if interrupt is not None:
            raise interrupt


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
    _lock, _uses = RLock(), 0


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_restore)
