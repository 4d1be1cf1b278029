"""Convolution layers; see :mod:`gpunn.ops.conv` for the formula and the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from numbers import Integral
from typing import Any, Literal

import numpy as np

from gpunn import functional as F
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.functional.record import Given
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter
from gpunn.ops.shared.checks import integers
from gpunn.ops.shared.window import Padding, Sizes, window
from gpunn.tensor import Tensor

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class _Filters(Module):
    _rank: int
    _places = (("bias", Parameter),)
    weight: Parameter
    groups: int
    transposed = False

    @property
    def in_channels(self) -> int:
        """The channels of the input."""
        return self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        """The channels of the output."""
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """The size of a filter."""
        return self.weight.shape[2:]


def for_each_axis(value: Any, rank: int) -> Any:
    """One integer as ``rank`` of them; anything else as it is."""
    return (int(value),) * rank if isinstance(value, Integral) else value


class _Conv(_Filters):
    _convolve: Callable[..., Any]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        op = type(self).__name__
        check_channels(op, in_channels, out_channels, groups)
        kernel = integers(op, "kernel_size", kernel_size, 1, self._rank)
        fan_in = in_channels // groups * prod(kernel)
        self.weight = uniform_fan_in((out_channels, in_channels // groups, *kernel), fan_in, generator, dtype)
        self.bias = uniform_fan_in((out_channels,), fan_in, generator, dtype) if bias else None
        known = padding_mode in ("zeros", "reflect", "replicate", "circular")
        rule = 'padding_mode is "zeros", "reflect", "replicate" or "circular"'
        check(known, ArgumentError, op, rule, padding_mode=padding_mode)
        self.stride, self.padding, self.dilation = (for_each_axis(v, self._rank) for v in (stride, padding, dilation))
        self.groups = groups
        self.padding_mode: PaddingMode = padding_mode

    def forward(self, x: Given) -> Tensor:
        padding = self.padding
        if self.padding_mode != "zeros":
            kernel = self.weight.shape[2:]
            pads = window(type(self).__name__, kernel, self.stride, padding, self.dilation, self._rank).pads
            x, padding = F.pad(x, sum(pads[::-1], ()), self.padding_mode), 0
        settings = self.stride, padding, self.dilation, self.groups
        return type(self)._convolve(x, self.weight, self.bias, *settings)

    @property
    def output_padding(self) -> tuple[int, ...]:
        """Zeros: a convolution has none."""
        return (0,) * self._rank


class Conv1d(_Conv):
    """One-dimensional convolution of (N, in_channels, L) to (N, out_channels, OL).

    Parameters: ``weight`` (out_channels, in_channels / groups, KL), ``bias`` (out_channels,).

    >>> import numpy as np
    >>> Conv1d(3, 8, 5, stride=2, padding=2)(np.zeros((1, 3, 32), np.float32)).shape
    (1, 8, 16)
    """

    _rank, _convolve = 1, F.conv1d


class Conv2d(_Conv):
    """Two-dimensional convolution of (N, in_channels, H, W) to (N, out_channels, OH, OW).

    Parameters: ``weight`` (out_channels, in_channels / groups, KH, KW), ``bias`` (out_channels,). ``padding_mode``, of
    all convolution layers, is ``"zeros"``, or a mode of :func:`gpunn.functional.pad`, which then pads x beforehand.

    >>> import numpy as np
    >>> Conv2d(3, 8, 5, stride=2, padding=2)(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 8, 16, 16)
    """

    _rank, _convolve = 2, F.conv2d


class Conv3d(_Conv):
    """Three-dimensional convolution of (N, in_channels, D, H, W) to (N, out_channels, OD, OH, OW).

    Parameters: ``weight`` (out_channels, in_channels / groups, KD, KH, KW), ``bias`` (out_channels,).

    >>> import numpy as np
    >>> Conv3d(1, 2, 3, padding="same")(np.zeros((1, 1, 4, 5, 6), np.float32)).shape
    (1, 2, 4, 5, 6)
    """

    _rank, _convolve = 3, F.conv3d


def check_channels(op: str, in_channels: int, out_channels: int, groups: int) -> None:
    """Check what convolution layers are made with."""
    check_sizes(op, in_channels=in_channels, out_channels=out_channels, groups=groups)
    divides = in_channels % groups == 0 and out_channels % groups == 0
    rule = "groups must divide in_channels and out_channels"
    check(divides, ShapeError, op, rule, groups=groups, channels=(in_channels, out_channels))


class _ConvTranspose(_Filters):
    _spread: Callable[..., Any]
    transposed = True
    padding_mode = "zeros"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        padding_mode: Literal["zeros"] = "zeros",
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        op = type(self).__name__
        check_channels(op, in_channels, out_channels, groups)
        check(padding_mode == "zeros", ArgumentError, op, 'padding_mode must be "zeros"', padding_mode=padding_mode)
        kernel = integers(op, "kernel_size", kernel_size, 1, self._rank)
        fan_in = out_channels // groups * prod(kernel)  # of the weight's second axis: PyTorch's, though y's is another
        self.weight = uniform_fan_in((in_channels, out_channels // groups, *kernel), fan_in, generator, dtype)
        self.bias = uniform_fan_in((out_channels,), fan_in, generator, dtype) if bias else None
        self.stride, self.padding = for_each_axis(stride, self._rank), for_each_axis(padding, self._rank)
        self.output_padding, self.groups = for_each_axis(output_padding, self._rank), groups
        self.dilation = for_each_axis(dilation, self._rank)

    def forward(self, x: Given, output_size: Sequence[int] | None = None) -> Tensor:
        more = self.output_padding if output_size is None else self._more(x, output_size)
        settings = self.stride, self.padding, more, self.groups, self.dilation
        return type(self)._spread(x, self.weight, self.bias, *settings)

    def _more(self, x: Any, output_size: Sequence[int]) -> Sizes:
        """The output padding by which y has ``output_size``."""
        op, rank = type(self).__name__, self._rank
        several = isinstance(output_size, tuple | list) and len(output_size) in (rank, x.ndim)
        rule = f"output_size must have {rank} sizes, or all of y"
        check(several, ArgumentError, op, rule, output_size=output_size)
        asked = integers(op, "output_size", tuple(output_size[-rank:]), 1, rank)
        win = window(op, self.weight.shape[2:], self.stride, self.padding, self.dilation, rank)
        spans = zip(x.shape[-rank:], win.stride, win.pads, win.extent(), strict=True)
        least = tuple((size - 1) * step - sum(pads) + extent for size, step, pads, extent in spans)
        near = all(0 <= size - n < step for size, n, step in zip(asked, least, win.stride, strict=True))
        rule = "output_size must be what the image gives, or larger by less than the stride"
        check(near, ArgumentError, op, rule, output_size=asked, least=least, stride=win.stride)
        return tuple(size - n for size, n in zip(asked, least, strict=True))


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, in_channels, L) to (N, out_channels, OL).

    Parameters: ``weight`` (in_channels, out_channels / groups, KL), ``bias`` (out_channels,). Any of these layers is
    called with the input and, instead of the setting ``output_padding``, ``output_size``: the size that y shall have.

    >>> import numpy as np
    >>> ConvTranspose1d(8, 3, 4, stride=2, padding=1)(np.zeros((1, 8, 16), np.float32)).shape
    (1, 3, 32)
    """

    _rank, _spread = 1, F.conv_transpose1d


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of (N, in_channels, H, W) to (N, out_channels, OH, OW).

    Parameters: ``weight`` (in_channels, out_channels / groups, KH, KW), ``bias`` (out_channels,).

    >>> import numpy as np
    >>> ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1)(np.zeros((1, 8, 16, 16), np.float32)).shape
    (1, 3, 32, 32)
    """

    _rank, _spread = 2, F.conv_transpose2d


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of (N, in_channels, D, H, W) to (N, out_channels, OD, OH, OW).

    Parameters: ``weight`` (in_channels, out_channels / groups, KD, KH, KW), ``bias`` (out_channels,).

    >>> import numpy as np
    >>> ConvTranspose3d(2, 1, 2, stride=2)(np.zeros((1, 2, 4, 5, 6), np.float32)).shape
    (1, 1, 8, 10, 12)
    """

    _rank, _spread = 3, F.conv_transpose3d
