"""Max pooling over windows at random steps, of two or three axes, forward and backward.

    y[n,c,o] = max of x over the window that begins at start(o)
    start(i) = floor((i + u) a) - floor(u a) along each axis, a = (L - K) / (O - 1);        the last begins at L - K

x is (N, C, *image) of L elements along an axis, y is (N, C, *output_size) of O, a window has K. u in [0, 1) is random,
one for each plane and axis: ``samples`` (N, C, rank), of images for (W, H) as in PyTorch, of volumes for (D, H, W). The
first maximum wins a tie; NaN wins over every number. Windows may overlap; along an axis no two begin at one element, so
the gradients of the i-th elements of all windows go to different places: they are added element by element, in a fixed
order. Source: Graham 2014, "Fractional max-pooling".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, operands, where
from gpunn.errors import ShapeError, check
from gpunn.ops.pool.geometry import check_place
from gpunn.ops.shared.checks import Size, check_rank, check_shape, integers
from gpunn.ops.shared.window import Sizes


def fractional_max_pool(
    rank: int, x: Array, kernel_size: Sizes, output_size: Sizes, samples: Array
) -> tuple[Array, Array]:
    """The maximum of each window, and its index in the flattened image, int64; both (N, C, *output_size).

    >>> x, samples = np.arange(9.0).reshape(1, 1, 3, 3), np.zeros((1, 1, 2))
    >>> y, index = fractional_max_pool(2, x, 2, 2, samples)
    >>> y.tolist(), index.tolist()
    ([[[[4.0, 5.0], [7.0, 8.0]]]], [[[[4, 5], [7, 8]]]])

    Raises ShapeError unless x has ``rank`` + 2 dimensions, and at least K + O - 1 elements along each axis.
    """
    op = f"fractional_max_pool{rank}d"
    operands(op, x=x, samples=samples)
    kernel, out = _checked(op, rank, x.shape, kernel_size, output_size, samples)
    xp, flat = get_array_module(x), x.reshape(*x.shape[:2], prod(x.shape[2:]))
    y = index = None
    for at in _positions(x.shape, kernel, out, samples):
        seen = xp.take_along_axis(flat, at.reshape(*x.shape[:2], prod(out)), 2).reshape(at.shape)
        if y is None:
            y, index = seen, at
        else:
            better = (seen > y) | (seen != seen)
            y, index = where(better, seen, y), where(better, at, index)
    return y, index


def fractional_max_pool_backward(
    rank: int, gy: Array, index: Array, x_shape: Size, kernel_size: Sizes, output_size: Sizes, samples: Array
) -> Array:
    """The gradient with respect to x: each gy added at the element that was its window's maximum."""
    op = f"fractional_max_pool{rank}d_backward"
    xp = operands(op, gy=gy, samples=samples)
    kernel, out = _checked(op, rank, x_shape, kernel_size, output_size, samples)
    check_shape(op, "gy", gy, (*x_shape[:2], *out))
    check_place(op, index, gy.shape, np.dtype(np.int64))
    planes, acc = prod(x_shape[:2]), accumulation_dtype(gy.dtype)
    gx, row = xp.zeros((planes, prod(x_shape[2:])), acc), xp.arange(planes)[:, None]
    for at in _positions(x_shape, kernel, out, samples):
        gx[row, at.reshape(planes, prod(out))] += xp.where(index == at, gy.astype(acc), acc.type(0)).reshape(
            planes, prod(out)
        )
    return gx.reshape(x_shape).astype(gy.dtype, copy=False)


def _checked(
    op: str, rank: int, x_shape: Size, kernel_size: Sizes, output_size: Sizes, samples: Array
) -> tuple[Size, Size]:
    check_rank(op, "x", x_shape, rank)
    kernel, out = integers(op, "kernel_size", kernel_size, 1, rank), integers(op, "output_size", output_size, 1, rank)
    fits = samples.shape[1:] == (x_shape[1], rank) and len(samples) >= x_shape[0]
    check(fits, ShapeError, op, f"samples must have shape {(*x_shape[:2], rank)}, or more rows", shape=samples.shape)
    room = all(k + o - 1 <= length for k, o, length in zip(kernel, out, x_shape[2:], strict=True))
    rule = "x must have at least kernel_size + output_size - 1 elements along each axis"
    check(room, ShapeError, op, rule, shape=x_shape, kernel_size=kernel, output_size=out)
    return kernel, out


def _positions(x_shape: Size, kernel: Size, out: Size, samples: Array) -> Iterator[Array]:
    """Of the elements of a window one after the other: where each window has it, (N, C, *out), in the flattened image.

    In float16 the numbers of the windows would not be whole.
    """
    xp, rank, wide = (
        get_array_module(samples),
        len(out),
        samples[: x_shape[0]].astype(accumulation_dtype(samples.dtype)),
    )
    starts = []
    for axis, (length, size, count) in enumerate(zip(x_shape[2:], kernel, out, strict=True)):
        u = wide[:, :, 1 - axis if rank == 2 else axis, None]
        begin = _starts(xp, u, length - size, count)
        starts.append(begin.reshape(*begin.shape[:2], *(count if each == axis else 1 for each in range(rank))))
    for tap in product(*map(range, kernel)):
        at = 0
        for begin, offset, length in zip(starts, tap, x_shape[2:], strict=True):
            at = at * length + begin + offset
        yield at


def _starts(xp: Any, u: Array, last: int, count: int) -> Array:
    """Where each of ``count`` windows begins, (N, C, count), for u (N, C, 1)."""
    if count == 1:
        return xp.full(u.shape, last, np.int64)
    a = u.dtype.type(last / (count - 1))
    begin = ((xp.arange(count, dtype=u.dtype) + u) * a).astype(np.int64) - (u * a).astype(np.int64)
    begin[..., -1] = last
    return xp.clip(begin, 0, last)
