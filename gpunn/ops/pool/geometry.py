"""What the settings and shapes of pooling mean: its plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from numbers import Integral
from typing import Any

import numpy as np

from gpunn.backend import Array
from gpunn.errors import ArgumentError, DtypeError, check, fail
from gpunn.ops.shared.checks import Size, check_rank, check_shape, integers
from gpunn.ops.shared.plans import OverWindows, planned
from gpunn.ops.shared.window import Sizes, Window, on_one_row, output_size, window

Stride = Sizes | None  # None, or (): the size of the window


@dataclass(frozen=True, eq=False)
class Plan(OverWindows):
    """Pooling of x (N, C, *image) to y (N, C, *out), checked; ``op`` is what it is called in errors."""

    op: str
    x_shape: Size
    y_shape: Size
    window: Window
    count_include_pad: bool = False
    """Whether a mean counts the padding."""
    divisor: int | None = None
    """What sums are divided by to be called means; None: by the number of elements of each window."""

    @cached_property
    def on_one_row(self) -> Plan:
        """That of signals as one of images of one row."""
        shapes = on_one_row(self.x_shape), on_one_row(self.y_shape)
        return Plan(self.op, *shapes, self.window.on_one_row(), self.count_include_pad, self.divisor)

    @cached_property
    def place_dtype(self) -> np.dtype[Any]:
        """The dtype of the places of maxima: one byte, if that counts the elements of the window."""
        return np.dtype(np.uint8 if prod(self.window.kernel) <= 256 else np.int32)


@planned
def max_plan(
    rank: int,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    op: str = "",
) -> Plan:
    """The plan of max pooling over ``rank`` axes; ``op`` is what it is called in errors, ``"max_pool2d"`` or so.

    >>> max_plan(2, (8, 3, 55, 55), 3, 2).y_shape
    (8, 3, 27, 27)

    Raises ShapeError where x has another rank or the window does not fit, ArgumentError for settings out of range.
    """
    op = op or f"max_pool{rank}d"
    check_rank(op, "x", x_shape, rank)
    return Plan(op, x_shape, *_geometry(op, x_shape, kernel_size, stride, padding, dilation, ceil_mode))


@planned
def avg_plan(
    rank: int,
    x_shape: Size,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Plan:
    """The plan of average pooling over ``rank`` axes; it raises what :func:`max_plan` does.

    >>> avg_plan(1, (8, 3, 5), 2, ceil_mode=True).y_shape
    (8, 3, 3)
    """
    op = f"avg_pool{rank}d"
    check_rank(op, "x", x_shape, rank)
    divides = divisor_override is None or (isinstance(divisor_override, Integral) and divisor_override != 0)
    rule = "divisor_override must be None or an integer other than 0"
    check(divides, ArgumentError, op, rule, divisor_override=divisor_override)
    geometry = _geometry(op, x_shape, kernel_size, stride, padding, 1, ceil_mode)
    return Plan(op, x_shape, *geometry, count_include_pad, divisor_override)


def _geometry(
    op: str, x_shape: Size, kernel_size: Sizes, stride: Stride, padding: Sizes, dilation: Sizes, ceil_mode: bool
) -> tuple[Size, Window]:
    """The shape of y, and the window."""
    rank, stride = len(x_shape) - 2, kernel_size if stride is None or stride == () else stride
    win = window(op, kernel_size, stride, integers(op, "padding", padding, 0, rank), dilation, rank)
    useful = all(2 * pad <= extent for (pad, _), extent in zip(win.pads, win.extent(), strict=True))
    rule = "padding must be at most half of the window's extent"
    check(useful, ArgumentError, op, rule, padding=padding, extent=win.extent())
    return (*x_shape[:2], *output_size(op, x_shape[2:], win, ceil_mode)), win


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


def check_place(op: str, place: Array, shape: Size, dtype: np.dtype[Any]) -> None:
    """Check ``place`` as backward needs it: a kernel reads exactly this many bytes an element."""
    check_shape(op, "place", place, shape)
    if place.dtype != dtype:
        fail(DtypeError, op, f"place must be {dtype}", dtype=str(place.dtype))
