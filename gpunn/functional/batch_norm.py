"""Differentiable batch normalisation; see :mod:`gpunn.ops.batch_norm` for the formula."""

from __future__ import annotations

from typing import Any

from gpunn.backend import accumulation_dtype, check_array, get_array_module, is_floating, operands
from gpunn.casting import widened
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number
from gpunn.functional.record import differentiable, kept, raw
from gpunn.ops import batch_norm as ops
from gpunn.ops.window import check_shape
from gpunn.tensor import Tensor


def batch_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    relu: bool = False,
) -> Any:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each channel of x (N, C, ...); then max(., 0) with ``relu``.

    In training mean and var are those of x, and ``running_mean`` and ``running_var`` (C,), if given, are changed in
    place to ``(1 - momentum) old + momentum new``; the running variance takes the unbiased one (divided by m - 1). They
    must be floats then, and a channel must have more than one value: of one, the result would be ``bias`` whatever x
    is. No values at all give an empty result, and change nothing. Otherwise mean and var are the running ones.

    >>> import numpy as np
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> batch_norm(np.array([[1.0], [3.0]]), mean, var, training=True, eps=0.0).tolist(), mean.tolist(), var.tolist()
    ([[-1.0], [1.0]], [0.2], [1.1])
    """
    x, weight, bias = map(widened, (x, weight, bias))  # not the running statistics, which are changed in place
    xd, wd, bd = kept(x, weight, bias)
    statistics = {"running_mean": raw(running_mean), "running_var": raw(running_var)}
    check_array("batch_norm", **{name: a for name, a in statistics.items() if a is not None})
    check_momentum("batch_norm", momentum)
    if training:
        check_running("batch_norm", statistics)
        mean, var = _statistics(xd)
        for name, running in statistics.items():
            if running is not None:
                get_array_module(mean, running)  # refuses a mixture of NumPy and CuPy
                check_shape("batch_norm", name, running, mean.shape)
    else:
        known = running_mean is not None and running_var is not None
        check(known, ArgumentError, "batch_norm", "outside training running_mean and running_var must be given")
        # Copies: a later call in training changes them in place, and the gradient of this one needs the old values.
        mean, var = raw(running_mean).copy(), raw(running_var).copy()
    settings = (xd, mean, var, wd, bd, eps, relu)
    y = ops.batch_norm(*settings)
    if training and xd.size:
        count = xd.size // xd.shape[1]
        move(running_mean, mean, momentum)
        move(running_var, var * (count / (count - 1)), momentum)
    return differentiable(y, (x, weight, bias), lambda gy, _: ops.batch_norm_backward(gy, *settings, training))


def _statistics(x: Any) -> tuple[Any, Any]:
    """Mean and variance of the channels of x in training."""
    xp = operands("batch_norm", x=x)
    if x.ndim > 1 and x.size == 0:
        zeros = xp.zeros(x.shape[1], accumulation_dtype(x.dtype))
        return zeros, zeros
    alone = x.ndim > 1 and x.size == x.shape[1]
    rule = "training needs more than one value a channel"
    check(not alone, ShapeError, "batch_norm", rule, shape=x.shape)
    return ops.batch_norm_statistics(x)


def check_running(op: str, statistics: dict[str, Any]) -> None:
    """Check that the running statistics that are there can be changed: integers would be cut off."""
    for name, running in statistics.items():
        floats = running is None or is_floating(running.dtype)
        check(floats, DtypeError, op, f"{name} must be floats in training", dtype=str(getattr(running, "dtype", None)))


def check_momentum(op: str, momentum: float) -> None:
    """Check that ``momentum`` is a number from 0 to 1."""
    check_number(op, momentum=momentum)
    check(0 <= momentum <= 1, ArgumentError, op, "momentum must be from 0 to 1", momentum=momentum)


def move(running: Any, batch: Any, momentum: float) -> None:
    """Change the running statistics, unless None, in place to ``(1 - momentum) running + momentum batch``."""
    if running is None:
        return
    values = raw(running)
    values[...] = (1 - momentum) * values + momentum * batch
    if isinstance(running, Tensor):
        running.mark_changed()
