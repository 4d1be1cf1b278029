"""Convolution without a kernel, over one, two or three axes, with its gradients.

The windows are copied into columns, a few images at a time so that they stay in the cache, and multiplied with the
filters. The functions take what :mod:`gpunn.ops.conv_nd` has checked: the window, and how many of it to compute.
Source: Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document processing".
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.window import Size, Window


def forward(x: Array, w: Array, b: Array | None, win: Window, out: Size, groups: int, relu: bool = False) -> Array:
    """y (N, K, *out), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp, acc, k = get_array_module(x), accumulation_dtype(x.dtype), w.shape[0]
    filters = _filters(w, groups, acc)
    y = xp.empty((len(x), k, *out), acc)
    for images, columns in _columns(xp, x, win, out, groups, acc):
        y[images] = xp.matmul(filters, columns).reshape(k, -1, *out).swapaxes(0, 1)
    if b is not None:
        y += b.astype(acc, copy=False).reshape(k, *(1,) * len(out))
    if relu:
        xp.maximum(y, 0, out=y)
    return y.astype(x.dtype, copy=False)


def backward_x(gy: Array, w: Array, x_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """gx (N, C, *image)."""
    xp, acc, (n, c, *size) = get_array_module(gy), accumulation_dtype(gy.dtype), x_shape
    filters = _filters(w, groups, acc).swapaxes(1, 2)
    padded = xp.zeros((n, c, *win.reach(tuple(size), out)), acc)
    for images in _chunks(n, c, win, out, acc):
        columns = xp.matmul(filters, _rows(gy[images], groups, acc)).reshape(c, prod(win.kernel), -1, *out)
        for tap, view in enumerate(win.views(padded[images].swapaxes(0, 1), out)):
            view += columns[:, tap]
    return xp.ascontiguousarray(win.crop(padded, tuple(size)), dtype=gy.dtype)


def backward_w(gy: Array, x: Array, w_shape: Size, win: Window, out: Size, groups: int) -> Array:
    """gw (K, C/groups, *kernel), summed over the batch."""
    xp, acc = get_array_module(gy), accumulation_dtype(gy.dtype)
    gw = xp.zeros((groups, w_shape[0] // groups, prod(w_shape[1:])), acc)
    for images, columns in _columns(xp, x, win, out, groups, acc):
        gw += xp.matmul(_rows(gy[images], groups, acc), columns.swapaxes(1, 2))
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


# The columns of as many images as fit into this many bytes are multiplied at a time: about a CPU's L2 cache.
_CHUNK_BYTES = 2 << 20


def _chunks(n: int, channels: int, win: Window, out: Size, acc: Any) -> Iterator[slice]:
    bytes_per_image = channels * prod(win.kernel) * prod(out) * acc.itemsize
    step = max(1, _CHUNK_BYTES // max(1, bytes_per_image))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _rows(gy: Array, groups: int, acc: Any) -> Array:
    """gy (n, K, *out) as (groups, K/groups, n * pixels)."""
    return gy.astype(acc, copy=False).swapaxes(0, 1).reshape(groups, gy.shape[1] // groups, -1)


def _columns(xp: Any, x: Array, win: Window, out: Size, groups: int, acc: Any) -> Iterator[tuple[slice, Array]]:
    """The windows of a few images at a time, as (groups, C/groups * taps, images * pixels)."""
    n, c, *size = x.shape
    reach, taps = win.reach(tuple(size), out), prod(win.kernel)
    for images in _chunks(n, c, win, out, acc):
        count = images.stop - images.start
        source = x[images].swapaxes(0, 1)  # (C, images, *image)
        if reach != tuple(size):
            padded = xp.zeros((c, count, *reach), acc)
            win.crop(padded, tuple(size))[...] = source
            source = padded
        if taps == 1 and set(win.stride) == {1} and count == 1 and reach == out:
            columns = source.astype(acc, copy=False)  # the image is its own columns
        else:
            columns = xp.empty((c, taps, count, *out), acc)
            for tap, view in enumerate(win.views(source, out)):
                columns[:, tap] = view
        yield images, columns.reshape(groups, c // groups * taps, -1)
