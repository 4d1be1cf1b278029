"""Activations of exponentials and quotients, forward and backward.

    softsign(x) = x / (1 + |x|)        tanhshrink(x) = x - tanh(x)        logsigmoid(x) = -log(1 + exp(-x))
    mish(x) = x tanh(log(1 + exp(x)))        celu(x) = x if x > 0 else alpha (exp(x / alpha) - 1)
    glu(x) = a sigmoid(b), with a and b the two halves of x along an axis

Arrays of any shape; float16 is computed in float32. The derivatives are taken from x. Sources: Turian, Bergstra and
Bengio 2009 (softsign); Misra 2020, "Mish: a self regularized non-monotonic activation function"; Barron 2017,
"Continuously differentiable exponential linear units"; Dauphin et al. 2017, "Language modeling with gated
convolutional networks" (glu).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.activation.pointwise import checked, logistic
from gpunn.ops.activation.smooth import log_one_plus_exp
from gpunn.ops.array.shape import axis_of
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.chunks import by_element, cut_off


def softsign(x: Array) -> Array:
    """``x / (1 + |x|)``, -1 and 1 at the infinities.

    >>> softsign(np.array([-1.0, 3.0, np.inf])).tolist()
    [-0.5, 0.75, 1.0]
    """
    xp = operands("softsign", x=x)

    def block(y: Array, x: Array) -> None:
        largest = np.finfo(x.dtype).max
        xp.clip(x, -largest, largest, out=y)
        y /= 1 + xp.abs(y)

    return by_element(xp, block, x)


def softsign_backward(gy: Array, x: Array) -> Array:
    """``gy / (1 + |x|)^2``."""
    xp = checked("softsign_backward", gy, x=x)

    def block(gx: Array, gy: Array, x: Array) -> None:
        divisor = 1 + xp.abs(x)
        xp.divide(gy, divisor, out=gx)
        gx /= divisor

    return by_element(xp, block, gy, x)


def tanhshrink(x: Array) -> Array:
    """``x - tanh(x)``.

    >>> tanhshrink(np.array([0.0, 1.0, -1000.0])).round(4).tolist()
    [0.0, 0.2384, -999.0]
    """
    xp = operands("tanhshrink", x=x)
    return by_element(xp, lambda y, x: xp.subtract(x, xp.tanh(x), out=y), x)


def tanhshrink_backward(gy: Array, x: Array) -> Array:
    """``gy tanh(x)^2``."""
    xp = checked("tanhshrink_backward", gy, x=x)

    def block(gx: Array, gy: Array, x: Array) -> None:
        xp.tanh(x, out=gx)
        gx *= gx
        gx *= gy

    return by_element(xp, block, gy, x)


def logsigmoid(x: Array) -> Array:
    """The logarithm of the sigmoid, exact where that itself would round to 0 or 1.

    >>> logsigmoid(np.array([-1000.0, 0.0])).round(4).tolist()
    [-1000.0, -0.6931]
    """
    xp = operands("logsigmoid", x=x)

    def block(y: Array, x: Array) -> None:
        log_one_plus_exp(xp, -x, y)
        xp.negative(y, out=y)

    return by_element(xp, block, x)


def logsigmoid_backward(gy: Array, x: Array) -> Array:
    """``gy sigmoid(-x)``."""
    xp = checked("logsigmoid_backward", gy, x=x)

    def block(gx: Array, gy: Array, x: Array) -> None:
        logistic(xp, -x, gx)
        gx *= gy

    with np.errstate(over="ignore"):
        return by_element(xp, block, gy, x)


def mish(x: Array) -> Array:
    """``x tanh(log(1 + exp(x)))``.

    >>> mish(np.array([-1000.0, 0.0, 1.0, 1000.0])).round(4).tolist()
    [-0.0, 0.0, 0.8651, 1000.0]
    """
    xp = operands("mish", x=x)

    def block(y: Array, x: Array) -> None:
        _, _, gate = _mish_gate(xp, x)
        xp.clip(x, _LOW, math.inf, out=y)
        y *= gate

    return by_element(xp, block, x)


def mish_backward(gy: Array, x: Array) -> Array:
    """``gy (t + x (1 - t^2) sigmoid(x))`` with t = tanh(log(1 + exp(x)))."""
    xp = checked("mish_backward", gy, x=x)

    def block(gx: Array, gy: Array, x: Array) -> None:
        e, other, gate = _mish_gate(xp, x)
        # (1 - t^2) sigmoid(x) = 4 e (1 + e) / (n + 2)^2, from 1 - t^2 = 4 (n + 1) / (n + 2)^2 and n + 1 = (1 + e)^2.
        xp.clip(x, _LOW, _HIGH, out=gx)
        gx *= 4 * e * other
        gx *= (1 + e) * other
        gx += gate
        gx *= gy

    return by_element(xp, block, gy, x)


_LOW, _HIGH = -800.0, 40.0  # below, exp is 0, and above, tanh(log(1 + exp(x))) is 1, in all dtypes


def _mish_gate(xp: Any, x: Array) -> tuple[Array, Array, Array]:
    """e = exp(x), ``1 / (n + 2)`` and ``n / (n + 2) = tanh(log(1 + e))``, with n = e (e + 2) and x cut off."""
    e = xp.exp(xp.clip(x, _LOW, _HIGH))
    n = e * (e + 2)
    other = 1 / (n + 2)
    return e, other, n * other


def celu(x: Array, alpha: float = 1.0) -> Array:
    """x where x > 0, else ``alpha (exp(x / alpha) - 1)``.

    >>> celu(np.array([-1.0, 2.0]), 2.0).round(4).tolist()
    [-0.7869, 2.0]
    """
    xp = operands("celu", x=x)
    _check_celu("celu", alpha)

    def block(y: Array, x: Array) -> None:
        below = xp.clip(x, -math.inf, 0)
        below /= alpha
        xp.expm1(below, out=below)
        below *= alpha
        cut_off(xp, x, y)
        y += below

    with np.errstate(over="ignore"):  # of a negative alpha
        return by_element(xp, block, x)


def celu_backward(gy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``gy`` where x > 0, else ``gy exp(x / alpha)``."""
    xp = checked("celu_backward", gy, x=x)
    _check_celu("celu_backward", alpha)

    def block(gx: Array, gy: Array, x: Array) -> None:
        xp.clip(x, -math.inf, 0, out=gx)
        gx /= alpha
        xp.exp(gx, out=gx)
        gx *= gy

    with np.errstate(over="ignore"):
        return by_element(xp, block, gy, x)


def _check_celu(op: str, alpha: float) -> None:
    check_number(op, alpha=alpha)
    check(alpha != 0, ArgumentError, op, "alpha must not be 0", alpha=alpha)


def glu(x: Array, axis: int = -1) -> Array:
    """The first half of x along ``axis``, times the sigmoid of the second: half as long there.

    >>> glu(np.array([1.0, 2.0, 0.0, 1000.0])).tolist()
    [0.5, 2.0]

    Raises ShapeError where x has an odd number of elements along axis.
    """
    xp, a, b, _ = _halves("glu", x, axis)
    with np.errstate(over="ignore"):
        return (a * logistic(xp, b)).astype(x.dtype, copy=False)


def glu_backward(gy: Array, x: Array, axis: int = -1) -> Array:
    """``gy sigmoid(b)``, and after it ``gy a sigmoid(b) (1 - sigmoid(b))``."""
    op = "glu_backward"
    operands(op, gy=gy, x=x)
    xp, a, b, along = _halves(op, x, axis)
    check_shape(op, "gy", gy, a.shape)
    with np.errstate(over="ignore"):
        gate, shut = logistic(xp, b), logistic(xp, -b)
    ga = gy.astype(a.dtype, copy=False) * gate
    return xp.concatenate([ga, ga * a * shut], along).astype(x.dtype, copy=False)


def _halves(op: str, x: Array, axis: int) -> tuple[Any, Array, Array, int]:
    """The array module, the two halves of x, wide, and the axis, counted from 0."""
    xp, along = operands(op, x=x), axis_of(op, x, axis)
    rule = "x must have an even number of elements along axis"
    check(x.shape[along] % 2 == 0, ShapeError, op, rule, axis=axis, shape=x.shape)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    return xp, *xp.split(wide, 2, along), along
