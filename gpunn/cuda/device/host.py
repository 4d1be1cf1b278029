"""Device memory as NumPy arrays, and work on it in the order of the current stream, for modules that NumPy serves."""

from __future__ import annotations

import ctypes
import functools
import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np

from gpunn.cuda import device

_LIBRARY = "libcuda.so.1"  # loaded when the device was started
_ILLEGAL_ADDRESS, _LAUNCH_FAILURE = 700, 719  # of cudaError_t


@functools.cache
def _reach() -> Callable[..., int]:
    call = ctypes.CDLL(_LIBRARY).gpunn_device_reach
    call.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int
    return call


@functools.cache
def _enqueue() -> Callable[..., int]:
    call = ctypes.PyDLL(_LIBRARY).gpunn_device_enqueue
    call.argtypes = ctypes.c_ssize_t, ctypes.c_char_p, ctypes.py_object
    return call


class OutOfReach(RuntimeError):
    """Work named memory that its device cannot reach."""


def array(
    pointer: int,
    shape: int | tuple[int, ...],
    dtype: Any,
    strides: tuple[int, ...] | None = None,
    *,
    write: bool = False,
) -> np.ndarray:
    """The device memory at ``pointer``, not a copy of it, to be named by the work that reads it, or writes it as well.

    Strides are in bytes; without them rows follow each other. OutOfReach if the device cannot reach all of it.
    """
    a = of_host(pointer, shape, dtype, strides)
    if a.size:
        for offset, *rows in _rows(a):
            status = _reach()(pointer + offset, *rows, write)
            if status == _ILLEGAL_ADDRESS:
                raise OutOfReach("an argument lies outside the memory of the device")
            assert not status, "device memory is named by work alone"
    a.flags.writeable = write
    return a


def of_host(
    pointer: int, shape: int | tuple[int, ...], dtype: Any, strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """The same of memory of the host, that may be named at any time."""
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


def _rows(a: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Where the bytes of an array lie, as rows: the first one's offset, its width, how many, and how far apart."""
    steps = sorted((stride, n) for stride, n in zip(a.strides, a.shape, strict=True) if n > 1)
    width, height, pitch = a.itemsize, 1, 0
    while steps and steps[0][0] <= width:
        stride, n = steps.pop(0)
        width += (n - 1) * stride
    if steps:
        pitch, height = steps.pop(0)
    for places in itertools.product(*(range(n) for _, n in steps)):
        yield sum(place * stride for place, (stride, _) in zip(places, steps, strict=True)), width, height, pitch


def matrix(pointer: int, rows: int, columns: int, leading: int, dtype: Any, *, write: bool = False) -> np.ndarray:
    """The matrix at ``pointer``, whose columns lie ``leading`` elements apart, as in BLAS and LAPACK."""
    itemsize = np.dtype(dtype).itemsize
    return array(pointer, (rows, columns), dtype, (itemsize, leading * itemsize), write=write)


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
    device is broken by it, as by a kernel that fails: every later call raises, and says why. In check mode the device
    goes on, and who waits for the work is told.
    """
    from cupy_backends.cuda.api import runtime

    raised: list[BaseException] = []
    returned = False

    def call() -> int:
        try:
            work()
        except BaseException as error:
            if not returned:
                raised.append(error)
            elif not isinstance(error, OutOfReach):
                device.fail(error)
            return _ILLEGAL_ADDRESS if isinstance(error, OutOfReach) else _LAUNCH_FAILURE
        return 0

    label = work.__module__.rpartition(".")[2].strip("_")
    status = _enqueue()(current_stream(), label.encode(), call)
    returned = True
    if raised:
        raise raised[0]
    runtime.check_status(status)


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
