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

from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import check_number
from gpunn.ops.shared.checks import check_shape


def relu(x: Array) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    xp = operands("relu", x=x)
    return xp.asarray(xp.maximum(x, 0))


def relu_backward(gy: Array, y: Array) -> Array:
    """``gy`` where y > 0 or NaN, else 0 (the derivative at 0 is taken as 0)."""
    xp = checked("relu_backward", gy, y=y)
    return xp.asarray(gy * ~(y <= 0))


def leaky_relu(x: Array, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else ``negative_slope x``.

    >>> leaky_relu(np.array([-1.0, 2.0]), 0.1).tolist()
    [-0.1, 2.0]
    """
    xp = operands("leaky_relu", x=x)
    check_number("leaky_relu", negative_slope=negative_slope)
    with np.errstate(invalid="ignore"):  # slope 0 times infinity
        return xp.asarray(xp.maximum(x, 0) + xp.minimum(x, 0) * x.dtype.type(negative_slope))


def leaky_relu_backward(gy: Array, x: Array, negative_slope: float = 0.01) -> Array:
    """``gy`` where x > 0, else ``negative_slope gy``."""
    xp = checked("leaky_relu_backward", gy, x=x)
    positive = x > 0
    return xp.asarray(gy * positive + gy * gy.dtype.type(negative_slope) * ~positive)


def hardsigmoid(x: Array) -> Array:
    """A sigmoid of three straight pieces: 0 up to -3, 1 from 3, ``x / 6 + 1/2`` between.

    >>> hardsigmoid(np.array([-4.0, 0.0, 1.5])).tolist()
    [0.0, 0.5, 0.75]
    """
    xp = operands("hardsigmoid", x=x)
    return xp.asarray(xp.minimum(xp.maximum(x + 3, 0), 6) / 6)


def hardsigmoid_backward(gy: Array, y: Array) -> Array:
    """``gy / 6`` where 0 < y < 1 or y is NaN, else 0."""
    xp = checked("hardsigmoid_backward", gy, y=y)
    return xp.asarray(gy / 6 * ~((y <= 0) | (y >= 1)))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, exact to the last digits where it is nearly 0; float16 is computed in float32.

    >>> sigmoid(np.array([2.0, -1000.0])).round(4).tolist()
    [0.8808, 0.0]
    """
    xp = operands("sigmoid", x=x)
    return xp.asarray(logistic(xp, x.astype(accumulation_dtype(x.dtype), copy=False))).astype(x.dtype, copy=False)


def sigmoid_backward(gy: Array, y: Array) -> Array:
    """``gy y (1 - y)``."""
    xp = checked("sigmoid_backward", gy, y=y)
    return xp.asarray(gy * y * (1 - y))


def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    >>> tanh(np.array([0.0, 1000.0])).tolist()
    [0.0, 1.0]
    """
    xp = operands("tanh", x=x)
    return xp.asarray(xp.tanh(x))


def tanh_backward(gy: Array, y: Array) -> Array:
    """``gy (1 - y^2)``."""
    xp = checked("tanh_backward", gy, y=y)
    return xp.asarray(gy * (1 - y * y))


def logistic(xp: Any, x: Array) -> Array:
    """The sigmoid of x without checks: as exact where it is nearly 0 as exp is, and 0 where exp(-x) overflows."""
    with np.errstate(over="ignore"):
        y = xp.asarray(xp.exp(-x))
    y += 1
    return xp.divide(1, y, out=y)


def checked(op: str, gy: Array, **of: Array) -> Any:
    """The array module of gy and of the one array ``of``, whose shape gy must have."""
    xp = operands(op, gy=gy, **of)
    (other,) = of.values()
    check_shape(op, "gy", gy, other.shape)
    return xp
