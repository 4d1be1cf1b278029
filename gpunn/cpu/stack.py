"""Calls of a C function with the stack where it does it good.

oneDNN's element-wise kernels keep vectors on the stack, of 32 or 64 bytes, and take it as it comes: at a multiple of
16. Where a vector lies across two lines of the cache they take up to twice the time. It depends on where the system put
the stack of this process, and on how deep Python calls C, which of the two multiples of 16 in 32 it is. Arguments that
a function does not know move its stack on, and nobody minds: on x86-64 the caller takes them away again.
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

_PARAMETERS = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
_MORE = [ctypes.c_long] * 4  # two of them fill the registers for arguments, two are on the stack
_CONTEXT_BYTES, _STACK_POINTER = 4096, 160  # of glibc's ucontext_t on x86-64
_TRIALS = 7
_WORTH = 0.85  # of the time


class Aligned:
    """A function of (pointer, pointer, int, pointer) that returns an int, called with the better of two stacks.

    It is not before :meth:`choose`, and not on other systems than Linux on x86-64.
    """

    def __init__(self, function: Any) -> None:
        address = ctypes.cast(function, ctypes.c_void_p).value or 0
        self._plain: Callable[..., int] = ctypes.CFUNCTYPE(ctypes.c_int, *_PARAMETERS)(address)
        self._moved: Callable[..., int] = ctypes.CFUNCTYPE(ctypes.c_int, *_PARAMETERS, *_MORE)(address)
        self._wanted: int | None = None  # where the stack has to be, of 32 bytes; None: it makes no difference
        self._here = _Here()

    def __call__(self, *arguments: Any) -> int:
        if self._wanted is None:
            return self._plain(*arguments)
        self._here.ask(self._here.context)
        if self._here.pointer.value % 32 == self._wanted:
            return self._plain(*arguments)
        return self._moved(*arguments, 0, 0, 0, 0)

    def choose(self, run: Callable[[], object]) -> None:
        """Find out which stack is better for ``run``, which calls this."""
        if not self._here.known:
            return
        seconds = {0: float("inf"), 16: float("inf")}
        for _ in range(_TRIALS):
            for self._wanted in seconds:
                begin = time.perf_counter()
                run()
                seconds[self._wanted] = min(seconds[self._wanted], time.perf_counter() - begin)
        better = min(seconds, key=lambda place: seconds[place])
        self._wanted = better if seconds[better] < _WORTH * max(seconds.values()) else None


class _Here(threading.local):
    """Of a thread: the function that tells its stack pointer, and what it writes to."""

    def __init__(self) -> None:
        linux = sys.platform == "linux" and platform.machine() == "x86_64" and platform.libc_ver()[0] == "glibc"
        self.known = linux and hasattr(ctypes.CDLL(None), "getcontext")
        if self.known:
            self.ask = ctypes.CDLL(None).getcontext
            self.context = ctypes.create_string_buffer(_CONTEXT_BYTES)
            self.pointer = ctypes.c_uint64.from_buffer(self.context, _STACK_POINTER)
