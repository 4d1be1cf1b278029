"""In place of cupy.cuda.cub, whose device code cannot run here: reductions, scans and histograms on the host.

What it serves is what CUB does for CuPy on a GPU; elsewhere None is returned, and CuPy takes a kernel of its own.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from typing import Any

import cupy
import numpy
from cupy import _core

from gpunn.cuda.device.modules import _algorithms

Array = Any

available = True


class cupy_cub_op(enum.IntFlag):
    CUPY_CUB_SUM = 0
    CUPY_CUB_MIN = 1
    CUPY_CUB_MAX = 2
    CUPY_CUB_ARGMIN = 3
    CUPY_CUB_ARGMAX = 4
    CUPY_CUB_CUMSUM = 5
    CUPY_CUB_CUMPROD = 6
    CUPY_CUB_PROD = 7


CUPY_CUB_SUM = cupy_cub_op.CUPY_CUB_SUM
CUPY_CUB_MIN = cupy_cub_op.CUPY_CUB_MIN
CUPY_CUB_MAX = cupy_cub_op.CUPY_CUB_MAX
CUPY_CUB_ARGMIN = cupy_cub_op.CUPY_CUB_ARGMIN
CUPY_CUB_ARGMAX = cupy_cub_op.CUPY_CUB_ARGMAX
CUPY_CUB_CUMSUM = cupy_cub_op.CUPY_CUB_CUMSUM
CUPY_CUB_CUMPROD = cupy_cub_op.CUPY_CUB_CUMPROD
CUPY_CUB_PROD = cupy_cub_op.CUPY_CUB_PROD

CUB_support_dtype_without_half: list[type] = [
    numpy.int8,
    numpy.uint8,
    numpy.int16,
    numpy.uint16,
    numpy.int32,
    numpy.uint32,
    numpy.int64,
    numpy.uint64,
    numpy.float32,
    numpy.float64,
    numpy.complex64,
    numpy.complex128,
]
CUB_support_dtype_with_half = [*CUB_support_dtype_without_half, numpy.float16]
CUB_sum_support_dtype_without_half = CUB_support_dtype_without_half[6:]
CUB_sum_support_dtype_with_half = [*CUB_sum_support_dtype_without_half, numpy.float16]
CUB_support_dtype: dict[int, list[type]] = {}
CUB_sum_support_dtype: dict[int, list[type]] = {}
"""What is supported by each device, once it has been asked for. All of them know float16."""

_NAMES = {int(op): name for name, op in cupy_cub_op.__members__.items()}
_TO_VALUE = CUPY_CUB_SUM, CUPY_CUB_PROD, CUPY_CUB_MIN, CUPY_CUB_MAX
_TO_PLACE = CUPY_CUB_ARGMIN, CUPY_CUB_ARGMAX
_WITH_IDENTITY = CUPY_CUB_SUM, CUPY_CUB_PROD


def get_build_version() -> int:
    """The version of CUB that CuPy's wheel has in it."""
    return 300102


def _get_cuda_build_version() -> int:
    from cupy_backends.cuda.api import driver

    return int(driver.get_build_version())


def _supported(array: Array, sums: bool) -> bool:
    device = cupy.cuda.device.get_device_id()
    CUB_support_dtype.setdefault(device, CUB_support_dtype_with_half)
    CUB_sum_support_dtype.setdefault(device, CUB_sum_support_dtype_with_half)
    return array.dtype in (CUB_sum_support_dtype if sums else CUB_support_dtype)[device]


def _preprocess_array(
    arr_shape: tuple[int, ...], reduce_axis: tuple[int, ...], out_axis: tuple[int, ...], order: str
) -> int:
    """How many elements that lie together, in C or Fortran order, become one."""
    assert (out_axis + reduce_axis if order in "cC" else reduce_axis + out_axis) == tuple(range(len(arr_shape)))
    return math.prod(arr_shape[axis] for axis in reduce_axis)


def _cub_device_segmented_reduce_axis_compatible(cub_axis: tuple[int, ...], ndim: int, order: str) -> bool:
    """Whether these axes are the last ones in C order, or the first ones in Fortran order."""
    axes = tuple(range(ndim))
    return bool(cub_axis) and cub_axis == (axes[-len(cub_axis) :] if order in "cC" else axes[: len(cub_axis)])


def _check_op(op: int, allowed: Sequence[cupy_cub_op]) -> None:
    if op not in allowed:
        *most, last = (_NAMES[each] for each in allowed)
        comma = "," if len(most) > 1 else ""
        raise ValueError(f"only {', '.join(most)}{comma} and {last} are supported.")


def _reduced(
    x: Array, op: int, out_axis: tuple[int, ...], contiguous_size: int, order: str, out: Array, keepdims: bool
) -> Array:
    """Reduce ``x``, which lies in one piece, by so many elements at a time."""
    if not contiguous_size and op not in _WITH_IDENTITY:
        raise ValueError(f"zero-size array to reduction operation {_NAMES[op]} which has no identity")
    shape = tuple(n if axis in out_axis else 1 for axis, n in enumerate(x.shape) if keepdims or axis in out_axis)
    if out is not None:
        if out.ndim != len(shape):
            raise ValueError("output parameter for reduction operation has the wrong number of dimensions")
        if out.shape != shape:
            raise ValueError("output parameter for reduction operation has the wrong shape")
    y = cupy.empty(shape, numpy.int64 if op in _TO_PLACE else x.dtype, order)
    _algorithms.enqueue("reduce", x.dtype, op, x.data.ptr, y.data.ptr, y.size, contiguous_size)
    if out is None:
        return y
    out[...] = y
    return out


def device_reduce(
    x: Array,
    op: int,
    reduce_axis: tuple[int, ...],
    out_axis: tuple[int, ...],
    out: Array = None,
    keepdims: bool = False,
) -> Array:
    """Reduce all elements to one."""
    _check_op(op, (*_TO_VALUE, *_TO_PLACE))
    if op in _TO_PLACE or not x.flags.f_contiguous:  # the place is that in C order
        x = cupy.ascontiguousarray(x).reshape(x.shape)
    return _reduced(x, op, (), x.size, "C", out, keepdims)


def device_segmented_reduce(
    x: Array,
    op: int,
    reduce_axis: tuple[int, ...],
    out_axis: tuple[int, ...],
    out: Array = None,
    keepdims: bool = False,
    contiguous_size: int = 0,
) -> Array:
    """Reduce the last axes of an array in C order, or the first ones of an array in Fortran order."""
    _check_op(op, _TO_VALUE)
    order = "C" if x.flags.c_contiguous else "F"
    if not (x.flags.c_contiguous or x.flags.f_contiguous) or contiguous_size != _preprocess_array(
        x.shape, reduce_axis, out_axis, order
    ):
        raise ValueError("the elements to reduce do not lie together")
    return _reduced(x, op, out_axis, contiguous_size, order, out, keepdims)


def cub_reduction(
    arr: Array,
    op: int,
    axis: int | Sequence[int] | None = None,
    dtype: Any = None,
    out: Array = None,
    keepdims: bool = False,
) -> Array:
    """Reduce along ``axis``; None if what is reduced does not lie together, or its type is not supported."""
    if op in _TO_PLACE:
        if dtype is not None or not _supported(arr, False):
            return None
    elif not _supported(arr, op in _WITH_IDENTITY) or (dtype is not None and numpy.dtype(dtype) != arr.dtype):
        return None
    if not (arr.flags.c_contiguous or arr.flags.f_contiguous):
        return None
    if axis is None:
        axes = tuple(range(arr.ndim))
    else:
        axes = tuple(sorted(_core.internal._normalize_axis_indices(axis, arr.ndim)))
    rest = tuple(each for each in range(arr.ndim) if each not in axes)
    if not rest:
        return device_reduce(arr, op, axes, rest, out, keepdims)
    if op in _TO_PLACE or not arr.size or not axes:
        return None
    order = "C" if arr.flags.c_contiguous else "F"
    if not _cub_device_segmented_reduce_axis_compatible(axes, arr.ndim, order):
        return None
    return device_segmented_reduce(arr, op, axes, rest, out, keepdims, _preprocess_array(arr.shape, axes, rest, order))


def device_scan(x: Array, op: int) -> Array:
    """Replace each element by the sum or product of all up to it; of a copy if ``x`` is not in C order."""
    _check_op(op, (CUPY_CUB_CUMSUM, CUPY_CUB_CUMPROD))
    x = cupy.ascontiguousarray(x).reshape(x.shape)
    _algorithms.enqueue("scan", x.dtype, op, x.data.ptr, x.size)
    return x


def cub_scan(arr: Array, op: int) -> Array:
    """Scan in place; None if the type or the operation is not supported."""
    if op not in (CUPY_CUB_CUMSUM, CUPY_CUB_CUMPROD) or not _supported(arr, False):
        return None
    return device_scan(arr, op)


def device_histogram(x: Array, y: Array, bins: Any) -> Array:
    """Count into ``y`` the elements in each bin: between edges in an array, or from 0 on to the number ``bins`` - 1."""
    edges = bins if isinstance(bins, cupy.ndarray) else None
    count = edges.size if edges is not None else int(bins)
    assert y.size == count - 1
    if edges is None and x.dtype.kind not in "iub":
        raise ValueError("only integer input is supported")
    if x.dtype.kind == "c":
        raise RuntimeError("complex dtype is not yet supported")
    if edges is not None and edges.dtype != (numpy.float64 if x.dtype.kind in "iub" else x.dtype):
        raise ValueError(f"the edges of bins are {edges.dtype}, and what is counted {x.dtype}")
    if y.dtype.kind not in "iu" or y.dtype.itemsize < 4 or not y.flags.c_contiguous:
        raise ValueError("counts are int32, uint32, int64 or uint64, in one piece")
    x = cupy.ascontiguousarray(x)
    edges = edges if edges is None else cupy.ascontiguousarray(edges)
    place = 0 if edges is None else edges.data.ptr
    _algorithms.enqueue("histogram", x.dtype, x.data.ptr, x.size, place, count - 1, y.data.ptr, y.dtype.itemsize)
    return y


def cub_histogram(x: Array, y: Array, bins: Any) -> Array:
    """The same, for which CUB may lack the memory; here it never does."""
    return device_histogram(x, y, bins)


__pyx_capi__ = _algorithms.cub_calls(cub_reduction, cub_scan, _cub_device_segmented_reduce_axis_compatible)
