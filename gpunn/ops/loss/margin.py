"""Losses that ask for a margin, forward and backward.

    hinge_embedding_loss: x where target is 1, max(0, margin - x) where it is -1
    multi_margin_loss: w[t] sum_{c != t} max(0, margin - x[n, t] + x[n, c])^p / C with t = target[n]
    cosine_embedding_loss: 1 - cos(x1, x2) where target is 1, max(0, cos(x1, x2) - margin) where it is -1

Means divide by the number of losses, whatever the weights. Slopes at a corner are 0. float16 is computed in float32.
Sources: Hadsell, Chopra and LeCun 2006, "Dimensionality reduction by learning an invariant mapping" (pairs that attract
or repel); Crammer and Singer 2001, "On the algorithmic implementation of multiclass kernel-based vector machines".
"""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.linear.cosine import cosine_similarity, cosine_similarity_backward_x1
from gpunn.ops.loss.reduction import Reduction, check_reduction, gradient, reduce, reduce_backward
from gpunn.ops.loss.target import check_scores, check_target, class_weights


def hinge_embedding_loss(x: Array, target: Array, margin: float = 1.0, reduction: Reduction = "mean") -> Array:
    """Small for pairs at a small distance x that belong together (1), and at a large one that do not (-1).

    >>> import numpy as np
    >>> hinge_embedding_loss(np.array([0.5, 0.5, 3.0]), np.array([1, -1, -1]), reduction="none").tolist()
    [0.5, 0.5, 0.0]
    """
    op = "hinge_embedding_loss"
    check_number(op, margin=margin)
    xp = operands(op, x=x)
    together = _together(op, "x", x, x.shape, target, reduction)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    return reduce(xp, xp.where(together, wide, xp.maximum(margin - wide, 0)), reduction, x.dtype)


def hinge_embedding_loss_backward(
    gy: Array, x: Array, target: Array, margin: float = 1.0, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to x: 1 where target is 1, -1 or 0 where it is not."""
    op = "hinge_embedding_loss_backward"
    xp = operands(op, x=x)
    together = _together(op, "x", x, x.shape, target, reduction)
    near = ~(x >= margin)  # so is NaN, which a slope of 0 would hide
    slope = xp.where(together, 1, -near.astype(accumulation_dtype(x.dtype)))
    return gradient(op, xp, gy, slope, x, reduction)


def multi_margin_loss(
    x: Array, target: Array, p: int = 1, margin: float = 1.0, weight: Array | None = None, reduction: Reduction = "mean"
) -> Array:
    """How far the scores x (N, C) of other classes come within ``margin`` of that of the class target (N,).

    >>> import numpy as np
    >>> multi_margin_loss(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3])).round(4).tolist()
    0.325
    """
    xp, within, _, scale = _margins("multi_margin_loss", x, target, p, margin, weight, reduction)
    losses = (within * within if p == 2 else within).sum(1) * (scale / x.shape[1])
    return reduce(xp, losses, reduction, x.dtype)


def multi_margin_loss_backward(
    gy: Array,
    x: Array,
    target: Array,
    p: int = 1,
    margin: float = 1.0,
    weight: Array | None = None,
    reduction: Reduction = "mean",
) -> Array:
    """The gradient with respect to x, (N, C)."""
    op = "multi_margin_loss_backward"
    xp, within, classes, scale = _margins(op, x, target, p, margin, weight, reduction)
    operands(op, gy=gy, x=x)
    slope = reduce_backward(op, gy, x.shape[:1], reduction, len(x)) * (scale / x.shape[1])
    gx = (2 * within if p == 2 else (~(within <= 0)).astype(within.dtype)) * slope[:, None]
    gx[xp.arange(len(x)), classes] = -gx.sum(1)
    return gx.astype(x.dtype, copy=False)


def cosine_embedding_loss(
    x1: Array, x2: Array, target: Array, margin: float = 0.0, reduction: Reduction = "mean"
) -> Array:
    """Small for vectors x1 and x2, (N, D) or (D,), that point the same way (1), or do not (-1); target (N,) or ().

    >>> import numpy as np
    >>> float(cosine_embedding_loss(np.array([1.0, 0.0]), np.array([0.0, 2.0]), np.array(1)))
    1.0
    """
    check_number("cosine_embedding_loss", margin=margin)
    xp, cosines, together, _ = _cosines("cosine_embedding_loss", x1, x2, target, reduction)
    losses = xp.where(together, 1 - cosines, xp.maximum(cosines - margin, 0))
    return reduce(xp, losses, reduction, x1.dtype)


def cosine_embedding_loss_backward_x1(
    gy: Array, x1: Array, x2: Array, target: Array, margin: float = 0.0, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to x1; that of x2 with the two exchanged."""
    op = "cosine_embedding_loss_backward_x1"
    xp, cosines, together, wide = _cosines(op, x1, x2, target, reduction)
    operands(op, gy=gy, x1=x1)
    slope = xp.where(together, -1, (cosines > margin).astype(cosines.dtype))
    slope = xp.asarray(reduce_backward(op, gy, cosines.shape, reduction, cosines.size) * slope)
    return cosine_similarity_backward_x1(slope, *wide, axis=-1).astype(x1.dtype, copy=False)


def _together(op: str, name: str, x: Array, shape: tuple[int, ...], target: Array, reduction: str) -> Array:
    """Where target is 1 and not -1."""
    check_reduction(op, reduction)
    check_target(op, name, x, target)
    rule = f"target must have one answer for each loss, shape {shape}"
    check(target.shape == shape, ShapeError, op, rule, target=target.shape)
    together = target == 1
    wrong = ~(together | (target == -1))
    if wrong.any():
        first = target.reshape(-1)[wrong.reshape(-1).argmax()].item()
        check(False, ArgumentError, op, "target must be 1 or -1", target=first)
    return together


def _margins(
    op: str, x: Array, target: Array, p: int, margin: float, weight: Array | None, reduction: str
) -> tuple[Any, Array, Array, Array]:
    """The array module, how far each other class comes within the margin, the target classes, and their weights."""
    xp = operands(op, {"weight": weight}, x=x)
    check_reduction(op, reduction)
    check(x.ndim == 2, ShapeError, op, "x must have the 2 dimensions (N, C)", shape=x.shape)
    check_scores(op, "x", x, weight)
    check_number(op, margin=margin, p=p)
    check(p in (1, 2), ArgumentError, op, "p must be 1 or 2", p=p)
    classes, scale = class_weights(op, "x", xp, x, target, weight)
    wide, rows = x.astype(scale.dtype, copy=False), xp.arange(len(x))
    within = xp.maximum(wide - wide[rows, classes][:, None] + margin, 0)
    within[rows, classes] = 0
    return xp, within, classes, scale


def _cosines(
    op: str, x1: Array, x2: Array, target: Array, reduction: str
) -> tuple[Any, Array, Array, tuple[Array, Array]]:
    """The array module, the cosines, where they should be 1, and x1 and x2, all wide."""
    xp = operands(op, x1=x1, x2=x2)
    one_shape = x1.shape == x2.shape and x1.ndim in (1, 2)
    check(one_shape, ShapeError, op, "x1 and x2 must both be (N, D) or (D,)", x1=x1.shape, x2=x2.shape)
    together = _together(op, "x1", x1, x1.shape[:-1], target, reduction)
    dtype = accumulation_dtype(x1.dtype)
    wide = x1.astype(dtype, copy=False), x2.astype(dtype, copy=False)
    return xp, cosine_similarity(*wide, axis=-1), together, wide
