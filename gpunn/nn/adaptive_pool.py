"""The adaptive pooling layers; see :mod:`gpunn.ops.adaptive_pool` for the bins and the rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.adaptive_pool import OutputSize


class _AdaptivePool(Module):
    _pool: Callable[..., Any]

    def __init__(self, output_size: OutputSize) -> None:
        self.output_size = output_size

    def forward(self, x: Any) -> Any:
        return type(self)._pool(x, self.output_size)


class AdaptiveAvgPool1d(_AdaptivePool):
    """The mean of each of ``output_size`` bins of (N, C, L); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveAvgPool1d(7)(np.zeros((2, 64, 50), np.float32)).shape
    (2, 64, 7)
    """

    _pool = F.adaptive_avg_pool1d


class AdaptiveAvgPool2d(_AdaptivePool):
    """The mean of each of ``output_size`` bins of (N, C, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveAvgPool2d((6, 6))(np.zeros((2, 256, 13, 13), np.float32)).shape
    (2, 256, 6, 6)
    """

    _pool = F.adaptive_avg_pool2d


class AdaptiveAvgPool3d(_AdaptivePool):
    """The mean of each of ``output_size`` bins of (N, C, D, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveAvgPool3d((1, None, 2))(np.zeros((2, 8, 4, 5, 6), np.float32)).shape
    (2, 8, 1, 5, 2)
    """

    _pool = F.adaptive_avg_pool3d


class AdaptiveMaxPool1d(_AdaptivePool):
    """The maximum of each of ``output_size`` bins of (N, C, L); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveMaxPool1d(7)(np.zeros((2, 64, 50), np.float32)).shape
    (2, 64, 7)
    """

    _pool = F.adaptive_max_pool1d


class AdaptiveMaxPool2d(_AdaptivePool):
    """The maximum of each of ``output_size`` bins of (N, C, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveMaxPool2d((6, 6))(np.zeros((2, 256, 13, 13), np.float32)).shape
    (2, 256, 6, 6)
    """

    _pool = F.adaptive_max_pool2d


class AdaptiveMaxPool3d(_AdaptivePool):
    """The maximum of each of ``output_size`` bins of (N, C, D, H, W); None stands for a size of the input.

    >>> import numpy as np
    >>> AdaptiveMaxPool3d((1, None, 2))(np.zeros((2, 8, 4, 5, 6), np.float32)).shape
    (2, 8, 1, 5, 2)
    """

    _pool = F.adaptive_max_pool3d
