"""Convolution (cross-correlation) over one, two or three axes, with its three gradients.

    y[n,k,o] = b[k] + sum_{c,r} w[k,c,r] x[n, c, o*stride - pad + r*dilation]                      along each axis alike

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), w is (K, C/groups, *kernel), b is (K,), y is (N, K, *out) with ``out``
from :func:`gpunn.ops.window.output_size`; ``rank``, 1 to 3, is the number of axes. Output channels fall into ``groups``
equal runs; each sees its own run of the input channels. float16 is summed in float32. Sources: those of
:mod:`gpunn.ops.conv`.

CUDA: signals go to the kernels as images of one row. Images go, in this order: to :mod:`gpunn.ops.conv_depthwise` if
each channel is a group of its own; to tensor cores, :mod:`gpunn.ops.conv_mma`, on a GPU in float16 or under
:func:`gpunn.backend.matmul_precision`; 1 x 1 filters at stride 1 to a matrix product; to ``kernels/conv.cu`` by
:mod:`gpunn.ops.conv_launch`. What is left, and volumes: :mod:`gpunn.ops.conv_columns`.
"""

from __future__ import annotations

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops import conv_columns, conv_depthwise, conv_launch, conv_mma
from gpunn.ops.window import Padding, Size, Sizes, Window, check_rank, check_shape, integer, output_size, window


def conv(
    rank: int,
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
    relu: bool = False,
) -> Array:
    """Convolve x with the filters w, then max(., 0) with ``relu``.

    >>> import numpy as np
    >>> conv(1, np.arange(5.0).reshape(1, 1, 5), np.array([[[-1.0, 1.0]]])).tolist()
    [[[1.0, 1.0, 1.0, 1.0]]]

    Raises ShapeError where ranks, channels, groups or sizes do not fit, ArgumentError for a stride, padding or dilation
    out of range.
    """
    op = f"conv{rank}d_bias_relu" if relu else f"conv{rank}d"
    operands(op, {"b": b}, x=x, w=w)
    win, out = _geometry(op, rank, x.shape, w.shape, stride, padding, dilation, groups)
    if b is not None:
        check_shape(op, "b", b, w.shape[:1])
    return convolve(x, w, b, win, out, groups, relu)


def conv_backward_x(
    rank: int,
    gy: Array,
    w: Array,
    x_shape: Size,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """The gradient with respect to x, from gy, the gradient with respect to y."""
    op = f"conv{rank}d_backward_x"
    operands(op, gy=gy, w=w)
    win, out = _geometry(op, rank, x_shape, w.shape, stride, padding, dilation, groups)
    check_shape(op, "gy", gy, (x_shape[0], w.shape[0], *out))
    return gradient_x(gy, w, x_shape, win, out, groups)


def conv_backward_w(
    rank: int,
    gy: Array,
    x: Array,
    w_shape: Size,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Array:
    """The gradient with respect to w, (K, C/groups, *kernel), summed over the batch."""
    op = f"conv{rank}d_backward_w"
    operands(op, gy=gy, x=x)
    win, out = _geometry(op, rank, x.shape, w_shape, stride, padding, dilation, groups)
    check_shape(op, "gy", gy, (x.shape[0], w_shape[0], *out))
    return gradient_w(gy, x, w_shape, win, out, groups)


def conv_backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (K,): gy (N, K, ...) summed over images and pixels."""
    operands("conv_backward_b", gy=gy)
    check(gy.ndim >= 2, ShapeError, "conv_backward_b", "gy must have the dimensions (N, K, ...)", shape=gy.shape)
    axes = (0, *range(2, gy.ndim))
    return gy.sum(axis=axes, dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)


def _geometry(
    op: str, rank: int, x_shape: Size, w_shape: Size, stride: Sizes, padding: Padding, dilation: Sizes, groups: int
) -> tuple[Window, Size]:
    check_rank(op, "x", x_shape, rank)
    check_rank(op, "w", w_shape, rank, "K, C/groups", "K")
    c, k = x_shape[1], w_shape[0]
    check(min(c, k) >= 1, ShapeError, op, "there must be at least one channel", in_channels=c, out_channels=k)
    groups = integer(op, "groups", groups, 1)
    check(c % groups == 0, ShapeError, op, "groups must divide in_channels", groups=groups, in_channels=c)
    check(k % groups == 0, ShapeError, op, "groups must divide out_channels", groups=groups, out_channels=k)
    expected = "w must have in_channels / groups channels"
    check(w_shape[1] * groups == c, ShapeError, op, expected, w=w_shape[1], in_channels=c, groups=groups)
    win = window(op, w_shape[2:], stride, padding, dilation, rank)
    return win, output_size(op, x_shape[2:], win)


# ---- which kernel ---------------------------------------------------------------------------------------------------


def convolve(x: Array, w: Array, b: Array | None, win: Window, out: Size, groups: int, relu: bool = False) -> Array:
    """y of the first ``out`` windows along each axis, from arguments that were checked."""
    if len(out) == 1:
        return convolve(x[:, :, None], w[:, :, None], b, win.on_one_row(), (1, *out), groups, relu)[:, :, 0]
    planar = len(out) == 2
    if planar and conv_depthwise.takes(x.shape[1], w.shape[0], win, groups):
        return conv_depthwise.forward(x, w, b, win, out, relu)
    if planar and conv_mma.takes(x):
        return conv_mma.conv2d(x, w, b, win, out, groups, relu)
    if _one_pixel(win, x.shape, out) and b is None and not relu:  # else a kernel adds and cuts off what it holds
        return conv_columns.forward_one_pixel(x, w, groups)
    if planar and cuda.takes(x):
        return conv_launch.forward(x, w, b, conv_launch.convolution(x.shape, w.shape[0], win, out, groups), relu)
    return conv_columns.forward(x, w, b, win, out, groups, relu)


def gradient_x(gy: Array, w: Array, x_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """The gradient of :func:`convolve` with respect to x."""
    if len(out) == 1:
        row = (*x_shape[:2], 1, *x_shape[2:])
        return gradient_x(gy[:, :, None], w[:, :, None], row, win.on_one_row(), (1, *out), groups)[:, :, 0]
    planar = len(out) == 2
    if planar and conv_depthwise.takes(x_shape[1], w.shape[0], win, groups):
        return conv_depthwise.backward_x(gy, w, x_shape, win, out)
    if planar and conv_mma.takes(gy):
        return conv_mma.conv2d_backward_x(gy, w, x_shape, win, out, groups)
    if _one_pixel(win, x_shape, out):
        return conv_columns.backward_x_one_pixel(gy, w, groups)
    if planar and cuda.takes(gy):
        return conv_launch.backward_x(gy, w, conv_launch.convolution(x_shape, w.shape[0], win, out, groups))
    return conv_columns.backward_x(gy, w, x_shape, win, out, groups)


def gradient_w(gy: Array, x: Array, w_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """The gradient of :func:`convolve` with respect to w."""
    if len(out) == 1:
        row = (*w_shape[:2], 1, *w_shape[2:])
        return gradient_w(gy[:, :, None], x[:, :, None], row, win.on_one_row(), (1, *out), groups)[:, :, 0]
    planar = len(out) == 2
    if planar and conv_depthwise.takes(x.shape[1], w_shape[0], win, groups):
        return conv_depthwise.backward_w(gy, x, w_shape, win, out)
    if planar and conv_mma.takes(gy):
        return conv_mma.conv2d_backward_w(gy, x, w_shape, win, out, groups)
    if planar and cuda.takes(gy):
        return conv_launch.backward_w(gy, x, conv_launch.convolution(x.shape, w_shape[0], win, out, groups))
    return conv_columns.backward_w(gy, x, w_shape, win, out, groups)


def _one_pixel(win: Window, x_shape: Size, out: Size) -> bool:
    return win.is_one_pixel() and x_shape[2:] == out and not cuda.capturing()  # which refuses cuBLAS
