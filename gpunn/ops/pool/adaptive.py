"""Adaptive average and max pooling over one, two or three axes, forward and backward.

    y[n,c,i] = mean or max of x over floor(i L / O) ... ceil((i + 1) L / O) - 1                along each axis alike

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), y is (N, C, *output_size); L is a size of x and O one of y. The bins
cover x, and may overlap by one element. ``output_size`` is an integer, or one for each axis; None stands for the size
of x. ``rank``, 1 to 3, is the number of axes. The first maximum (in row-major order) wins a tie; NaN wins over every
number, the last NaN over the others. float16 is summed in float32. Source: He et al. 2014, "Spatial pyramid pooling in
deep convolutional networks for visual recognition", section 2.2.

Along each axis in turn the bins gather their elements. Element l lies in the bins floor(l O / L) ...
ceil((l + 1) O / L) - 1: the same rule with L and O exchanged, by which the gradients gather too.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, operands, where
from gpunn.errors import ShapeError, check
from gpunn.ops.pool.geometry import check_place
from gpunn.ops.pool.global_pool import global_avg_pool, global_avg_pool_backward
from gpunn.ops.shared.checks import Size, check_rank, check_shape, integers

OutputSize = int | None | tuple[int | None, ...]


def adaptive_avg_pool(rank: int, x: Array, output_size: OutputSize) -> Array:
    """The mean of each bin, (N, C, *output_size).

    >>> adaptive_avg_pool(1, np.array([[[1.0, 2.0, 6.0]]]), 2).tolist()
    [[[1.5, 4.0]]]

    Raises ShapeError unless x has ``rank`` + 2 dimensions and elements, ArgumentError for sizes below 1.
    """
    op = f"adaptive_avg_pool{rank}d"
    operands(op, x=x)
    sizes = _checked(op, rank, x.shape, output_size)
    if set(sizes) == {1}:
        return global_avg_pool(rank, x)
    y = x.astype(accumulation_dtype(x.dtype), copy=False)
    for axis, size in enumerate(sizes, 2):
        y = _sum_bins(y, axis, size) / _counts(y, axis, y.shape[axis], size)
    return y.astype(x.dtype, copy=False)


def adaptive_avg_pool_backward(rank: int, gy: Array, x_shape: Size, output_size: OutputSize) -> Array:
    """The gradient with respect to x: each gy, divided as its mean was, added over its bin."""
    op = f"adaptive_avg_pool{rank}d_backward"
    operands(op, gy=gy)
    sizes = _checked(op, rank, x_shape, output_size)
    check_shape(op, "gy", gy, (*x_shape[:2], *sizes))
    if set(sizes) == {1}:
        return global_avg_pool_backward(rank, gy, x_shape)
    gx = gy.astype(accumulation_dtype(gy.dtype), copy=False)
    for axis in range(2, rank + 2):
        gx = _sum_bins(gx / _counts(gx, axis, x_shape[axis], gx.shape[axis]), axis, x_shape[axis])
    return gx.astype(gy.dtype, copy=False)


def adaptive_max_pool(rank: int, x: Array, output_size: OutputSize) -> tuple[Array, Array]:
    """The maximum of each bin, and its index in the flattened image, int64; both (N, C, *output_size).

    >>> y, index = adaptive_max_pool(1, np.array([[[1.0, 6.0, 2.0]]]), 2)
    >>> y.tolist(), index.tolist()
    ([[[6.0, 6.0]]], [[[1, 1]]])
    """
    op = f"adaptive_max_pool{rank}d"
    xp = operands(op, x=x)
    sizes = _checked(op, rank, x.shape, output_size)
    y, index = x, xp.broadcast_to(xp.arange(prod(x.shape[2:])).reshape(x.shape[2:]), x.shape)
    for axis in reversed(range(2, rank + 2)):  # the last first: ties then go to the first in row-major order
        y, index = _max_bins(xp, y, index, axis, sizes[axis - 2])
    return y, index


def adaptive_max_pool_backward(rank: int, gy: Array, index: Array, x_shape: Size, output_size: OutputSize) -> Array:
    """The gradient with respect to x: each gy added at the element that was its bin's maximum."""
    op = f"adaptive_max_pool{rank}d_backward"
    xp = operands(op, gy=gy)
    sizes = _checked(op, rank, x_shape, output_size)
    check_shape(op, "gy", gy, (*x_shape[:2], *sizes))
    check_place(op, index, gy.shape, np.dtype(np.int64))
    gx = xp.zeros(x_shape, accumulation_dtype(gy.dtype))
    own = xp.arange(prod(x_shape[2:])).reshape(x_shape[2:])
    for bins, met in _each_combination(xp, sizes, x_shape[2:]):
        gx += where(met & (index[(..., *bins)] == own), gy[(..., *bins)], 0)
    return gx.astype(gy.dtype, copy=False)


def _checked(op: str, rank: int, x_shape: Size, output_size: OutputSize) -> Size:
    """The size of the output."""
    check_rank(op, "x", x_shape, rank)
    check(min(x_shape[2:]) >= 1, ShapeError, op, "x must have at least one element along each axis", shape=x_shape)
    given = output_size if isinstance(output_size, tuple | list) else (output_size,) * rank
    filled = tuple(x_shape[2 + axis] if size is None else size for axis, size in enumerate(given) if axis < rank)
    return integers(op, "output_size", filled if len(given) == rank else output_size, 1, rank)


def _bins(xp: Any, length: int, size: int) -> tuple[Array, Array]:
    """First element and end of each of ``size`` bins over ``length`` elements."""
    number = xp.arange(size)
    return number * length // size, -(-(number + 1) * length // size)


def _members(xp: Any, length: int, size: int) -> list[tuple[Array, Array]]:
    """For k = 0, 1, ...: the k-th element of each bin, or its last where it has fewer, and whether it has it."""
    first, end = _bins(xp, length, size)
    most = -(-length // size) + (length % size > 0)  # a bin that starts and ends inside elements has one more
    return [(xp.minimum(first + k, end - 1), first + k < end) for k in range(most)]


def _along(axis: int, ndim: int, values: Array) -> Array:
    """``values``, one for each position of ``axis``, in a shape that broadcasts over ``ndim`` axes."""
    return values.reshape(-1, *(1,) * (ndim - 1 - axis))


def _counts(x: Array, axis: int, length: int, size: int) -> Array:
    """The number of elements of each bin, to divide x of ``ndim`` axes by."""
    first, end = _bins(get_array_module(x), length, size)
    return _along(axis, x.ndim, (end - first).astype(x.dtype))


def _sum_bins(x: Array, axis: int, size: int) -> Array:
    xp, length = get_array_module(x), x.shape[axis]
    if length % size == 0:
        return x.reshape(*x.shape[:axis], size, length // size, *x.shape[axis + 1 :]).sum(axis + 1)
    total = xp.zeros((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
    for element, has in _members(xp, length, size):
        total += where(_along(axis, x.ndim, has), x.take(element, axis), 0)
    return total


def _max_bins(xp: Any, x: Array, index: Array, axis: int, size: int) -> tuple[Array, Array]:
    (first, _), *others = _members(xp, x.shape[axis], size)
    y, best = x.take(first, axis), index.take(first, axis)
    for element, _ in others:  # the last element of a bin again changes nothing
        value = x.take(element, axis)
        better = (value > y) | (value != value)
        y, best = where(better, value, y), where(better, index.take(element, axis), best)
    return y, best


def _each_combination(xp: Any, sizes: Size, image: Size) -> list[tuple[tuple[Array, ...], Array]]:
    """Indices into the output by which each element of the image meets each bin it lies in, and where it meets one."""
    found: list[tuple[tuple[Array, ...], Array]] = [((), xp.ones((), bool))]
    for axis, (size, length) in enumerate(zip(sizes, image, strict=True)):
        members = [
            (_along(axis, len(sizes), bins), _along(axis, len(sizes), has)) for bins, has in _members(xp, size, length)
        ]
        found = [((*before, bins), met & has) for before, met in found for bins, has in members]
    return found
