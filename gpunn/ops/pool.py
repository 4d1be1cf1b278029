"""Two-dimensional max and average pooling, NCHW, forward and backward.

    max: y[n,c,oh,ow] = max of x over the window at (oh, ow)          avg: y = sum of x over the window / divisor

x is (N, C, H, W), y is (N, C, OH, OW) with OH and OW from :func:`gpunn.ops.window.output_size`. Windows may overlap.
Padding counts as -inf for the maximum and as 0 for the mean. The first maximum (in row-major order) wins a tie; NaN
wins over every number. Forward max pooling also returns ``place``, where in its window each maximum was found:
one byte an output, all that the gradient needs. Source: LeCun et al. 1998; overlapping: Krizhevsky et al. 2012, 3.4.

CUDA: ``kernels/pool.cu``. Without it: one pass over strided views of x for each element of the window.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.ops.pool_window import Shape4, Size, Stride, check_place, geometry, place_dtype
from gpunn.ops.vector import vector
from gpunn.ops.window import Pair, Window, check_image, check_shape


def max_pool2d(
    x: Array, kernel_size: Pair, stride: Stride = None, padding: Pair = 0, dilation: Pair = 1, ceil_mode: bool = False
) -> tuple[Array, Array]:
    """The maxima (N, C, OH, OW) and their places in the windows, counted row by row from 0.

    >>> y, place = max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> y[0, 0].tolist(), place[0, 0].tolist()
    ([[5.0, 7.0], [13.0, 15.0]], [[3, 3], [3, 3]])
    """
    xp = operands("max_pool2d", x=x)
    check_image("max_pool2d", "x", x)
    win, out = geometry("max_pool2d", x.shape, kernel_size, stride, padding, dilation, ceil_mode)
    place_type = place_dtype(win)
    if cuda.takes(x):
        y = xp.empty((*x.shape[:2], *out), x.dtype)
        place = xp.empty(y.shape, place_type)
        _launch("max_pool2d_forward", (x, y, place), x, y, win, win.dilation)
        return y, place
    padded = _pad(xp, x, win, out, -np.inf)
    candidates = [win.view(padded, row, column, out) for _, row, column in win.taps()]
    y = candidates[0].copy()
    for candidate in candidates[1:]:
        xp.maximum(y, candidate, out=y)
    place = xp.zeros(y.shape, place_type)
    for tap in reversed(range(len(candidates))):  # so that the first of equal maxima is written last
        xp.copyto(place, place_type.type(tap), where=candidates[tap] == y)
    if padded is not x:
        place = xp.where(y == -np.inf, _first_inside(xp, (x.shape[2], x.shape[3]), out, win), place).astype(place_type)
    if bool((y != y).any()):  # NaN equals nothing; the last one in the window counts as found, as in PyTorch
        for tap, candidate in enumerate(candidates):
            xp.copyto(place, place_type.type(tap), where=candidate != candidate)
    return y, place


def max_pool2d_backward(
    gy: Array,
    place: Array,
    x_shape: Shape4,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The gradient with respect to x: each gy added at the element that was its window's maximum."""
    op = "max_pool2d_backward"
    xp = operands(op, gy=gy)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    check_shape(op, "gy", gy, (*x_shape[:2], *out))
    check_place(op, place, gy.shape, place_dtype(win))
    if cuda.takes(gy):
        gx = xp.empty(x_shape, gy.dtype)
        _launch("max_pool2d_backward", (gy, place, gx), gx, gy, win, win.dilation)
        return gx
    padded = xp.zeros((*x_shape[:2], *_reach(x_shape, win, out)), accumulation_dtype(gy.dtype))
    for tap, row, column in win.taps():
        win.view(padded, row, column, out)[...] += gy * (place == tap)
    return _crop(padded, x_shape, win).astype(gy.dtype)


def max_pool2d_indices(
    place: Array,
    x_shape: Shape4,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """``place`` as indices into each flattened (H, W) plane of x, int64: the form that PyTorch and ONNX use."""
    op = "max_pool2d_indices"
    xp = get_array_module(place)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode)
    check_shape(op, "place", place, (*x_shape[:2], *out))
    place = place.astype(np.int64)
    top = xp.arange(out[0])[:, None] * win.stride[0] - win.pads[0][0]
    left = xp.arange(out[1]) * win.stride[1] - win.pads[1][0]
    row = top + place // win.kernel[1] * win.dilation[0]
    return row * x_shape[3] + left + place % win.kernel[1] * win.dilation[1]


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The means (N, C, OH, OW); the divisor counts the padding if asked, the overhang of ``ceil_mode`` never.

    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    xp = operands("avg_pool2d", x=x)
    check_image("avg_pool2d", "x", x)
    win, out = geometry("avg_pool2d", x.shape, kernel_size, stride, padding, 1, ceil_mode)
    if cuda.takes(x):
        y = xp.empty((*x.shape[:2], *out), x.dtype)
        ends = (win.pads[0][1], win.pads[1][1], int(count_include_pad))
        _launch("avg_pool2d_forward", (x, y), x, y, win, ends)
        return y
    padded = _pad(xp, x, win, out, 0).astype(accumulation_dtype(x.dtype), copy=False)
    y = xp.zeros((*x.shape[:2], *out), padded.dtype)
    for _, row, column in win.taps():
        y += win.view(padded, row, column, out)
    y /= _divisor(xp, (x.shape[2], x.shape[3]), out, win, count_include_pad, y.dtype)
    return y.astype(x.dtype, copy=False)


def avg_pool2d_backward(
    gy: Array,
    x_shape: Shape4,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The gradient with respect to x: each gy, divided as its mean was, added over its window."""
    op = "avg_pool2d_backward"
    xp = operands(op, gy=gy)
    win, out = geometry(op, x_shape, kernel_size, stride, padding, 1, ceil_mode)
    check_shape(op, "gy", gy, (*x_shape[:2], *out))
    if cuda.takes(gy):
        gx = xp.empty(x_shape, gy.dtype)
        ends = (win.pads[0][1], win.pads[1][1], int(count_include_pad))
        _launch("avg_pool2d_backward", (gy, gx), gx, gy, win, ends)
        return gx
    padded = xp.zeros((*x_shape[:2], *_reach(x_shape, win, out)), accumulation_dtype(gy.dtype))
    share = gy / _divisor(xp, (x_shape[2], x_shape[3]), out, win, count_include_pad, padded.dtype)
    for _, row, column in win.taps():
        win.view(padded, row, column, out)[...] += share
    return _crop(padded, x_shape, win).astype(gy.dtype)


# ---- without the kernel ---------------------------------------------------------------------------------------------


def _reach(x_shape: tuple[int, ...], win: Window, out: Size) -> Size:
    """Rows and columns of the padded image, up to the end of the last window."""
    spans = zip(x_shape[2:], out, win.stride, win.pads, win.extent(), strict=True)
    reach = [max(size + before, (count - 1) * step + extent) for size, count, step, (before, _), extent in spans]
    return reach[0], reach[1]


def _pad(xp: Any, x: Array, win: Window, out: Size, value: float) -> Array:
    if _reach(x.shape, win, out) == x.shape[2:]:
        return x
    padded = xp.full((*x.shape[:2], *_reach(x.shape, win, out)), value, x.dtype)
    _crop(padded, x.shape, win)[...] = x
    return padded


def _crop(padded: Array, x_shape: tuple[int, ...], win: Window) -> Array:
    top, left = win.pads[0][0], win.pads[1][0]
    return padded[:, :, top : top + x_shape[2], left : left + x_shape[3]]


def _first_inside(xp: Any, size: Size, out: Size, win: Window) -> Array:
    """The place (OH, OW) of each window's first element inside the image: the maximum if all of them are -inf."""
    firsts = []
    for length, number, count, step, (before, _), apart in zip(
        size, out, win.kernel, win.stride, win.pads, win.dilation, strict=True
    ):
        start = xp.arange(number) * step - before
        first = xp.maximum(-(start // apart), 0)
        firsts.append((first, (first < count) & (start + first * apart < length)))
    (row, row_inside), (column, column_inside) = firsts
    return xp.where(row_inside[:, None] & column_inside, row[:, None] * win.kernel[1] + column, 0)


def _divisor(xp: Any, size: Size, out: Size, win: Window, count_include_pad: bool, dtype: Any) -> Array:
    """The number of elements that each window is divided by, (OH, OW)."""
    counts = []
    for length, number, extent, step, (before, after) in zip(size, out, win.kernel, win.stride, win.pads, strict=True):
        start = xp.arange(number) * step - before
        end = xp.minimum(start + extent, length + (after if count_include_pad else 0))
        counts.append((end - (start if count_include_pad else xp.maximum(start, 0))).astype(dtype))
    return counts[0][:, None] * counts[1]


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 128
_ROWS = 4  # that a thread owns of what it writes, where it moves single elements
_SPAN = 16  # columns that a thread holds in registers for the windows of one vector, at most


def _launch(kernel: str, arrays: tuple[Array, ...], x: Array, y: Array, win: Window, more: tuple[int, ...]) -> None:
    """Both ways ``x`` has the shape of the images, ``y`` that of the maxima or means; ``more`` ends the integers."""
    written = y if kernel.endswith("forward") else x
    if written.size == 0:
        return
    arrays = tuple(map(get_array_module(written).ascontiguousarray, arrays))
    step, pad = win.stride[1], win.pads[1][0]
    together = min(vector(written.shape[3], *arrays), vector(x.shape[3], x))  # forward reads vectors of x's rows, too
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
