"""Convolution (cross-correlation) over one, two or three axes, with its three gradients.

    y[n,k,o] = b[k] + sum_{c,r} w[k,c,r] x[n, c, o*stride - pad + r*dilation]                      along each axis alike

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), w is (K, C/groups, *kernel), b is (K,), y is (N, K, *out) with ``out``
from :func:`gpunn.ops.shared.window.output_size`. Output channels fall into ``groups`` equal runs; each sees its own run
of the input channels. float16 is summed in float32. :func:`plan` says what the settings and shapes mean; the other
functions take the plan first. Sources: LeCun et al. 1998, "Gradient-based learning applied to document recognition";
groups: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks".

:mod:`gpunn.ops.conv.ways` has the table of the ways to compute, :mod:`gpunn.ops.conv.transpose` the transposed
convolution.
"""

from __future__ import annotations

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.conv import ways
from gpunn.ops.conv.geometry import Plan, plan
from gpunn.ops.shared.checks import check_operands

__all__ = ["Plan", "backward_b", "backward_w", "backward_x", "forward", "plan"]


def forward(plan: Plan, x: Array, w: Array, b: Array | None = None, relu: bool = False) -> Array:
    """Convolve x with the filters w and add b, if there is one; then max(., 0) with ``relu``, in the same pass.

    >>> import numpy as np
    >>> x, w = np.arange(5.0).reshape(1, 1, 5), np.array([[[-1.0, 1.0]]])
    >>> forward(plan(1, x.shape, w.shape), x, w).tolist()
    [[[1.0, 1.0, 1.0, 1.0]]]
    """
    op = f"{plan.op}_bias_relu" if relu else plan.op
    check_operands(op, {"b": (b, plan.w_shape[:1])}, x=(x, plan.x_shape), w=(w, plan.w_shape))
    return ways.forward(plan, x, w, b, relu)


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """The gradient with respect to x, from gy, the gradient with respect to y."""
    check_operands(f"{plan.op}_backward_x", gy=(gy, plan.y_shape), w=(w, plan.w_shape))
    return ways.backward_x(plan, gy, w)


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """The gradient with respect to w, (K, C/groups, *kernel), summed over the batch."""
    check_operands(f"{plan.op}_backward_w", gy=(gy, plan.y_shape), x=(x, plan.x_shape))
    return ways.backward_w(plan, gy, x)


def backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (K,): gy (N, K, ...) summed over images and pixels."""
    operands("conv_backward_b", gy=gy)
    check(gy.ndim >= 2, ShapeError, "conv_backward_b", "gy must have the dimensions (N, K, ...)", shape=gy.shape)
    axes = (0, *range(2, gy.ndim))
    return gy.sum(axis=axes, dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)
