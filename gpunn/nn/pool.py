"""The pooling layers; see :mod:`gpunn.ops.pool` for the formulas and the rules."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.window import Pair


class MaxPool2d(Module):
    """The maximum of each window; ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> MaxPool2d(3, stride=2)(np.zeros((1, 96, 55, 55), np.float32)).shape
    (1, 96, 27, 27)
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Any:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class AvgPool2d(Module):
    """The mean of each window; ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((1, 6, 28, 28), np.float32)).shape
    (1, 6, 14, 14)
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
