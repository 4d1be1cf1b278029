"""Activations without corners (elu and selu have one), element by element, forward and backward.

    silu(x) = x sigmoid(x)        gelu(x) = x Phi(x), or x sigmoid(2 c (x + 0.044715 x^3)) with c = sqrt(2 / pi)
    softplus(x) = log(1 + exp(beta x)) / beta, and x itself where beta x > threshold
    elu(x) = x if x > 0 else alpha (exp(x) - 1)        selu(x) = 1.0507 elu(x) with alpha = 1.6733

Phi is the distribution function of the normal distribution. Arrays of any shape; float16 is computed in float32. The
derivatives are taken from x: silu and gelu are not monotonic, softplus ends abruptly at its threshold, and
``y + alpha``, the slope of elu, would lose its digits where it is nearly 0. Sources: Ramachandran, Zoph and Le 2017,
"Searching for activation functions" (silu, there called swish); Hendrycks and Gimpel 2016, "Gaussian error linear
units"; Dugas et al. 2001 (softplus); Clevert, Unterthiner and Hochreiter 2016 (elu); Klambauer et al. 2017,
"Self-normalizing neural networks" (selu).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.activation.normal import normal_cdf
from gpunn.ops.activation.pointwise import checked, logistic
from gpunn.ops.shared.chunks import chunks

Approximate = Literal["none", "tanh"]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""The pair for which a layer of many inputs with mean 0 and variance 1 passes both on."""


# ---- x times a gate that opens from 0 to 1 --------------------------------------------------------------------------


def silu(x: Array) -> Array:
    """``x sigmoid(x)``; also called swish.

    >>> silu(np.array([0.0, 2.0, -1000.0])).round(4).tolist()
    [0.0, 1.7616, -0.0]
    """
    xp = operands("silu", x=x)
    return _gated(xp, x, logistic)


def silu_backward(gy: Array, x: Array) -> Array:
    """``gy (s + x s (1 - s))`` with s = sigmoid(x)."""
    return _gated_backward(checked("silu_backward", gy, x=x), gy, x, logistic, _logistic_slope)


def gelu(x: Array, approximate: Approximate = "none") -> Array:
    """``x Phi(x)``; ``approximate="tanh"`` is ``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``.

    >>> gelu(np.array([0.0, 1.0, -1.0])).round(4).tolist()
    [0.0, 0.8413, -0.1587]
    """
    xp = operands("gelu", x=x)
    return _gated(xp, x, _gelu_gate("gelu", approximate)[0])


def gelu_backward(gy: Array, x: Array, approximate: Approximate = "none") -> Array:
    """``gy (Phi(x) + x Phi'(x))``, or the same with the sigmoid in the place of Phi."""
    xp = checked("gelu_backward", gy, x=x)
    return _gated_backward(xp, gy, x, *_gelu_gate("gelu_backward", approximate))


_ARRAYS = 16  # that a formula has at a time, about
_FAR = 1000.0  # here every gate is 0 or 1, in all dtypes; beyond, squares overflow, and 0 times infinity is NaN


def _gated(xp: Any, x: Array, gate: Any) -> Array:
    def of(part: Array) -> Array:
        near = xp.clip(part, -_FAR, _FAR)
        return xp.maximum(part, -_FAR) * gate(xp, near)

    return _in_chunks(xp, of, x)


def _gated_backward(xp: Any, gy: Array, x: Array, gate: Any, gate_slope: Any) -> Array:
    def of(part: Array, g: Array) -> Array:
        near = xp.clip(part, -_FAR, _FAR)
        slope = gate_slope(xp, near)
        slope *= near
        slope += gate(xp, near)
        slope *= g
        return slope

    return _in_chunks(xp, of, x, gy)


def _in_chunks(xp: Any, function: Any, *arrays: Array) -> Array:
    """``function`` of the arrays, a block at a time: so long a formula leaves the cache otherwise."""
    y, flat = xp.empty(arrays[0].shape, arrays[0].dtype), [a.reshape(-1) for a in arrays]
    result = y.reshape(-1)
    for part in chunks(xp, y.size, _ARRAYS * y.itemsize):
        result[part] = function(*(_wide(a[part]) for a in flat))
    return y


def _logistic_slope(xp: Any, x: Array) -> Array:
    return logistic(xp, x) * logistic(xp, -x)


def _normal_density(xp: Any, x: Array) -> Array:
    return xp.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


# (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps its digits where the sum would cancel.
_TANH_SCALE, _CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _tanh_gate(xp: Any, x: Array) -> Array:
    return logistic(xp, _TANH_SCALE * (x + _CUBE * x * x * x))


def _tanh_gate_slope(xp: Any, x: Array) -> Array:
    inner = _TANH_SCALE * (x + _CUBE * x * x * x)
    return _logistic_slope(xp, inner) * (_TANH_SCALE * (1 + 3 * _CUBE * x * x))


def _gelu_gate(op: str, approximate: str) -> tuple[Any, Any]:
    """The gate and its derivative."""
    known = approximate in ("none", "tanh")
    check(known, ArgumentError, op, 'approximate is "none" or "tanh"', approximate=approximate)
    return (normal_cdf, _normal_density) if approximate == "none" else (_tanh_gate, _tanh_gate_slope)


# ---- exponentials ---------------------------------------------------------------------------------------------------


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``.

    >>> softplus(np.array([-1000.0, 0.0, 1000.0])).round(4).tolist()
    [0.0, 0.6931, 1000.0]
    """
    xp = operands("softplus", x=x)
    check_number("softplus", threshold=threshold)
    wide, scaled = _wide(x), _scaled("softplus", x, beta)
    return _narrow(xp, xp.where(scaled > threshold, wide, log_one_plus_exp(xp, scaled) / beta), x)


def softplus_backward(gy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``gy sigmoid(beta x)``, and gy itself where ``beta x > threshold``."""
    xp = checked("softplus_backward", gy, x=x)
    scaled = _scaled("softplus_backward", x, beta)
    return _narrow(xp, gy * xp.where(scaled > threshold, 1, logistic(xp, scaled)), x)


def log_one_plus_exp(xp: Any, x: Array) -> Array:
    """``log(1 + exp(x))`` without overflow, and without a loss of digits where it is nearly 0."""
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-abs(x)))


def _scaled(op: str, x: Array, beta: float) -> Array:
    check_number(op, beta=beta)
    check(beta > 0, ArgumentError, op, "beta must be above 0", beta=beta)
    with np.errstate(over="ignore"):  # infinity is what both ends of the formula take
        return beta * _wide(x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where x > 0, else ``alpha (exp(x) - 1)``.

    >>> elu(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """
    xp = operands("elu", x=x)
    check_number("elu", alpha=alpha)
    return _narrow(xp, _elu(xp, _wide(x), alpha), x)


def elu_backward(gy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``gy`` where x > 0, else ``gy alpha exp(x)``."""
    xp = checked("elu_backward", gy, x=x)
    return _narrow(xp, gy * _elu_slope(xp, _wide(x), alpha), x)


def selu(x: Array) -> Array:
    """``1.0507 elu(x, 1.6733)``.

    >>> selu(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """
    xp = operands("selu", x=x)
    return _narrow(xp, SELU_SCALE * _elu(xp, _wide(x), SELU_ALPHA), x)


def selu_backward(gy: Array, x: Array) -> Array:
    """1.0507 times the gradient of ``elu(x, 1.6733)``."""
    xp = checked("selu_backward", gy, x=x)
    return _narrow(xp, gy * (SELU_SCALE * _elu_slope(xp, _wide(x), SELU_ALPHA)), x)


def _elu(xp: Any, x: Array, alpha: float) -> Array:
    return xp.maximum(x, 0) + alpha * xp.expm1(xp.minimum(x, 0))


def _elu_slope(xp: Any, x: Array, alpha: float) -> Array:
    return (x > 0) + (x <= 0) * (alpha * xp.exp(xp.minimum(x, 0)))


def _wide(x: Array) -> Array:
    return x.astype(accumulation_dtype(x.dtype), copy=False)


def _narrow(xp: Any, y: Array, x: Array) -> Array:
    return xp.asarray(y).astype(x.dtype, copy=False)
