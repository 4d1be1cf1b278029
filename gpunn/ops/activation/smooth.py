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
from typing import Any, Literal, NamedTuple

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.activation import onednn
from gpunn.ops.activation.normal import tail
from gpunn.ops.activation.pointwise import checked, logistic
from gpunn.ops.shared.chunks import by_element, cut_off

Approximate = Literal["none", "tanh"]

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805
"""The pair for which a layer of many inputs with mean 0 and variance 1 passes both on."""


class Kept(NamedTuple):
    """What spares the gradient work: the derivative; without one, that oneDNN has computed with all of x."""

    slope: Array | None


# ---- x times a gate that opens from 0 to 1 --------------------------------------------------------------------------


def silu(x: Array) -> Array:
    """``x sigmoid(x)``; also called swish.

    >>> silu(np.array([0.0, 2.0, -1000.0])).round(4).tolist()
    [0.0, 1.7616, -0.0]
    """
    xp = operands("silu", x=x)
    if (known := onednn.forward("silu", x)) is not None:
        return known

    def block(y: Array, x: Array) -> None:
        s, _ = _sigmoids(xp, xp.clip(x, -_FAR, _largest_exponent(x.dtype), out=y))
        xp.clip(x, -_FAR, math.inf, out=y)
        y *= s

    return by_element(xp, block, x)


def silu_kept(x: Array) -> tuple[Array, Kept | None]:
    """silu, and what spares :func:`silu_backward` work.

    >>> y, kept = silu_kept(np.array([0.0, 2.0]))
    >>> y.round(4).tolist(), kept.slope.round(4).tolist()
    ([0.0, 1.7616], [0.5, 1.0908])
    """
    xp = operands("silu", x=x)
    if (known := onednn.forward("silu", x)) is not None:
        return known, Kept(None)
    if not _keeps_slope(xp, x):
        return silu(x), None

    def block(y: Array, x: Array, slope: Array) -> None:
        s = _silu_slope(xp, x, slope)
        xp.clip(x, -_FAR, math.inf, out=y)
        y *= s

    slope = xp.empty(x.shape, x.dtype)
    return by_element(xp, block, x, slope), Kept(slope)


def silu_backward(gy: Array, x: Array, kept: Kept | None = None) -> Array:
    """``gy (s + x s (1 - s))`` with s = sigmoid(x); ``kept`` is what :func:`silu_kept` gave."""
    xp = checked("silu_backward", gy, x=x)
    if kept is not None and kept.slope is not None:
        return _times(xp, gy, kept.slope)
    if (known := onednn.backward("silu", gy, x, kept is not None)) is not None:
        return known

    def block(gx: Array, gy: Array, x: Array) -> None:
        _silu_slope(xp, x, gx)
        gx *= gy

    return by_element(xp, block, gy, x)


def _silu_slope(xp: Any, x: Array, slope: Array) -> Array:
    """Write the derivative of silu to ``slope``; the sigmoid of x."""
    near = xp.clip(x, -_FAR, _largest_exponent(x.dtype), out=slope)
    s, other = _sigmoids(xp, near)
    slope *= other
    slope += 1
    slope *= s
    return s


def gelu(x: Array, approximate: Approximate = "none") -> Array:
    """``x Phi(x)``; ``approximate="tanh"`` is ``x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``.

    >>> gelu(np.array([0.0, 1.0, -1.0])).round(4).tolist()
    [0.0, 0.8413, -0.1587]
    """
    xp, name = operands("gelu", x=x), _gelu("gelu", approximate)
    if (known := onednn.forward(name, x)) is not None:
        return known

    def by_phi(y: Array, x: Array) -> None:
        _gelu_by_phi(xp, x, y)

    def by_tanh(y: Array, x: Array) -> None:
        inner, _ = _inner(xp, xp.clip(x, -_FAR, _FAR, out=y))
        s, _ = _sigmoids(xp, xp.clip(inner, -_FAR, _largest_exponent(x.dtype), out=inner))
        xp.clip(x, -_FAR, math.inf, out=y)
        y *= s

    return by_element(xp, by_phi if name == "gelu" else by_tanh, x)


def gelu_kept(x: Array, approximate: Approximate = "none") -> tuple[Array, Kept | None]:
    """gelu, and what spares :func:`gelu_backward` work.

    >>> y, kept = gelu_kept(np.array([0.0, 1.0]))
    >>> y.round(4).tolist(), kept.slope.round(4).tolist()
    ([0.0, 0.8413], [0.5, 1.0833])
    """
    xp, name = operands("gelu", x=x), _gelu("gelu", approximate)
    if (known := onednn.forward(name, x)) is not None:
        return known, Kept(None)
    if not _keeps_slope(xp, x):
        return gelu(x, approximate), None

    def by_phi(y: Array, x: Array, slope: Array) -> None:
        _phi_slope(xp, x, *_gelu_by_phi(xp, x, y), slope)

    def by_tanh(y: Array, x: Array, slope: Array) -> None:
        s = _tanh_slope(xp, x, slope)
        xp.clip(x, -_FAR, math.inf, out=y)
        y *= s

    slope = xp.empty(x.shape, x.dtype)
    return by_element(xp, by_phi if name == "gelu" else by_tanh, x, slope), Kept(slope)


def gelu_backward(gy: Array, x: Array, approximate: Approximate = "none", kept: Kept | None = None) -> Array:
    """``gy (Phi(x) + x Phi'(x))``, or the same with the sigmoid in the place of Phi.

    ``kept`` is what :func:`gelu_kept` gave.
    """
    xp, name = checked("gelu_backward", gy, x=x), _gelu("gelu_backward", approximate)
    if kept is not None and kept.slope is not None:
        return _times(xp, gy, kept.slope)
    if (known := onednn.backward(name, gy, x, kept is not None)) is not None:
        return known

    def by_phi(gx: Array, gy: Array, x: Array) -> None:
        u = _distance(xp, x)
        _phi_slope(xp, x, u, *tail(xp, u), gx)
        gx *= gy

    def by_tanh(gx: Array, gy: Array, x: Array) -> None:
        _tanh_slope(xp, x, gx)
        gx *= gy

    return by_element(xp, by_phi if name == "gelu" else by_tanh, gy, x)


def _gelu_by_phi(xp: Any, x: Array, y: Array) -> tuple[Array, Array, Array]:
    """Write gelu to y: of x and -x one is |x| Phi(-|x|), the other |x| more. |x|, and the factors of Phi(-|x|)."""
    u = _distance(xp, x)
    exponential, r = tail(xp, u)
    below = exponential * r
    below *= u
    cut_off(xp, x, y)
    y -= below
    return u, exponential, r


def _phi_slope(xp: Any, x: Array, u: Array, exponential: Array, r: Array, slope: Array) -> None:
    """Write the derivative of gelu to ``slope``, given |x| and the factors of Phi(-|x|), which it changes."""
    u *= 1 / math.sqrt(2 * math.pi)
    r -= u
    exponential *= r  # the derivative at -|x|; that at |x| is 1 less this
    above = (x > 0).astype(x.dtype)
    sign = xp.multiply(above, -2, out=u)
    sign += 1
    xp.multiply(exponential, sign, out=slope)
    slope += above


def _tanh_slope(xp: Any, x: Array, slope: Array) -> Array:
    """Write the derivative of gelu by tanh to ``slope``; the sigmoid in the place of Phi."""
    near = xp.clip(x, -_FAR, _FAR, out=slope)
    inner, inner_slope = _inner(xp, near)
    s, other = _sigmoids(xp, xp.clip(inner, -_FAR, _largest_exponent(x.dtype), out=inner))
    slope *= inner_slope
    slope *= other
    slope += 1
    slope *= s
    return s


def _keeps_slope(xp: Any, x: Array) -> bool:
    """Whether a derivative formed beside the function is worth its memory: not on a GPU, nor in 16 bits."""
    return xp is np and accumulation_dtype(x.dtype) == x.dtype


def _times(xp: Any, gy: Array, slope: Array) -> Array:
    return by_element(xp, lambda gx, gy, slope: xp.multiply(gy, slope, out=gx), gy, slope)


_FAR = 1000.0  # here every gate is 0 or 1, in all dtypes; beyond, powers overflow, and 0 times infinity is NaN


def _largest_exponent(dtype: Any) -> float:
    """A number whose exponential is finite, and so large that 1 / (1 + exp) is nearly 0."""
    return 87.0 if dtype == np.float32 else 700.0


def _sigmoids(xp: Any, x: Array) -> tuple[Array, Array]:
    """The sigmoid of x and of -x, both exact where they are nearly 0, for x of at most :func:`_largest_exponent`."""
    s = xp.exp(x)
    other = s + 1
    xp.divide(1, other, out=other)
    s *= other
    return s, other


def _distance(xp: Any, x: Array) -> Array:
    """|x|, of at most ``_FAR``."""
    u = xp.clip(x, -_FAR, _FAR)
    return xp.abs(u, out=u)


# (1 + tanh(u)) / 2 = sigmoid(2 u), which keeps its digits where the sum would cancel.
_TANH_SCALE, _CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def _inner(xp: Any, x: Array) -> tuple[Array, Array]:
    """``2 sqrt(2 / pi) (x + 0.044715 x^3)`` and its derivative."""
    u = x * x
    u *= _TANH_SCALE * _CUBE
    slope = 3 * u
    slope += _TANH_SCALE
    u += _TANH_SCALE
    u *= x
    return u, slope


def _gelu(op: str, approximate: str) -> str:
    """What it is called in :mod:`gpunn.ops.activation.onednn`."""
    known = approximate in ("none", "tanh")
    check(known, ArgumentError, op, 'approximate is "none" or "tanh"', approximate=approximate)
    return "gelu" if approximate == "none" else "gelu, tanh"


# ---- exponentials ---------------------------------------------------------------------------------------------------


def softplus(x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``.

    >>> softplus(np.array([-1000.0, 0.0, 1000.0])).round(4).tolist()
    [0.0, 0.6931, 1000.0]
    """
    xp = operands("softplus", x=x)
    _check_softplus("softplus", beta, threshold)

    def block(y: Array, x: Array) -> None:
        scaled = beta * x
        straight = scaled > threshold
        log_one_plus_exp(xp, scaled, y)
        y /= beta
        _replace(xp, y, straight, x)

    with np.errstate(over="ignore"):  # infinity is what both ends of the formula take
        return by_element(xp, block, x)


def softplus_backward(gy: Array, x: Array, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """``gy sigmoid(beta x)``, and gy itself where ``beta x > threshold``."""
    xp = checked("softplus_backward", gy, x=x)
    _check_softplus("softplus_backward", beta, threshold)

    def block(gx: Array, gy: Array, x: Array) -> None:
        scaled = beta * x
        straight = scaled > threshold
        logistic(xp, scaled, gx)
        gx *= gy
        _replace(xp, gx, straight, gy)

    with np.errstate(over="ignore"):
        return by_element(xp, block, gy, x)


def log_one_plus_exp(xp: Any, x: Array, y: Array | None = None) -> Array:
    """``log(1 + exp(x))``, written to y if given, without overflow; it keeps its digits where it is nearly 0."""
    y = xp.abs(x, out=xp.empty_like(x) if y is None else y)
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    y += xp.maximum(x, 0)
    return y


def _replace(xp: Any, y: Array, chosen: Array, x: Array) -> None:
    """Make y what x is where ``chosen``."""
    if xp is not np or chosen.any():  # often there is none, and NumPy is slow where it chooses
        y[...] = xp.where(chosen, x, y)


def _check_softplus(op: str, beta: float, threshold: float) -> None:
    check_number(op, threshold=threshold)
    check_number(op, beta=beta)
    check(beta > 0, ArgumentError, op, "beta must be above 0", beta=beta)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where x > 0, else ``alpha (exp(x) - 1)``.

    >>> elu(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """
    xp = operands("elu", x=x)
    check_number("elu", alpha=alpha)
    return _elu(xp, x, 1, alpha)


def elu_backward(gy: Array, x: Array, alpha: float = 1.0) -> Array:
    """``gy`` where x > 0, else ``gy alpha exp(x)``."""
    xp = checked("elu_backward", gy, x=x)
    return _elu_backward(xp, gy, x, 1, alpha)


def selu(x: Array) -> Array:
    """``1.0507 elu(x, 1.6733)``.

    >>> selu(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """
    xp = operands("selu", x=x)
    return _elu(xp, x, SELU_SCALE, SELU_ALPHA)


def selu_backward(gy: Array, x: Array) -> Array:
    """1.0507 times the gradient of ``elu(x, 1.6733)``."""
    xp = checked("selu_backward", gy, x=x)
    return _elu_backward(xp, gy, x, SELU_SCALE, SELU_ALPHA)


def _elu(xp: Any, x: Array, scale: float, alpha: float) -> Array:
    def block(y: Array, x: Array) -> None:
        below = xp.clip(x, -math.inf, 0)
        xp.expm1(below, out=below)
        below *= scale * alpha
        cut_off(xp, x, y)
        y *= scale
        y += below

    return by_element(xp, block, x)


def _elu_backward(xp: Any, gy: Array, x: Array, scale: float, alpha: float) -> Array:
    def block(gx: Array, gy: Array, x: Array) -> None:
        xp.clip(x, -math.inf, 0, out=gx)
        xp.exp(gx, out=gx)
        gx *= alpha
        gx *= x <= 0
        gx += x > 0
        gx *= scale
        gx *= gy

    return by_element(xp, block, gy, x)
