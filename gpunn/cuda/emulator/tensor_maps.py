"""Tensor maps: what cuTensorMapEncodeTiled is to a GPU, for kernels that copy boxes of an array."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, check, fail

TENSOR_MAP_BYTES = 128

# `struct TensorMap` of runtime/tensor_map.h.
_FORMAT = "=QQ4Q5I5H5BBBBH"
_MAGIC = 0x70616D726F736E74

_MOST_DIMENSIONS = 5
_LARGEST_BOX = 256
_LARGEST_STRIDE = 1 << 40
_LARGEST_ELEMENT_STRIDE = 8
_SWIZZLES = (0, 32, 64, 128)
_ELEMENTS = ("u1", "u2", "u4", "i4", "u8", "i8", "f2", "f4", "f8")
_ALIGNMENT = 16


@dataclass(frozen=True, eq=False)
class TensorMap:
    """What :func:`tensor_map` makes: an argument for a parameter ``const __grid_constant__ CUtensorMap``."""

    array: np.ndarray[Any, Any]
    content: bytes


def tensor_map(
    array: np.ndarray[Any, Any],
    box: Sequence[int],
    *,
    swizzle: int = 0,
    element_strides: Sequence[int] | None = None,
    fill: str = "zeros",
) -> TensorMap:
    """A tensor map of ``array``, of 1 to 5 dimensions, for copies of boxes of the shape ``box``.

    Shapes are in NumPy's order, where a kernel gives coordinates the other way round, the innermost first. The array
    may be strided, but for its last dimension. ``swizzle`` is 0, 32, 64 or 128 bytes, as many as an innermost row of
    the box has; ``element_strides`` takes each so manieth index of the box, but for the last dimension; ``fill`` is
    what lies outside the array, ``"zeros"`` or ``"nan"``. bfloat16 is passed as uint16.

    Raises ArgumentError for what cuTensorMapEncodeTiled refuses: dtypes, sizes, and addresses and strides that are no
    multiples of 16 bytes. A box narrower than the swizzle is refused as well.

    >>> x = np.arange(64, dtype=np.float32).reshape(4, 16)
    >>> code = '''#include "hopper.cuh"
    ... extern "C" __global__ void corner(const __grid_constant__ CUtensorMap x, float* y) {
    ...     __shared__ __align__(128) float box[2][4];
    ...     __shared__ unsigned long long barrier;
    ...     mbarrier_init(&barrier, 1);
    ...     fence_mbarrier_init();
    ...     mbarrier_arrive_expect_tx(&barrier, sizeof box);
    ...     tensor_load(box, &x, {14, 1}, &barrier);
    ...     mbarrier_wait_parity(&barrier, 0);
    ...     for (int i = 0; i < 8; i++) y[i] = box[i / 4][i % 4];
    ... }'''
    >>> from gpunn.cuda.emulator import RawKernel, tensor_map
    >>> from gpunn.cuda.source import kernels_folder
    >>> y = np.zeros((2, 4), np.float32)
    >>> RawKernel(code, "corner", (f"-I{kernels_folder()}",))((1,), (1,), (tensor_map(x, (2, 4)), y))
    >>> y
    array([[30., 31.,  0.,  0.],
           [46., 47.,  0.,  0.]], dtype=float32)
    """
    if not isinstance(array, np.ndarray):
        fail(ArgumentError, "tensor_map", "takes an array", got=type(array).__name__)
    sizes, strides, item = array.shape[::-1], array.strides[::-1], array.itemsize
    rank, address = array.ndim, array.ctypes.data
    _rule(1 <= rank <= _MOST_DIMENSIONS, "the array must have 1 to 5 dimensions", shape=array.shape)
    known = array.dtype.isnative and array.dtype.str[1:] in _ELEMENTS
    _rule(known, f"the dtype must be one of {', '.join(_ELEMENTS)}", dtype=array.dtype)
    _rule(all(1 <= size < 1 << 32 for size in sizes), "each size must be from 1 to 2**32 - 1", shape=array.shape)
    _rule(strides[0] == item or sizes[0] == 1, "the last dimension must be dense", strides=array.strides)
    aligned = all(0 < stride < _LARGEST_STRIDE and stride % _ALIGNMENT == 0 for stride in strides[1:])
    _rule(
        aligned, "each stride but the last must be a positive multiple of 16 bytes below 2**40", strides=array.strides
    )
    _rule(address % _ALIGNMENT == 0, "the array must lie at a multiple of 16 bytes", address=address)

    boxes = tuple(box)[::-1]
    valid = len(boxes) == rank and all(1 <= each <= _LARGEST_BOX for each in boxes)
    _rule(valid, "the box must have a size from 1 to 256 for each dimension", box=tuple(box))
    row = boxes[0] * item
    _rule(row % _ALIGNMENT == 0, "a row of the box must be a multiple of 16 bytes", bytes=row)
    _rule(swizzle in _SWIZZLES, "the swizzle must be 0, 32, 64 or 128", swizzle=swizzle)
    _rule(not swizzle or row == swizzle, "a row of the box must have as many bytes as the swizzle", bytes=row)
    steps = tuple(element_strides or (1,) * rank)[::-1]
    valid = len(steps) == rank and all(1 <= each <= _LARGEST_ELEMENT_STRIDE for each in steps)
    _rule(valid, "the element strides must be from 1 to 8 for each dimension", element_strides=element_strides)
    _rule(fill in ("zeros", "nan"), 'fill must be "zeros" or "nan"', fill=fill)
    is_float = array.dtype.kind == "f"
    _rule(fill == "zeros" or is_float, "only floating-point numbers are filled with NaN", dtype=array.dtype)

    def padded(values: Sequence[int], count: int, value: int) -> tuple[int, ...]:
        return (*values, *(value,) * (count - len(values)))

    content = struct.pack(
        _FORMAT,
        _MAGIC,
        address,
        *padded(strides[1:], _MOST_DIMENSIONS - 1, 0),
        *padded(sizes, _MOST_DIMENSIONS, 1),
        *padded(boxes, _MOST_DIMENSIONS, 1),
        *padded(steps, _MOST_DIMENSIONS, 1),
        rank,
        item,
        fill == "nan",
        swizzle,
    )
    return TensorMap(array, content.ljust(TENSOR_MAP_BYTES, b"\0"))


def _rule(holds: bool, rule: str, **values: object) -> None:
    check(holds, ArgumentError, "tensor_map", rule, **values)
