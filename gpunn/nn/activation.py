"""Activation layers; see :mod:`gpunn.ops.activation` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn import functional as F
from gpunn.nn.module import Module


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
