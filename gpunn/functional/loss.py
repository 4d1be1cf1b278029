"""Differentiable losses; see :mod:`gpunn.ops.loss`."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import loss as ops
from gpunn.ops.loss import Reduction


def cross_entropy(x: Any, target: Any, ignore_index: int = -100, reduction: Reduction = "mean") -> Any:
    """``-log softmax(x[n])[target[n]]``, averaged over the rows of the logits x (N, C); target (N,) holds integers.

    >>> import numpy as np
    >>> round(float(cross_entropy(np.zeros((1, 2)), np.array([0]))), 4)
    0.6931
    """
    xd, settings = raw(x), (raw(target), ignore_index, reduction)
    y = ops.cross_entropy(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.cross_entropy_backward(gy, xd, *settings),))
