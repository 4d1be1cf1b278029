"""Two-dimensional convolution (cross-correlation), NCHW, with its three gradients.

    y[n,k,oh,ow] = b[k] + sum_{c,r,s} w[k,c,r,s] x[n, c, oh*stride - pad + r*dilation, ow*stride - pad + s*dilation]

x is (N, C, H, W), w is (K, C/groups, KH, KW), b is (K,), y is (N, K, OH, OW) with OH and OW from
:func:`gpunn.ops.window.output_size`. Output channels fall into ``groups`` equal runs; each sees its own run of the
input channels. float16 is summed in float32. Source: LeCun et al. 1998, "Gradient-based learning applied to document
recognition"; groups: Krizhevsky et al. 2012.

CUDA: ``kernels/conv.cu``, implicit matrix products. Without it: the windows are copied into columns, a few images
at a time so that they stay in the cache, and multiplied (Chellapilla et al. 2006).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.ops.window import Padding, Pair, Window, check_image, check_shape, output_size, window

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

    >>> conv2d(np.ones((1, 1, 6, 6)), np.ones((1, 1, 3, 3))).shape
    (1, 1, 4, 4)
    """
    xp = operands("conv2d", x=x, w=w, b=b)
    check_image("conv2d", "x", x)
    win, out = _geometry("conv2d", x.shape, w.shape, stride, padding, dilation, groups)
    if b is not None:
        check_shape("conv2d", "b", b, (w.shape[0],))
    if cuda.takes(x):
        return _launch_forward(xp, x, w, b, win, out, groups)
    n, k = x.shape[0], w.shape[0]
    acc = accumulation_dtype(x.dtype)
    filters = w.astype(acc, copy=False).reshape(groups, k // groups, -1)
    y = xp.empty((n, k, *out), acc)
    for images, columns in _columns(xp, x, win, out, groups, acc):
        y[images] = xp.matmul(filters, columns).reshape(k, -1, *out).swapaxes(0, 1)
    if b is not None:
        y += b.astype(acc, copy=False)[:, None, None]
    return y.astype(x.dtype, copy=False)


def conv2d_backward_x(
    gy: Array, w: Array, x_shape: Shape4, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1, groups: int = 1
) -> Array:
    """The gradient with respect to x, (N, C, H, W), from gy, the gradient with respect to y."""
    xp = operands("conv2d_backward_x", gy=gy, w=w)
    win, out = _geometry("conv2d_backward_x", x_shape, w.shape, stride, padding, dilation, groups)
    check_shape("conv2d_backward_x", "gy", gy, (x_shape[0], w.shape[0], *out))
    if cuda.takes(gy):
        return _launch_backward_x(xp, gy, w, x_shape, win, out, groups)
    (n, c, height, width), k = x_shape, w.shape[0]
    acc = accumulation_dtype(gy.dtype)
    filters = w.astype(acc, copy=False).reshape(groups, k // groups, -1).swapaxes(1, 2)
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
    if cuda.takes(gy):
        return _launch_backward_w(xp, gy, x, w_shape, win, out, groups)
    acc = accumulation_dtype(gy.dtype)
    gw = xp.zeros((groups, w_shape[0] // groups, w_shape[1] * w_shape[2] * w_shape[3]), acc)
    for images, columns in _columns(xp, x, win, out, groups, acc):
        gw += xp.matmul(_rows(xp, gy[images], groups, acc), columns.swapaxes(1, 2))
    return gw.reshape(w_shape).astype(gy.dtype, copy=False)


def conv2d_backward_b(gy: Array) -> Array:
    """The gradient with respect to b, (K,): gy summed over images and pixels."""
    operands("conv2d_backward_b", gy=gy)
    return gy.sum(axis=(0, 2, 3), dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)


def _geometry(
    op: str,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> tuple[Window, tuple[int, int]]:
    check(len(w_shape) == 4, ShapeError, op, "w must have the 4 dimensions (K, C/groups, KH, KW)", shape=w_shape)
    c, k = x_shape[1], w_shape[0]
    check(
        isinstance(groups, int) and groups >= 1,
        ArgumentError,
        op,
        "groups must be an integer of at least 1",
        groups=groups,
    )
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


# ---- with the kernel ------------------------------------------------------------------------------------------------

_TILE_N = 64
_MAX_BLOCKS_YZ = 65535


def _launch(
    op: str, kernel: str, rows: int, columns: int, win: Window, groups: int, args: list[Any], sizes: tuple[int, ...]
) -> None:
    # A tile of 16 rows wastes less of a layer with few channels, one of 64 reads each image less often.
    tile_m = 16 if rows <= 32 else 64
    row_tiles = -(-rows // tile_m)
    for name, blocks in (("groups", groups), ("channel tiles", row_tiles)):
        check(blocks <= _MAX_BLOCKS_YZ, ShapeError, op, f"CUDA takes at most {_MAX_BLOCKS_YZ} {name}", got=blocks)
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(args[0]), "INDEX": cuda.index_type(*sizes), "KH": win.kernel[0], "KW": win.kernel[1],
        "TILE_M": tile_m, "TILE_N": _TILE_N,
    }  # fmt: skip
    cuda.launch("conv.cu", kernel, macros, (-(-columns // _TILE_N), row_tiles, groups), (tile_m * _TILE_N // 16,), args)


def _shape_args(x_shape: tuple[int, ...], k: int, win: Window, out: tuple[int, int]) -> list[np.int32]:
    pads = (win.pads[0][0], win.pads[1][0])
    return [np.int32(v) for v in (*x_shape, k, *out, *win.stride, *pads, *win.dilation)]


def _launch_forward(
    xp: Any, x: Array, w: Array, b: Array | None, win: Window, out: tuple[int, int], groups: int
) -> Array:
    x, w = xp.ascontiguousarray(x), xp.ascontiguousarray(w)
    bias = w if b is None else xp.ascontiguousarray(b)  # the kernel does not read it if has_bias is 0
    y = xp.empty((x.shape[0], w.shape[0], *out), x.dtype)
    if y.size:
        args = [x, w, bias, y, np.int32(b is not None), *_shape_args(x.shape, w.shape[0], win, out)]
        pixels = x.shape[0] * out[0] * out[1]
        _launch("conv2d", "conv2d_forward", w.shape[0] // groups, pixels, win, groups, args, (x.size, y.size, w.size))
    return y


def _launch_backward_x(
    xp: Any, gy: Array, w: Array, x_shape: Shape4, win: Window, out: tuple[int, int], groups: int
) -> Array:
    gx = xp.empty(x_shape, gy.dtype)
    if gx.size:
        args = [xp.ascontiguousarray(gy), xp.ascontiguousarray(w), gx, *_shape_args(x_shape, w.shape[0], win, out)]
        (n, c, height, width), sizes = x_shape, (gy.size, gx.size, w.size)
        _launch("conv2d", "conv2d_backward_x", c // groups, n * height * width, win, groups, args, sizes)
    return gx


def _launch_backward_w(
    xp: Any, gy: Array, x: Array, w_shape: Shape4, win: Window, out: tuple[int, int], groups: int
) -> Array:
    gw = xp.empty(w_shape, gy.dtype)
    if gw.size:
        args = [xp.ascontiguousarray(gy), xp.ascontiguousarray(x), gw, *_shape_args(x.shape, w_shape[0], win, out)]
        columns, sizes = w_shape[1] * w_shape[2] * w_shape[3], (gy.size, x.size, gw.size)
        _launch("conv2d", "conv2d_backward_w", w_shape[0] // groups, columns, win, groups, args, sizes)
    return gw
