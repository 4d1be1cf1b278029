"""Threads over the blocks of an array: NumPy lets other threads run while it computes.

The caller works, too, so a call never waits for a free thread, and one within another runs on its own thread alone.
Which thread takes which block changes no result: each block writes to a place of its own, and sums over blocks are
formed afterwards, in the order of the blocks.

Where oneDNN is loaded, the threads are those that it computes in, of OpenMP: two sets of them would take the processors
from each other, and one of OpenMP's is awake in microseconds after it has worked. Else, and for callers other than the
main thread, Python's.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from contextvars import ContextVar, copy_context
from itertools import pairwise
from threading import Condition
from typing import Any, TypeVar

from gpunn.cpu import blas
from gpunn.cpu.library import usable
from gpunn.cpu.number import count as count

T = TypeVar("T")

_inside: ContextVar[bool] = ContextVar("inside", default=False)
_pool: Any = None
_team: _Team | None = None
_forked = False


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
    if threads < 2 or _inside.get() or sys.is_finalizing():  # at the end of Python other threads run no more
        for part in parts:
            work(part)
        return
    left = _shares(len(parts), threads)
    failed: dict[int, BaseException] = {}

    def take(thread: int) -> None:
        _inside.set(True)
        for number in _own_first(left, thread):
            if failed and number > min(failed):
                continue
            try:
                work(parts[number])
            except BaseException as error:
                failed[number] = error

    def stop(error: BaseException) -> None:
        failed.setdefault(-1, error)

    with blas.one_thread():
        team = _of_openmp()
        if team is None:
            _in_own(take, threads - 1, stop)
        else:
            team.run(take, stop)
    if failed:
        raise failed[min(failed)]


def _shares(count: int, threads: int) -> list[deque[int]]:
    """The numbers of the parts, as many for each thread, in their order."""
    bounds = [count * thread // threads for thread in range(threads + 1)]
    return [deque(range(*ends)) for ends in pairwise(bounds)]


def _own_first(left: list[deque[int]], thread: int) -> Iterator[int]:
    """The parts that are left, those of the thread first, and then the last ones of others.

    So a thread has the same parts in every call, and finds in its cache what it wrote there in an earlier one. Where
    two cores have no cache in common, what the other wrote takes several times as long.
    """
    own, *others = left[thread % len(left) :] + left[: thread % len(left)]
    with suppress(IndexError):
        while True:
            yield own.popleft()
    for other in others:
        with suppress(IndexError):
            while True:
                yield other.pop()


# ---- threads of OpenMP ----------------------------------------------------------------------------------------------


def _of_openmp() -> _Team | None:
    """Those of oneDNN's library, for the main thread, while there are as many of them as :func:`count` says."""
    global _team
    if _forked or threading.current_thread() is not threading.main_thread():
        return None
    library = usable()
    if library is None or library.threads() != count() or not hasattr(library.c, "GOMP_parallel"):
        return None
    if _team is None:
        _team = _Team(library.c.GOMP_parallel, library.c.omp_get_thread_num)
    return _team


class _Team:
    """All threads of OpenMP, in each of which ``GOMP_parallel`` calls one function.

    They stay from call to call, and what Python keeps for each of them, too, but where OpenMP ends some because it was
    told to have fewer: what was kept for those is not given back. GNU's runtime has this function; Intel's and LLVM's
    have it under the same name.
    """

    def __init__(self, parallel: Any, number: Callable[[], int]) -> None:
        # Of Python's frames a signal's handler may interrupt any, and what it raises in one that C has called is lost.
        # So C calls no function of ours, but goes on with generators, which wait where it is caught.
        self._parallel, self._go_on = parallel, ctypes.CFUNCTYPE(None, ctypes.py_object)(next)
        parallel.argtypes = [type(self._go_on), ctypes.py_object, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        self._number, self._known = number, threading.local()
        self._known.number = 0

    def run(self, take: Callable[[int], object], stop: Callable[[BaseException], object]) -> None:
        """``take(number)`` in each thread, in a context of its own; ``stop(error)`` with an interrupt."""
        each = [self._one(take, stop) for _ in range(count())]
        try:
            for one in each:
                next(one)
            self._parallel(self._go_on, map(next, iter(each)), count(), 0)
        except BaseException as error:
            stop(error)
        copy_context().run(take, 0)  # what an interrupt may have left

    def _one(self, take: Callable[[int], object], stop: Callable[[BaseException], object]) -> Iterator[None]:
        own = copy_context()
        try:
            yield
            if not hasattr(self._known, "number"):
                # So that what Python keeps for this thread, its jobs of oneDNN among it, outlives the call.
                self._known.state = ctypes.pythonapi.PyGILState_Ensure()
                self._known.number = self._number()
            own.run(take, self._known.number)
        except GeneratorExit:
            return
        except BaseException as error:  # an interrupt, between two parts
            stop(error)
        yield


# ---- threads of Python ----------------------------------------------------------------------------------------------


def _in_own(take: Callable[[int], object], helpers: int, stop: Callable[[BaseException], object]) -> None:
    door = _Door()

    def enter(number: int = 0) -> None:
        if door.enter():
            try:
                take(number)
            finally:
                door.leave()

    try:
        _start(enter, helpers)
        copy_context().run(enter)
    except BaseException as error:  # an interrupt, between two parts
        stop(error)
    while True:
        try:
            door.close()
            break
        except KeyboardInterrupt as error:
            stop(error)


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


def _start(take: Callable[[int], None], helpers: int) -> None:
    """Have ``take(number)`` run in other threads, each in a context of its own, as far as there are any."""
    global _pool
    with suppress(RuntimeError):  # no thread can be started, or Python is about to exit
        if _pool is None:
            from concurrent.futures import ThreadPoolExecutor  # not at `import gpunn`: it takes a while

            _pool = ThreadPoolExecutor(count() - 1, "gpunn")
        for number in range(1, helpers + 1):
            _pool.submit(copy_context().run, take, number)


def _forget() -> None:
    global _pool, _forked
    _pool, _forked = None, True


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget)  # threads are not in a child
