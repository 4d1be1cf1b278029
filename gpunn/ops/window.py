"""The geometry of windows that slide over an image, shared by convolution and pooling."""

from __future__ import annotations

from numbers import Integral
from typing import Literal, NamedTuple

from gpunn.backend import Array
from gpunn.errors import ArgumentError, ShapeError, check, fail

Pair = int | tuple[int, int]
Padding = Pair | tuple[tuple[int, int], tuple[int, int]] | Literal["same", "valid"]


class Window(NamedTuple):
    """A window of ``kernel`` elements, ``dilation`` apart, at steps of ``stride`` over the padded image.

    Every field but ``pads`` is (vertical, horizontal); ``pads`` is (top, bottom), (left, right).
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[tuple[int, int], tuple[int, int]]
    dilation: tuple[int, int]

    def extent(self) -> tuple[int, int]:
        """The height and width that the window spans: ``dilation * (kernel - 1) + 1``."""
        return (self.dilation[0] * (self.kernel[0] - 1) + 1, self.dilation[1] * (self.kernel[1] - 1) + 1)

    def is_one_pixel(self) -> bool:
        """True if each window is one pixel of the image, and each pixel its window."""
        return self.kernel == self.stride == (1, 1) and self.pads == ((0, 0), (0, 0))

    def taps(self) -> list[tuple[int, int, int]]:
        """Each element of the window as (its place, its row offset, its column offset), in row-major order."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return [(r * kw + s, r * dh, s * dw) for r in range(kh) for s in range(kw)]

    def view(self, padded: Array, row: int, column: int, out: tuple[int, int]) -> Array:
        """The elements of ``padded`` (..., H, W) at offset (row, column) of each window: a view (..., OH, OW)."""
        (oh, ow), (sh, sw) = out, self.stride
        return padded[..., row : row + (oh - 1) * sh + 1 : sh, column : column + (ow - 1) * sw + 1 : sw]


def integer(op: str, name: str, value: object, least: int) -> int:
    """``value`` as a Python integer, if it is an integer (NumPy's too) of at least ``least``."""
    valid = isinstance(value, Integral) and int(value) >= least
    check(valid, ArgumentError, op, f"{name} must be an integer of at least {least}", **{name: value})
    return int(value)  # type: ignore[call-overload,no-any-return]


def pair(op: str, name: str, value: object, least: int) -> tuple[int, int]:
    """``value`` as a pair of integers of at least ``least``; one integer stands for both."""
    both = value if isinstance(value, tuple | list) else (value, value)
    valid = len(both) == 2 and all(isinstance(v, Integral) and int(v) >= least for v in both)
    check(
        valid, ArgumentError, op, f"{name} must be an integer of at least {least}, or a pair of them", **{name: value}
    )
    return (int(both[0]), int(both[1]))


def _pads(op: str, padding: Padding, window: Window) -> tuple[tuple[int, int], tuple[int, int]]:
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        check(window.stride == (1, 1), ArgumentError, op, 'padding="same" needs stride 1', stride=window.stride)
        # An odd total puts the larger half at the end, as PyTorch does.
        height, width = (extent - 1 for extent in window.extent())
        return (height // 2, height - height // 2), (width // 2, width - width // 2)
    if isinstance(padding, str):
        fail(ArgumentError, op, 'padding in words is "same" or "valid"', padding=padding)
    if isinstance(padding, tuple) and len(padding) == 2 and all(isinstance(p, tuple) for p in padding):
        top, left = (pair(op, "padding", p, 0) for p in padding)
        return top, left
    vertical, horizontal = pair(op, "padding", padding, 0)
    return (vertical, vertical), (horizontal, horizontal)


def window(op: str, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = 1) -> Window:
    """Check the arguments that describe a window and bring them into one form."""
    bare = Window(
        pair(op, "kernel_size", kernel, 1),
        pair(op, "stride", stride, 1),
        ((0, 0), (0, 0)),
        pair(op, "dilation", dilation, 1),
    )
    return bare._replace(pads=_pads(op, padding, bare))


def output_size(op: str, size: tuple[int, int], window: Window, ceil_mode: bool = False) -> tuple[int, int]:
    """Rows and columns of windows over an image of ``size``: ``floor((W + 2P - D(F-1) - 1) / S) + 1``.

    With ``ceil_mode`` the quotient is rounded up, but a window must start inside the image or its left padding.

    >>> output_size("conv2d", (227, 227), window("conv2d", 11, 4, 0))
    (55, 55)
    >>> output_size("max_pool2d", (6, 6), window("max_pool2d", 3, 2, 0), ceil_mode=True)
    (3, 3)
    """
    out = []
    for length, extent, step, (before, after) in zip(size, window.extent(), window.stride, window.pads, strict=True):
        room = length + before + after - extent
        if room < 0:
            fits = "the window must fit into the padded image"
            fail(ShapeError, op, fits, window=window.extent(), image=size, padding=window.pads)
        count = (-(-room // step) if ceil_mode else room // step) + 1
        if ceil_mode and (count - 1) * step >= length + before:
            count -= 1
        out.append(count)
    return out[0], out[1]


def check_image(op: str, name: str, x: Array) -> None:
    """Check that ``x`` is a batch of images (N, C, H, W)."""
    check(x.ndim == 4, ShapeError, op, f"{name} must have the 4 dimensions (N, C, H, W)", shape=x.shape)


def check_shape(op: str, name: str, x: Array, shape: tuple[int, ...]) -> None:
    """Check that ``x`` has exactly ``shape``."""
    check(x.shape == shape, ShapeError, op, f"{name} must have shape {shape}", shape=x.shape)
