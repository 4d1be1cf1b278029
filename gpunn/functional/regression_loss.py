"""Differentiable losses of a difference; see :mod:`gpunn.ops.regression_loss`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, kept
from gpunn.ops import regression_loss as ops
from gpunn.ops.loss_reduction import Reduction


@in_float32
def mse_loss(x: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """``(x - target)^2``, for arrays of one shape.

    >>> import numpy as np
    >>> float(mse_loss(np.array([2.0]), np.array([3.0])))
    1.0
    """
    return _of_difference(ops.mse_loss, ops.mse_loss_backward, x, target, reduction)


@in_float32
def l1_loss(x: Any, target: Any, reduction: Reduction = "mean") -> Any:
    """``|x - target|``, for arrays of one shape.

    >>> import numpy as np
    >>> float(l1_loss(np.array([2.0]), np.array([5.0])))
    3.0
    """
    return _of_difference(ops.l1_loss, ops.l1_loss_backward, x, target, reduction)


@in_float32
def huber_loss(x: Any, target: Any, reduction: Reduction = "mean", delta: float = 1.0) -> Any:
    """``d^2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``, with d = x - target.

    >>> import numpy as np
    >>> float(huber_loss(np.array([5.0]), np.array([0.0]), delta=2.0))
    8.0
    """
    return _of_difference(ops.huber_loss, ops.huber_loss_backward, x, target, reduction, delta)


@in_float32
def smooth_l1_loss(x: Any, target: Any, reduction: Reduction = "mean", beta: float = 1.0) -> Any:
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, with d = x - target.

    >>> import numpy as np
    >>> float(smooth_l1_loss(np.array([5.0]), np.array([0.0]), beta=2.0))
    4.0
    """
    return _of_difference(ops.smooth_l1_loss, ops.smooth_l1_loss_backward, x, target, reduction, beta)


def _of_difference(
    forward: Callable[..., Array], backward: Callable[..., Array], x: Any, target: Any, *settings: Any
) -> Any:
    xd, td = kept(x, target)

    def of_both(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        gx = backward(gy, xd, td, *settings)
        return gx, -gx if needs[1] else None

    return differentiable(forward(xd, td, *settings), (x, target), of_both)
