"""Element-wise activations, forward and backward.

    relu(x) = max(x, 0)        sigmoid(x) = 1 / (1 + exp(-x))        tanh(x)

Arrays of any shape. Each derivative is taken from the output y, which the next layer keeps anyway. Sources: Nair and
Hinton 2010 (ReLU); Rumelhart, Hinton and Williams 1986. Results are arrays even without dimensions, where NumPy gives
scalars.
"""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array, operands
from gpunn.ops.window import check_shape


def relu(x: Array) -> Array:
    """``max(x, 0)``; NaN stays NaN.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    xp = operands("relu", x=x)
    return xp.asarray(xp.maximum(x, 0))


def relu_backward(gy: Array, y: Array) -> Array:
    """``gy`` where y > 0, else 0 (the derivative at 0 is taken as 0)."""
    xp = _checked("relu_backward", gy, y)
    return xp.asarray(gy * (y > 0))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow for large negative x.

    >>> import numpy as np
    >>> sigmoid(np.array([2.0, -1000.0])).round(4).tolist()
    [0.8808, 0.0]
    """
    xp = operands("sigmoid", x=x)
    return xp.asarray(0.5 * xp.tanh(0.5 * x) + 0.5)


def sigmoid_backward(gy: Array, y: Array) -> Array:
    """``gy y (1 - y)``."""
    xp = _checked("sigmoid_backward", gy, y)
    return xp.asarray(gy * y * (1 - y))


def tanh(x: Array) -> Array:
    """The hyperbolic tangent.

    >>> import numpy as np
    >>> tanh(np.array([0.0, 1000.0])).tolist()
    [0.0, 1.0]
    """
    xp = operands("tanh", x=x)
    return xp.asarray(xp.tanh(x))


def tanh_backward(gy: Array, y: Array) -> Array:
    """``gy (1 - y^2)``."""
    xp = _checked("tanh_backward", gy, y)
    return xp.asarray(gy * (1 - y * y))


def _checked(op: str, gy: Array, y: Array) -> Any:
    xp = operands(op, gy=gy, y=y)
    check_shape(op, "gy", gy, y.shape)
    return xp
