"""Losses of logarithms of probabilities, forward and backward.

    nll_loss: -w[t] x[n, t] with t = target[n]        kl_div: t (log t - x), or exp(t) (t - x) with ``log_target``

nll_loss, the negative log-likelihood, takes x (N, C) or (N, C, d1, ...), integer targets (N, d1, ...) and weights w of
the classes (C,); ``"mean"`` divides by the sum of w[t] over the targets that are not ``ignore_index``. kl_div, the
divergence of the distribution x from target, takes two arrays of one shape; its sum over the classes, averaged over
the examples, is ``"batchmean"``. A probability of 0 in target adds 0. float16 is computed in float32.
Source: Kullback and Leibler 1951, "On information and sufficiency".
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.ops.loss.reduction import Reduction, check_reduction, gradient, reduce, reduce_backward
from gpunn.ops.loss.target import as_rows, check_ignore_index, check_scores, class_weights, from_rows

BatchReduction = Literal["mean", "sum", "none", "batchmean"]


def nll_loss(
    x: Array, target: Array, weight: Array | None = None, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Array:
    """The negative log-likelihood of the target classes; with every target ignored the mean is NaN.

    >>> round(float(nll_loss(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    xp = _checked("nll_loss", x, weight, reduction)
    check_ignore_index("nll_loss", ignore_index)
    classes, scale = class_weights("nll_loss", "x", xp, x, target, weight, ignore_index)
    rows = as_rows(xp, x).astype(scale.dtype, copy=False)
    losses = xp.where(scale == 0, 0, -rows[xp.arange(len(rows)), classes]) * scale
    return reduce(xp, losses.reshape(target.shape), reduction, x.dtype, scale.sum())


def nll_loss_backward(
    gy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
) -> Array:
    """The gradient with respect to x: ``-w[t]`` at the target class, else 0."""
    op = "nll_loss_backward"
    xp = _checked(op, x, weight, reduction)
    operands(op, gy=gy, x=x)
    classes, scale = class_weights(op, "x", xp, x, target, weight, ignore_index)
    slope = reduce_backward(op, gy, target.shape, reduction, scale.sum()).reshape(-1)
    gx = xp.zeros((len(scale), x.shape[1]), scale.dtype)
    gx[xp.arange(len(scale)), classes] = -xp.where(scale == 0, 0, slope) * scale
    return from_rows(xp, gx.astype(x.dtype, copy=False), x.shape)


def kl_div(x: Array, target: Array, reduction: BatchReduction = "mean", log_target: bool = False) -> Array:
    """The divergence; x holds logarithms of probabilities, target probabilities or, with ``log_target``, logarithms.

    >>> p, q = np.array([[0.5, 0.5]]), np.array([[0.25, 0.75]])
    >>> round(float(kl_div(np.log(q), p, "batchmean")), 4)
    0.1438
    """
    xp, wide, p, log_p, divisor = _pair("kl_div", x, target, reduction, log_target)
    with np.errstate(invalid="ignore"):
        losses = xp.where(p == 0, 0, p * (log_p - wide))
    return reduce(xp, losses, _plain(reduction), x.dtype, divisor)


def kl_div_backward(
    gy: Array, x: Array, target: Array, reduction: BatchReduction = "mean", log_target: bool = False
) -> Array:
    """The gradient with respect to x: the negative probabilities of target."""
    op = "kl_div_backward"
    xp, _, p, _, divisor = _pair(op, x, target, reduction, log_target)
    return gradient(op, xp, gy, -p, x, _plain(reduction), divisor)


def kl_div_backward_target(
    gy: Array, x: Array, target: Array, reduction: BatchReduction = "mean", log_target: bool = False
) -> Array:
    """The gradient with respect to target: ``log t + 1 - x``, or ``exp(t) (t + 1 - x)``."""
    op = "kl_div_backward_target"
    xp, wide, p, log_p, divisor = _pair(op, x, target, reduction, log_target)
    slope = log_p + 1 - wide
    slope = p * slope if log_target else slope
    return gradient(op, xp, gy, slope, x, _plain(reduction), divisor)


def _checked(op: str, x: Array, weight: Array | None, reduction: str) -> Any:
    check_reduction(op, reduction)
    xp = operands(op, {"weight": weight}, x=x)
    check_scores(op, "x", x, weight)
    return xp


def _plain(reduction: str) -> str:
    return "mean" if reduction == "batchmean" else reduction


def _pair(op: str, x: Array, target: Array, reduction: str, log_target: bool) -> tuple[Any, Array, Array, Array, int]:
    """The array module, x, the probabilities of target and their logarithms, all wide, and what a mean divides by."""
    xp = operands(op, x=x, target=target)
    known = reduction in ("mean", "sum", "none", "batchmean")
    check(known, ArgumentError, op, 'reduction is "mean", "sum", "none" or "batchmean"', reduction=reduction)
    check(x.shape == target.shape, ShapeError, op, "x and target must have one shape", x=x.shape, target=target.shape)
    if not log_target and (target < 0).any():
        check(False, ArgumentError, op, "probabilities must not be negative", least=float(target.min()))
    dtype = accumulation_dtype(x.dtype)
    wide, t = x.astype(dtype, copy=False), target.astype(dtype, copy=False)
    with np.errstate(divide="ignore"):
        p, log_p = (xp.exp(t), t) if log_target else (t, xp.log(t))
    return xp, wide, p, log_p, len(x) if reduction == "batchmean" and x.ndim else x.size
