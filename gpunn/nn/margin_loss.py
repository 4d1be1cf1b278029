"""Layers for losses that ask for a margin; see :mod:`gpunn.ops.margin_loss` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.loss import weight_buffer
from gpunn.nn.module import Module
from gpunn.ops.loss_reduction import Reduction


class HingeEmbeddingLoss(Module):
    """x where target is 1, ``max(0, margin - x)`` where it is -1, averaged.

    >>> import numpy as np
    >>> HingeEmbeddingLoss(reduction="none")(np.array([0.5, 0.5, 3.0]), np.array([1, -1, -1])).tolist()
    [0.5, 0.5, 0.0]
    """

    def __init__(self, margin: float = 1.0, reduction: Reduction = "mean") -> None:
        self.margin = margin
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.hinge_embedding_loss(x, target, self.margin, self.reduction)


class MultiMarginLoss(Module):
    """``sum_{c != t} max(0, margin - x[n, t] + x[n, c])^p / C`` with t = target[n], averaged.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> round(float(MultiMarginLoss()(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3]))), 4)
    0.325
    """

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: Reduction = "mean") -> None:
        self.p, self.margin = p, margin
        self.weight = weight_buffer(weight)
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.multi_margin_loss(x, target, self.p, self.margin, self.weight, self.reduction)


class CosineEmbeddingLoss(Module):
    """``1 - cos(x1, x2)`` where target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1, averaged.

    >>> import numpy as np
    >>> float(CosineEmbeddingLoss()(np.array([[1.0, 0.0]]), np.array([[0.0, 2.0]]), np.array([1])))
    1.0
    """

    def __init__(self, margin: float = 0.0, reduction: Reduction = "mean") -> None:
        self.margin = margin
        self.reduction: Reduction = reduction

    def forward(self, x1: Any, x2: Any, target: Any) -> Any:
        return F.cosine_embedding_loss(x1, x2, target, self.margin, self.reduction)
