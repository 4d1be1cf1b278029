"""Differentiable fused blocks of AlexNet; see :mod:`gpunn.ops.block` for the formulas and the rules."""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_widest
from gpunn.functional.record import Input, Y, differentiable, kept, raw
from gpunn.ops import block as ops
from gpunn.ops.block.geometry import Order
from gpunn.ops.norm import AlphaMode
from gpunn.ops.shared.checks import shapes_of
from gpunn.ops.shared.window import Pair


@in_widest
def bias_relu_pool_lrn(
    x: Input[Y],
    b: Input[Y],
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> Y:
    """``lrn(max_pool2d(relu(x + b)))`` in one kernel: x (N, C, H, W), b (C,). The defaults are AlexNet's.

    >>> import numpy as np
    >>> bias_relu_pool_lrn(np.zeros((1, 96, 55, 55), np.float32), np.zeros(96, np.float32)).shape
    (1, 96, 27, 27)
    """
    xd, bd = raw(x), raw(b)
    plan = _plan("pool_lrn", xd, kernel_size, stride, padding, size, alpha, beta, k, alpha_mode)
    y, pooled, place = ops.bias_relu_pool_lrn(plan, xd, bd)
    return differentiable(y, (x, b), lambda gy, _: ops.bias_relu_pool_lrn_backward(plan, gy, pooled, place))


@in_widest
def bias_relu_lrn_pool(
    x: Input[Y],
    b: Input[Y],
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> Y:
    """``max_pool2d(lrn(relu(x + b)))`` in one kernel: x (N, C, H, W), b (C,). The defaults are AlexNet's.

    >>> import numpy as np
    >>> bias_relu_lrn_pool(np.zeros((1, 96, 55, 55), np.float32), np.zeros(96, np.float32)).shape
    (1, 96, 27, 27)
    """
    xd, bd = kept(x, b)
    plan = _plan("lrn_pool", xd, kernel_size, stride, padding, size, alpha, beta, k, alpha_mode)
    y, place = ops.bias_relu_lrn_pool(plan, xd, bd)
    return differentiable(y, (x, b), lambda gy, _: ops.bias_relu_lrn_pool_backward(plan, gy, xd, bd, place))


def _plan(order: Order, x: Array, *settings: Any) -> ops.Plan:
    return ops.plan(order, *shapes_of(f"bias_relu_{order}", x=x), *settings)
