"""Activation layers; see :mod:`gpunn.ops.activation` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.activation.smooth import Approximate


class ReLU(Module):
    """``max(x, 0)``, element by element.

    >>> import numpy as np
    >>> ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class LeakyReLU(Module):
    """x where x > 0, else ``negative_slope x``, element by element.

    >>> import numpy as np
    >>> LeakyReLU(0.1)(np.array([-1.0, 2.0])).tolist()
    [-0.1, 2.0]
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope)


class Hardsigmoid(Module):
    """``x / 6 + 1/2``, cut off at 0 and 1, element by element.

    >>> import numpy as np
    >>> Hardsigmoid()(np.array([-4.0, 0.0])).tolist()
    [0.0, 0.5]
    """

    def forward(self, x: Any) -> Any:
        return F.hardsigmoid(x)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``, element by element.

    >>> import numpy as np
    >>> Sigmoid()(np.array([0.0])).tolist()
    [0.5]
    """

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, element by element.

    >>> import numpy as np
    >>> Tanh()(np.array([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class SiLU(Module):
    """``x sigmoid(x)``, element by element; also called swish.

    >>> import numpy as np
    >>> SiLU()(np.array([0.0, 2.0])).round(4).tolist()
    [0.0, 1.7616]
    """

    def forward(self, x: Any) -> Any:
        return F.silu(x)


class GELU(Module):
    """``x Phi(x)``, Phi the normal distribution's, element by element; ``approximate="tanh"`` is the form with a tanh.

    >>> import numpy as np
    >>> GELU()(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8413]
    """

    def __init__(self, approximate: Approximate = "none") -> None:
        self.approximate: Approximate = approximate

    def forward(self, x: Any) -> Any:
        return F.gelu(x, self.approximate)


class Softplus(Module):
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``, element by element.

    >>> import numpy as np
    >>> Softplus()(np.array([0.0, 1000.0])).round(4).tolist()
    [0.6931, 1000.0]
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Any:
        return F.softplus(x, self.beta, self.threshold)


class ELU(Module):
    """x where x > 0, else ``alpha (exp(x) - 1)``, element by element.

    >>> import numpy as np
    >>> ELU()(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        return F.elu(x, self.alpha)


class SELU(Module):
    """``1.0507 elu(x, 1.6733)``, element by element.

    >>> import numpy as np
    >>> SELU()(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """

    def forward(self, x: Any) -> Any:
        return F.selu(x)


class Softmax(Module):
    """``exp(x[i]) / sum_j exp(x[j])`` along ``axis``.

    >>> import numpy as np
    >>> Softmax()(np.array([1.0, 2.0, 3.0])).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return F.softmax(x, self.axis)


class LogSoftmax(Module):
    """The logarithm of :class:`Softmax`.

    >>> import numpy as np
    >>> LogSoftmax()(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        return F.log_softmax(x, self.axis)
