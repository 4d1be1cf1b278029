"""Cross entropy of logits, forward and backward.

    loss[n] = -sum_c a[n, c] log softmax(x[n])[c]        gx[n] = softmax(x[n]) sum_c a[n, c] - a[n]

x holds the logits (N, C) or (N, C, d1, ...). The target is the class of each row (N, d1, ...), integers from 0 to C-1
or ``ignore_index``, or its probabilities, in x's shape. With weights w of the classes and smoothing e::

    a[n, c] = w[c] ((1 - e) [c = target[n]] + e / C)        a[n, c] = w[c] ((1 - e) target[n, c] + e / C)

and 0 in an ignored row, which may hold anything. A class with a = 0 takes no part, even with a logit of -infinity.
``"mean"`` divides by the sum of w[target[n]] over the rows not ignored; with probabilities, by the number of rows.
float16 is computed in float32. Sources: the multinomial log-likelihood, Bishop 2006, "Pattern recognition and machine
learning", section 4.3.4; smoothing: Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision";
the sum of exponentials in one pass: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".

Integer targets without smoothing have the ways :mod:`gpunn.ops.loss.cross_entropy_kernel`,
:mod:`gpunn.ops.loss.cross_entropy_onednn` and :mod:`gpunn.ops.loss.cross_entropy_rows`; the others have the last.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, accumulation_dtype, is_floating, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number, fail
from gpunn.ops.loss import cross_entropy_kernel, cross_entropy_onednn, cross_entropy_rows
from gpunn.ops.loss.cross_entropy_rows import logarithms, probabilities
from gpunn.ops.loss.reduction import Reduction, check_reduction, reduce, reduce_backward
from gpunn.ops.loss.target import (
    as_rows,
    check_ignore_index,
    check_scores,
    check_target,
    class_weights,
    from_rows,
    known_classes,
)
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (cross_entropy_kernel, cross_entropy_onednn, cross_entropy_rows)
"""Each has ``takes(x)``, ``forward`` and ``backward``, of classes that have no weights."""


class Kept(NamedTuple):
    """What is known after the forward pass with classes: of each row its class, the weight of that, and whether it
    counts, None where all are 1 and all do; what the mean divides by; and what the way that computed it has of its
    own."""

    classes: Array
    scale: Array | None
    divisor: Array | int
    counts: Array | None
    own: Any


def cross_entropy(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The loss, an array of no dimensions ((N, d1, ...) for ``reduction="none"``).

    With every target ignored ``"sum"`` is 0 and ``"mean"`` is NaN.

    >>> round(float(cross_entropy(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    return cross_entropy_kept(x, target, weight, ignore_index, reduction, label_smoothing, keeps=False)[0]


def cross_entropy_kept(
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    keeps: bool = True,
) -> tuple[Array, Kept | None]:
    """The loss, and what spares :func:`cross_entropy_backward` work, if there is such and ``keeps``."""
    op = "cross_entropy"
    xp = _checked(op, x, target, weight, ignore_index, reduction, label_smoothing)
    rows, shape, kept = as_rows(xp, x), (*x.shape[:1], *x.shape[2:]), None
    divisor: Any
    if _is_soft(x, target) or label_smoothing:
        shares, divisor = _shares(op, xp, x, target, weight, ignore_index, label_smoothing)
        with np.errstate(invalid="ignore"):
            losses = -xp.where(shares == 0, 0, shares * logarithms(rows)).sum(1)
    else:
        classes, scale, divisor, counts = _rows_that_count(op, xp, x, target, weight, ignore_index)
        losses, own = route(ROUTES, x).forward(rows, classes, counts, keeps)
        if scale is not None:
            losses *= scale
        kept = Kept(classes, scale, divisor, counts, own) if keeps else None
    return reduce(xp, losses.reshape(shape), reduction, x.dtype, divisor), kept


def cross_entropy_backward(
    gy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
    kept: Kept | None = None,
) -> Array:
    """The gradient with respect to x, in its shape; ``kept`` is what :func:`cross_entropy_kept` gave."""
    op = "cross_entropy_backward"
    if kept is None:
        _checked(op, x, target, weight, ignore_index, reduction, label_smoothing)
    xp = operands(op, gy=gy, x=x)
    rows, shape = as_rows(xp, x), (*x.shape[:1], *x.shape[2:])
    if _is_soft(x, target) or label_smoothing:
        shares, divisor = _shares(op, xp, x, target, weight, ignore_index, label_smoothing)
        slope = reduce_backward(op, gy, shape, reduction, divisor).reshape(-1, 1)
        counts = shares.any(1)[:, None]
        gx = xp.where(counts, probabilities(rows), 0) * shares.sum(1, keepdims=True) - shares
        gx = gx * xp.where(counts, slope, 0)
    else:
        if kept is None:
            kept = Kept(*_rows_that_count(op, xp, x, target, weight, ignore_index), None)
        slope = reduce_backward(op, gy, shape, reduction, kept.divisor).reshape(-1)
        if weight is not None:
            # Not only a product with 0: with every row ignored the slope is infinite, and the gradient of such is 0.
            slope = xp.where(kept.scale == 0, 0, slope) * kept.scale
        gx = route(ROUTES, x).backward(slope, rows, kept.classes, kept.counts, kept.own)
    return from_rows(xp, gx.astype(x.dtype, copy=False), x.shape)


def cross_entropy_backward_target(
    gy: Array,
    x: Array,
    target: Array,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Array:
    """The gradient with respect to a target of probabilities: ``-(1 - e) w log softmax(x)``."""
    op = "cross_entropy_backward_target"
    xp = _checked(op, x, target, weight, ignore_index, reduction, label_smoothing)
    operands(op, gy=gy, x=x)
    check(_is_soft(x, target), ArgumentError, op, "only probabilities have a gradient", dtype=str(target.dtype))
    shape, rows = (*x.shape[:1], *x.shape[2:]), as_rows(xp, x)
    slope = reduce_backward(op, gy, shape, reduction, len(rows)).reshape(-1, 1) * (label_smoothing - 1)
    gt = logarithms(rows) * (slope if weight is None else slope * weight)
    return from_rows(xp, gt.astype(x.dtype, copy=False), x.shape)


def _rows_that_count(
    op: str, xp: Any, x: Array, target: Array, weight: Array | None, ignore_index: int
) -> tuple[Array, Array | None, Array | int, Array | None]:
    """The first four of :class:`Kept`."""
    classes, scale = known_classes(op, "logits", xp, x, target, weight, ignore_index)
    return (classes, None, len(classes), None) if scale is None else (classes, scale, scale.sum(), scale != 0)


def _is_soft(x: Array, target: Array) -> bool:
    """True for a target of probabilities."""
    return bool(is_floating(target.dtype) and target.shape == x.shape)


def _checked(
    op: str, x: Array, target: Array, weight: Array | None, ignore_index: int, reduction: str, smoothing: float
) -> Any:
    xp = operands(op, x=x) if weight is None else operands(op, x=x, weight=weight)
    check_reduction(op, reduction)
    check_scores(op, "logits", x, weight)
    check_target(op, "logits", x, target)
    check_number(op, label_smoothing=smoothing)
    check_ignore_index(op, ignore_index)
    if not 0 <= smoothing <= 1:
        fail(ArgumentError, op, "label_smoothing must be from 0 to 1", label_smoothing=smoothing)
    if not is_floating(target.dtype):
        return xp
    if _is_soft(x, target):
        operands(op, x=x, target=target)
        rule = "with probabilities as target nothing can be ignored"
        check(ignore_index < 0, ArgumentError, op, rule, ignore_index=ignore_index)
        least, most = (float(target.min()), float(target.max())) if target.size else (0.0, 0.0)
        within = not (least < 0 or most > 1.001)  # a sum rounded in float16 may pass 1 by that much
        check(within, ArgumentError, op, "probabilities must lie in 0 to 1", least=least, most=most)
    elif target.ndim == x.ndim:
        rule = "a target of probabilities must have the shape of the logits"
        check(False, ShapeError, op, rule, target=target.shape, logits=x.shape)
    return xp


def _shares(
    op: str, xp: Any, x: Array, target: Array, weight: Array | None, ignore_index: int, smoothing: float
) -> tuple[Array, Any]:
    """The factors a of the formula, (rows, C), and what the mean divides by."""
    count, dtype = x.shape[1], accumulation_dtype(x.dtype)
    divisor: Any = x.size // count
    if _is_soft(x, target):
        shares = as_rows(xp, target).astype(dtype) * (1 - smoothing) + smoothing / count
    else:
        classes, scale = class_weights(op, "logits", xp, x, target, weight, ignore_index)
        shares, divisor = xp.full((len(classes), count), smoothing / count, dtype), scale.sum()
        shares[xp.arange(len(classes)), classes] += 1 - smoothing
        shares = xp.where((target.reshape(-1) == ignore_index)[:, None], 0, shares)
    return shares if weight is None else shares * weight, divisor
