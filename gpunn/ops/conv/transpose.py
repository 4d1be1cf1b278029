"""Transposed convolution over one, two or three axes, with its gradients.

    y[n, k, i*stride - pad + r*dilation] += w[c,k,r] x[n,c,i]        for every c, i and r, along each axis alike; + b[k]

It is the gradient of a convolution with respect to what that convolves. x is (N, C, *image), w is
(C, K/groups, *kernel), b is (K,), y is (N, K, *out); ``rank``, 1 to 3, is the number of axes::

    out = (image - 1) * stride - pads + dilation * (kernel - 1) + 1 + output_padding

``padding`` is cut off y: an integer, one for each axis, (before, after) for each axis, ``"same"`` or ``"valid"``.
``output_padding``, less than the stride or the dilation, adds to the end of each axis: several sizes of y convolve to
one of x. float16 is summed in float32. The gradient of b is :func:`gpunn.ops.conv.backward_b`. Sources: Zeiler et al.
2010, "Deconvolutional networks"; Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning".

:func:`plan` is the plan of the convolution whose gradient it is: there, x is the gradient and y has the place of x.
"""

from __future__ import annotations

from gpunn.backend import Array
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.ops.conv import ways
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.shared.checks import Size, check_operands, check_rank, integer, integers
from gpunn.ops.shared.plans import planned
from gpunn.ops.shared.window import Padding, Sizes, window


def forward(plan: Plan, x: Array, w: Array, b: Array | None = None) -> Array:
    """Spread each element of x over a window of y.

    >>> import numpy as np
    >>> x, w = np.array([[[1.0, 2.0]]]), np.array([[[1.0, 10.0, 100.0]]])
    >>> forward(plan(1, x.shape, w.shape, 2), x, w).tolist()
    [[[1.0, 10.0, 102.0, 20.0, 200.0]]]
    """
    check_operands(plan.op, {"b": (b, plan.x_shape[1:2])}, x=(x, plan.y_shape), w=(w, plan.w_shape))
    y = ways.backward_x(plan, x, w)
    if b is not None:
        y += b.reshape(-1, *(1,) * plan.rank)
    return y


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """The gradient with respect to x, (N, C, *image): gy convolved with w."""
    check_operands(f"{plan.op}_backward_x", gy=(gy, plan.x_shape), w=(w, plan.w_shape))
    return ways.forward(plan, gy, w)


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """The gradient with respect to w, (C, K/groups, *kernel), summed over the batch."""
    check_operands(f"{plan.op}_backward_w", gy=(gy, plan.x_shape), x=(x, plan.y_shape))
    return ways.backward_w(plan, x, gy)


@planned
def plan(
    rank: int,
    x_shape: Size,
    w_shape: Size,
    stride: Sizes = 1,
    padding: Padding = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> Plan:
    """The plan of the convolution of y with w to x.

    >>> plan(2, (8, 16, 14, 14), (16, 3, 5, 5), 2, 2, 1).x_shape
    (8, 3, 28, 28)

    Raises ShapeError where ranks, channels, groups or sizes do not fit, ArgumentError for a stride, padding, output
    padding or dilation out of range.
    """
    op = f"conv_transpose{rank}d"
    check_rank(op, "x", x_shape, rank)
    check_rank(op, "w", w_shape, rank, "C, K/groups", "K")
    c, k = x_shape[1], w_shape[1]
    check(min(c, k) >= 1, ShapeError, op, "there must be at least one channel", in_channels=c, out_channels=k)
    groups = integer(op, "groups", groups, 1)
    check(c % groups == 0, ShapeError, op, "groups must divide in_channels", groups=groups, in_channels=c)
    check(w_shape[0] == c, ShapeError, op, "w must have in_channels filters", w=w_shape[0], in_channels=c)
    win = window(op, w_shape[2:], stride, padding, dilation, rank)
    more = integers(op, "output_padding", output_padding, 0, rank)
    small = all(m < max(s, d) for m, s, d in zip(more, win.stride, win.dilation, strict=True))
    rule = "output_padding must be less than the stride or the dilation"
    check(small, ArgumentError, op, rule, output_padding=more, stride=win.stride, dilation=win.dilation)
    check(min(x_shape[2:]) >= 1, ShapeError, op, "x must have at least one element along each axis", shape=x_shape)
    spans = zip(x_shape[2:], win.stride, win.pads, win.extent(), more, strict=True)
    out = tuple((size - 1) * step - sum(pads) + extent + m for size, step, pads, extent, m in spans)
    rule = "the padding must leave something of the output"
    check(min(out) >= 1, ShapeError, op, rule, output=out, image=x_shape[2:], window=win.extent(), padding=win.pads)
    return Plan(op, (x_shape[0], k * groups, *out), w_shape, x_shape, win, groups)
