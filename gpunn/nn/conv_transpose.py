"""The transposed convolution layers; see :mod:`gpunn.ops.conv_transpose` for the formula and the rules."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.nn.conv import check_channels
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter
from gpunn.ops.window import Padding, Sizes, integers


class _ConvTranspose(Module):
    _rank: int
    _spread: Callable[..., Any]
    _places = (("bias", Parameter),)

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
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        op = type(self).__name__
        check_channels(op, in_channels, out_channels, groups)
        kernel = integers(op, "kernel_size", kernel_size, 1, self._rank)
        fan_in = out_channels // groups * prod(kernel)  # of the weight's second axis: PyTorch's, though y's is another
        self.weight = uniform_fan_in((in_channels, out_channels // groups, *kernel), fan_in, generator, dtype)
        self.bias = uniform_fan_in((out_channels,), fan_in, generator, dtype) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.groups, self.dilation = groups, dilation

    def forward(self, x: Any) -> Any:
        settings = self.stride, self.padding, self.output_padding, self.groups, self.dilation
        return type(self)._spread(x, self.weight, self.bias, *settings)


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, in_channels, L) to (N, out_channels, OL).

    Parameters: ``weight`` (in_channels, out_channels / groups, KL), ``bias`` (out_channels,).

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
