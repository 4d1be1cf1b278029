"""Negative log-likelihoods of numbers under a distribution that is predicted, forward and backward.

    poisson_nll_loss: exp(x) - t x with x the logarithm of the rate, or x - t log(x + eps) with x the rate
    gaussian_nll_loss: (log v + (x - t)^2 / v) / 2 with x the mean and v the variance, at least eps

t is the target. ``full`` adds what does not depend on x: Stirling's ``t log t - t + log(2 pi t) / 2`` for t > 1, for
the logarithm of t!, and ``log(2 pi) / 2``. float16 is computed in float32. Source: Nix and Weigend 1994, "Estimating
the mean and variance of the target probability distribution".
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.array.arithmetic import unbroadcast
from gpunn.ops.loss.reduction import Reduction, check_reduction, gradient, reduce, reduce_backward
from gpunn.ops.loss.target import check_target


def poisson_nll_loss(
    x: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Array:
    """The loss of counts ``target`` at the rates x, or with ``log_input`` at the rates exp(x).

    >>> poisson_nll_loss(np.array([0.0, 1.0]), np.array([2.0, 1.0]), reduction="none").round(4).tolist()
    [1.0, 1.7183]
    """
    xp, wide, t = _counts("poisson_nll_loss", x, target, eps, reduction)
    with np.errstate(all="ignore"):
        losses = xp.exp(wide) - t * wide if log_input else wide - t * xp.log(wide + eps)
        if full:
            losses += xp.where(t > 1, t * xp.log(t) - t + xp.log(2 * math.pi * t) / 2, 0)
    return reduce(xp, losses, reduction, x.dtype)


def poisson_nll_loss_backward(
    gy: Array,
    x: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Array:
    """The gradient with respect to x: ``exp(x) - t``, or ``1 - t / (x + eps)``."""
    op = "poisson_nll_loss_backward"
    xp, wide, t = _counts(op, x, target, eps, reduction)
    with np.errstate(all="ignore"):
        slope = xp.exp(wide) - t if log_input else 1 - t / (wide + eps)
    return gradient(op, xp, gy, slope, x, reduction)


def poisson_nll_loss_backward_target(
    gy: Array,
    x: Array,
    target: Array,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Array:
    """The gradient with respect to target: minus the logarithm of the rate, and with ``full`` ``log t + 1 / (2 t)``."""
    op = "poisson_nll_loss_backward_target"
    xp, wide, t = _counts(op, x, target, eps, reduction)
    with np.errstate(all="ignore"):
        slope = -wide if log_input else -xp.log(wide + eps)
        if full:
            slope = slope + xp.where(t > 1, xp.log(t) + 0.5 / t, 0)
    return gradient(op, xp, gy, slope, x, reduction)


def _counts(op: str, x: Array, target: Array, eps: float, reduction: str) -> tuple[Any, Array, Array]:
    xp = operands(op, x=x)
    check_reduction(op, reduction)
    check_number(op, eps=eps)
    check_target(op, "x", x, target)
    check(x.shape == target.shape, ShapeError, op, "x and target must have one shape", x=x.shape, target=target.shape)
    dtype = accumulation_dtype(x.dtype)
    return xp, x.astype(dtype, copy=False), target.astype(dtype, copy=False)


def gaussian_nll_loss(
    x: Array, target: Array, var: Any, full: bool = False, eps: float = 1e-6, reduction: Reduction = "mean"
) -> Array:
    """The loss of numbers ``target`` at the means x and the variances ``var``, which count as ``eps`` where less.

    target broadcasts to x. var has the shape of x, or that without its last axis, or an axis of 1 there or elsewhere;
    or it is a number.

    >>> gaussian_nll_loss(np.array([1.0, 3.0]), np.zeros(2), 1.0, reduction="none").tolist()
    [0.5, 4.5]

    Raises ArgumentError for a negative variance.
    """
    xp, d, v, _ = _deviations("gaussian_nll_loss", x, target, var, eps, reduction)
    losses = (xp.log(v) + d * d / v) / 2
    if full:
        losses += math.log(2 * math.pi) / 2
    return reduce(xp, losses, reduction, x.dtype)


def gaussian_nll_loss_backward(
    gy: Array, x: Array, target: Array, var: Any, eps: float = 1e-6, reduction: Reduction = "mean"
) -> tuple[Array, Array, Array | None]:
    """The gradients of x, target and var: ``d / v``, ``-d / v`` and ``(1 / v - d^2 / v^2) / 2`` with d = x - t.

    That of var is the same where it counts as ``eps``, for it to get away from there; there is none for a number.
    """
    op = "gaussian_nll_loss_backward"
    xp, d, v, shape = _deviations(op, x, target, var, eps, reduction)
    operands(op, gy=gy, x=x)
    each = reduce_backward(op, gy, x.shape, reduction, x.size)
    ratio = d / v
    gx = xp.broadcast_to(each * ratio, x.shape)
    gt = unbroadcast(-gx, target.shape).astype(x.dtype, copy=False)
    gx = gx.astype(x.dtype, copy=False)
    if isinstance(var, Real):
        return gx, gt, None
    gv = unbroadcast(xp.broadcast_to(each * (1 / v - ratio * ratio) / 2, x.shape), shape)
    return gx, gt, gv.reshape(var.shape).astype(x.dtype, copy=False)


def _deviations(
    op: str, x: Array, target: Array, var: Any, eps: float, reduction: str
) -> tuple[Any, Array, Array, tuple[int, ...]]:
    """The array module, x - target and the variances, wide, and the shape in which these broadcast to x."""
    check_reduction(op, reduction)
    check_number(op, eps=eps)
    if isinstance(var, Real):
        xp = operands(op, x=x, target=target)
        check(float(var) >= 0, ArgumentError, op, "var must not be negative", var=var)
        v = xp.full((), var, accumulation_dtype(x.dtype))
    else:
        xp = operands(op, x=x, target=target, var=var)
        v = var.reshape(_variances(op, x.shape, var.shape)).astype(accumulation_dtype(x.dtype), copy=False)
        negative = v < 0
        cuda.alarm(
            negative.any(), lambda: check(False, ArgumentError, op, "var must not be negative", least=float(v.min()))
        )
    rule = "target must broadcast to the shape of x"
    fits = target.ndim <= x.ndim and all(
        own in (1, size) for own, size in zip(target.shape[::-1], x.shape[::-1], strict=False)
    )
    check(fits, ShapeError, op, rule, target=target.shape, x=x.shape)
    return xp, x.astype(v.dtype, copy=False) - target.astype(v.dtype, copy=False), xp.maximum(v, eps), v.shape


def _variances(op: str, x: tuple[int, ...], var: tuple[int, ...]) -> tuple[int, ...]:
    """The shape in which variances of shape ``var`` broadcast to ``x``."""
    if var == x:
        return var
    if var == x[:-1]:
        return (*var, 1)
    differing = [own for own, size in zip(var, x, strict=False) if own != size]
    rule = "var must have the shape of x, with one axis left out at the end or of size 1"
    check(len(var) == len(x) and differing == [1], ShapeError, op, rule, var=var, x=x)
    return var
