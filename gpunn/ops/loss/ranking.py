"""Losses of an order, and of several labels at once, forward and backward.

    margin_ranking_loss: max(0, margin - t (x1 - x2))        soft_margin_loss: log(1 + exp(-t x))
    multilabel_margin_loss: sum_{j in labels, i not} max(0, 1 - x[n, j] + x[n, i]) / C
    multilabel_soft_margin_loss: mean_c w[c] (t log(1 + exp(-x)) + (1 - t) log(1 + exp(x)))

t, the target, has the shape of x; means divide by the number of losses. Slopes at a corner are PyTorch's. float16 is
computed in float32. Sources: Herbrich, Graepel and Obermayer 2000, "Large margin rank boundaries for ordinal
regression"; Crammer and Singer 2003, "A family of additive online algorithms for category ranking".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number, fail
from gpunn.ops.activation.pointwise import logistic
from gpunn.ops.activation.smooth import log_one_plus_exp
from gpunn.ops.loss.reduction import Reduction, check_reduction, gradient, reduce, reduce_backward
from gpunn.ops.loss.target import check_target


def margin_ranking_loss(
    x1: Array, x2: Array, target: Array, margin: float = 0.0, reduction: Reduction = "mean"
) -> Array:
    """0 where x1 is above x2 by ``margin`` (target 1), or below it by that (-1), else what is missing.

    >>> margin_ranking_loss(np.array([3.0, 1.0]), np.array([1.0, 2.0]), np.array([1, 1]), reduction="none").tolist()
    [0.0, 1.0]
    """
    xp, missing, _ = _missing("margin_ranking_loss", x1, x2, target, margin, reduction)
    return reduce(xp, xp.maximum(missing, 0), reduction, x1.dtype)


def margin_ranking_loss_backward(
    gy: Array, x1: Array, x2: Array, target: Array, margin: float = 0.0, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to x1, ``-target`` where something is missing, or just not; that of x2 is its
    negative."""
    op = "margin_ranking_loss_backward"
    xp, missing, t = _missing(op, x1, x2, target, margin, reduction)
    return gradient(op, xp, gy, xp.where(missing < 0, 0, -t), x1, reduction)


def soft_margin_loss(x: Array, target: Array, reduction: Reduction = "mean") -> Array:
    """Small where x is far on the side of target, 1 or -1.

    >>> soft_margin_loss(np.array([0.0, -1000.0]), np.array([1, 1]), "none").round(4).tolist()
    [0.6931, 1000.0]
    """
    xp, wide, t = _with_target("soft_margin_loss", x, target, reduction)
    return reduce(xp, log_one_plus_exp(xp, -t * wide), reduction, x.dtype)


def soft_margin_loss_backward(gy: Array, x: Array, target: Array, reduction: Reduction = "mean") -> Array:
    """The gradient with respect to x: ``-t sigmoid(-t x)``."""
    op = "soft_margin_loss_backward"
    xp, wide, t = _with_target(op, x, target, reduction)
    with np.errstate(over="ignore"):
        return gradient(op, xp, gy, -t * logistic(xp, -t * wide), x, reduction)


def multilabel_margin_loss(x: Array, target: Array, reduction: Reduction = "mean") -> Array:
    """How far the scores x (N, C) or (C,) of other classes come within 1 of those of the labels.

    ``target``, of x's shape, lists the labels of each example, integers from 0 to C-1, as far as its first -1.

    >>> x, labels = np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([[3, 0, -1, 1]])
    >>> round(float(multilabel_margin_loss(x, labels)), 4)
    0.85
    """
    op = "multilabel_margin_loss"
    xp, rows, labels, others = _labels(op, x, target, reduction)
    losses = xp.zeros(len(rows), rows.dtype)
    for _, used, within in _each_label(xp, rows, labels, others):
        losses += xp.where(used, within.sum(1), 0)
    return reduce(xp, (losses / rows.shape[1]).reshape(x.shape[:-1]), reduction, x.dtype)


def multilabel_margin_loss_backward(gy: Array, x: Array, target: Array, reduction: Reduction = "mean") -> Array:
    """The gradient with respect to x."""
    op = "multilabel_margin_loss_backward"
    xp, rows, labels, others = _labels(op, x, target, reduction)
    operands(op, gy=gy, x=x)
    slope = reduce_backward(op, gy, x.shape[:-1], reduction, len(rows)) / rows.shape[1]
    gx, places = xp.zeros_like(rows), xp.arange(len(rows))
    for label, used, within in _each_label(xp, rows, labels, others):
        steps = ~(within <= 0) & used[:, None]
        gx += steps
        gx[places, label] -= steps.sum(1)
    return (gx * slope.reshape(-1, 1)).reshape(x.shape).astype(x.dtype, copy=False)


def multilabel_soft_margin_loss(
    x: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean"
) -> Array:
    """The binary cross entropy of the logits x (..., C), averaged over the classes; ``weight`` broadcasts to x.

    >>> float(multilabel_soft_margin_loss(np.array([[1000.0, -1000.0]]), np.array([[1, 1]])))
    500.0
    """
    op = "multilabel_soft_margin_loss"
    xp, wide, t, w = _by_class(op, x, target, weight, reduction)
    losses = w * (t * log_one_plus_exp(xp, -wide) + (1 - t) * log_one_plus_exp(xp, wide))
    return reduce(xp, losses.mean(-1), reduction, x.dtype)


def multilabel_soft_margin_loss_backward(
    gy: Array, x: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to x: ``w (sigmoid(x) - t) / C``."""
    op = "multilabel_soft_margin_loss_backward"
    xp, wide, t, w = _by_class(op, x, target, weight, reduction)
    with np.errstate(over="ignore"):
        slope = (1 - t) * logistic(xp, wide) - t * logistic(xp, -wide)
    return _of_classes(op, gy, w * slope, x, reduction)


def multilabel_soft_margin_loss_backward_target(
    gy: Array, x: Array, target: Array, weight: Array | None = None, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to target: ``-w x / C``."""
    op = "multilabel_soft_margin_loss_backward_target"
    _, wide, _, w = _by_class(op, x, target, weight, reduction)
    return _of_classes(op, gy, -w * wide, x, reduction)


def _of_classes(op: str, gy: Array, slope: Array, x: Array, reduction: str) -> Array:
    operands(op, gy=gy, x=x)
    shape = x.shape[:-1]
    count = x.size // max(1, x.shape[-1])
    each = reduce_backward(op, gy, shape, reduction, count) / slope.dtype.type(x.shape[-1])
    return (each[..., None] * slope).astype(x.dtype, copy=False)


def _with_target(op: str, x: Array, target: Array, reduction: str) -> tuple[Any, Array, Array]:
    """The array module, x and target, of one shape, wide."""
    xp = operands(op, x=x)
    check_reduction(op, reduction)
    check_target(op, "x", x, target)
    check(x.shape == target.shape, ShapeError, op, "x and target must have one shape", x=x.shape, target=target.shape)
    dtype = accumulation_dtype(x.dtype)
    return xp, x.astype(dtype, copy=False), target.astype(dtype, copy=False)


def _missing(op: str, x1: Array, x2: Array, target: Array, margin: float, reduction: str) -> tuple[Any, Array, Array]:
    """The array module, what is missing to the margin (negative: what is left over), and the target, wide."""
    check_number(op, margin=margin)
    operands(op, x1=x1, x2=x2)
    check(x1.shape == x2.shape, ShapeError, op, "x1 and x2 must have one shape", x1=x1.shape, x2=x2.shape)
    xp, wide, t = _with_target(op, x1, target, reduction)
    return xp, margin - t * (wide - x2.astype(wide.dtype, copy=False)), t


def _by_class(
    op: str, x: Array, target: Array, weight: Array | None, reduction: str
) -> tuple[Any, Array, Array, Array]:
    """The array module, x, target and weight (1 where there is none), wide."""
    operands(op, {"weight": weight}, x=x)
    check(x.ndim > 0, ShapeError, op, "x must have at least the dimension (C,)", shape=x.shape)
    xp, wide, t = _with_target(op, x, target, reduction)
    if weight is None:
        return xp, wide, t, xp.ones((), wide.dtype)
    rule = "weight must broadcast to the shape of x"
    fits = weight.ndim <= x.ndim and all(
        own in (1, size) for own, size in zip(weight.shape[::-1], x.shape[::-1], strict=False)
    )
    check(fits, ShapeError, op, rule, weight=weight.shape, x=x.shape)
    return xp, wide, t, weight.astype(wide.dtype, copy=False)


def _labels(op: str, x: Array, target: Array, reduction: str) -> tuple[Any, Array, Array, Array]:
    """The array module, x as rows (N, C), the labels of each, -1 from the first on, and which classes are none."""
    xp = operands(op, x=x)
    check_reduction(op, reduction)
    check(x.ndim < 3, ShapeError, op, "x must have the dimensions (N, C) or (C,)", shape=x.shape)
    classes = x.shape[-1] if x.ndim else 1
    check(classes > 0, ShapeError, op, "x must have at least one class", shape=x.shape)
    check_target(op, "x", x, target)
    check(x.shape == target.shape, ShapeError, op, "x and target must have one shape", x=x.shape, target=target.shape)
    if target.dtype.kind not in "iu":
        fail(DtypeError, op, "target must hold integer classes", dtype=str(target.dtype))
    wrong = (target < -1) | (target >= classes)

    def report() -> None:
        first = int(target.reshape(-1)[int(wrong.reshape(-1).argmax())])
        check(False, ArgumentError, op, f"target must lie in -1 to {classes - 1}", target=first)

    cuda.alarm(wrong.any(), report)
    rows = x.reshape(-1, classes).astype(accumulation_dtype(x.dtype), copy=False)
    given = xp.where(wrong, -1, target).reshape(rows.shape).astype(np.int64)
    labels = xp.where(xp.cumprod(given >= 0, 1) > 0, given, -1)
    others = xp.ones((len(rows), classes + 1), bool)
    others[xp.arange(len(rows))[:, None], labels] = False  # -1 is the last column
    return xp, rows, labels, others[:, :-1]


def _each_label(xp: Any, rows: Array, labels: Array, others: Array) -> Iterator[tuple[Array, Array, Array]]:
    """The labels of all rows one by one: each, whether there is one, how far other classes come within 1 of it."""
    places = xp.arange(len(rows))
    for label in labels.T:
        used = label >= 0
        if xp is np and not used.any():
            return
        distance = 1 - rows[places, label][:, None] + rows
        yield label, used, xp.where(others, xp.maximum(distance, 0), 0)
