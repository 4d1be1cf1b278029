"""Differentiable losses of logarithms of probabilities; see :mod:`gpunn.ops.likelihood_loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import copied, differentiable, kept, raw
from gpunn.ops import likelihood_loss as ops
from gpunn.ops.likelihood_loss import BatchReduction
from gpunn.ops.loss_reduction import Reduction


@in_float32
def nll_loss(x: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean") -> Any:
    """``-x[n, target[n]]`` of logarithms of probabilities x (N, C) or (N, C, d1, ...); target (N, d1, ...).

    The mean is weighted by the ``weight`` (C,) of the target classes, a constant.

    >>> import numpy as np
    >>> round(float(nll_loss(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    xd, settings = raw(x), (copied(target, x), copied(weight, x), ignore_index, reduction)
    return differentiable(ops.nll_loss(xd, *settings), (x,), lambda gy, _: (ops.nll_loss_backward(gy, xd, *settings),))


@in_float32
def kl_div(x: Any, target: Any, reduction: BatchReduction = "mean", log_target: bool = False) -> Any:
    """``t (log t - x)``: x holds logarithms of probabilities, target probabilities or, with ``log_target``, logarithms.

    The divergence of whole distributions is their ``"sum"``, averaged over the first axis with ``"batchmean"``.

    >>> import numpy as np
    >>> round(float(kl_div(np.log([[0.25, 0.75]]), np.array([[0.5, 0.5]]), "batchmean")), 4)
    0.1438
    """
    (xd, td), settings = kept(x, target), (reduction, log_target)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.kl_div_backward(gy, xd, td, *settings) if needs[0] else None,
            ops.kl_div_backward_target(gy, xd, td, *settings) if needs[1] else None,
        )

    return differentiable(ops.kl_div(xd, td, *settings), (x, target), backward)
