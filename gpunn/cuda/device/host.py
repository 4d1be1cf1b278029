"""Device memory as NumPy arrays, and work on it in the order of the current stream, for modules that NumPy serves."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from gpunn.cuda import device


def array(pointer: int, shape: int | tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None = None) -> np.ndarray:
    """The device memory at ``pointer``, not a copy of it. Strides are in bytes; without them rows follow each other."""
    dtype, shape = np.dtype(dtype), (shape,) if isinstance(shape, int) else shape
    if min(shape, default=1) <= 0:
        return np.empty(shape, dtype)
    if not pointer:
        raise RuntimeError("the emulated device got a null pointer where it needs memory")
    if strides is None:
        strides = _packed(shape, dtype.itemsize)
    extent = dtype.itemsize + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    return np.ndarray(shape, dtype, (ctypes.c_char * extent).from_address(pointer), 0, strides)


def _packed(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = []
    for n in reversed(shape):
        strides.append(itemsize)
        itemsize *= n
    return tuple(reversed(strides))


def matrix(pointer: int, rows: int, columns: int, leading: int, dtype: Any) -> np.ndarray:
    """The matrix at ``pointer``, whose columns lie ``leading`` elements apart, as in BLAS and LAPACK."""
    itemsize = np.dtype(dtype).itemsize
    return array(pointer, (rows, columns), dtype, (itemsize, leading * itemsize))


def current_stream() -> int:
    """The handle of the stream that CuPy's calls go to."""
    import cupy

    return int(cupy.cuda.get_current_stream().ptr)


def capturing() -> bool:
    """Whether the current stream captures a graph."""
    from cupy_backends.cuda.api import runtime

    return bool(runtime.streamIsCapturing(current_stream()))


def enqueue(work: Callable[[], object]) -> None:
    """Have ``work()`` done when the current stream comes to it.

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

    runtime.launchHostFunc(current_stream(), call, 0)
    returned = True
    if raised:
        raise raised[0]


def now(work: Callable[[], object]) -> None:
    """Have ``work()`` done when the current stream comes to it, and wait for that."""
    from cupy_backends.cuda.api import runtime

    enqueue(work)
    runtime.streamSynchronize(current_stream())


def scipy(module: str, what: str) -> ModuleType:
    """A module of SciPy, which serves ``what``; RuntimeError if it is not installed."""
    import importlib

    try:
        return importlib.import_module(f"scipy.{module}")
    except ImportError:
        raise RuntimeError(f"{what}: the emulated device serves it by SciPy, which is not installed") from None


def refusing(library: str, name: str) -> Callable[..., Any]:
    """A function that says that the emulated device does not serve it."""

    def refuse(*arguments: object, **settings: object) -> Any:
        raise NotImplementedError(f"{library}: {name} is not served by the emulated device")

    refuse.__name__ = refuse.__qualname__ = name
    return refuse
