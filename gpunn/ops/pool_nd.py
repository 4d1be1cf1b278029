"""Max and average pooling over one, two or three axes, forward and backward.

    max: y[n,c,o] = max of x over the window at o                     avg: y = sum of x over the window / divisor

x is (N, C, L), (N, C, H, W) or (N, C, D, H, W), y is (N, C, *out) with ``out`` from
:func:`gpunn.ops.window.output_size`; ``rank``, 1 to 3, is the number of axes. Windows may overlap. Padding counts as
-inf for the maximum and as 0 for the mean. The first maximum (in row-major order) wins a tie; NaN wins over every
number. Forward max pooling also returns ``place``, where in its window each maximum was found: one byte an output (four
for a window of more than 256), all that the gradient needs. Source: LeCun et al. 1998; overlapping: Krizhevsky et al.
2012, 3.4.

CUDA: ``kernels/pool.cu`` for images, and for signals, which are images of one row. What is left, and volumes:
:mod:`gpunn.ops.pool_views`.
"""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module, operands
from gpunn.errors import ShapeError, check
from gpunn.ops import pool_views
from gpunn.ops.pool_window import Stride, check_place, geometry, holds_elements, place_dtype
from gpunn.ops.vector import vector
from gpunn.ops.window import Size, Sizes, Window, check_rank, check_shape


def max_pool(
    rank: int,
    x: Array,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Array, Array]:
    """The maxima (N, C, *out) and their places in the windows, counted in row-major order from 0.

    >>> y, place = max_pool(1, np.array([[[3.0, 1.0, 2.0, 4.0]]]), 2)
    >>> y.tolist(), place.tolist()
    ([[[3.0, 4.0]]], [[[0, 1]]])
    """
    op = f"max_pool{rank}d"
    operands(op, x=x)
    check_rank(op, "x", x.shape, rank)
    win, out = geometry(op, x.shape, kernel_size, stride, padding, dilation, ceil_mode, rank)
    return _max(x, win, out)


def max_pool_backward(
    rank: int,
    gy: Array,
    place: Array,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Array:
    """The gradient with respect to x: each gy added at the element that was its window's maximum."""
    op = f"max_pool{rank}d_backward"
    operands(op, gy=gy)
    check_rank(op, "x", x_shape, rank)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode, rank)
    check_shape(op, "gy", gy, (*x_shape[:2], *out))
    check_place(op, place, gy.shape, place_dtype(win))
    return _max_backward(gy, place, x_shape, win, out)


def max_pool_indices(
    rank: int,
    place: Array,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Array:
    """``place`` as indices into each flattened image of x, int64: the form that PyTorch and ONNX use.

    Raises ShapeError if a window lies in the padding alone, as one with dilation may: its maximum is nowhere in x.
    """
    op = f"max_pool{rank}d_indices"
    xp = get_array_module(place)
    check_rank(op, "x", x_shape, rank)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode, rank)
    check_shape(op, "place", place, (*x_shape[:2], *out))
    rule = "a window that lies in the padding alone has no maximum to point at"
    check(holds_elements(win, x_shape[2:], out), ShapeError, op, rule, image=x_shape[2:], window=win)
    index, stretch, rest = xp.zeros(place.shape, np.int64), 1, place.astype(np.int64)
    for axis in reversed(range(rank)):
        start = xp.arange(out[axis]) * win.stride[axis] - win.pads[axis][0]
        position = start.reshape(-1, *(1,) * (rank - 1 - axis)) + rest % win.kernel[axis] * win.dilation[axis]
        index += position * stretch
        rest, stretch = rest // win.kernel[axis], stretch * x_shape[2 + axis]
    return index


def avg_pool(
    rank: int,
    x: Array,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The means (N, C, *out); the divisor counts the padding if asked, the overhang of ``ceil_mode`` never.

    >>> avg_pool(1, np.array([[[3.0, 1.0, 2.0, 4.0]]]), 2).tolist()
    [[[2.0, 3.0]]]
    """
    op = f"avg_pool{rank}d"
    operands(op, x=x)
    check_rank(op, "x", x.shape, rank)
    win, out = geometry(op, x.shape, kernel_size, stride, padding, 1, ceil_mode, rank)
    return _avg(x, win, out, count_include_pad)


def avg_pool_backward(
    rank: int,
    gy: Array,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The gradient with respect to x: each gy, divided as its mean was, added over its window."""
    op = f"avg_pool{rank}d_backward"
    operands(op, gy=gy)
    check_rank(op, "x", x_shape, rank)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, 1, ceil_mode, rank)
    check_shape(op, "gy", gy, (*x_shape[:2], *out))
    return _avg_backward(gy, x_shape, win, out, count_include_pad)


# ---- which kernel ---------------------------------------------------------------------------------------------------


def _max(x: Array, win: Window, out: Size) -> tuple[Array, Array]:
    if len(out) == 1:
        y, place = _max(x[:, :, None], win.on_one_row(), (1, *out))
        return y[:, :, 0], place[:, :, 0]
    if len(out) == 3 or not cuda.takes(x, half=True):
        return pool_views.max_forward(x, win, out)
    xp = get_array_module(x)
    y = xp.empty((*x.shape[:2], *out), x.dtype)
    place = xp.empty(y.shape, place_dtype(win))
    _launch("max_pool2d_forward", (x, y, place), x, y, win, win.dilation)
    return y, place


def _max_backward(gy: Array, place: Array, x_shape: Size, win: Window, out: Size) -> Array:
    if len(out) == 1:
        row = (*x_shape[:2], 1, *x_shape[2:])
        return _max_backward(gy[:, :, None], place[:, :, None], row, win.on_one_row(), (1, *out))[:, :, 0]
    if len(out) == 3 or not cuda.takes(gy, half=True):
        return pool_views.max_backward(gy, place, x_shape, win, out)
    gx = get_array_module(gy).empty(x_shape, gy.dtype)
    _launch("max_pool2d_backward", (gy, place, gx), gx, gy, win, win.dilation)
    return gx


def _avg(x: Array, win: Window, out: Size, count_include_pad: bool) -> Array:
    if len(out) == 1:
        return _avg(x[:, :, None], win.on_one_row(), (1, *out), count_include_pad)[:, :, 0]
    if len(out) == 3 or not cuda.takes(x, half=True):
        return pool_views.avg_forward(x, win, out, count_include_pad)
    y = get_array_module(x).empty((*x.shape[:2], *out), x.dtype)
    ends = (win.pads[0][1], win.pads[1][1], int(count_include_pad))
    _launch("avg_pool2d_forward", (x, y), x, y, win, ends)
    return y


def _avg_backward(gy: Array, x_shape: Size, win: Window, out: Size, count_include_pad: bool) -> Array:
    if len(out) == 1:
        row = (*x_shape[:2], 1, *x_shape[2:])
        return _avg_backward(gy[:, :, None], row, win.on_one_row(), (1, *out), count_include_pad)[:, :, 0]
    if len(out) == 3 or not cuda.takes(gy, half=True):
        return pool_views.avg_backward(gy, x_shape, win, out, count_include_pad)
    gx = get_array_module(gy).empty(x_shape, gy.dtype)
    ends = (win.pads[0][1], win.pads[1][1], int(count_include_pad))
    _launch("avg_pool2d_backward", (gy, gx), gx, gy, win, ends)
    return gx


_THREADS = 128
_ROWS = 4  # that a thread owns of what it writes, where it moves single elements
_WIDEST = 4  # elements of a vector: 8 sums of 16-bit elements would not stay in registers
_SPAN = 16  # columns that a thread holds in registers for the windows of one vector, at most


def _launch(kernel: str, arrays: tuple[Array, ...], x: Array, y: Array, win: Window, more: tuple[int, ...]) -> None:
    """Both ways ``x`` has the shape of the images, ``y`` that of the maxima or means; ``more`` ends the integers."""
    written = y if kernel.endswith("forward") else x
    if written.size == 0:
        return
    arrays = tuple(map(get_array_module(written).ascontiguousarray, arrays))
    step, pad = win.stride[1], win.pads[1][0]
    together = min(vector(written.shape[3], *arrays), vector(x.shape[3], x))  # forward reads vectors of x's rows, too
    together = min(together, _WIDEST)
    span = max(pad + together * step, (together - 1) * step + win.kernel[1])
    if span > _SPAN or win.dilation != (1, 1):
        together = 1
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(written),
        "INDEX": cuda.index_type(x.size, y.size),
        "KH": win.kernel[0],
        "KW": win.kernel[1],
        "PLACE": "unsigned char" if place_dtype(win) == np.uint8 else "int",
        "VECTOR": together,
    }
    if together > 1:
        macros |= {"SW": step, "PW": pad}
    planes = x.shape[0] * x.shape[1]
    rows, columns = written.shape[2:]
    threads = planes * (-(-rows // _ROWS) * columns if together == 1 else rows * columns // together)
    integers = (planes, *x.shape[2:], *y.shape[2:], *win.stride, win.pads[0][0], pad, *more)
    cuda.launch("pool.cu", kernel, macros, (-(-threads // _THREADS),), (_THREADS,), [*arrays, *map(np.int32, integers)])
