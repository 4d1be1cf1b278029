"""What a convolution's settings and shapes mean: its plan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from gpunn.errors import ShapeError, check
from gpunn.ops.shared.checks import Size, check_rank, integer
from gpunn.ops.shared.plans import OverWindows, planned
from gpunn.ops.shared.window import Padding, Sizes, Window, on_one_row, output_size, window


@dataclass(frozen=True, eq=False)
class Plan(OverWindows):
    """A convolution of x (N, C, *image) with w (K, C/groups, *kernel) to y (N, K, *out), checked.

    ``op`` is what it is called in errors.
    """

    op: str
    x_shape: Size
    w_shape: Size
    y_shape: Size
    window: Window
    groups: int

    @cached_property
    def is_one_pixel(self) -> bool:
        """True if each window is one pixel of the image, and each pixel its window."""
        return self.window.is_one_pixel() and self.image == self.out

    @cached_property
    def products(self) -> int:
        """How many products each pass adds up, those with padding too."""
        return prod(self.y_shape) * prod(self.w_shape[1:])

    @cached_property
    def reach(self) -> Size:
        """What an image is padded to: all of it, and up to the end of the last window."""
        return self.window.reach(self.image, self.out)

    @cached_property
    def on_one_row(self) -> Plan:
        """That of signals as one of images of one row."""
        x, w, y = (on_one_row(shape) for shape in (self.x_shape, self.w_shape, self.y_shape))
        return Plan(self.op, x, w, y, self.window.on_one_row(), self.groups)

    @cached_property
    def integers(self) -> tuple[int, ...]:
        """A convolution of images as its kernels take it, in their order."""
        (n, c, *image), (k, _, *kernel) = self.x_shape, self.w_shape
        sizes = (self.groups, n, c, *image, k, *kernel, *self.out)
        return (*sizes, *self.window.stride, *(before for before, _ in self.window.pads), *self.window.dilation)


@planned
def plan(
    rank: int,
    x_shape: Size,
    w_shape: Size,
    stride: Sizes = 1,
    padding: Padding = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> Plan:
    """The plan of a convolution over ``rank`` axes.

    >>> plan(2, (8, 3, 32, 32), (16, 3, 5, 5), 1, 2).y_shape
    (8, 16, 32, 32)

    Raises ShapeError where ranks, channels, groups or sizes do not fit, ArgumentError for a stride, padding or dilation
    out of range.
    """
    op = f"conv{rank}d"
    check_rank(op, "x", x_shape, rank)
    check_rank(op, "w", w_shape, rank, "K, C/groups", "K")
    n, c, k = *x_shape[:2], w_shape[0]
    check(min(c, k) >= 1, ShapeError, op, "there must be at least one channel", in_channels=c, out_channels=k)
    groups = integer(op, "groups", groups, 1)
    check(c % groups == 0, ShapeError, op, "groups must divide in_channels", groups=groups, in_channels=c)
    check(k % groups == 0, ShapeError, op, "groups must divide out_channels", groups=groups, out_channels=k)
    expected = "w must have in_channels / groups channels"
    check(w_shape[1] * groups == c, ShapeError, op, expected, w=w_shape[1], in_channels=c, groups=groups)
    win = window(op, w_shape[2:], stride, padding, dilation, rank)
    return Plan(op, x_shape, w_shape, (n, k, *output_size(op, x_shape[2:], win)), win, groups)
