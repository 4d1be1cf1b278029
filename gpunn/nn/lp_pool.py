"""Layers of power-average pooling; see :mod:`gpunn.ops.pool.lp` for the formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunn import functional as F
from gpunn.nn.calls import Plain
from gpunn.ops.pool import Stride
from gpunn.ops.shared.window import Sizes


class _LPPool(Plain):
    _pool: Callable[..., Any]

    def __init__(self, norm_type: float, kernel_size: Sizes, stride: Stride = None, ceil_mode: bool = False) -> None:
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = norm_type, kernel_size, stride, ceil_mode

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(_LPPool):
    """``(sum of x^norm_type)^(1/norm_type)`` over each window of (N, C, L) or (C, L).

    >>> import numpy as np
    >>> LPPool1d(2, 3, stride=2)(np.zeros((1, 6, 55), np.float32)).shape
    (1, 6, 27)
    """

    _pool = F.lp_pool1d


class LPPool2d(_LPPool):
    """``(sum of x^norm_type)^(1/norm_type)`` over each window of (N, C, H, W) or (C, H, W).

    >>> import numpy as np
    >>> LPPool2d(2, 3, stride=2)(np.zeros((1, 6, 55, 55), np.float32)).shape
    (1, 6, 27, 27)
    """

    _pool = F.lp_pool2d


class LPPool3d(_LPPool):
    """``(sum of x^norm_type)^(1/norm_type)`` over each window of (N, C, D, H, W) or (C, D, H, W).

    >>> import numpy as np
    >>> LPPool3d(2, 2)(np.zeros((1, 6, 8, 8, 8), np.float32)).shape
    (1, 6, 4, 4, 4)
    """

    _pool = F.lp_pool3d
