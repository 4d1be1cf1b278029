"""Global average and max pooling: each channel's plane to one number, forward and backward.

    avg: y[n,c] = sum of x over the plane / its pixels          max: y[n,c] = max of x over the plane

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), and all but N and C is the plane here; y is (N, C, 1), (N, C, 1, 1) or
(N, C, 1, 1, 1); ``rank``, 1 to 3, is the number of axes. The first maximum (in row-major order) wins a tie; NaN wins
over every number, the last NaN over the others. Forward max pooling also returns ``place``, the index of each maximum
in its flattened plane, int32. Source: Lin, Chen and Yan 2014, "Network in network", section 3.2.

The ways to compute are :mod:`gpunn.ops.pool.global_kernel` and :mod:`gpunn.ops.pool.global_reductions`.
"""

from __future__ import annotations

from math import prod
from types import ModuleType

import numpy as np

from gpunn.backend import Array, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.pool import global_kernel, global_reductions
from gpunn.ops.pool.geometry import check_place
from gpunn.ops.shared.checks import Size, check_rank, check_shape
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (global_kernel, global_reductions)


def global_avg_pool(rank: int, x: Array) -> Array:
    """The mean of each plane.

    >>> global_avg_pool(1, np.arange(6.0).reshape(1, 2, 3)).tolist()
    [[[1.0], [4.0]]]

    Raises ShapeError unless x has ``rank`` + 2 dimensions, and a pixel at least.
    """
    op = f"global_avg_pool{rank}d"
    operands(op, x=x)
    _check_pixels(op, rank, x.shape)
    return route(ROUTES, x).avg_forward(x)


def global_avg_pool_backward(rank: int, gy: Array, x_shape: Size) -> Array:
    """The gradient with respect to x: gy, divided by the number of pixels, at each pixel."""
    op = f"global_avg_pool{rank}d_backward"
    operands(op, gy=gy)
    _check_pixels(op, rank, x_shape)
    check_shape(op, "gy", gy, (*x_shape[:2], *(1,) * rank))
    return route(ROUTES, gy).avg_backward(gy, x_shape)


def global_max_pool(rank: int, x: Array) -> tuple[Array, Array]:
    """The maximum of each plane and its place in the flattened plane, of one shape.

    >>> y, place = global_max_pool(2, np.float32([[[[1, 7], [3, 7]]]]))
    >>> y.item(), place.item(), place.dtype.name
    (7.0, 1, 'int32')

    Raises ShapeError unless x has ``rank`` + 2 dimensions, and a pixel at least.
    """
    op = f"global_max_pool{rank}d"
    operands(op, x=x)
    _check_pixels(op, rank, x.shape)
    both: tuple[Array, Array] = route(ROUTES, x).max_forward(x)
    return both


def global_max_pool_backward(rank: int, gy: Array, place: Array, x_shape: Size) -> Array:
    """The gradient with respect to x: gy at the place of each maximum, 0 elsewhere."""
    op = f"global_max_pool{rank}d_backward"
    operands(op, gy=gy)
    _check_pixels(op, rank, x_shape)
    check_shape(op, "gy", gy, (*x_shape[:2], *(1,) * rank))
    check_place(op, place, gy.shape, np.dtype(np.int32))
    return route(ROUTES, gy).max_backward(gy, place, x_shape)


def _check_pixels(op: str, rank: int, x_shape: Size) -> None:
    """Check that planes have pixels, and that an int32 can count them."""
    check_rank(op, "x", x_shape, rank)
    rule = "a plane must have 1 to 2^31 - 1 pixels"
    check(0 < prod(x_shape[2:]) < 2**31, ShapeError, op, rule, shape=x_shape)
