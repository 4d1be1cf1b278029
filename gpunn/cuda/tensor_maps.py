"""Tensor maps of arrays of either module: what kernels that copy boxes of an array by TMA take."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backend import Array, get_array_module
from gpunn.errors import DeviceError, check

_BYTES, _ALIGNMENT = 128, 64  # of CUtensorMap
_TYPES = {"u1": 0, "u2": 1, "u4": 2, "i4": 3, "u8": 4, "i8": 5, "f2": 6, "f4": 7, "f8": 8}  # CUtensorMapDataType
_SWIZZLES = {0: 0, 32: 1, 64: 2, 128: 3}
_NO_INTERLEAVE, _PROMOTE_TO_128_BYTES, _FILL_WITH_ZEROS = 0, 2, 0


def tensor_map(
    array: Array, box: Sequence[int], *, swizzle: int = 0, element_strides: Sequence[int] | None = None
) -> Any:
    """The argument for a kernel's parameter ``const __grid_constant__ CUtensorMap``, for :func:`gpunn.cuda.launch`.

    Shapes are in NumPy's order; what lies outside the array counts as 0. The rules are those of
    :func:`gpunn.cuda.emulator.tensor_map`, which makes the maps of NumPy's arrays. Of CuPy's arrays
    ``cuTensorMapEncodeTiled`` of the driver makes them; it raises DeviceError with the driver's number for what is
    against its rules.

    >>> tensor_map(np.zeros((8, 16), np.float32), (4, 8), swizzle=32).array.shape
    (8, 16)
    """
    if get_array_module(array) is np:
        from gpunn.cuda import emulator

        return emulator.tensor_map(array, box, swizzle=swizzle, element_strides=element_strides)
    room = ctypes.create_string_buffer(_BYTES + _ALIGNMENT)
    start = -ctypes.addressof(room) % _ALIGNMENT
    rank = array.ndim
    longs, words = ctypes.c_uint64 * rank, ctypes.c_uint32 * rank
    status = _encode()(
        ctypes.addressof(room) + start, _TYPES[array.dtype.str[1:]], rank, array.data.ptr, longs(*array.shape[::-1]),
        longs(*array.strides[-2::-1]), words(*box[::-1]), words(*(element_strides or (1,) * rank)[::-1]),
        _NO_INTERLEAVE, _SWIZZLES[swizzle], _PROMOTE_TO_128_BYTES, _FILL_WITH_ZEROS,
    )  # fmt: skip
    check(status == 0, DeviceError, "tensor_map", "the driver refuses it", status=status, shape=array.shape, box=box)
    return np.void(room.raw[start : start + _BYTES])


@functools.cache
def _encode() -> Any:
    call = ctypes.CDLL("libcuda.so.1").cuTensorMapEncodeTiled
    pointers = [ctypes.c_void_p] * 4
    call.argtypes = [
        ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p, *pointers, *[ctypes.c_int] * 4,
    ]  # fmt: skip
    return call
