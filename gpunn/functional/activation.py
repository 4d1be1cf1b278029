"""Differentiable activations and softmax; see :mod:`gpunn.ops.activation`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import X, differentiable, in_dtype, raw
from gpunn.graph import is_recorded
from gpunn.ops import activation as ops
from gpunn.ops.activation.smooth import Approximate


def relu(x: X) -> X:
    """``max(x, 0)``.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    y = ops.relu(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.relu_backward(gy, y),))


def leaky_relu(x: X, negative_slope: float = 0.01) -> X:
    """x where x > 0, else ``negative_slope x``.

    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0])).tolist()
    [-0.01, 2.0]
    """
    xd = raw(x)
    y = ops.leaky_relu(xd, negative_slope)
    return differentiable(y, (x,), lambda gy, _: (ops.leaky_relu_backward(gy, xd, negative_slope),))


def hardsigmoid(x: X) -> X:
    """``x / 6 + 1/2``, cut off at 0 and 1.

    >>> import numpy as np
    >>> hardsigmoid(np.array([-4.0, 0.0, 1.5])).tolist()
    [0.0, 0.5, 0.75]
    """
    y = ops.hardsigmoid(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.hardsigmoid_backward(gy, y),))


@in_float32
def sigmoid(x: X) -> X:
    """``1 / (1 + exp(-x))``.

    >>> import numpy as np
    >>> sigmoid(np.array([0.0])).tolist()
    [0.5]
    """
    y = ops.sigmoid(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.sigmoid_backward(gy, y),))


def tanh(x: X) -> X:
    """The hyperbolic tangent, ``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``.

    >>> import numpy as np
    >>> tanh(np.array([0.0])).tolist()
    [0.0]
    """
    y = ops.tanh(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.tanh_backward(gy, y),))


def silu(x: X) -> X:
    """``x sigmoid(x)``; also called swish.

    >>> import numpy as np
    >>> silu(np.array([0.0, 2.0])).round(4).tolist()
    [0.0, 1.7616]
    """
    xd = raw(x)
    y, known = ops.silu_kept(xd) if is_recorded(x) else (ops.silu(xd), None)
    return differentiable(y, (x,), lambda gy, _: (ops.silu_backward(gy, xd, known),))


def gelu(x: X, approximate: Approximate = "none") -> X:
    """``x Phi(x)``, Phi the normal distribution's; ``approximate="tanh"`` is the form with a tanh.

    >>> import numpy as np
    >>> gelu(np.array([0.0, 1.0])).round(4).tolist(), gelu(np.array([1.0]), "tanh").round(4).tolist()
    ([0.0, 0.8413], [0.8412])
    """
    xd = raw(x)
    y, known = ops.gelu_kept(xd, approximate) if is_recorded(x) else (ops.gelu(xd, approximate), None)
    return differentiable(y, (x,), lambda gy, _: (ops.gelu_backward(gy, xd, approximate, known),))


@in_float32
def softplus(x: X, beta: float = 1.0, threshold: float = 20.0) -> X:
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``.

    >>> import numpy as np
    >>> softplus(np.array([0.0, 1000.0])).round(4).tolist()
    [0.6931, 1000.0]
    """
    xd = raw(x)
    y = ops.softplus(xd, beta, threshold)
    return differentiable(y, (x,), lambda gy, _: (ops.softplus_backward(gy, xd, beta, threshold),))


def elu(x: X, alpha: float = 1.0) -> X:
    """x where x > 0, else ``alpha (exp(x) - 1)``.

    >>> import numpy as np
    >>> elu(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.elu(xd, alpha), (x,), lambda gy, _: (ops.elu_backward(gy, xd, alpha),))


def selu(x: X) -> X:
    """``1.0507 elu(x, 1.6733)``, which keeps mean 0 and variance 1 through the layers.

    >>> import numpy as np
    >>> selu(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """
    xd = raw(x)
    return differentiable(ops.selu(xd), (x,), lambda gy, _: (ops.selu_backward(gy, xd),))


@in_float32
def softmax(x: X, axis: int = -1, dtype: Any = None) -> X:
    """``exp(x[i]) / sum_j exp(x[j])`` along ``axis``; ``dtype`` is that to compute in, and of the result.

    >>> import numpy as np
    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    if dtype is not None:
        return softmax(in_dtype(x, dtype), axis)
    y = ops.softmax(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.softmax_backward(gy, y, axis),))


@in_float32
def log_softmax(x: X, axis: int = -1, dtype: Any = None) -> X:
    """The logarithm of :func:`softmax`; ``dtype`` is that to compute in, and of the result.

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """
    if dtype is not None:
        return log_softmax(in_dtype(x, dtype), axis)
    y = ops.log_softmax(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.log_softmax_backward(gy, y, axis),))
