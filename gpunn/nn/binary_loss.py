"""Binary cross entropy layers; see :mod:`gpunn.ops.binary_loss` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.loss import weight_buffer
from gpunn.nn.module import Module
from gpunn.ops.loss_reduction import Reduction


class BCELoss(Module):
    """Binary cross entropy of probabilities; after a Sigmoid, :class:`BCEWithLogitsLoss` without it is more exact.

    Buffer: ``weight``, if given, which broadcasts to the probabilities.

    >>> import numpy as np
    >>> round(float(BCELoss()(np.array([0.9]), np.array([1.0]))), 4)
    0.1054
    """

    def __init__(self, weight: Any = None, reduction: Reduction = "mean") -> None:
        self.weight = weight_buffer(weight)
        self.reduction: Reduction = reduction

    def forward(self, p: Any, target: Any) -> Any:
        return F.binary_cross_entropy(p, target, self.weight, self.reduction)


class BCEWithLogitsLoss(Module):
    """Binary cross entropy of logits.

    Buffers: ``weight`` and ``pos_weight`` (of the positive answers), if given, which broadcast to the logits.

    >>> import numpy as np
    >>> float(BCEWithLogitsLoss()(np.array([-1000.0]), np.array([1.0])))
    1000.0
    """

    def __init__(self, weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None) -> None:
        self.weight, self.pos_weight = weight_buffer(weight), weight_buffer(pos_weight)
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.binary_cross_entropy_with_logits(x, target, self.weight, self.reduction, self.pos_weight)
