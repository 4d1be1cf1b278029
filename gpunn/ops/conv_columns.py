"""Convolution without a kernel, over one, two or three axes, with its gradients.

The windows are copied into columns, of a few images or a few rows at a time so that they stay in the cache, and
multiplied with the filters. NumPy is slow where the innermost runs are as short as a row of a small image: the images
of a chunk are the last axis in memory, unless so many output channels would have to be moved there that it costs more
than it saves. The functions take what :mod:`gpunn.ops.conv_nd` has checked: the window, and how many of it to compute.
Source: Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document processing".
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.window import Size, Window


def forward(x: Array, w: Array, b: Array | None, win: Window, out: Size, groups: int, relu: bool = False) -> Array:
    """y (N, K, *out), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp, acc, k = get_array_module(x), accumulation_dtype(x.dtype), w.shape[0]
    filters = _filters(w, groups, acc)
    bias = None if b is None else b.astype(acc, copy=False).reshape(groups, -1, 1)
    y = xp.empty((len(x), k, *out), x.dtype)
    last = _images_last(w.shape, groups)
    for images, rows, columns in _columns(xp, x, win, out, groups, acc, last):
        product = xp.matmul(filters, columns)
        if bias is not None:
            product += bias
        if relu:
            xp.maximum(product, 0, out=product)
        part = y[images, :, rows]
        part[...] = _by_image(xp, product, (k,), len(part), part.shape[2:], last)
    return y


def backward_x(gy: Array, w: Array, x_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """gx (N, C, *image)."""
    xp, acc, (n, c, *size) = get_array_module(gy), accumulation_dtype(gy.dtype), x_shape
    filters, gx = _filters(w, groups, acc).swapaxes(1, 2), xp.empty(x_shape, gy.dtype)
    taps, last = prod(win.kernel), _images_last(w.shape, groups)
    each_images, each_rows = _chunks(xp, n, c, win, out, acc)
    for images in each_images:
        padded = _padded(xp, gx[images].shape, win, out, acc, last)
        for rows in each_rows:
            part = (rows.stop - rows.start, *out[1:])
            product = xp.matmul(filters, _rows(xp, gy[images, :, rows], groups, acc, last))
            columns = _by_image(xp, product, (c, taps), len(padded), part, last)
            for tap, view in enumerate(win.views(padded[:, :, rows.start * win.stride[0] :], part)):
                view += columns[:, :, tap]
        gx[images] = win.crop(padded, tuple(size))
    return gx


def backward_w(gy: Array, x: Array, w_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """gw (K, C/groups, *kernel), summed over the batch."""
    xp, acc = get_array_module(gy), accumulation_dtype(gy.dtype)
    gw = xp.zeros((groups, w_shape[0] // groups, prod(w_shape[1:])), acc)
    last = _images_last(w_shape, groups)
    for images, rows, columns in _columns(xp, x, win, out, groups, acc, last):
        gw += xp.matmul(_rows(xp, gy[images, :, rows], groups, acc, last), columns.swapaxes(1, 2))
    return gw.reshape(w_shape).astype(gy.dtype, copy=False)


def forward_one_pixel(x: Array, w: Array, groups: int) -> Array:
    """y where each window is one pixel: the filters times the pixels of x; on CuPy this is cuBLAS."""
    return _multiply(_filters(w, groups, accumulation_dtype(x.dtype)), x)


def backward_x_one_pixel(gy: Array, w: Array, groups: int) -> Array:
    """gx where each window is one pixel."""
    return _multiply(_filters(w, groups, accumulation_dtype(gy.dtype)).swapaxes(1, 2), gy)


def _multiply(filters: Array, x: Array) -> Array:
    (n, _, *size), (groups, rows, terms) = x.shape, filters.shape
    pixels = x.astype(filters.dtype, copy=False).reshape(n, groups, terms, prod(size))
    y = get_array_module(x).matmul(filters, pixels)
    return y.reshape(n, groups * rows, *size).astype(x.dtype, copy=False)


def _filters(w: Array, groups: int, acc: Any) -> Array:
    """w as (groups, K/groups, C/groups * taps)."""
    return w.astype(acc, copy=False).reshape(groups, w.shape[0] // groups, prod(w.shape[1:]))


# About a CPU's L2 cache; on a GPU, what keeps it busy.
_CHUNK_BYTES, _CHUNK_BYTES_GPU = 2 << 20, 256 << 20


def _chunks(xp: Any, n: int, channels: int, win: Window, out: Size, acc: Any) -> tuple[list[slice], list[slice]]:
    """Which images, and which rows (of the first axis of ``out``), have their columns formed at a time."""
    chunk, bytes_per_row = _CHUNK_BYTES if xp is np else _CHUNK_BYTES_GPU, channels * prod(win.kernel) * acc.itemsize
    bytes_per_row *= prod(out[1:])
    images = max(1, chunk // (bytes_per_row * out[0]))
    rows = max(1, min(out[0], chunk // bytes_per_row))
    return _slices(n, images), _slices(out[0], rows)


def _slices(count: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _images_last(w_shape: Size, groups: int) -> bool:
    """True if the columns are more than the outputs."""
    return groups * prod(w_shape[1:]) > w_shape[0]


def _by_image(xp: Any, a: Array, channels: Size, count: int, size: Size, last: bool) -> Array:
    """``a``, which holds (*channels, *size, images) if ``last`` else (*channels, images, *size), images first."""
    shape, axis = ((*channels, *size, count), -1) if last else ((*channels, count, *size), len(channels))
    return xp.moveaxis(a.reshape(shape), axis, 0)


def _rows(xp: Any, gy: Array, groups: int, acc: Any, last: bool) -> Array:
    """gy (n, K, *out) as (groups, K/groups, pixels of all images)."""
    return xp.moveaxis(gy.astype(acc, copy=False), 0, -1 if last else 1).reshape(groups, gy.shape[1] // groups, -1)


def _padded(xp: Any, shape: Size, win: Window, out: Size, acc: Any, last: bool) -> Array:
    """Zeros (n, C, *padded image)."""
    reach = win.reach(shape[2:], out)
    return _by_image(xp, xp.zeros(prod((*shape[:2], *reach)), acc), shape[1:2], shape[0], reach, last)


def _columns(
    xp: Any, x: Array, win: Window, out: Size, groups: int, acc: Any, last: bool
) -> Iterator[tuple[slice, slice, Array]]:
    """The windows of some images and rows at a time, as (groups, C/groups * taps, pixels of all images)."""
    n, c, *size = x.shape
    taps = prod(win.kernel)
    each_images, each_rows = _chunks(xp, n, c, win, out, acc)
    for images in each_images:
        source = x[images].astype(acc, copy=False)
        if win.reach(tuple(size), out) != tuple(size) or len(source) > 1:
            source = _padded(xp, x[images].shape, win, out, acc, last)
            win.crop(source, tuple(size))[...] = x[images]
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
            yield images, rows, columns.reshape(groups, c // groups * taps, -1)
