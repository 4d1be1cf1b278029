"""Differentiable cross entropy; see :mod:`gpunn.ops.loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import copied, differentiable, kept
from gpunn.ops import loss as ops
from gpunn.ops.loss_reduction import Reduction


@in_float32
def cross_entropy(
    x: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """``-log softmax(x[n])[target[n]]``, averaged over the rows of the logits x (N, C) or (N, C, d1, ...).

    ``target`` (N, d1, ...) holds integer classes, or probabilities in the shape of x. ``weight`` (C,) scales the
    classes, a constant; the mean is then a weighted one. Rows whose target is ``ignore_index`` do not count.
    ``label_smoothing`` takes that share of the target and spreads it over all classes.

    >>> import numpy as np
    >>> round(float(cross_entropy(np.zeros((1, 2)), np.array([0]))), 4)
    0.6931
    """
    xd, td = kept(x, target)
    settings = (copied(weight, x, target), ignore_index, reduction, label_smoothing)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.cross_entropy_backward(gy, xd, td, *settings) if needs[0] else None,
            ops.cross_entropy_backward_target(gy, xd, td, *settings) if needs[1] else None,
        )

    return differentiable(ops.cross_entropy(xd, td, *settings), (x, target), backward)
