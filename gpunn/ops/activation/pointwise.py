"""Element-wise activations, forward and backward.

    relu(x) = max(x, 0)        leaky_relu(x) = x if x > 0 else slope x
    sigmoid(x) = 1 / (1 + exp(-x))        hardsigmoid(x) = min(max(x / 6 + 1/2, 0), 1)        tanh(x)

Arrays of any shape. Each derivative is taken from the output y, which the next layer keeps anyway; that of leaky_relu
from x, as a slope of 0 or below leaves y without the sign of x. Sources: Nair and Hinton 2010 (ReLU); Maas, Hannun and
Ng 2013 (leaky ReLU); Howard et al. 2019, "Searching for MobileNetV3" (hardsigmoid); Rumelhart, Hinton and Williams
1986. Results are arrays even without dimensions, where NumPy gives scalars. At NaN no derivative is 0, which would hide
it. The others are in :mod:`gpunn.ops.activation.smooth`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backend import Array, operands
from gpunn.errors import check_number
from gpunn.ops.activation import onednn
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.chunks import by_element, cut_off

_LARGE = 1 << 18  # elements that a cache does not keep from one operation to the next


def relu(x: Array) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    xp = operands("relu", x=x)
    if (known := onednn.forward("relu", x)) is not None:
        return known
    if x.size > _LARGE:  # memory is what takes the time: nothing but x should be read
        return by_element(xp, lambda y, x: xp.maximum(x, 0, out=y), x, wide=False)
    return by_element(xp, lambda y, x: cut_off(xp, x, y), x, wide=False)


def relu_backward(gy: Array, y: Array) -> Array:
    """``gy`` where y > 0 or NaN, else 0 (the derivative at 0 is taken as 0)."""
    xp = checked("relu_backward", gy, y=y)
    if (known := onednn.backward("relu", gy, y)) is not None:
        return known

    def block(gx: Array, gy: Array, y: Array) -> None:
        cut = y <= 0
        xp.multiply(gy, xp.logical_not(cut, out=cut), out=gx)

    return by_element(xp, block, gy, y, wide=False)


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else ``negative_slope x``.

    >>> leaky_relu(np.array([-1.0, 2.0]), 0.1).tolist()
    [-0.1, 2.0]
    """
    xp = operands("leaky_relu", x=x)
    check_number("leaky_relu", negative_slope=negative_slope)

    def block(y: Array, x: Array) -> None:
        below = xp.clip(x, -math.inf, 0)
        below *= x.dtype.type(negative_slope)
        cut_off(xp, x, y)
        y += below

    with np.errstate(invalid="ignore"):  # slope 0 times infinity
        return by_element(xp, block, x, wide=False)


def leaky_relu_backward(gy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """``gy`` where x > 0, else ``negative_slope gy``."""
    xp = checked("leaky_relu_backward", gy, x=x)
    slope = gy.dtype.type(negative_slope)

    def block(gx: Array, gy: Array, x: Array) -> None:
        positive = x > 0
        xp.multiply(gy, positive, out=gx)
        below = gy * slope
        below *= xp.logical_not(positive, out=positive)
        gx += below

    return by_element(xp, block, gy, x, wide=False)


def hardsigmoid(x: Array) -> Array:
    """A sigmoid of three straight pieces: 0 up to -3, 1 from 3, ``x / 6 + 1/2`` between.

    >>> hardsigmoid(np.array([-4.0, 0.0, 1.5])).tolist()
    [0.0, 0.5, 0.75]
    """
    xp = operands("hardsigmoid", x=x)

    def block(y: Array, x: Array) -> None:
        xp.add(x, 3, out=y)
        xp.clip(y, 0, 6, out=y)
        y /= 6

    return by_element(xp, block, x, wide=False)


def hardsigmoid_backward(gy: Array, y: Array) -> Array:
    """``gy / 6`` where 0 < y < 1 or y is NaN, else 0."""
    xp = checked("hardsigmoid_backward", gy, y=y)

    def block(gx: Array, gy: Array, y: Array) -> None:
        flat = y <= 0
        flat |= y >= 1
        xp.divide(gy, 6, out=gx)
        gx *= xp.logical_not(flat, out=flat)

    return by_element(xp, block, gy, y, wide=False)


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, exact to the last digits where it is nearly 0; float16 is computed in float32.

    >>> sigmoid(np.array([2.0, -1000.0])).round(4).tolist()
    [0.8808, 0.0]
    """
    xp = operands("sigmoid", x=x)
    if (known := onednn.forward("sigmoid", x)) is not None:
        return known
    with np.errstate(over="ignore"):
        return by_element(xp, lambda y, x: logistic(xp, x, y), x)


def sigmoid_backward(gy: Array, y: Array) -> Array:
    """``gy y (1 - y)``."""
    xp = checked("sigmoid_backward", gy, y=y)
    if (known := onednn.backward("sigmoid", gy, y)) is not None:
        return known

    def block(gx: Array, gy: Array, y: Array) -> None:
        xp.subtract(1, y, out=gx)
        gx *= y
        gx *= gy

    return by_element(xp, block, gy, y, wide=False)


def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    >>> tanh(np.array([0.0, 1000.0])).tolist()
    [0.0, 1.0]
    """
    xp = operands("tanh", x=x)
    if (known := onednn.forward("tanh", x)) is not None:
        return known
    return by_element(xp, lambda y, x: xp.tanh(x, out=y), x, wide=False)


def tanh_backward(gy: Array, y: Array) -> Array:
    """``gy (1 - y^2)``."""
    xp = checked("tanh_backward", gy, y=y)
    if (known := onednn.backward("tanh", gy, y)) is not None:
        return known

    def block(gx: Array, gy: Array, y: Array) -> None:
        xp.multiply(y, y, out=gx)
        xp.subtract(1, gx, out=gx)
        gx *= gy

    return by_element(xp, block, gy, y, wide=False)


def logistic(xp: Any, x: Array, y: Array | None = None) -> Array:
    """The sigmoid of x, written to y if given: as exact where it is nearly 0 as exp is, 0 where exp(-x) overflows."""
    y = xp.negative(x, out=xp.empty_like(x) if y is None else y)
    xp.exp(y, out=y)
    y += 1
    return xp.divide(1, y, out=y)


def checked(op: str, gy: Array, **of: Array) -> Any:
    """The array module of gy and of the one array ``of``, whose shape gy must have."""
    xp = operands(op, gy=gy, **of)
    (other,) = of.values()
    check_shape(op, "gy", gy, other.shape)
    return xp
