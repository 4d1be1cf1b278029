"""Power-average pooling over windows of one, two or three axes, forward and backward.

    y[n,c,o] = (sum of x^p over the window at o)^(1/p)               gx = x^(p-1) * sum of gy y^(1-p) over the windows

It is average pooling between two powers. p = 1 gives sums, p = 2 lengths; the larger p, the nearer the maximum. x^p and
not |x|^p: with an odd p a sum may be negative, and y then NaN, as in PyTorch. Where y is 0 the gradient is 0. A window
that ``ceil_mode`` lets hang over counts for a whole one. float16 is computed in float32. Source: Sermanet, Chintala
and LeCun 2012, "Convolutional neural networks applied to house numbers digit classification".
"""

from __future__ import annotations

from math import prod

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.pool import ways
from gpunn.ops.pool.geometry import Plan, Stride
from gpunn.ops.shared.checks import Size, check_operands, check_rank
from gpunn.ops.shared.plans import planned
from gpunn.ops.shared.window import Sizes, output_size, window


@planned
def lp_plan(rank: int, x_shape: Size, kernel_size: Sizes, stride: Stride = None, ceil_mode: bool = False) -> Plan:
    """The plan of power-average pooling over ``rank`` axes; there is no padding.

    >>> lp_plan(1, (8, 3, 5), 2, ceil_mode=True).y_shape
    (8, 3, 3)
    """
    op = f"lp_pool{rank}d"
    check_rank(op, "x", x_shape, rank)
    win = window(op, kernel_size, kernel_size if stride is None else stride, 0, rank=rank)
    return Plan(op, x_shape, (*x_shape[:2], *output_size(op, x_shape[2:], win, ceil_mode)), win)


def lp_pool(plan: Plan, x: Array, p: float) -> Array:
    """The p-th root of the sum of the p-th powers of each window, (N, C, *out).

    >>> import numpy as np
    >>> lp_pool(lp_plan(1, (1, 1, 4), 2), np.array([[[3.0, 4.0, 0.0, 2.0]]]), 2.0).tolist()
    [[[5.0, 2.0]]]
    """
    check_operands(plan.op, x=(x, plan.x_shape))
    p = _power(plan.op, p)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    sums = ways.avg_forward(plan, wide**p) * prod(plan.window.kernel)
    return (sums ** (1 / p)).astype(x.dtype, copy=False)


def lp_pool_backward(plan: Plan, gy: Array, x: Array, y: Array, p: float) -> Array:
    """The gradient with respect to x, given x and what :func:`lp_pool` made of it."""
    op = f"{plan.op}_backward"
    check_operands(op, gy=(gy, plan.y_shape), x=(x, plan.x_shape), y=(y, plan.y_shape))
    p, xp, acc = _power(op, p), get_array_module(gy), accumulation_dtype(gy.dtype)
    x, y = x.astype(acc, copy=False), y.astype(acc, copy=False)
    ones = xp.where(y == 0, acc.type(1), y)
    shares = xp.where(y == 0, acc.type(0), gy.astype(acc, copy=False) * ones ** (1 - p)) * prod(plan.window.kernel)
    return (ways.avg_backward(plan, shares) * x ** (p - 1)).astype(gy.dtype, copy=False)


def _power(op: str, p: float) -> float:
    check_number(op, norm_type=p)
    check(p != 0, ArgumentError, op, "norm_type must not be 0", norm_type=p)
    return float(p)  # a NumPy scalar would promote
