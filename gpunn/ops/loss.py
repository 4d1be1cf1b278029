"""Losses, forward and backward.

    cross_entropy(x, t) = mean or sum over the rows n with t[n] != ignore_index of -log softmax(x[n])[t[n]]

x holds the logits (N, C), t the class of each row (N,), integers from 0 to C-1 or ``ignore_index``. float16 is
computed in float32. Source: the multinomial log-likelihood, Bishop 2006, "Pattern recognition and machine learning",
section 4.3.4.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunn.backend import Array, device_of, is_array, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check
from gpunn.ops.softmax import log_softmax

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(x: Array, target: Array, ignore_index: int = -100, reduction: Reduction = "mean") -> Array:
    """The loss, an array of no dimensions ((N,) for ``reduction="none"``).

    With every target ignored ``"sum"`` is 0 and ``"mean"`` is NaN.

    >>> round(float(cross_entropy(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    xp, kept = _checked("cross_entropy", x, target, ignore_index, reduction)
    rows = xp.arange(x.shape[0])
    losses = -log_softmax(x)[rows, xp.where(kept, target, 0)] * kept
    if reduction == "none":
        return losses
    total = losses.sum(dtype=x.dtype)
    return total if reduction == "sum" else _divide(xp, total, kept.sum())


def cross_entropy_backward(
    gy: Array, x: Array, target: Array, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to x, (N, C): ``gy (softmax(x) - onehot(target))`` over the rows not ignored."""
    xp, kept = _checked("cross_entropy_backward", x, target, ignore_index, reduction)
    gx = xp.exp(log_softmax(x))
    gx[xp.arange(x.shape[0]), xp.where(kept, target, 0)] -= 1
    scale = _divide(xp, gy, kept.sum()) if reduction == "mean" else gy
    # Not a product with 0: with every row ignored the scale is infinite, and the gradient of such rows is 0.
    return xp.where(kept[:, None], gx * xp.reshape(scale, (-1, 1)), 0).astype(x.dtype, copy=False)


def _divide(xp: Any, total: Array, count: Array) -> Array:
    """``total / count`` in the dtype of total; 0 / 0 is NaN without a warning."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return xp.asarray(total / count.astype(total.dtype))


def _checked(op: str, x: Array, target: Array, ignore_index: int, reduction: str) -> tuple[Any, Array]:
    xp = operands(op, x=x)
    check(
        reduction in ("mean", "sum", "none"),
        ArgumentError,
        op,
        'reduction is "mean", "sum" or "none"',
        reduction=reduction,
    )
    check(x.ndim == 2, ShapeError, op, "logits must have the 2 dimensions (N, C)", shape=x.shape)
    check(is_array(target), DtypeError, op, "target must be a NumPy or CuPy array", type=type(target).__name__)
    check(target.dtype.kind in "iu", DtypeError, op, "target must hold integer classes", dtype=str(target.dtype))
    one_device = device_of(x) == device_of(target)
    check(one_device, DeviceError, op, "x and target must be on one device", x=device_of(x), target=device_of(target))
    rule = "target must hold one class for each row of logits"
    check(target.shape == x.shape[:1], ShapeError, op, rule, target=target.shape, logits=x.shape)
    kept = target != ignore_index
    wrong = kept & ((target < 0) | (target >= x.shape[1]))
    if wrong.any():
        place = int(wrong.argmax())
        rule = f"target must lie in 0 to {x.shape[1] - 1} (or be ignore_index={ignore_index})"
        check(False, ArgumentError, op, rule, target=int(target[place]), row=place)
    return xp, kept
