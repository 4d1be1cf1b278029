"""Pooling of images by ``kernels/pool.cu``."""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.ops.pool.geometry import Plan
from gpunn.ops.shared.vector import vector


def takes(plan: Plan, x: Array) -> bool:
    """True for images where kernels run, of half types too, unless the divisor is the caller's."""
    return plan.rank == 2 and plan.divisor is None and cuda.takes(x, half=True)


def max_forward(plan: Plan, x: Array) -> tuple[Array, Array]:
    """The maxima (N, C, OH, OW) and their places."""
    y, place = (get_array_module(x).empty(plan.y_shape, dtype) for dtype in (x.dtype, plan.place_dtype))
    _launch(plan, "max_pool2d_forward", (x, y, place), y, plan.window.dilation)
    return y, place


def max_backward(plan: Plan, gy: Array, place: Array) -> Array:
    """gx (N, C, H, W): each gy added at the element that was its window's maximum."""
    gx = get_array_module(gy).empty(plan.x_shape, gy.dtype)
    _launch(plan, "max_pool2d_backward", (gy, place, gx), gx, plan.window.dilation)
    return gx


def avg_forward(plan: Plan, x: Array) -> Array:
    """The means (N, C, OH, OW)."""
    y = get_array_module(x).empty(plan.y_shape, x.dtype)
    _launch(plan, "avg_pool2d_forward", (x, y), y, _ends(plan))
    return y


def avg_backward(plan: Plan, gy: Array) -> Array:
    """gx (N, C, H, W): each gy, divided as its mean was, added over its window."""
    gx = get_array_module(gy).empty(plan.x_shape, gy.dtype)
    _launch(plan, "avg_pool2d_backward", (gy, gx), gx, _ends(plan))
    return gx


def _ends(plan: Plan) -> tuple[int, int, int]:
    (_, bottom), (_, right) = plan.window.pads
    return bottom, right, int(plan.count_include_pad)


_THREADS = 128
_ROWS = 4  # that a thread owns of what it writes, where it moves single elements
_WIDEST = 4  # elements of a vector: 8 sums of 16-bit elements would not stay in registers
_SPAN = 16  # columns that a thread holds in registers for the windows of one vector, at most


def _launch(plan: Plan, kernel: str, arrays: tuple[Array, ...], written: Array, more: tuple[int, ...]) -> None:
    """The first of ``arrays`` is read, ``written`` is written; ``more`` ends the integers."""
    if written.size == 0:
        return
    win, (n, c, *image), (*_, oh, ow) = plan.window, plan.x_shape, plan.y_shape
    arrays = tuple(map(get_array_module(written).ascontiguousarray, arrays))
    step, pad = win.stride[1], win.pads[1][0]
    # Forward reads vectors of x's rows, too.
    together = min(vector(written.shape[3], *arrays), vector(image[1], arrays[0]), _WIDEST)
    span = max(pad + together * step, (together - 1) * step + win.kernel[1])
    if span > _SPAN or win.dilation != (1, 1):
        together = 1
    own_rows = _ROWS if together == 1 else 1
    macros: dict[str, str | int] = {
        "DTYPE": cuda.c_type(written),
        "INDEX": cuda.index_type(n * c * image[0] * image[1], n * c * oh * ow),
        "KH": win.kernel[0],
        "KW": win.kernel[1],
        "PLACE": "unsigned char" if plan.place_dtype == np.uint8 else "int",
        "VECTOR": together,
        "THREADS": _THREADS,
        "ROWS": own_rows,
    }
    if together > 1:
        macros |= {"SW": step, "PW": pad}
    rows, columns = written.shape[2:]
    threads = n * c * -(-rows // own_rows) * (columns // together)
    integers = (n * c, *image, oh, ow, *win.stride, win.pads[0][0], pad, *more)
    cuda.launch("pool.cu", kernel, macros, (-(-threads // _THREADS),), (_THREADS,), [*arrays, *map(np.int32, integers)])
