"""Losses, forward and backward.

    cross_entropy(x, t) = mean or sum over the rows n with t[n] != ignore_index of -log softmax(x[n])[t[n]]

x holds the logits (N, C), t the class of each row (N,), integers from 0 to C-1 or ``ignore_index``. float16 is
computed in float32. Source: the multinomial log-likelihood, Bishop 2006, "Pattern recognition and machine learning",
section 4.3.4; the sum of exponentials in one pass: Milakov and Gimelshein 2018, "Online normalizer calculation for
softmax".

CUDA: ``kernels/loss.cu``. Without it: the logarithm of the softmax of all rows, of which one element each is taken.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, device_of, is_array, operands
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check
from gpunn.ops.softmax import log_softmax, softmax
from gpunn.ops.window import check_shape

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(x: Array, target: Array, ignore_index: int = -100, reduction: Reduction = "mean") -> Array:
    """The loss, an array of no dimensions ((N,) for ``reduction="none"``).

    With every target ignored ``"sum"`` is 0 and ``"mean"`` is NaN.

    >>> round(float(cross_entropy(np.log([[0.1, 0.9]]), np.array([1]))), 4)
    0.1054
    """
    xp, kept = _checked("cross_entropy", x, target, ignore_index, reduction)
    if cuda.takes(x):
        losses = xp.empty(x.shape[:1], x.dtype)
        _launch("cross_entropy_forward", x, [xp.ascontiguousarray(x), _classes(xp, kept, target), losses], [])
    else:
        with np.errstate(invalid="ignore"):  # a row that is ignored may hold anything
            logs = log_softmax(x.astype(accumulation_dtype(x.dtype), copy=False))
        losses = -xp.where(kept, logs[xp.arange(x.shape[0]), xp.where(kept, target, 0)], 0)
    if reduction == "none":
        return losses.astype(x.dtype, copy=False)
    total = losses.sum()
    return xp.asarray(total if reduction == "sum" else _divide(xp, total, kept.sum())).astype(x.dtype, copy=False)


def cross_entropy_backward(
    gy: Array, x: Array, target: Array, ignore_index: int = -100, reduction: Reduction = "mean"
) -> Array:
    """The gradient with respect to x, (N, C): ``gy (softmax(x) - onehot(target))`` over the rows not ignored."""
    xp, kept = _checked("cross_entropy_backward", x, target, ignore_index, reduction)
    check_shape("cross_entropy_backward", "gy", gy, x.shape[:1] if reduction == "none" else ())
    wide = gy.astype(accumulation_dtype(gy.dtype), copy=False)
    scale = _divide(xp, wide, kept.sum()) if reduction == "mean" else wide
    if cuda.takes(x):
        gx, scale = xp.empty(x.shape, x.dtype), xp.ascontiguousarray(scale, x.dtype)
        args = [scale, xp.ascontiguousarray(x), _classes(xp, kept, target), gx]
        _launch("cross_entropy_backward", x, args, [np.int32(scale.size)])
        return gx
    with np.errstate(invalid="ignore"):
        gx = softmax(x.astype(wide.dtype, copy=False))
    gx[xp.arange(x.shape[0]), xp.where(kept, target, 0)] -= 1
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
    check(x.shape[1] > 0, ShapeError, op, "logits must have at least one class", shape=x.shape)
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


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 256
_WARP = 32
_WARP_ROW = 1024  # the longest row for a warp, 32 logits a thread; a longer one gets a block


def _classes(xp: Any, kept: Array, target: Array) -> Array:
    """The target of each row, -1 where it is ignored."""
    return xp.where(kept, target.astype(np.int64), -1)


def _launch(kernel: str, x: Array, arrays: list[Array], more: list[Any]) -> None:
    if x.size == 0:
        return
    rows, classes = x.shape
    row = _WARP if classes <= _WARP_ROW else _THREADS
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": cuda.index_type(x.size), "ROW": row}
    blocks = -(-rows // (_THREADS // row))
    cuda.launch("loss.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, np.int32(rows), np.int32(classes), *more])
