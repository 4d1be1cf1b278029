"""Two-dimensional convolution (cross-correlation), NCHW, with its three gradients.

    y[n,k,oh,ow] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, oh*stride - pad + r*dilation, ow*stride - pad + s*dilation]

x is (N, C, H, W), w is (K, C/groups, KH, KW), b is (K,), y is (N, K, OH, OW) with OH and OW from
:func:`gpunn.ops.window.output_size`. Output channels fall into ``groups`` equal runs; each sees its own run of the
input channels. float16 is summed in float32. Source: LeCun et al. 1998, "Gradient-based learning applied to document
recognition"; groups: Krizhevsky et al. 2012.

CUDA: ``kernels/conv.cu``, implicit matrix products, tiled as :mod:`gpunn.cuda.convolution_plan` says. Without it: the
windows are copied into columns, a few images at a time so that they stay in the cache, and multiplied (Chellapilla et
al. 2006). 1 x 1 filters at stride 1 need neither; depthwise ones are in :mod:`gpunn.ops.conv_depthwise`. On a GPU,
float16, and float32 under :func:`gpunn.backend.matmul_precision`, go to tensor cores: :mod:`gpunn.ops.conv_mma`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops import conv_depthwise, conv_launch, conv_mma
from gpunn.ops.window import Padding, Pair, Window, check_image, check_shape, integer, output_size, window

Shape4 = tuple[int, int, int, int]


def conv2d(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """Convolve the images x with the filters w.

    >>> import numpy as np
    >>> conv2d(np.ones((1, 1, 6, 6)), np.ones((1, 1, 3, 3))).shape
    (1, 1, 4, 4)
    """
    return _forward("conv2d", x, w, b, stride, padding, dilation, groups, relu=False)


def conv2d_bias_relu(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """``relu(conv2d(x, w, b, ...))`` in one pass: y is written once, and what is below 0 never.

    >>> import numpy as np
    >>> conv2d_bias_relu(np.ones((1, 1, 2, 2)), np.array([[[[2.0]]], [[[-2.0]]]]))[0, :, 0, 0].tolist()
    [2.0, 0.0]
    """
    return _forward("conv2d_bias_relu", x, w, b, stride, padding, dilation, groups, relu=True)


def conv2d_bias_relu_backward(gy: Array, y: Array) -> Array:
    """The gradient at the convolution's own output: ``gy`` where y > 0, else 0; the three functions below take it."""
    operands("conv2d_bias_relu_backward", gy=gy, y=y)
    check_shape("conv2d_bias_relu_backward", "gy", gy, y.shape)
    return gy * (y > 0)


def conv2d_backward_x(
    gy: Array, w: Array, x_shape: Shape4, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1, groups: int = 1
) -> Array:
    """The gradient with respect to x, (N, C, H, W), from gy, the gradient with respect to y."""
    xp = operands("conv2d_backward_x", gy=gy, w=w)
    win, out = _geometry("conv2d_backward_x", x_shape, w.shape, stride, padding, dilation, groups)
    check_shape("conv2d_backward_x", "gy", gy, (x_shape[0], w.shape[0], *out))
    (n, c, height, width), k = x_shape, w.shape[0]
    if conv_depthwise.takes(c, k, win, groups):
        return conv_depthwise.backward_x(gy, w, x_shape, win, out)
    if conv_mma.takes(gy):
        return conv_mma.conv2d_backward_x(gy, w, x_shape, win, out, groups)
    acc = accumulation_dtype(gy.dtype)
    filters = w.astype(acc, copy=False).reshape(groups, k // groups, -1).swapaxes(1, 2)
    if win.is_one_pixel():
        return _multiply(xp, filters, gy)
    if cuda.takes(gy):
        return conv_launch.backward_x(gy, w, conv_launch.convolution(x_shape, k, win, out, groups))
    (top, bottom), (left, right) = win.pads
    padded = xp.zeros((n, c, height + top + bottom, width + left + right), acc)
    for images in _chunks(n, c, win, out, acc):
        columns = xp.matmul(filters, _rows(xp, gy[images], groups, acc)).reshape(c, len(win.taps()), -1, *out)
        target = padded[images].swapaxes(0, 1)
        for tap, row, column in win.taps():
            win.view(target, row, column, out)[...] += columns[:, tap]
    return padded[:, :, top : top + height, left : left + width].astype(gy.dtype)


def conv2d_backward_w(
    gy: Array, x: Array, w_shape: Shape4, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1, groups: int = 1
) -> Array:
    """The gradient with respect to w, (K, C/groups, KH, KW), summed over the batch."""
    xp = operands("conv2d_backward_w", gy=gy, x=x)
    check_image("conv2d_backward_w", "x", x)
    win, out = _geometry("conv2d_backward_w", x.shape, w_shape, stride, padding, dilation, groups)
    check_shape("conv2d_backward_w", "gy", gy, (x.shape[0], w_shape[0], *out))
    if conv_depthwise.takes(x.shape[1], w_shape[0], win, groups):
        return conv_depthwise.backward_w(gy, x, w_shape, win, out)
    if conv_mma.takes(gy):
        return conv_mma.conv2d_backward_w(gy, x, w_shape, win, out, groups)
    if cuda.takes(gy):
        return conv_launch.backward_w(gy, x, conv_launch.convolution(x.shape, w_shape[0], win, out, groups))
    acc = accumulation_dtype(gy.dtype)
    gw = xp.zeros((groups, w_shape[0] // groups, w_shape[1] * w_shape[2] * w_shape[3]), acc)
    for images, columns in _columns(xp, x, win, out, groups, acc):
        gw += xp.matmul(_rows(xp, gy[images], groups, acc), columns.swapaxes(1, 2))
    return gw.reshape(w_shape).astype(gy.dtype, copy=False)


def conv2d_backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (K,): gy summed over images and pixels."""
    operands("conv2d_backward_b", gy=gy)
    return gy.sum(axis=(0, 2, 3), dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)


def _forward(
    op: str,
    x: Array,
    w: Array,
    b: Array | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
    relu: bool,
) -> Array:
    xp = operands(op, x=x, w=w, b=b)
    check_image(op, "x", x)
    win, out = _geometry(op, x.shape, w.shape, stride, padding, dilation, groups)
    (n, c), k = x.shape[:2], w.shape[0]
    if b is not None:
        check_shape(op, "b", b, (k,))
    if conv_depthwise.takes(c, k, win, groups):
        return conv_depthwise.forward(x, w, b, win, out, relu)
    if conv_mma.takes(x):
        return conv_mma.conv2d(x, w, b, win, out, groups, relu)
    acc = accumulation_dtype(x.dtype)
    filters = w.astype(acc, copy=False).reshape(groups, k // groups, -1)
    if win.is_one_pixel() and b is None and not relu:  # else the kernel adds and cuts off what it holds in registers
        return _multiply(xp, filters, x)
    if cuda.takes(x):
        return conv_launch.forward(x, w, b, conv_launch.convolution(x.shape, k, win, out, groups), relu)
    y = xp.empty((n, k, *out), acc)
    for images, columns in _columns(xp, x, win, out, groups, acc):
        y[images] = xp.matmul(filters, columns).reshape(k, -1, *out).swapaxes(0, 1)
    if b is not None:
        y += b.astype(acc, copy=False)[:, None, None]
    if relu:
        xp.maximum(y, 0, out=y)
    return y.astype(x.dtype, copy=False)


def _multiply(xp: Any, filters: Array, x: Array) -> Array:
    """A 1 x 1 convolution: filters (groups, K/groups, C/groups) times the pixels of x; on CuPy this is cuBLAS."""
    groups, _, per_group = filters.shape
    y = xp.matmul(filters, x.astype(filters.dtype, copy=False).reshape(len(x), groups, per_group, -1))
    return y.reshape(len(x), -1, *x.shape[2:]).astype(x.dtype, copy=False)


def _geometry(
    op: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[Window, tuple[int, int]]:
    check(len(x_shape) == 4, ShapeError, op, "x must have the 4 dimensions (N, C, H, W)", shape=x_shape)
    check(len(w_shape) == 4, ShapeError, op, "w must have the 4 dimensions (K, C/groups, KH, KW)", shape=w_shape)
    c, k = x_shape[1], w_shape[0]
    check(min(c, k) >= 1, ShapeError, op, "there must be at least one channel", in_channels=c, out_channels=k)
    groups = integer(op, "groups", groups, 1)
    check(c % groups == 0, ShapeError, op, "groups must divide in_channels", groups=groups, in_channels=c)
    check(k % groups == 0, ShapeError, op, "groups must divide out_channels", groups=groups, out_channels=k)
    expected = "w must have in_channels / groups channels"
    check(w_shape[1] * groups == c, ShapeError, op, expected, w=w_shape[1], in_channels=c, groups=groups)
    win = window(op, (w_shape[2], w_shape[3]), stride, padding, dilation)
    return win, output_size(op, (x_shape[2], x_shape[3]), win)


# ---- without the kernel ---------------------------------------------------------------------------------------------

# The columns of as many images as fit into this many bytes are multiplied at a time: about a CPU's L2 cache.
_CHUNK_BYTES = 2 << 20


def _chunks(n: int, channels: int, win: Window, out: tuple[int, int], acc: Any) -> Iterator[slice]:
    bytes_per_image = channels * len(win.taps()) * out[0] * out[1] * acc.itemsize
    step = max(1, _CHUNK_BYTES // max(1, bytes_per_image))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _rows(xp: Any, gy: Array, groups: int, acc: Any) -> Array:
    """gy (n, K, OH, OW) as (groups, K/groups, n * OH * OW)."""
    k = gy.shape[1]
    return gy.astype(acc, copy=False).swapaxes(0, 1).reshape(groups, k // groups, -1)


def _columns(
    xp: Any, x: Array, win: Window, out: tuple[int, int], groups: int, acc: Any
) -> Iterator[tuple[slice, Array]]:
    """The windows of a few images at a time, as (groups, C/groups * taps, images * OH * OW)."""
    n, c, height, width = x.shape
    (top, bottom), (left, right) = win.pads
    for images in _chunks(n, c, win, out, acc):
        count = images.stop - images.start
        source = x[images].swapaxes(0, 1)  # (C, images, H, W)
        if win.pads != ((0, 0), (0, 0)):
            padded = xp.zeros((c, count, height + top + bottom, width + left + right), acc)
            padded[:, :, top : top + height, left : left + width] = source
            source = padded
        if len(win.taps()) == 1 and win.stride == (1, 1) and count == 1:
            columns = source.astype(acc, copy=False)  # the image is its own columns
        else:
            columns = xp.empty((c, len(win.taps()), count, *out), acc)
            for tap, row, column in win.taps():
                columns[:, tap] = win.view(source, row, column, out)
        yield images, columns.reshape(groups, c // groups * len(win.taps()), -1)
