"""The cross entropy layer; see :mod:`gpunn.ops.loss` for the formula."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.backend import asarray
from gpunn.functional.record import raw
from gpunn.nn.module import Buffer, Module
from gpunn.ops.loss_reduction import Reduction


def weight_buffer(weight: Any) -> Buffer | None:
    """``weight`` (array, list, tensor) as a buffer that moves with its module; None stays None."""
    return None if weight is None else Buffer(asarray(raw(weight)))


class CrossEntropyLoss(Module):
    """:func:`gpunn.functional.cross_entropy` of logits (N, C) or (N, C, d1, ...) and classes or probabilities.

    Buffer: ``weight`` (C,), if given.

    >>> import numpy as np
    >>> loss = CrossEntropyLoss(weight=[1.0, 3.0])
    >>> round(float(loss(np.float32([[0, 0], [0, 0]]), np.array([0, 1]))), 4)
    0.6931
    """

    def __init__(
        self, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean", label_smoothing: float = 0.0
    ) -> None:
        self.weight = weight_buffer(weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self.reduction: Reduction = reduction

    def forward(self, x: Any, target: Any) -> Any:
        return F.cross_entropy(x, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing)
