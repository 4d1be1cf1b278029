"""Smooth activation layers; see :mod:`gpunn.ops.smooth_activation` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module
from gpunn.ops.smooth_activation import Approximate


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
