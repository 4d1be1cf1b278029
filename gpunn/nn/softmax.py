"""Softmax layers; see :mod:`gpunn.ops.softmax` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module


class Softmax(Module):
    """``exp(x[i]) / sum_j exp(x[j])`` along ``axis``.

    >>> import numpy as np
    >>> Softmax()(np.array([1.0, 2.0, 3.0])).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return F.softmax(x, self.axis)


class LogSoftmax(Module):
    """The logarithm of :class:`Softmax`.

    >>> import numpy as np
    >>> LogSoftmax()(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return F.log_softmax(x, self.axis)
