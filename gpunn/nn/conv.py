"""The convolution layer; see :mod:`gpunn.ops.conv` for the formula and the rules."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module
from gpunn.ops.window import Padding, Pair, pair


class Conv2d(Module):
    """Two-dimensional convolution of (N, in_channels, H, W) to (N, out_channels, OH, OW).

    Parameters: ``weight`` (out_channels, in_channels / groups, KH, KW), ``bias`` (out_channels,).

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
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups

    def forward(self, x: Any) -> Any:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
