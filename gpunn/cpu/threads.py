"""Threads over the blocks of an array: NumPy lets other threads run while it computes.

The caller works, too, so a call never waits for a free thread, and one within another runs on its own thread alone.
Which thread takes which block changes nothing: each block writes to a place of its own, and sums over blocks are formed
afterwards, in the order of the blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import Any, TypeVar

from gpunn.cpu import blas

T = TypeVar("T")

_inside: ContextVar[bool] = ContextVar("inside", default=False)
_pool: Any = None


@lru_cache(1)
def count() -> int:
    """The number of threads: ``OMP_NUM_THREADS``, which BLAS follows, too, or the CPUs that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(work: Callable[[T], object], parts: Sequence[T]) -> None:
    """``work(part)`` for each part, on several threads at a time; settings of contexts and of NumPy hold in all.

    >>> squares = [0] * 4
    >>> def square(number):
    ...     squares[number] = number * number
    >>> run(square, range(4))
    >>> squares
    [0, 1, 4, 9]

    Raises what ``work`` raises, of the first part that failed.
    """
    threads = min(count(), len(parts))
    if threads < 2 or _inside.get():
        for part in parts:
            work(part)
        return
    left = iter(range(len(parts)))
    failed: dict[int, BaseException] = {}

    def take() -> None:
        _inside.set(True)
        for number in left:
            if failed:
                break
            try:
                work(parts[number])
            except BaseException as error:
                failed[number] = error

    with blas.one_thread():
        helpers = _start(take, threads - 1)
        copy_context().run(take)
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    if failed:
        raise failed[min(failed)]


def _start(take: Callable[[], None], helpers: int) -> list[Any]:
    """Futures of ``take`` in other threads, each in a context of its own."""
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor  # not at `import gpunn`: it takes a while

        _pool = ThreadPoolExecutor(count() - 1, "gpunn")
    try:
        return [_pool.submit(copy_context().run, take) for _ in range(helpers)]
    except RuntimeError:  # Python is about to exit, and starts no threads
        return []


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)  # threads are not in a child
