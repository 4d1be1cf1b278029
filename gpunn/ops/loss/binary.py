"""Binary cross entropy, forward and backward, of probabilities p or of logits x with p = sigmoid(x).

    binary_cross_entropy: -w (t log p + (1 - t) log(1 - p)), each logarithm at least -100
    binary_cross_entropy_with_logits: w (v t log(1 + exp(-x)) + (1 - t) log(1 + exp(x)))

t, the target, lies in 0 to 1 and has the shape of p or x, any. The weights w of the elements and v (``pos_weight``) of
the positive answers broadcast to that shape and are constants; ``"mean"`` divides by the number of elements. From
logits nothing is lost where p rounds to 0 or 1. float16 is computed in float32. Source: the Bernoulli log-likelihood,
Bishop 2006, "Pattern recognition and machine learning", section 4.3.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.ops.activation.pointwise import logistic
from gpunn.ops.activation.smooth import log_one_plus_exp
from gpunn.ops.loss.reduction import Reduction, check_reduction, gradient, reduce

_LEAST_LOG = -100.0
_LEAST_VARIANCE = 1e-12  # of p (1 - p) in the gradient, which would be infinite at a wrong answer given as certain


def binary_cross_entropy(p: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean") -> Array:
    """The loss of probabilities.

    >>> round(float(binary_cross_entropy(np.array([0.9]), np.array([1.0]))), 4)
    0.1054

    Raises ArgumentError for a p or a target outside 0 to 1; NaN passes through.
    """
    op = "binary_cross_entropy"
    xp, wide, t, w = _checked(op, "p", p, target, reduction, weight=weight)
    _check_range(op, "target", target)
    _check_range(op, "p", p)
    yes, no = _logarithms(xp, wide)
    return reduce(xp, -(t * yes + (1 - t) * no) * w["weight"], reduction, p.dtype)


def binary_cross_entropy_backward(
    gy: Array, p: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to p: ``w (p - t) / (p (1 - p))``, the divisor at least 1e-12."""
    op = "binary_cross_entropy_backward"
    xp, wide, t, w = _checked(op, "p", p, target, reduction, weight=weight)
    slope = (wide - t) / xp.maximum(wide * (1 - wide), _LEAST_VARIANCE)
    return gradient(op, xp, gy, slope * w["weight"], p, reduction)


def binary_cross_entropy_backward_target(
    gy: Array, p: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to target: ``w (log(1 - p) - log p)``."""
    op = "binary_cross_entropy_backward_target"
    xp, wide, _, w = _checked(op, "p", p, target, reduction, weight=weight)
    yes, no = _logarithms(xp, wide)
    return gradient(op, xp, gy, (no - yes) * w["weight"], p, reduction)


def binary_cross_entropy_with_logits(
    x: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean", pos_weight: Array | None = None
) -> Array:
    """The loss of logits.

    >>> round(float(binary_cross_entropy_with_logits(np.log([9.0]), np.array([1.0]))), 4)
    0.1054
    """
    op = "binary_cross_entropy_with_logits"
    xp, wide, t, w = _checked(op, "x", x, target, reduction, weight=weight, pos_weight=pos_weight)
    _check_range(op, "target", target)
    losses = w["pos_weight"] * t * log_one_plus_exp(xp, -wide) + (1 - t) * log_one_plus_exp(xp, wide)
    return reduce(xp, losses * w["weight"], reduction, x.dtype)


def binary_cross_entropy_with_logits_backward(
    gy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """The gradient with respect to x: ``w ((1 - t) p - v t (1 - p))``, without v ``w (p - t)``."""
    op = "binary_cross_entropy_with_logits_backward"
    xp, wide, t, w = _checked(op, "x", x, target, reduction, weight=weight, pos_weight=pos_weight)
    with np.errstate(over="ignore"):
        slope = (1 - t) * logistic(xp, wide) - w["pos_weight"] * t * logistic(xp, -wide)
    return gradient(op, xp, gy, slope * w["weight"], x, reduction)


def binary_cross_entropy_with_logits_backward_target(
    gy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    reduction: Reduction = "mean",
    pos_weight: Array | None = None,
) -> Array:
    """The gradient with respect to target: ``w (v log(1 + exp(-x)) - log(1 + exp(x)))``, without v ``-w x``."""
    op = "binary_cross_entropy_with_logits_backward_target"
    xp, wide, _, w = _checked(op, "x", x, target, reduction, weight=weight, pos_weight=pos_weight)
    slope = w["pos_weight"] * log_one_plus_exp(xp, -wide) - log_one_plus_exp(xp, wide)
    return gradient(op, xp, gy, slope * w["weight"], x, reduction)


def _logarithms(xp: Any, p: Array) -> tuple[Array, Array]:
    """Those of p and of 1 - p, cut off below."""
    with np.errstate(divide="ignore"):
        return xp.maximum(xp.log(p), _LEAST_LOG), xp.maximum(xp.log1p(-p), _LEAST_LOG)


def _checked(
    op: str, name: str, x: Array, target: Array, reduction: str, **weights: Array | None
) -> tuple[Any, Array, Array, dict[str, Array]]:
    """The array module, x and target wide, and the weights, 1 for those left out."""
    xp = operands(op, weights, **{name: x}, target=target)
    check_reduction(op, reduction)
    shapes = {name: x.shape, "target": target.shape}
    check(x.shape == target.shape, ShapeError, op, f"{name} and target must have one shape", **shapes)
    for key, weight in weights.items():
        if weight is not None:
            rule = f"{key} must broadcast to the shape of {name}"
            check(_broadcasts(weight.shape, x.shape), ShapeError, op, rule, **{key: weight.shape, name: x.shape})
    dtype = accumulation_dtype(x.dtype)
    one = xp.ones((), dtype)
    factors = {key: one if w is None else w.astype(dtype, copy=False) for key, w in weights.items()}
    return xp, x.astype(dtype, copy=False), target.astype(dtype, copy=False), factors


def _check_range(op: str, name: str, p: Array) -> None:
    wrong = (p < 0) | (p > 1)
    if wrong.any():
        first = float(p.reshape(-1)[wrong.reshape(-1).argmax()])
        check(False, ArgumentError, op, f"{name} must lie in 0 to 1", **{name: first})


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    fits = all(size in (1, wanted) for size, wanted in zip(shape[::-1], to[::-1], strict=False))
    return len(shape) <= len(to) and fits
