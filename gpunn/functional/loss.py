"""Differentiable losses; see :mod:`gpunn.ops.loss` for the formulas."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
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

    >>> import numpy as np
    >>> round(float(cross_entropy(np.zeros((1, 2)), np.array([0]))), 4)
    0.6931
    """
    if _is_row(x):
        return alone(cross_entropy, x, _of_row(target), weight, ignore_index, reduction, label_smoothing)
    xd, td = kept(x, target)
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
    x: Input[Y], target: Input[Y], weight: Any = None, reduction: Reduction = "mean", pos_weight: Any = None
) -> Y:
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


@in_float32
def nll_loss(
    x: Input[Y], target: Any, weight: Any = None, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Y:
    """``-x[n, target[n]]`` of logarithms of probabilities x (N, C) or (N, C, d1, ...); target (N, d1, ...).

    A single row x (C,) has one target ().

    The mean is weighted by the ``weight`` (C,) of the target classes, a constant.

    >>> import numpy as np
    >>> round(float(nll_loss(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    if _is_row(x):
        return alone(nll_loss, x, _of_row(target), weight, ignore_index, reduction)
    xd, settings = raw(x), (copied(target, x), copied(weight, x), ignore_index, reduction)
    return differentiable(ops.nll_loss(xd, *settings), (x,), lambda gy, _: (ops.nll_loss_backward(gy, xd, *settings),))


@in_float32
def kl_div(x: Input[Y], target: Input[Y], reduction: BatchReduction = "mean", log_target: bool = False) -> Y:
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


@in_float32
def hinge_embedding_loss(x: Input[Y], target: Any, margin: float = 1.0, reduction: Reduction = "mean") -> Y:
    """x where target is 1, ``max(0, margin - x)`` where it is -1; target has the shape of x.

    >>> import numpy as np
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

    A single row x (C,) has one class (). ``weight`` (C,) multiplies the loss of its class, a constant; the mean divides
    by N all the same.

    >>> import numpy as np
    >>> round(float(multi_margin_loss(np.array([[0.1, 0.2, 0.4, 0.8]]), np.array([3]))), 4)
    0.325
    """
    if _is_row(x):
        return alone(multi_margin_loss, x, _of_row(target), p, margin, weight, reduction)
    xd, settings = raw(x), (copied(target, x), p, margin, copied(weight, x), reduction)
    y = ops.multi_margin_loss(xd, *settings)
    return differentiable(y, (x,), lambda gy, _: (ops.multi_margin_loss_backward(gy, xd, *settings),))


@in_float32
def cosine_embedding_loss(
    x1: Input[Y], x2: Input[Y], target: Any, margin: float = 0.0, reduction: Reduction = "mean"
) -> Y:
    """``1 - cos(x1, x2)`` where target is 1, ``max(0, cos(x1, x2) - margin)`` where it is -1.

    x1 and x2 are (N, D) with target (N,), or (D,) with target ().

    >>> import numpy as np
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
def mse_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean") -> Y:
    """``(x - target)^2``, for arrays of one shape.

    >>> import numpy as np
    >>> float(mse_loss(np.array([2.0]), np.array([3.0])))
    1.0
    """
    return _of_difference(ops.mse_loss, ops.mse_loss_backward, x, target, reduction)


@in_float32
def l1_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean") -> Y:
    """``|x - target|``, for arrays of one shape.

    >>> import numpy as np
    >>> float(l1_loss(np.array([2.0]), np.array([5.0])))
    3.0
    """
    return _of_difference(ops.l1_loss, ops.l1_loss_backward, x, target, reduction)


@in_float32
def huber_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean", delta: float = 1.0) -> Y:
    """``d^2 / 2`` where ``|d| < delta``, else ``delta (|d| - delta / 2)``, with d = x - target.

    >>> import numpy as np
    >>> float(huber_loss(np.array([5.0]), np.array([0.0]), delta=2.0))
    8.0
    """
    return _of_difference(ops.huber_loss, ops.huber_loss_backward, x, target, reduction, delta)


@in_float32
def smooth_l1_loss(x: Input[Y], target: Input[Y], reduction: Reduction = "mean", beta: float = 1.0) -> Y:
    """``d^2 / (2 beta)`` where ``|d| < beta``, else ``|d| - beta / 2``, with d = x - target.

    >>> import numpy as np
    >>> float(smooth_l1_loss(np.array([5.0]), np.array([0.0]), beta=2.0))
    4.0
    """
    return _of_difference(ops.smooth_l1_loss, ops.smooth_l1_loss_backward, x, target, reduction, beta)


def _of_row(target: Any) -> Any:
    """The target of one row as that of a batch: of a class () or (1,), or of probabilities (C,)."""
    array = raw(target)
    one = getattr(array, "shape", None) == (1,) and array.dtype.kind in "iu"
    return target if one else lifted(target)


def _is_row(x: Any) -> bool:
    """Whether x is the scores of one example, (C,)."""
    return getattr(x, "ndim", 0) == 1


def _of_difference(
    forward: Callable[..., Array], backward: Callable[..., Array], x: Any, target: Any, *settings: Any
) -> Any:
    xd, td = kept(x, target)

    def of_both(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        gx = backward(gy, xd, td, *settings)
        return gx, -gx if needs[1] else None

    return differentiable(forward(xd, td, *settings), (x, target), of_both)
