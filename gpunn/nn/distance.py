"""Layers of distances; see :mod:`gpunn.ops.linear.distance`."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.calls import Pair
from gpunn.spelling import spelled


class PairwiseDistance(Pair):
    """``(sum_i |x1[i] - x2[i] + eps|^p)^(1 / p)`` along the last axis.

    >>> import numpy as np
    >>> PairwiseDistance(eps=0.0)(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]])).tolist()
    [5.0]
    """

    @spelled
    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> None:
        self.p, self.eps, self.keepdims = p, eps, keepdims

    @property
    def norm(self) -> float:
        """``p``, by PyTorch's name."""
        return self.p

    @property
    def keepdim(self) -> bool:
        """``keepdims``, by PyTorch's name."""
        return self.keepdims

    def forward(self, x1: Any, x2: Any) -> Any:
        return F.pairwise_distance(x1, x2, self.p, self.eps, self.keepdims)
