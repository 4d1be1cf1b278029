"""Differentiable smooth activations; see :mod:`gpunn.ops.smooth_activation` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, raw
from gpunn.ops import smooth_activation as ops
from gpunn.ops.smooth_activation import Approximate


def silu(x: Any) -> Any:
    """``x sigmoid(x)``; also called swish.

    >>> import numpy as np
    >>> silu(np.array([0.0, 2.0])).round(4).tolist()
    [0.0, 1.7616]
    """
    xd = raw(x)
    return differentiable(ops.silu(xd), (x,), lambda gy, _: (ops.silu_backward(gy, xd),))


def gelu(x: Any, approximate: Approximate = "none") -> Any:
    """``x Phi(x)``, Phi the normal distribution's; ``approximate="tanh"`` is the form with a tanh.

    >>> import numpy as np
    >>> gelu(np.array([0.0, 1.0])).round(4).tolist(), gelu(np.array([1.0]), "tanh").round(4).tolist()
    ([0.0, 0.8413], [0.8412])
    """
    xd = raw(x)
    y = ops.gelu(xd, approximate)
    return differentiable(y, (x,), lambda gy, _: (ops.gelu_backward(gy, xd, approximate),))


@in_float32
def softplus(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``.

    >>> import numpy as np
    >>> softplus(np.array([0.0, 1000.0])).round(4).tolist()
    [0.6931, 1000.0]
    """
    xd = raw(x)
    y = ops.softplus(xd, beta, threshold)
    return differentiable(y, (x,), lambda gy, _: (ops.softplus_backward(gy, xd, beta, threshold),))


def elu(x: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else ``alpha (exp(x) - 1)``.

    >>> import numpy as np
    >>> elu(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.elu(xd, alpha), (x,), lambda gy, _: (ops.elu_backward(gy, xd, alpha),))


def selu(x: Any) -> Any:
    """``1.0507 elu(x, 1.6733)``, which keeps mean 0 and variance 1 through the layers.

    >>> import numpy as np
    >>> selu(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """
    xd = raw(x)
    return differentiable(ops.selu(xd), (x,), lambda gy, _: (ops.selu_backward(gy, xd),))
