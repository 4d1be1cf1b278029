"""Differentiable binary cross entropy; see :mod:`gpunn.ops.binary_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import copied, differentiable, kept
from gpunn.ops import binary_loss as ops
from gpunn.ops.loss_reduction import Reduction


@in_float32
def binary_cross_entropy(p: Any, target: Any, weight: Any = None, reduction: Reduction = "mean") -> Any:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities p, each logarithm at least -100; ``weight`` broadcasts.

    >>> import numpy as np
    >>> round(float(binary_cross_entropy(np.array([0.9]), np.array([1.0]))), 4)
    0.1054
    """
    (pd, td), settings = kept(p, target), (copied(weight, p, target), reduction)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.binary_cross_entropy_backward(gy, pd, td, *settings) if needs[0] else None,
            ops.binary_cross_entropy_backward_target(gy, pd, td, *settings) if needs[1] else None,
        )

    return differentiable(ops.binary_cross_entropy(pd, td, *settings), (p, target), backward)


@in_float32
def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None
) -> Any:
    """:func:`binary_cross_entropy` of ``sigmoid(x)``, exact where that rounds to 0 or 1.

    ``pos_weight`` multiplies the part of the positive answers: above 1 it favours finding them all.

    >>> import numpy as np
    >>> float(binary_cross_entropy_with_logits(np.array([-1000.0]), np.array([1.0])))
    1000.0
    """
    xd, td = kept(x, target)
    settings = (copied(weight, x, target), reduction, copied(pos_weight, x, target))

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.binary_cross_entropy_with_logits_backward(gy, xd, td, *settings) if needs[0] else None,
            ops.binary_cross_entropy_with_logits_backward_target(gy, xd, td, *settings) if needs[1] else None,
        )

    return differentiable(ops.binary_cross_entropy_with_logits(xd, td, *settings), (x, target), backward)
