"""Losses of a difference ``d = x - target``, forward and backward.

    mse_loss: d^2        l1_loss: |d|
    huber_loss: d^2 / 2 where |d| < delta, else delta (|d| - delta / 2)        smooth_l1_loss: huber_loss(beta) / beta

x and target have one shape, any; the gradient with respect to target is the negative of that with respect to x.
``weight``, of that shape, multiplies each loss, a constant; the mean then divides by the sum of the weights, but that
of huber_loss by the number of elements, as in PyTorch.
float16 is computed in float32. Sources: Huber 1964, "Robust estimation of a location parameter"; Girshick 2015, "Fast
R-CNN" (smooth l1).
"""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.array.math import sign
from gpunn.ops.loss.reduction import Reduction, check_reduction, gradient, reduce
from gpunn.ops.shared.checks import check_shape


def mse_loss(x: Array, target: Array, reduction: Reduction = "mean", weight: Array | None = None) -> Array:
    """The squared difference.

    >>> import numpy as np
    >>> float(mse_loss(np.array([2.0]), np.array([3.0])))
    1.0
    """
    xp, d = _difference("mse_loss", x, target, reduction)
    if weight is not None:
        return _weighted("mse_loss", xp, d * d, x, reduction, weight)
    return reduce(xp, d * d, reduction, x.dtype)


def mse_loss_backward(
    gy: Array, x: Array, target: Array, reduction: Reduction = "mean", weight: Array | None = None
) -> Array:
    """The gradient with respect to x: ``2 d``."""
    op = "mse_loss_backward"
    xp, d = _difference(op, x, target, reduction)
    if weight is not None:
        return _weighted_gradient(op, xp, gy, 2 * d, x, reduction, weight)
    return gradient(op, xp, gy, 2 * d, x, reduction)


def l1_loss(x: Array, target: Array, reduction: Reduction = "mean", weight: Array | None = None) -> Array:
    """The absolute difference.

    >>> import numpy as np
    >>> float(l1_loss(np.array([2.0]), np.array([5.0])))
    3.0
    """
    xp, d = _difference("l1_loss", x, target, reduction)
    if weight is not None:
        return _weighted("l1_loss", xp, abs(d), x, reduction, weight)
    return reduce(xp, abs(d), reduction, x.dtype)


def l1_loss_backward(
    gy: Array, x: Array, target: Array, reduction: Reduction = "mean", weight: Array | None = None
) -> Array:
    """The gradient with respect to x: the sign of d, 0 at 0."""
    op = "l1_loss_backward"
    xp, d = _difference(op, x, target, reduction)
    if weight is not None:
        return _weighted_gradient(op, xp, gy, sign(d), x, reduction, weight)
    return gradient(op, xp, gy, sign(d), x, reduction)


def huber_loss(
    x: Array, target: Array, reduction: Reduction = "mean", delta: float = 1.0, weight: Array | None = None
) -> Array:
    """Half the squared difference near 0, a straight line of slope ``delta`` from ``|d| = delta`` on.

    >>> import numpy as np
    >>> huber_loss(np.array([1.0, 5.0]), np.array([0.0, 0.0]), "none", delta=2.0).tolist()
    [0.5, 8.0]
    """
    xp, d = _difference("huber_loss", x, target, reduction)
    _check_delta("huber_loss", delta)
    if weight is not None:
        return reduce(xp, _huber(xp, d, delta) * _weights("huber_loss", x, weight), reduction, x.dtype)
    return reduce(xp, _huber(xp, d, delta), reduction, x.dtype)


def huber_loss_backward(
    gy: Array, x: Array, target: Array, reduction: Reduction = "mean", delta: float = 1.0, weight: Array | None = None
) -> Array:
    """The gradient with respect to x: d, cut off at -delta and delta."""
    op = "huber_loss_backward"
    xp, d = _difference(op, x, target, reduction)
    _check_delta(op, delta)
    slope = xp.clip(d, -delta, delta)
    if weight is not None:
        slope = slope * _weights(op, x, weight)
    return gradient(op, xp, gy, slope, x, reduction)


def smooth_l1_loss(x: Array, target: Array, reduction: Reduction = "mean", beta: float = 1.0) -> Array:
    """The absolute difference less ``beta / 2``, rounded off below ``|d| = beta``; with beta = 0, :func:`l1_loss`.

    >>> import numpy as np
    >>> smooth_l1_loss(np.array([1.0, 5.0]), np.array([0.0, 0.0]), "none", beta=2.0).tolist()
    [0.25, 4.0]
    """
    xp, d = _difference("smooth_l1_loss", x, target, reduction)
    _check_beta("smooth_l1_loss", beta)
    return reduce(xp, _huber(xp, d, beta) / beta if beta else abs(d), reduction, x.dtype)


def smooth_l1_loss_backward(
    gy: Array, x: Array, target: Array, reduction: Reduction = "mean", beta: float = 1.0
) -> Array:
    """The gradient with respect to x: ``d / beta``, cut off at -1 and 1."""
    op = "smooth_l1_loss_backward"
    xp, d = _difference(op, x, target, reduction)
    _check_beta(op, beta)
    return gradient(op, xp, gy, xp.clip(d, -beta, beta) / beta if beta else sign(d), x, reduction)


def _huber(xp: Any, d: Array, delta: float) -> Array:
    size = abs(d)
    near = xp.minimum(size, delta)
    return near * (size - 0.5 * near)  # not the square of d, which may overflow where the line is meant


def _weighted(op: str, xp: Any, losses: Array, x: Array, reduction: str, weight: Array) -> Array:
    wide = _weights(op, x, weight)
    return reduce(xp, losses * wide, reduction, x.dtype, wide.sum())


def _weighted_gradient(op: str, xp: Any, gy: Array, slope: Array, x: Array, reduction: str, weight: Array) -> Array:
    wide = _weights(op, x, weight)
    return gradient(op, xp, gy, slope * wide, x, reduction, wide.sum())


def _weights(op: str, x: Array, weight: Array) -> Array:
    """The weights of the elements, wide; they are not broadcast either."""
    operands(op, x=x, weight=weight)
    check_shape(op, "weight", weight, x.shape)
    return weight.astype(accumulation_dtype(x.dtype), copy=False)


def _check_delta(op: str, delta: float) -> None:
    check_number(op, delta=delta)
    check(delta > 0, ArgumentError, op, "delta must be above 0", delta=delta)


def _check_beta(op: str, beta: float) -> None:
    check_number(op, beta=beta)
    check(beta >= 0, ArgumentError, op, "beta must be at least 0", beta=beta)


def _difference(op: str, x: Array, target: Array, reduction: str) -> tuple[Any, Array]:
    xp = operands(op, x=x, target=target)
    check_reduction(op, reduction)
    # Not broadcast: (N, 1) against (N,) would be N^2 differences that nobody meant.
    check(x.shape == target.shape, ShapeError, op, "x and target must have one shape", x=x.shape, target=target.shape)
    dtype = accumulation_dtype(x.dtype)
    return xp, x.astype(dtype, copy=False) - target.astype(dtype, copy=False)
