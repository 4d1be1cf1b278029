"""What losses have in common: from the loss of each element or row to one number, and back.

    "none": the losses as they are        "sum": their sum        "mean": their sum divided by a divisor

The divisor is the number of losses unless the caller has another. A mean over nothing is NaN.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, fail
from gpunn.ops.shared.checks import check_shape

Reduction = Literal["mean", "sum", "none"]


def check_reduction(op: str, reduction: str) -> None:
    """Check that ``reduction`` is the name of one."""
    if not isinstance(reduction, str) or reduction not in ("mean", "sum", "none"):
        fail(ArgumentError, op, 'reduction is "mean", "sum" or "none"', reduction=reduction)


def reduce(xp: Any, losses: Array, reduction: str, dtype: Any, divisor: Any = None) -> Array:
    """``losses``, summed in their own dtype, as an array of ``dtype``.

    >>> reduce(np, np.array([1.0, 3.0]), "mean", np.float32)
    array(2., dtype=float32)
    """
    if reduction != "none":
        total = losses.sum()
        losses = total if reduction == "sum" else _divide(total, losses.size if divisor is None else divisor)
    return xp.asarray(losses).astype(dtype, copy=False)


def reduce_backward(op: str, gy: Array, shape: tuple[int, ...], reduction: str, divisor: Any) -> Array:
    """The gradient with respect to each of the losses of ``shape``, wide; a single number if they share it."""
    check_shape(op, "gy", gy, shape if reduction == "none" else ())
    wide = gy.astype(accumulation_dtype(gy.dtype), copy=False)
    return _divide(wide, divisor) if reduction == "mean" else wide


def gradient(op: str, xp: Any, gy: Array, slope: Array, x: Array, reduction: str, divisor: Any = None) -> Array:
    """The gradient with respect to x of element-wise losses whose derivatives are ``slope``, in the dtype of x."""
    operands(op, gy=gy, x=x)
    each = reduce_backward(op, gy, x.shape, reduction, x.size if divisor is None else divisor)
    return xp.asarray(each * slope).astype(x.dtype, copy=False)


def _divide(total: Array, divisor: Any) -> Array:
    if isinstance(divisor, int) and divisor:
        return total / total.dtype.type(divisor)
    with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 is NaN
        return total / total.dtype.type(divisor) if isinstance(divisor, int) else total / divisor.astype(total.dtype)
