"""The convolution layer; see :mod:`gpunn.ops.conv` for the formula and the rules."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunn import functional as F
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module
from gpunn.ops.window import Padding, Pair, pair, window

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class Conv2d(Module):
    """Two-dimensional convolution of (N, in_channels, H, W) to (N, out_channels, OH, OW).

    Parameters: ``weight`` (out_channels, in_channels / groups, KH, KW), ``bias`` (out_channels,). ``padding_mode`` is
    ``"zeros"``, or a mode of :func:`gpunn.functional.pad`, which then pads the image before the convolution.

    >>> import numpy as np
    >>> Conv2d(3, 8, 5, stride=2, padding=2)(np.zeros((1, 3, 32, 32), np.float32)).shape
    (1, 8, 16, 16)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = np.float32,
    ) -> None:
        least = "channels and groups must be at least 1"
        positive = min(in_channels, out_channels, groups) >= 1
        check(positive, ArgumentError, "Conv2d", least, channels=(in_channels, out_channels), groups=groups)
        divides = in_channels % groups == 0 and out_channels % groups == 0
        rule = "groups must divide in_channels and out_channels"
        check(divides, ShapeError, "Conv2d", rule, groups=groups, channels=(in_channels, out_channels))
        kernel = pair("Conv2d", "kernel_size", kernel_size, 1)
        fan_in = in_channels // groups * kernel[0] * kernel[1]
        self.weight = uniform_fan_in((out_channels, in_channels // groups, *kernel), fan_in, generator, dtype)
        self.bias = uniform_fan_in((out_channels,), fan_in, generator, dtype) if bias else None
        known = padding_mode in ("zeros", "reflect", "replicate", "circular")
        rule = 'padding_mode is "zeros", "reflect", "replicate" or "circular"'
        check(known, ArgumentError, "Conv2d", rule, padding_mode=padding_mode)
        self.padding_mode: PaddingMode = padding_mode
        self.kernel_size = kernel
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Any) -> Any:
        padding = self.padding
        if self.padding_mode != "zeros":
            top, left = window("Conv2d", self.kernel_size, self.stride, padding, self.dilation).pads
            x, padding = F.pad(x, (*left, *top), self.padding_mode), 0
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
