"""What pooling operations share: the windows they allow, and the places of maxima."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn.backend import Array
from gpunn.errors import ArgumentError, DtypeError, check
from gpunn.ops.window import Size, Sizes, Window, check_shape, integers, output_size, window

Stride = Sizes | None  # None: the size of the window


def geometry(
    op: str,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride,
    padding: Sizes,
    dilation: Sizes,
    ceil_mode: bool,
    rank: int = 2,
) -> tuple[Window, Size]:
    """The window of pooling over the last ``rank`` axes, checked, and the size of its output."""
    stride = kernel_size if stride is None else stride
    win = window(op, kernel_size, stride, integers(op, "padding", padding, 0, rank), dilation, rank)
    useful = all(2 * pad <= extent for (pad, _), extent in zip(win.pads, win.extent(), strict=True))
    rule = "padding must be at most half of the window's extent"
    check(useful, ArgumentError, op, rule, padding=padding, extent=win.extent())
    return win, output_size(op, x_shape[2:], win, ceil_mode)


def holds_elements(win: Window, size: Size, out: Size) -> bool:
    """Whether each window over an image of ``size`` has an element in it, and not in the padding alone.

    >>> holds_elements(Window((2,), (1,), ((1, 1),), (2,)), size=(1,), out=(1,))  # its elements are at -1 and 1
    False
    """
    axes = zip(size, out, *win, strict=True)
    return all(
        any(0 <= first + tap < length for tap in range(0, kernel * apart, apart))
        for length, windows, kernel, step, (before, _), apart in axes
        for first in range(-before, windows * step - before, step)
    )


def place_dtype(win: Window) -> np.dtype[Any]:
    """The dtype of ``place``: one byte, if that counts the elements of the window."""
    return np.dtype(np.uint8 if prod(win.kernel) <= 256 else np.int32)


def check_place(op: str, place: Array, shape: Size, dtype: np.dtype[Any]) -> None:
    """Check ``place`` as backward needs it: a kernel reads exactly this many bytes an element."""
    check_shape(op, "place", place, shape)
    check(place.dtype == dtype, DtypeError, op, f"place must be {dtype}", dtype=str(place.dtype))
