"""What follows a convolution in AlexNet, fused: bias, ReLU, local response normalisation, max pooling; both orders.

    bias_relu_pool_lrn: y = lrn(max_pool(max(x + b, 0)))         bias_relu_lrn_pool: y = max_pool(lrn(max(x + b, 0)))

x is (N, C, H, W), b is (C,), y is (N, C, OH, OW). Formulas and rules are those of :mod:`gpunn.ops.pool` and
:mod:`gpunn.ops.norm.lrn`. :func:`plan` says what the settings mean; the other functions take the plan first. Source:
Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", sections 3.1 to 3.4, which
normalises before it pools.

The ways to compute are :mod:`gpunn.ops.block.kernel` and :mod:`gpunn.ops.block.in_turn`.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.block import in_turn, kernel
from gpunn.ops.block.geometry import Plan, plan
from gpunn.ops.pool.geometry import check_place
from gpunn.ops.shared.checks import check_operands, check_shape
from gpunn.ops.shared.routes import route

__all__ = [
    "Plan",
    "bias_relu_lrn_pool",
    "bias_relu_lrn_pool_backward",
    "bias_relu_pool_lrn",
    "bias_relu_pool_lrn_backward",
    "plan",
]

ROUTES: tuple[ModuleType, ...] = (kernel, in_turn)
"""Each has ``takes(plan, x)``, ``pool_lrn``, ``pool_lrn_backward``, ``lrn_pool`` and ``lrn_pool_backward``."""


def bias_relu_pool_lrn(plan: Plan, x: Array, b: Array) -> tuple[Array, Array, Array]:
    """Pool, then normalise: (y, pooled, place). Backward needs ``pooled`` and ``place``, and no longer x.

    >>> import numpy as np
    >>> x, b = np.ones((1, 96, 55, 55), np.float32), np.zeros(96, np.float32)
    >>> y, pooled, place = bias_relu_pool_lrn(plan("pool_lrn", x.shape), x, b)
    >>> y.shape, pooled.shape, place.dtype.name
    ((1, 96, 27, 27), (1, 96, 27, 27), 'uint8')

    Raises ShapeError unless b has one element for each channel of x.
    """
    _check(plan.op, plan, x, b)
    found: tuple[Array, Array, Array] = route(ROUTES, plan, x).pool_lrn(plan, x, b)
    return found


def bias_relu_pool_lrn_backward(plan: Plan, gy: Array, pooled: Array, place: Array) -> tuple[Array, Array]:
    """The gradients with respect to x and b."""
    op = f"{plan.op}_backward"
    check_operands(op, gy=(gy, plan.pool.y_shape), pooled=(pooled, plan.pool.y_shape))
    check_place(op, place, gy.shape, plan.pool.place_dtype)
    both: tuple[Array, Array] = route(ROUTES, plan, gy).pool_lrn_backward(plan, gy, pooled, place)
    return both


def bias_relu_lrn_pool(plan: Plan, x: Array, b: Array) -> tuple[Array, Array]:
    """Normalise, then pool: (y, place). Backward needs ``place``, x and b: what lies between is computed again.

    >>> import numpy as np
    >>> x, b = np.ones((1, 96, 55, 55), np.float32), np.zeros(96, np.float32)
    >>> y, place = bias_relu_lrn_pool(plan("lrn_pool", x.shape), x, b)
    >>> y.shape, place.dtype.name
    ((1, 96, 27, 27), 'uint8')

    Raises ShapeError unless b has one element for each channel of x.
    """
    _check(plan.op, plan, x, b)
    both: tuple[Array, Array] = route(ROUTES, plan, x).lrn_pool(plan, x, b)
    return both


def bias_relu_lrn_pool_backward(plan: Plan, gy: Array, x: Array, b: Array, place: Array) -> tuple[Array, Array]:
    """The gradients with respect to x and b."""
    op = f"{plan.op}_backward"
    operands(op, gy=gy, x=x)
    _check(op, plan, x, b)
    check_shape(op, "gy", gy, plan.pool.y_shape)
    check_place(op, place, gy.shape, plan.pool.place_dtype)
    both: tuple[Array, Array] = route(ROUTES, plan, x).lrn_pool_backward(plan, gy, x, b, place)
    return both


def _check(op: str, plan: Plan, x: Array, b: Array) -> None:
    operands(op, x=x, b=b)
    check_shape(op, "x", x, plan.pool.x_shape)
    fits = b.shape == (x.shape[1],)
    check(fits, ShapeError, op, "b must have one element for each channel", b=b.shape, channels=x.shape[1])
