"""The pooling layers; see :mod:`gpunn.ops.pool_nd` for the formulas and the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.pool_window import Stride
from gpunn.ops.window import Sizes


class _MaxPool(Module):
    _pool: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Stride = None,
        padding: Sizes = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.dilation, self.ceil_mode = dilation, ceil_mode

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)


class MaxPool1d(_MaxPool):
    """The maximum of each window of (N, C, L); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> MaxPool1d(3, stride=2)(np.zeros((1, 6, 55), np.float32)).shape
    (1, 6, 27)
    """

    _pool = F.max_pool1d


class MaxPool2d(_MaxPool):
    """The maximum of each window of (N, C, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> MaxPool2d(3, stride=2)(np.zeros((1, 96, 55, 55), np.float32)).shape
    (1, 96, 27, 27)
    """

    _pool = F.max_pool2d


class MaxPool3d(_MaxPool):
    """The maximum of each window of (N, C, D, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> MaxPool3d(2)(np.zeros((1, 6, 8, 8, 8), np.float32)).shape
    (1, 6, 4, 4, 4)
    """

    _pool = F.max_pool3d


class _AvgPool(Module):
    _pool: Callable[..., Any]

    def __init__(
        self,
        kernel_size: Sizes,
        stride: Stride = None,
        padding: Sizes = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        settings = self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        return type(self)._pool(x, *settings)


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> AvgPool1d(2)(np.zeros((1, 6, 28), np.float32)).shape
    (1, 6, 14)
    """

    _pool = F.avg_pool1d


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> AvgPool2d(2)(np.zeros((1, 6, 28, 28), np.float32)).shape
    (1, 6, 14, 14)
    """

    _pool = F.avg_pool2d


class AvgPool3d(_AvgPool):
    """The mean of each window of (N, C, D, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> AvgPool3d(2)(np.zeros((1, 6, 8, 8, 8), np.float32)).shape
    (1, 6, 4, 4, 4)
    """

    _pool = F.avg_pool3d
