"""Layers for losses of a difference; see :mod:`gpunn.ops.regression_loss` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.loss_reduction import Reduction


class MSELoss(Module):
    """``(x - target)^2``, averaged.

    >>> import numpy as np
    >>> float(MSELoss()(np.array([2.0]), np.array([3.0])))
    1.0
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.mse_loss(x, target, self.reduction)


class L1Loss(Module):
    """``|x - target|``, averaged.

    >>> import numpy as np
    >>> float(L1Loss()(np.array([2.0]), np.array([5.0])))
    3.0
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.l1_loss(x, target, self.reduction)


class HuberLoss(Module):
    """``d^2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``, averaged; d = x - target.

    >>> import numpy as np
    >>> float(HuberLoss(delta=2.0)(np.array([5.0]), np.array([0.0])))
    8.0
    """

    def __init__(self, reduction: Reduction = "mean", delta: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.delta = delta

    def forward(self, x: Any, target: Any) -> Any:
        return F.huber_loss(x, target, self.reduction, self.delta)


class SmoothL1Loss(Module):
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, averaged; d = x - target.

    >>> import numpy as np
    >>> float(SmoothL1Loss(beta=2.0)(np.array([5.0]), np.array([0.0])))
    4.0
    """

    def __init__(self, reduction: Reduction = "mean", beta: float = 1.0) -> None:
        self.reduction: Reduction = reduction
        self.beta = beta

    def forward(self, x: Any, target: Any) -> Any:
        return F.smooth_l1_loss(x, target, self.reduction, self.beta)
