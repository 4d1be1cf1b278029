"""Threads over the blocks of an array: NumPy lets other threads run while it computes.

The caller works, too, so a call never waits for a free thread, and one within another runs on its own thread alone.
Which thread takes which block changes nothing: each block writes to a place of its own, and sums over blocks are formed
afterwards, in the order of the blocks.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from functools import lru_cache
from threading import Condition
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
    door = _Door()

    def take() -> None:
        if not door.enter():
            return
        try:
            _inside.set(True)
            for number in left:
                if failed:
                    break
                try:
                    work(parts[number])
                except BaseException as error:
                    failed[number] = error
        finally:
            door.leave()

    with blas.one_thread():
        try:
            _start(take, threads - 1)
            copy_context().run(take)
        except BaseException as error:  # an interrupt, between two parts
            failed.setdefault(len(parts), error)
        while True:
            try:
                door.close()
                break
            except KeyboardInterrupt as error:
                failed.setdefault(len(parts), error)
    if failed:
        raise failed[min(failed)]


class _Door:
    """Counts those that are inside; once it is closed nobody enters any more, and the last one has left."""

    def __init__(self) -> None:
        self._changed, self._within, self._closed = Condition(), 0, False

    def enter(self) -> bool:
        with self._changed:
            self._within += not self._closed
            return not self._closed

    def leave(self) -> None:
        with self._changed:
            self._within -= 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._within == 0)


def _start(take: Callable[[], None], helpers: int) -> None:
    """Have ``take`` run in other threads, each in a context of its own, as far as there are any."""
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor  # not at `import gpunn`: it takes a while

        _pool = ThreadPoolExecutor(count() - 1, "gpunn")
    with suppress(RuntimeError):  # no thread can be started, or Python is about to exit
        for _ in range(helpers):
            _pool.submit(copy_context().run, take)


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)  # threads are not in a child
