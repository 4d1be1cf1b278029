"""Pooling over windows of one, two or three axes, forward and backward.

    max: y[n,c,o] = max of x over the window at o                     avg: y = sum of x over the window / divisor

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), y is (N, C, *out) with ``out`` from
:func:`gpunn.ops.shared.window.output_size`. Windows may overlap. Padding counts as -inf for the maximum and as 0 for
the mean. The first maximum (in row-major order) wins a tie; NaN wins over every number. Forward max pooling also
returns ``place``, where in its window each maximum was found: one byte an output (four for a window of more than 256),
all that the gradient needs. :func:`max_plan` and :func:`avg_plan` say what settings and shapes mean; the other
functions take the plan first. Source: LeCun et al. 1998, "Gradient-based learning applied to document recognition";
overlapping: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", 3.4.

:mod:`gpunn.ops.pool.ways` has the table of the ways to compute, :mod:`gpunn.ops.pool.global_pool` and
:mod:`gpunn.ops.pool.adaptive` have pooling over whole planes, and over bins, :mod:`gpunn.ops.pool.unpool` the way back
from the maxima.
"""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array, get_array_module
from gpunn.errors import ShapeError, check
from gpunn.ops.pool import ways
from gpunn.ops.pool.geometry import Plan, Stride, avg_plan, check_place, holds_elements, max_plan
from gpunn.ops.shared.checks import check_operands, check_shape

__all__ = [
    "Plan",
    "Stride",
    "avg_plan",
    "avg_pool",
    "avg_pool_backward",
    "max_plan",
    "max_pool",
    "max_pool_backward",
    "max_pool_indices",
]


def max_pool(plan: Plan, x: Array) -> tuple[Array, Array]:
    """The maxima (N, C, *out) and their places in the windows, counted in row-major order from 0.

    >>> x = np.array([[[3.0, 1.0, 2.0, 4.0]]])
    >>> y, place = max_pool(max_plan(1, x.shape, 2), x)
    >>> y.tolist(), place.tolist()
    ([[[3.0, 4.0]]], [[[0, 1]]])
    """
    check_operands(plan.op, x=(x, plan.x_shape))
    return ways.max_forward(plan, x)


def max_pool_backward(plan: Plan, gy: Array, place: Array) -> Array:
    """The gradient with respect to x: each gy added at the element that was its window's maximum."""
    op = f"{plan.op}_backward"
    check_operands(op, gy=(gy, plan.y_shape))
    check_place(op, place, plan.y_shape, plan.place_dtype)
    return ways.max_backward(plan, gy, place)


def max_pool_indices(plan: Plan, place: Array) -> Array:
    """``place`` as indices into each flattened image of x, int64: the form that PyTorch and ONNX use.

    Raises ShapeError if a window lies in the padding alone, as one with dilation may: its maximum is nowhere in x.
    """
    op, win = f"{plan.op}_indices", plan.window
    xp = get_array_module(place)
    check_shape(op, "place", place, plan.y_shape)
    rule = "a window that lies in the padding alone has no maximum to point at"
    check(holds_elements(win, plan.image, plan.out), ShapeError, op, rule, image=plan.image, window=win)
    index, stretch, rest = xp.zeros(place.shape, np.int64), 1, place.astype(np.int64)
    for axis in reversed(range(plan.rank)):
        start = xp.arange(plan.out[axis]) * win.stride[axis] - win.pads[axis][0]
        position = start.reshape(-1, *(1,) * (plan.rank - 1 - axis)) + rest % win.kernel[axis] * win.dilation[axis]
        index += position * stretch
        rest, stretch = rest // win.kernel[axis], stretch * plan.image[axis]
    return index


def avg_pool(plan: Plan, x: Array) -> Array:
    """The means (N, C, *out); the divisor counts the padding if asked, the overhang of ``ceil_mode`` never.

    With ``divisor_override`` in the plan it is that number, for all windows.

    >>> x = np.array([[[3.0, 1.0, 2.0, 4.0]]])
    >>> avg_pool(avg_plan(1, x.shape, 2), x).tolist()
    [[[2.0, 3.0]]]
    """
    check_operands(plan.op, x=(x, plan.x_shape))
    return ways.avg_forward(plan, x)


def avg_pool_backward(plan: Plan, gy: Array) -> Array:
    """The gradient with respect to x: each gy, divided as its mean was, added over its window."""
    check_operands(f"{plan.op}_backward", gy=(gy, plan.y_shape))
    return ways.avg_backward(plan, gy)
