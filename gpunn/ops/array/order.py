"""Sorting, and what is found by order: the largest few, places in a sorted vector, places of what is not 0.

Equal elements keep their order, both ways; NaN counts as larger than any number. What is sorted is gathered by indices,
each of which occurs once, so its gradient is put back to where it came from.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunn.backend import Array, accumulation_dtype, check_array, device_of, get_array_module, is_floating
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check
from gpunn.ops.array.indexing import check_range
from gpunn.ops.array.shape import axis_of
from gpunn.ops.shared.checks import integer

Side = Literal["left", "right"]


def argsort(x: Array, axis: int = -1, descending: bool = False, op: str = "argsort") -> Array:
    """The indices that sort x along ``axis``.

    >>> argsort(np.array([2.0, 1.0, 2.0])).tolist(), argsort(np.array([2.0, 1.0, 2.0]), descending=True).tolist()
    ([1, 0, 2], [0, 2, 1])
    """
    check_array(op, x=x)
    xp = get_array_module(x)
    if x.ndim == 0:
        check(axis in (0, -1), ShapeError, op, "axis must be 0 or -1 without dimensions", axis=axis)
        return xp.zeros((), np.int64)
    along = axis_of(op, x, axis)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False) if is_floating(x.dtype) else x
    if not descending:
        return wide.argsort(along, kind="stable").astype(np.int64, copy=False)
    # From behind, so that of equal elements the first comes first after the result is turned round.
    behind = xp.flip(xp.flip(wide, along).argsort(along, kind="stable"), along)
    return (x.shape[along] - 1 - behind).astype(np.int64, copy=False)


def along(x: Array, indices: Array, axis: int) -> Array:
    """The elements of x that ``indices`` names along ``axis``, which are of x's shape but for that axis.

    >>> along(np.array([[1.0, 2.0]]), np.array([[1, 0]]), 1).tolist()
    [[2.0, 1.0]]
    """
    return get_array_module(x).take_along_axis(x, indices, axis) if x.ndim else x.copy()


def along_backward(gy: Array, shape: tuple[int, ...], indices: Array, axis: int) -> Array:
    """``gy`` at the indices, of which none occurs twice, and 0 elsewhere."""
    xp = get_array_module(gy)
    if not shape:
        return gy
    gx = xp.zeros(shape, gy.dtype)
    gx[places(xp, indices, axis % len(shape))] = gy
    return gx


def places(xp: Any, indices: Array, axis: int) -> tuple[Array, ...]:
    """The index of the elements that ``indices`` names along ``axis``, at its own places along the others."""
    ndim = indices.ndim
    grid = [xp.arange(n).reshape([-1 if a == b else 1 for b in range(ndim)]) for a, n in enumerate(indices.shape)]
    return (*grid[:axis], indices, *grid[axis + 1 :])


def sort(x: Array, axis: int = -1, descending: bool = False) -> tuple[Array, Array]:
    """The elements in order along ``axis``, and their indices.

    >>> [a.tolist() for a in sort(np.array([3.0, 1.0, 2.0]))]
    [[1.0, 2.0, 3.0], [1, 2, 0]]
    """
    indices = argsort(x, axis, descending, "sort")
    return along(x, indices, axis), indices


def topk(x: Array, k: int, axis: int = -1, largest: bool = True) -> tuple[Array, Array]:
    """The ``k`` largest elements along ``axis``, in order, and their indices; or the least.

    >>> [a.tolist() for a in topk(np.array([3.0, 1.0, 2.0]), 2)]
    [[3.0, 2.0], [0, 2]]
    """
    check_array("topk", x=x)
    count = integer("topk", "k", k, 0)
    size = x.shape[axis_of("topk", x, axis)] if x.ndim else 1
    check(count <= size, ArgumentError, "topk", "k must be at most the size of the axis", k=k, size=size)
    indices = argsort(x, axis, largest, "topk")
    if x.ndim:
        indices = indices[(*(slice(None),) * axis_of("topk", x, axis), slice(count))]
    return along(x, indices, axis), indices


def searchsorted(x: Array, v: Any, side: Side = "left") -> Array:
    """The index at which each of ``v`` would be put in the sorted x: before the elements equal to it, or after.

    x is a vector, or has a row, along the last axis, for each row of v.

    >>> searchsorted(np.array([1.0, 2.0, 2.0]), np.array([2.0, 5.0]), "right").tolist()
    [3, 3]
    """
    op = "searchsorted"
    check_array(op, x=x)
    xp = get_array_module(x)
    if isinstance(v, int | float):
        if x.dtype.kind in "biu" and not _exact(v, x.dtype):
            x = x.astype(np.float64)
        v = xp.asarray(v, x.dtype)
    check_array(op, v=v)
    here, there = device_of(x), device_of(v)
    check(here == there, DeviceError, op, "both must be on one device", x=here, v=there)
    check(side in ("left", "right"), ArgumentError, op, 'side is "left" or "right"', side=side)
    check(x.dtype == v.dtype, DtypeError, op, "both must have one dtype", x=str(x.dtype), v=str(v.dtype))
    if is_floating(x.dtype):  # NumPy does not know where a NaN of bfloat16 belongs
        wide = accumulation_dtype(x.dtype)
        x, v = x.astype(wide, copy=False), v.astype(wide, copy=False)
    if x.ndim == 1:
        return xp.asarray(xp.searchsorted(x, v, side)).astype(np.int64, copy=False)
    fits = x.ndim > 1 and x.shape[:-1] == v.shape[:-1]
    check(fits, ShapeError, op, "x must be a vector, or have rows for those of v", x=x.shape, v=v.shape)
    row, each = x[..., None, :], v[..., None]
    before = row < each if side == "left" else row <= each
    return (before | ((each != each) & (row == row))).sum(-1).astype(np.int64, copy=False)


def _exact(number: float, dtype: Any) -> bool:
    """Whether the integer type has the number."""
    if not isinstance(number, int) or dtype.kind == "b":
        return False
    limits = np.iinfo(dtype)
    return limits.min <= number <= limits.max


def sorted_by(op: str, x: Array, sorter: Array) -> Array:
    """The elements of x along the last axis in the order of the indices ``sorter``, of its shape.

    >>> sorted_by("searchsorted", np.array([3.0, 1.0]), np.array([1, 0])).tolist()
    [1.0, 3.0]
    """
    check_array(op, x=x, sorter=sorter)
    check(x.ndim > 0, ShapeError, op, "x must be a vector, or have rows", x=x.shape)
    check(sorter.shape == x.shape, ShapeError, op, "sorter must have the shape of x", sorter=sorter.shape, x=x.shape)
    check(sorter.dtype.kind in "iu", DtypeError, op, "sorter must hold integers", dtype=str(sorter.dtype))
    here, there = device_of(x), device_of(sorter)
    check(here == there, DeviceError, op, "both must be on one device", x=here, sorter=there)
    check_range(op, sorter, x.ndim - 1, x.shape)
    return along(x, sorter, -1)


def nonzero(x: Array) -> tuple[Array, ...]:
    """The indices of the elements that are not 0, an array for each axis.

    >>> [a.tolist() for a in nonzero(np.array([[0, 5], [6, 0]]))]
    [[0, 1], [1, 0]]
    """
    check_array("nonzero", x=x)
    check(x.ndim > 0, ShapeError, "nonzero", "there must be dimensions", shape=x.shape)
    return tuple(index.astype(np.int64, copy=False) for index in x.nonzero())


def rows(indices: tuple[Array, ...]) -> Array:
    """The indices of :func:`nonzero` as rows, one for each element.

    >>> rows(nonzero(np.array([[0, 5], [6, 0]]))).tolist()
    [[0, 1], [1, 0]]
    """
    return get_array_module(*indices).stack(indices, 1)
