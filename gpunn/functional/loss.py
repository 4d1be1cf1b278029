"""Differentiable losses; see :mod:`gpunn.ops.loss` for the formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from gpunn.backend import Array, get_array_module, is_array, operands
from gpunn.casting import in_float32
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.functional.array import minimum
from gpunn.functional.distance import pairwise_distance
from gpunn.functional.record import Input, Y, alone, copied, differentiable, kept, lifted, raw
from gpunn.graph import is_recorded
from gpunn.ops import loss as ops
from gpunn.ops.loss.likelihood import BatchReduction
from gpunn.ops.loss.reduction import Reduction


@in_float32
def cross_entropy(
    x: Input[Y],
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Y:
    """``-log softmax(x[n])[target[n]]``, averaged over the rows of the logits x (N, C) or (N, C, d1, ...).

    ``target`` (N, d1, ...) holds integer classes, or probabilities in the shape of x; a single row x (C,) has one ().
    ``weight`` (C,) scales the classes, a constant; the mean is then a weighted one. Rows whose target is
    ``ignore_index`` do not count. ``label_smoothing`` takes that share of the target and spreads it over all classes.

    >>> round(float(cross_entropy(np.zeros((1, 2)), np.array([0]))), 4)
    0.6931
    """
    xd, td = kept(x, target)
    if getattr(xd, "ndim", 0) == 1:
        return alone(cross_entropy, x, _of_row(target), weight, ignore_index, reduction, label_smoothing)
    settings = (copied(weight, x, target), ignore_index, reduction, label_smoothing)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.cross_entropy_backward(gy, xd, td, *settings, known) if needs[0] else None,
            ops.cross_entropy_backward_target(gy, xd, td, *settings) if needs[1] else None,
        )

    y, known = ops.cross_entropy_kept(xd, td, *settings, keeps=is_recorded(x))
    return differentiable(y, (x, target), backward)


@in_float32
def binary_cross_entropy(p: Input[Y], target: Input[Y], weight: Any = None, reduction: Reduction = "mean") -> Y:
    """``-(t log p + (1 - t) log(1 - p))`` of probabilities p, each logarithm at least -100; ``weight`` broadcasts.

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
    x: Input[Y], target: Input[Y], weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None
) -> Y:
    """:func:`binary_cross_entropy` of ``sigmoid(x)``, exact where that rounds to 0 or 1.

    ``pos_weight`` multiplies the part of the positive answers: above 1 it favours finding them all.

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


@in_float32
def nll_loss(
    x: Input[Y], target: Any, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Y:
    """``-x[n, target[n]]`` of logarithms of probabilities x (N, C) or (N, C, d1, ...); target (N, d1, ...).

    A single row x (C,) has one target ().

    The mean is weighted by the ``weight`` (C,) of the target classes, a constant.

    >>> round(float(nll_loss(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    xd = raw(x)
    if getattr(xd, "ndim", 0) == 1:
        return alone(nll_loss, x, _of_row(target), weight, ignore_index, reduction)
    settings = copied(target, x), copied(weight, x), ignore_index, reduction
    return differentiable(ops.nll_loss(xd, *settings), (x,), lambda gy, _: (ops.nll_loss_backward(gy, xd, *settings),))


@in_float32
def kl_div(x: Input[Y], target: Input[Y], reduction: BatchReduction = "mean", log_target: bool = False) -> Y:
    """``t (log t - x)``: x holds logarithms of probabilities, target probabilities or, with ``log_target``, logarithms.

    The divergence of whole distributions is their ``"sum"``, averaged over the first axis with ``"batchmean"``.

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


@in_float32
def hinge_embedding_loss(x: Input[Y], target: Any, margin: float = 1.0, reduction: Reduction = "mean") -> Y:
    """x where target is 1, ``max(0, margin - x)`` where it is -1; target has the shape of x.

    >>> hinge_embedding_loss(np.array([0.5, 0.5, 3.0]), np.array([1, -1, -1]), reduction="none").tolist()
    [0.5, 0.5, 0.0]
    """
    xd, settings = raw(x), (copied(target, x), margin, reduction)
    y = ops.hinge_embedding_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.hinge_embedding_loss_backward(gy, xd, *settings),))


@in_float32
def multi_margin_loss(
    x: Input[Y], target: Any, p: int = 1, margin: float = 1.0, weight: Any = None, reduction: Reduction = "mean"
) -> Y:
    """``sum_{c != t} max(0, margin - x[n, t] + x[n, c])^p / C`` with t = target[n], for x (N, C) and classes (N,).

    A single row x (C,), or x () of one class, has one class (). ``weight`` (C,) multiplies the loss of its class, a
    constant; the mean divides by N all the same.

    >>> round(float(multi_margin_loss(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3]))), 4)
    0.325
    """
    xd = raw(x)
    if (axes := getattr(xd, "ndim", 2)) < 2:
        row = x if axes else lifted(x)
        return alone(multi_margin_loss, row, _of_row(target), p, margin, weight, reduction)
    settings = copied(target, x), p, margin, copied(weight, x), reduction
    y = ops.multi_margin_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.multi_margin_loss_backward(gy, xd, *settings),))


@in_float32
def cosine_embedding_loss(
    x1: Input[Y], x2: Input[Y], target: Any, margin: float = 0.0, reduction: Reduction = "mean"
) -> Y:
    """``1 - cos(x1, x2)`` where target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1.

    x1 and x2 are (N, D) with target (N,), or (D,) with target ().

    >>> float(cosine_embedding_loss(np.array([1.0, 0.0]), np.array([0.0, 2.0]), np.array(1)))
    1.0
    """
    (a, b), settings = kept(x1, x2), (copied(target, x1, x2), margin, reduction)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.cosine_embedding_loss_backward_x1(gy, a, b, *settings) if needs[0] else None,
            ops.cosine_embedding_loss_backward_x1(gy, b, a, *settings) if needs[1] else None,
        )

    return differentiable(ops.cosine_embedding_loss(a, b, *settings), (x1, x2), backward)


@in_float32
def mse_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean", weight: Any = None) -> Y:
    """``(x - target)^2``, for arrays of one shape; the mean is weighted by ``weight``, of that shape too, a constant.

    >>> float(mse_loss(np.array([2.0]), np.array([3.0])))
    1.0
    """
    return _of_difference(ops.mse_loss, ops.mse_loss_backward, x, target, reduction, copied(weight, x, target))


@in_float32
def l1_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean", weight: Any = None) -> Y:
    """``|x - target|``, for arrays of one shape; the mean is weighted by ``weight``, of that shape too, a constant.

    >>> float(l1_loss(np.array([2.0]), np.array([5.0])))
    3.0
    """
    return _of_difference(ops.l1_loss, ops.l1_loss_backward, x, target, reduction, copied(weight, x, target))


@in_float32
def huber_loss(
    x: Input[Y], target: Input[Y], reduction: Reduction = "mean", delta: float = 1.0, weight: Any = None
) -> Y:
    """``d^2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``, with d = x - target.

    ``weight``, of the shape of x, multiplies each loss, a constant; the mean divides by their number all the same.

    >>> float(huber_loss(np.array([5.0]), np.array([0.0]), delta=2.0))
    8.0
    """
    settings = reduction, delta, copied(weight, x, target)
    return _of_difference(ops.huber_loss, ops.huber_loss_backward, x, target, *settings)


@in_float32
def smooth_l1_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean", beta: float = 1.0) -> Y:
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, with d = x - target.

    >>> float(smooth_l1_loss(np.array([5.0]), np.array([0.0]), beta=2.0))
    4.0
    """
    return _of_difference(ops.smooth_l1_loss, ops.smooth_l1_loss_backward, x, target, reduction, beta)


def _of_row(target: Any) -> Any:
    """The target of one row as that of a batch: of a class () or (1,), or of probabilities (C,)."""
    array = raw(target)
    one = getattr(array, "shape", None) == (1,) and array.dtype.kind in "iu"
    return target if one else lifted(target)


def _of_difference(
    forward: Callable[..., Array], backward: Callable[..., Array], x: Any, target: Any, *settings: Any
) -> Any:
    xd, td = kept(x, target)

    def of_both(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        gx = backward(gy, xd, td, *settings)
        return gx, -gx if needs[1] else None

    return differentiable(forward(xd, td, *settings), (x, target), of_both)


@in_float32
def margin_ranking_loss(
    x1: Input[Y], x2: Input[Y], target: Any, margin: float = 0.0, reduction: Reduction = "mean"
) -> Y:
    """``max(0, margin - target (x1 - x2))``: target is 1 where x1 should be the larger, -1 where x2; all of one shape.

    >>> float(margin_ranking_loss(np.array([1.0]), np.array([2.0]), np.array([1]), margin=0.5))
    1.5
    """
    (a, b), settings = kept(x1, x2), (copied(target, x1, x2), margin, reduction)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        g = ops.margin_ranking_loss_backward(gy, a, b, *settings)
        return g, -g if needs[1] else None

    return differentiable(ops.margin_ranking_loss(a, b, *settings), (x1, x2), backward)


@in_float32
def triplet_margin_loss(
    anchor: Input[Y],
    positive: Input[Y],
    negative: Input[Y],
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Y:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` with the :func:`pairwise_distance` d.

    The three are (N, D) or (D,). With ``swap`` the second distance is the smaller one of anchor and positive from
    negative. Source: Balntas et al. 2016, "Learning local feature descriptors with triplets and shallow convolutional
    neural networks".

    >>> near, far = np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])
    >>> round(float(triplet_margin_loss(np.zeros((1, 2)), near, far, margin=5.0)), 4)
    1.0
    """
    check_number("triplet_margin_loss", p=p, eps=eps)

    def distance(a: Any, b: Any) -> Any:
        return pairwise_distance(a, b, p, eps)

    return _triplet("triplet_margin_loss", anchor, positive, negative, distance, swap, margin, reduction)


@in_float32
def triplet_margin_with_distance_loss(
    anchor: Input[Y],
    positive: Input[Y],
    negative: Input[Y],
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Y:
    """:func:`triplet_margin_loss` with another distance of two arrays (default: :func:`pairwise_distance`).

    >>> near, far = np.array([[1.0, 0.0]]), np.array([[3.0, 4.0]])
    >>> float(triplet_margin_with_distance_loss(near, near, far, lambda a, b: abs(a - b).sum(-1), margin=7.0))
    1.0
    """
    op = "triplet_margin_with_distance_loss"
    return _triplet(op, anchor, positive, negative, distance_function or pairwise_distance, swap, margin, reduction)


def _triplet(
    op: str, anchor: Any, positive: Any, negative: Any, distance: Any, swap: bool, margin: float, reduction: Reduction
) -> Any:
    given = {"anchor": raw(anchor), "positive": raw(positive), "negative": raw(negative)}
    operands(op, **given)
    shapes = {name: each.shape for name, each in given.items()}
    check(len(set(shapes.values())) == 1, ShapeError, op, "all three must have one shape", **shapes)
    check_number(op, margin=margin)
    check(margin > 0, ArgumentError, op, "margin must be above 0", margin=margin)

    def between(a: Any, b: Any) -> Any:
        d = distance(a, b)
        return d if is_array(raw(d)) else np.asarray(d)  # NumPy's own functions give numbers for single vectors

    near, far = between(anchor, positive), between(anchor, negative)
    if swap:
        far = minimum(far, between(positive, negative))
    ones = get_array_module(raw(near)).ones_like(raw(near))
    return margin_ranking_loss(far, near, ones, margin, reduction)


@in_float32
def soft_margin_loss(x: Input[Y], target: Any, reduction: Reduction = "mean") -> Y:
    """``log(1 + exp(-target x))``: target, of the shape of x, is 1 or -1.

    >>> round(float(soft_margin_loss(np.array([0.0]), np.array([1]))), 4)
    0.6931
    """
    xd, settings = raw(x), (copied(target, x), reduction)
    y = ops.soft_margin_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.soft_margin_loss_backward(gy, xd, *settings),))


@in_float32
def multilabel_margin_loss(x: Input[Y], target: Any, reduction: Reduction = "mean") -> Y:
    """``sum_{j in labels, i not} max(0, 1 - x[n, j] + x[n, i]) / C`` of scores x (N, C) or (C,).

    ``target``, of the shape of x, lists the labels of each example, integers, as far as its first -1.

    >>> round(float(multilabel_margin_loss(np.array([0.1, 0.2, 0.4, 0.8]), np.array([3, 0, -1, 1]))), 4)
    0.85
    """
    xd, settings = raw(x), (copied(target, x), reduction)
    y = ops.multilabel_margin_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.multilabel_margin_loss_backward(gy, xd, *settings),))


@in_float32
def multilabel_soft_margin_loss(x: Input[Y], target: Any, weight: Any = None, reduction: Reduction = "mean") -> Y:
    """The :func:`binary_cross_entropy_with_logits` of x (N, C), averaged over the classes; target has the shape of x.

    ``weight``, which broadcasts to x, multiplies the losses of the classes, a constant.

    >>> float(multilabel_soft_margin_loss(np.array([[1000.0, -1000.0]]), np.array([[1, 1]])))
    500.0
    """
    xd, td = kept(x, target)
    settings = (copied(weight, x, target), reduction)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.multilabel_soft_margin_loss_backward(gy, xd, td, *settings) if needs[0] else None,
            ops.multilabel_soft_margin_loss_backward_target(gy, xd, td, *settings) if needs[1] else None,
        )

    return differentiable(ops.multilabel_soft_margin_loss(xd, td, *settings), (x, target), backward)


@in_float32
def poisson_nll_loss(
    x: Input[Y],
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Y:
    """``exp(x) - target x``: of counts target, with x the logarithms of their rates; of one shape.

    Without ``log_input`` x are the rates, and the loss is ``x - target log(x + eps)``. ``full`` adds Stirling's
    approximation of ``log(target!)`` where target > 1.

    >>> float(poisson_nll_loss(np.array([0.0]), np.array([2.0])))
    1.0
    """
    (xd, td), settings = kept(x, target), (log_input, full, eps, reduction)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.poisson_nll_loss_backward(gy, xd, td, *settings) if needs[0] else None,
            ops.poisson_nll_loss_backward_target(gy, xd, td, *settings) if needs[1] else None,
        )

    return differentiable(ops.poisson_nll_loss(xd, td, *settings), (x, target), backward)


@in_float32
def gaussian_nll_loss(
    x: Input[Y],
    target: Input[Y],
    var: Input[Y] | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Y:
    """``(log v + (x - target)^2 / v) / 2``: x and v = max(var, eps) are mean and variance of a normal distribution.

    target broadcasts to x; var has the shape of x, or that with its last axis left out or one of size 1, or is a
    number. ``full`` adds ``log(2 pi) / 2``. Where var is below ``eps`` its gradient is that at eps.

    >>> float(gaussian_nll_loss(np.array([3.0]), np.array([0.0]), np.array([1.0])))
    4.5
    """
    xd, td, vd = kept(x, target, var)
    y = ops.gaussian_nll_loss(xd, td, vd, full, eps, reduction)

    def backward(gy: Array, _: tuple[bool, ...]) -> Sequence[Array | None]:
        return ops.gaussian_nll_loss_backward(gy, xd, td, vd, eps, reduction)

    inputs = (x, target, None if isinstance(vd, Real) else var)
    return differentiable(y, inputs, backward)


@in_float32
def ctc_loss(
    log_probs: Input[Y],
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Reduction = "mean",
    zero_infinity: bool = False,
) -> Y:
    """``-log`` of the probability of the labels ``targets`` over all their alignments with the steps of log_probs.

    ``log_probs`` (T, N, C) is what :func:`log_softmax` gives, with class ``blank`` for none of the labels; targets are
    (N, S), or (sum of the lengths,) one after the other. Of each example the first ``input_lengths`` steps and
    ``target_lengths`` labels count, N integers each. A single example is (T, C) and (S,). ``"mean"`` divides each loss
    by the length of its target first. A target too long for its input has an infinite loss, or with ``zero_infinity``
    0 and no gradient. The gradient is right for log_probs that :func:`log_softmax` gave, and not for others.

    >>> p = np.array([[[0.5, 0.5]], [[0.25, 0.75]]])
    >>> loss = ctc_loss(np.log(p), np.array([[1]]), [2], [1])  # the paths 11, 01 and 10
    >>> round(float(np.exp(-loss)), 4)
    0.875
    """
    xd, lengths = raw(log_probs), (raw(input_lengths), raw(target_lengths))
    y, known = ops.ctc_loss_kept(xd, raw(targets), *lengths, blank, reduction, zero_infinity)
    settings = (xd, known, reduction, zero_infinity)
    return differentiable(y, (log_probs,), lambda gy, _: (ops.ctc_loss_backward(gy, *settings),))
