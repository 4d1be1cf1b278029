"""Convolution on any array module, over two or three axes: products of columns.

The windows are copied into columns, of a few images or a few rows at a time so that they stay in the cache, and
multiplied with the filters. NumPy is slow where the innermost runs are as short as a row of a small image: the images
of a chunk are the last axis in memory, unless so many output channels would have to be moved there that it costs more
than it saves. Source: Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document
processing".
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.cpu.blas import matmul
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.chunks import chunks
from gpunn.ops.shared.rows import unbuffered


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """Whatever comes."""
    return True


@unbuffered
def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, *out), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp, acc, (_, k, *_) = get_array_module(x), accumulation_dtype(x.dtype), plan.y_shape
    filters = _filters(plan, w, acc)
    bias = None if b is None else b.astype(acc, copy=False).reshape(plan.groups, -1, 1)
    y = xp.empty(plan.y_shape, x.dtype)
    for images, rows, columns in _columns(xp, plan, x, acc):
        product = matmul(xp, filters, columns)
        if bias is not None:
            product += bias
        if relu:
            xp.maximum(product, 0, out=product)
        part = y[images, :, rows]
        part[...] = _by_image(xp, product, (k,), len(part), part.shape[2:], _images_last(plan))
    return y


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, *image)."""
    xp, acc, win, (c, *size) = get_array_module(gy), accumulation_dtype(gy.dtype), plan.window, plan.x_shape[1:]
    filters, gx = _filters(plan, w, acc).swapaxes(1, 2), xp.empty(plan.x_shape, gy.dtype)
    taps, last = prod(win.kernel), _images_last(plan)
    each_images, each_rows = _chunks(xp, plan, acc)
    for images in each_images:
        padded = _padded(xp, plan, len(gx[images]), acc)
        for rows in each_rows:
            part = (rows.stop - rows.start, *plan.out[1:])
            product = matmul(xp, filters, _rows(xp, plan, gy[images, :, rows], acc))
            columns = _by_image(xp, product, (c, taps), len(padded), part, last)
            for tap, view in enumerate(win.views(padded[:, :, rows.start * win.stride[0] :], part)):
                view += columns[:, :, tap]
        gx[images] = win.crop(padded, tuple(size))
    return gx


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, C/groups, *kernel), summed over the batch."""
    xp, acc, (k, *terms) = get_array_module(gy), accumulation_dtype(gy.dtype), plan.w_shape
    last = _images_last(plan)
    gw = xp.zeros((plan.groups, prod(terms), k // plan.groups), acc)
    for images, rows, columns in _columns(xp, plan, x, acc):
        g = _rows(xp, plan, gy[images, :, rows], acc)
        # BLAS is up to twice as fast with the larger of both first.
        if last:
            gw += matmul(xp, columns, g.swapaxes(1, 2))
        else:
            gw += matmul(xp, g, columns.swapaxes(1, 2)).swapaxes(1, 2)
    return gw.swapaxes(1, 2).reshape(plan.w_shape).astype(gy.dtype, copy=False)


def _filters(plan: Plan, w: Array, acc: Any) -> Array:
    """w as (groups, K/groups, C/groups * taps)."""
    k, *terms = plan.w_shape
    return w.astype(acc, copy=False).reshape(plan.groups, k // plan.groups, prod(terms))


_GPU_BYTES = 256 << 20  # what keeps a GPU busy


def _chunks(xp: Any, plan: Plan, acc: Any) -> tuple[list[slice], list[slice]]:
    """Which images, and which rows (of the first axis of ``out``), have their columns formed at a time."""
    first, *rest = plan.out
    row = plan.x_shape[1] * prod(plan.window.kernel) * acc.itemsize * prod(rest)
    return chunks(xp, plan.x_shape[0], row * first, on_gpu=_GPU_BYTES), chunks(xp, first, row, on_gpu=_GPU_BYTES)


def _images_last(plan: Plan) -> bool:
    """True if the columns are more than the outputs."""
    return plan.groups * prod(plan.w_shape[1:]) > plan.w_shape[0]


def _by_image(xp: Any, a: Array, channels: Size, count: int, size: Size, last: bool) -> Array:
    """``a``, which holds (*channels, *size, images) if ``last`` else (*channels, images, *size), images first."""
    shape, axis = ((*channels, *size, count), -1) if last else ((*channels, count, *size), len(channels))
    return xp.moveaxis(a.reshape(shape), axis, 0)


def _rows(xp: Any, plan: Plan, gy: Array, acc: Any) -> Array:
    """gy (n, K, *out) as (groups, K/groups, pixels of all images)."""
    last = xp.moveaxis(gy.astype(acc, copy=False), 0, -1 if _images_last(plan) else 1)
    return last.reshape(plan.groups, gy.shape[1] // plan.groups, -1)


def _padded(xp: Any, plan: Plan, images: int, acc: Any) -> Array:
    """Zeros (images, C, *padded image)."""
    channels = plan.x_shape[1]
    zeros = xp.zeros(images * channels * prod(plan.reach), acc)
    return _by_image(xp, zeros, (channels,), images, plan.reach, _images_last(plan))


def _columns(xp: Any, plan: Plan, x: Array, acc: Any) -> Iterator[tuple[slice, slice, Array]]:
    """The windows of some images and rows at a time, as (groups, C/groups * taps, pixels of all images)."""
    win, size, out, c = plan.window, plan.image, plan.out, plan.x_shape[1]
    taps, last = prod(win.kernel), _images_last(plan)
    each_images, each_rows = _chunks(xp, plan, acc)
    for images in each_images:
        source = x[images].astype(acc, copy=False)
        if plan.reach != size or len(source) > 1:
            source = _padded(xp, plan, len(source), acc)
            win.crop(source, size)[...] = x[images]
        for rows in each_rows:
            part = (rows.stop - rows.start, *out[1:])
            views = win.views(source[:, :, rows.start * win.stride[0] :], part)
            if taps == 1 and len(source) == 1:
                columns = views[0]  # the image is its own columns
            else:
                columns = xp.empty(c * taps * prod(part) * len(source), acc)
                each = _by_image(xp, columns, (c, taps), len(source), part, last)
                for tap, view in enumerate(views):
                    each[:, :, tap] = view
            yield images, rows, columns.reshape(plan.groups, c // plan.groups * taps, -1)
