"""The geometry of windows that slide over one, two or three axes, shared by convolution and pooling.

The number of axes is called the rank: 1 for signals (N, C, L), 2 for images (N, C, H, W), 3 for volumes
(N, C, D, H, W).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, Literal, NamedTuple

from gpunn.backend import Array
from gpunn.errors import ArgumentError, ShapeError, check, fail
from gpunn.ops.shared.checks import Size, integers

Sizes = int | tuple[int, ...]
Pair = int | tuple[int, int]
Padding = Sizes | tuple[tuple[int, int], ...] | Literal["same", "valid"]


class Window(NamedTuple):
    """A window of ``kernel`` elements, ``dilation`` apart, at steps of ``stride`` over the padded image.

    Each field holds an entry for each axis; those of ``pads`` are (before, after).
    """

    kernel: Size
    stride: Size
    pads: tuple[tuple[int, int], ...]
    dilation: Size

    def extent(self) -> Size:
        """The elements that the window spans along each axis: ``dilation * (kernel - 1) + 1``."""
        return tuple(apart * (count - 1) + 1 for apart, count in zip(self.dilation, self.kernel, strict=True))

    def is_one_pixel(self) -> bool:
        """True if each window is one pixel of the image, and each pixel its window."""
        return {*self.kernel, *self.stride} == {1} and not any(map(any, self.pads))

    def views(self, padded: Array, out: Size) -> list[Array]:
        """What ``padded`` (..., *image) holds at each element of the windows, in row-major order: views (..., *out)."""
        return [padded[index] for index in _indices(self, out)]

    def crop(self, padded: Array, size: Size) -> Array:
        """``padded`` (..., *padded image) without the padding: a view (..., *size)."""
        spans = zip(self.pads, size, strict=True)
        return padded[(..., *(slice(before, before + n) for (before, _), n in spans))]

    def reach(self, size: Size, out: Size) -> Size:
        """What an image of ``size`` is padded to before ``views``: all of it, and up to the end of the last window."""
        spans = zip(size, out, self.stride, self.pads, self.extent(), strict=True)
        return tuple(max(n + before, (m - 1) * step + extent) for n, m, step, (before, _), extent in spans)

    def behind(self, size: Size, out: Size) -> Size:
        """By how much the last window passes the end of an image of ``size``; below 0 where it ends before that."""
        spans = zip(size, out, self.stride, self.pads, self.extent(), strict=True)
        return tuple((m - 1) * step + extent - n - before for n, m, step, (before, _), extent in spans)

    def on_one_row(self) -> Window:
        """A window over signals as one over images of one row."""
        return Window((1, *self.kernel), (1, *self.stride), ((0, 0), *self.pads), (1, *self.dilation))


def on_one_row(shape: Size) -> Size:
    """The shape (A, B, L) of signals as that of images of one row, (A, B, 1, L)."""
    return (*shape[:2], 1, *shape[2:])


@lru_cache(1024)  # a network has few windows, and meets each of them in every step
def _indices(window: Window, out: Size) -> list[tuple[Any, ...]]:
    """The index of each view of :meth:`Window.views`."""
    offsets = product(*(range(0, n * d, d) for n, d in zip(window.kernel, window.dilation, strict=True)))
    steps = list(zip(out, window.stride, strict=True))
    return [
        (..., *(slice(o, o + (n - 1) * step + 1, step) for o, (n, step) in zip(at, steps, strict=True)))
        for at in offsets
    ]


def _pads(op: str, padding: Padding, window: Window) -> tuple[tuple[int, int], ...]:
    rank = len(window.kernel)
    if isinstance(padding, str) and padding == "valid":
        return window.pads
    if isinstance(padding, str) and padding == "same":
        check(set(window.stride) == {1}, ArgumentError, op, 'padding="same" needs stride 1', stride=window.stride)
        # An odd total puts the larger half at the end, as PyTorch does.
        return tuple(((extent - 1) // 2, extent // 2) for extent in window.extent())
    if isinstance(padding, str):
        fail(ArgumentError, op, 'padding in words is "same" or "valid"', padding=padding)
    if isinstance(padding, tuple) and len(padding) == rank and all(isinstance(p, tuple) for p in padding):
        ends = [integers(op, "padding", p, 0, rank=2) for p in padding]
        return tuple((before, after) for before, after in ends)
    return tuple((pad, pad) for pad in integers(op, "padding", padding, 0, rank))


def window(op: str, kernel: Sizes, stride: Sizes, padding: Padding, dilation: Sizes = 1, rank: int = 2) -> Window:
    """Check the arguments that describe a window over ``rank`` axes and bring them into one form."""
    bare = Window(
        integers(op, "kernel_size", kernel, 1, rank),
        integers(op, "stride", stride, 1, rank),
        ((0, 0),) * rank,
        integers(op, "dilation", dilation, 1, rank),
    )
    return bare._replace(pads=_pads(op, padding, bare))


def output_size(op: str, size: Size, window: Window, ceil_mode: bool = False) -> Size:
    """The windows along each axis of an image of ``size``: ``floor((W + 2P - D(F-1) - 1) / S) + 1``.

    With ``ceil_mode`` the quotient is rounded up, but a window must start inside the image or its left padding. It may
    then be larger than the padded image, by less than a stride.

    >>> output_size("conv2d", (227, 227), window("conv2d", 11, 4, 0))
    (55, 55)
    >>> output_size("max_pool2d", (6, 6), window("max_pool2d", 3, 2, 0), ceil_mode=True)
    (3, 3)
    """
    out = []
    for length, extent, step, (before, after) in zip(size, window.extent(), window.stride, window.pads, strict=True):
        room = length + before + after - extent
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if count < 1:
            fits = "the window must fit into the padded image"
            fail(ShapeError, op, fits, window=window.extent(), image=size, padding=window.pads)
        if ceil_mode and (count - 1) * step >= length + before:
            count -= 1
        out.append(count)
    return tuple(out)
