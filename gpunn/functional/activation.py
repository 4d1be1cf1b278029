"""Differentiable activations; see :mod:`gpunn.ops.activation`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, raw
from gpunn.ops import activation as ops


def relu(x: Any) -> Any:
    """``max(x, 0)``.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    y = ops.relu(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.relu_backward(gy, y),))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else ``negative_slope x``.

    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0])).tolist()
    [-0.01, 2.0]
    """
    xd = raw(x)
    y = ops.leaky_relu(xd, negative_slope)
    return differentiable(y, (x,), lambda gy, _: (ops.leaky_relu_backward(gy, xd, negative_slope),))


def hardsigmoid(x: Any) -> Any:
    """``x / 6 + 1/2``, cut off at 0 and 1.

    >>> import numpy as np
    >>> hardsigmoid(np.array([-4.0, 0.0, 1.5])).tolist()
    [0.0, 0.5, 0.75]
    """
    y = ops.hardsigmoid(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.hardsigmoid_backward(gy, y),))


@in_float32
def sigmoid(x: Any) -> Any:
    """``1 / (1 + exp(-x))``.

    >>> import numpy as np
    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    y = ops.sigmoid(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.sigmoid_backward(gy, y),))


def tanh(x: Any) -> Any:
    """The hyperbolic tangent, ``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``.

    >>> import numpy as np
    >>> tanh(np.array([0.0])).tolist()
    [0.0]
    """
    y = ops.tanh(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.tanh_backward(gy, y),))
