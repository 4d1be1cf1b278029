"""Global pooling layers: each plane becomes one number; see :mod:`gpunn.ops.global_pool`."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module


class GlobalAvgPool2d(Module):
    """The mean of each plane.

    >>> import numpy as np
    >>> GlobalAvgPool2d()(np.zeros((2, 512, 7, 7), np.float32)).shape
    (2, 512, 1, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_avg_pool2d(x)


class GlobalMaxPool2d(Module):
    """The maximum of each plane.

    >>> import numpy as np
    >>> GlobalMaxPool2d()(np.zeros((2, 512, 7, 7), np.float32)).shape
    (2, 512, 1, 1)
    """

    def forward(self, x: Any) -> Any:
        return F.global_max_pool2d(x)
