"""Layers for losses of logarithms of probabilities; see :mod:`gpunn.ops.likelihood_loss` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.loss import weight_buffer
from gpunn.nn.module import Module
from gpunn.ops.likelihood_loss import BatchReduction
from gpunn.ops.loss_reduction import Reduction


class NLLLoss(Module):
    """The negative log-likelihood of classes, after a :class:`gpunn.nn.LogSoftmax`.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> round(float(NLLLoss()(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean") -> None:
        self.weight = weight_buffer(weight)
        self.ignore_index = ignore_index
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.nll_loss(x, target, self.weight, self.ignore_index, self.reduction)


class KLDivLoss(Module):
    """The divergence of distributions, given by their logarithms, from target.

    >>> import numpy as np
    >>> round(float(KLDivLoss("batchmean")(np.log([[0.25, 0.75]]), np.array([[0.5, 0.5]]))), 4)
    0.1438
    """

    def __init__(self, reduction: BatchReduction = "mean", log_target: bool = False) -> None:
        self.reduction: BatchReduction = reduction
        self.log_target = log_target

    def forward(self, x: Any, target: Any) -> Any:
        return F.kl_div(x, target, self.reduction, self.log_target)
