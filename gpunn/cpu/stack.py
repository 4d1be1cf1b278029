"""Calls of a C function with the stack where it does it good.

oneDNN's kernels keep vectors on the stack, and take it as it comes: at a multiple of 16. Element-wise ones take up to
twice the time, convolutions up to half as much more, where a vector lies across two lines of the cache, or where the
stack is, but for multiples of 4096, at the place of the constants that they read. That depends on where the system put
the stack of this process, and on how deep Python calls C. Arguments that a function does not know move its stack on,
and nobody minds: on x86-64 the caller takes them away again. So the first calls are measured.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

_PARAMETERS = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
_MORE = (0, 4, 6, 8, 36, 38)  # arguments, which take 0, 208, 320, 432, 2000 and 2112 bytes of stack
_CONTEXT_BYTES, _STACK_POINTER = 4096, 160  # of glibc's ucontext_t on x86-64
_PAGE_BYTES = 4096
_TRIALS = 3


class Placed:
    """A function of (pointer, pointer, int, pointer) that returns an int, called with the best of six stacks.

    The function is to live as long as this. All calls are to take the same time but for that, and to come from one
    thread. The first ones from each place try all. On other systems than Linux on x86-64 it is called as it is.
    """

    def __init__(self, function: Any) -> None:
        self._calls = _calls(ctypes.cast(function, ctypes.c_void_p).value or 0)
        self._best: dict[int, _Call] = {}
        self._seconds: dict[int, list[float]] = {}

    def __call__(self, *arguments: Any) -> int:
        place = 0
        if _here.known:
            _here.ask(_here.context)
            place = _here.pointer.value % _PAGE_BYTES
        best = self._best.get(place)
        if best is None:
            return self._try(place, arguments)
        call, more = best
        return call(*arguments, *more)

    def _try(self, place: int, arguments: tuple[Any, ...]) -> int:
        seconds, many = self._seconds.setdefault(place, []), len(self._calls)
        call, more = self._calls[len(seconds) % many]
        begin = time.perf_counter()
        status = call(*arguments, *more)
        seconds.append(time.perf_counter() - begin)
        if len(seconds) == _TRIALS * many:
            least = [min(seconds[number::many]) for number in range(many)]
            self._best[place] = self._calls[least.index(min(least))]
            del self._seconds[place]
        return status


_Call = tuple[Callable[..., int], tuple[int, ...]]
"""A way to call the function, and the arguments that it does not know."""


@lru_cache(8)
def _calls(address: int) -> list[_Call]:
    many = _MORE if _here.known else (0,)
    types = [ctypes.CFUNCTYPE(ctypes.c_int, *_PARAMETERS, *[ctypes.c_long] * more) for more in many]
    return [(kind(address), (0,) * more) for kind, more in zip(types, many, strict=True)]


class _Here(threading.local):
    """Of a thread: the function that tells its stack pointer, and what it writes to."""

    def __init__(self) -> None:
        linux = sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
        self.known = linux and hasattr(ctypes.CDLL(None), "getcontext")
        if self.known:
            self.ask = ctypes.CDLL(None).getcontext
            self.context = ctypes.create_string_buffer(_CONTEXT_BYTES)
            self.pointer = ctypes.c_uint64.from_buffer(self.context, _STACK_POINTER)


_here = _Here()
