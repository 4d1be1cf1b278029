"""Global pooling layers: each channel becomes one number; see :mod:`gpunn.ops.global_pool`."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module


class GlobalAvgPool1d(Module):
    """The mean of each channel of (N, C, L).

    >>> import numpy as np
    >>> GlobalAvgPool1d()(np.zeros((2, 512, 49), np.float32)).shape
    (2, 512, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_avg_pool1d(x)


class GlobalAvgPool2d(Module):
    """The mean of each plane of (N, C, H, W).

    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.zeros((2, 512, 7, 7), np.float32)).shape
    (2, 512, 1, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_avg_pool2d(x)


class GlobalAvgPool3d(Module):
    """The mean of each volume of (N, C, D, H, W).

    >>> import numpy as np
    >>> GlobalAvgPool3d()(np.zeros((2, 64, 3, 7, 7), np.float32)).shape
    (2, 64, 1, 1, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_avg_pool3d(x)


class GlobalMaxPool1d(Module):
    """The maximum of each channel of (N, C, L).

    >>> import numpy as np
    >>> GlobalMaxPool1d()(np.zeros((2, 512, 49), np.float32)).shape
    (2, 512, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_max_pool1d(x)


class GlobalMaxPool2d(Module):
    """The maximum of each plane of (N, C, H, W).

    >>> import numpy as np
    >>> GlobalMaxPool2d()(np.zeros((2, 512, 7, 7), np.float32)).shape
    (2, 512, 1, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_max_pool2d(x)


class GlobalMaxPool3d(Module):
    """The maximum of each volume of (N, C, D, H, W).

    >>> import numpy as np
    >>> GlobalMaxPool3d()(np.zeros((2, 64, 3, 7, 7), np.float32)).shape
    (2, 64, 1, 1, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_max_pool3d(x)
