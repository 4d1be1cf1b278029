"""Pooling of signals, images and volumes without a kernel: a strided view of x for each element of the window.

The functions take what :mod:`gpunn.ops.pool_nd` has checked: the window, and the size of its output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.pool_window import place_dtype
from gpunn.ops.window import Size, Window


def max_forward(x: Array, win: Window, out: Size) -> tuple[Array, Array]:
    """The maxima (N, C, *out) and their places."""
    xp, place_type = get_array_module(x), place_dtype(win)
    padded = _pad(xp, x, win, out, -np.inf)
    candidates = win.views(padded, out)
    y = candidates[0].copy()
    for candidate in candidates[1:]:
        xp.maximum(y, candidate, out=y)
    place = xp.zeros(y.shape, place_type)
    for tap in reversed(range(len(candidates))):  # so that the first of equal maxima is written last
        xp.copyto(place, place_type.type(tap), where=candidates[tap] == y)
    if padded is not x:
        place = xp.where(y == -np.inf, _first_inside(xp, x.shape[2:], out, win), place).astype(place_type)
    if bool((y != y).any()):  # NaN equals nothing; the last one in the window counts as found, as in PyTorch
        for tap, candidate in enumerate(candidates):
            xp.copyto(place, place_type.type(tap), where=candidate != candidate)
    return y, place


def max_backward(gy: Array, place: Array, x_shape: Size, win: Window, out: Size) -> Array:
    """gx (N, C, *image): each gy added at the element that was its window's maximum."""
    padded = _zeros(gy, x_shape, win, out)
    for tap, view in enumerate(win.views(padded, out)):
        view += gy * (place == tap)
    return win.crop(padded, x_shape[2:]).astype(gy.dtype)


def avg_forward(x: Array, win: Window, out: Size, count_include_pad: bool) -> Array:
    """The means (N, C, *out)."""
    xp = get_array_module(x)
    padded = _pad(xp, x, win, out, 0).astype(accumulation_dtype(x.dtype), copy=False)
    y = xp.zeros((*x.shape[:2], *out), padded.dtype)
    for view in win.views(padded, out):
        y += view
    y /= _divisor(xp, x.shape[2:], out, win, count_include_pad, y.dtype)
    return y.astype(x.dtype, copy=False)


def avg_backward(gy: Array, x_shape: Size, win: Window, out: Size, count_include_pad: bool) -> Array:
    """gx (N, C, *image): each gy, divided as its mean was, added over its window."""
    padded = _zeros(gy, x_shape, win, out)
    share = gy / _divisor(get_array_module(gy), x_shape[2:], out, win, count_include_pad, padded.dtype)
    for view in win.views(padded, out):
        view += share
    return win.crop(padded, x_shape[2:]).astype(gy.dtype)


def _zeros(gy: Array, x_shape: Size, win: Window, out: Size) -> Array:
    shape = (*x_shape[:2], *win.reach(x_shape[2:], out))
    return get_array_module(gy).zeros(shape, accumulation_dtype(gy.dtype))


def _pad(xp: Any, x: Array, win: Window, out: Size, value: float) -> Array:
    reach = win.reach(x.shape[2:], out)
    if reach == x.shape[2:]:
        return x
    padded = xp.full((*x.shape[:2], *reach), value, x.dtype)
    win.crop(padded, x.shape[2:])[...] = x
    return padded


def _first_inside(xp: Any, size: Size, out: Size, win: Window) -> Array:
    """The place (*out) of each window's first element inside the image: the maximum if all of them are -inf."""
    place, inside = xp.zeros((), np.int64), xp.ones((), bool)
    for length, number, count, step, (before, _), apart in zip(
        size, out, win.kernel, win.stride, win.pads, win.dilation, strict=True
    ):
        start = xp.arange(number) * step - before
        first = xp.maximum(-(start // apart), 0)
        place = place[..., None] * count + first
        inside = inside[..., None] & (first < count) & (start + first * apart < length)
    return xp.where(inside, place, 0)


def _divisor(xp: Any, size: Size, out: Size, win: Window, count_include_pad: bool, dtype: Any) -> Array:
    """The number of elements that each window is divided by, (*out)."""
    divisor = xp.ones((), dtype)
    for length, number, extent, step, (before, after) in zip(size, out, win.kernel, win.stride, win.pads, strict=True):
        start = xp.arange(number) * step - before
        end = xp.minimum(start + extent, length + (after if count_include_pad else 0))
        count = end - (start if count_include_pad else xp.maximum(start, 0))
        divisor = divisor[..., None] * count.astype(dtype)
    return divisor
