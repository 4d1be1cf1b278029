"""Activation layers; see :mod:`gpunn.ops.activation` for the formulas.

The argument ``inplace`` is PyTorch's, and has no effect: nothing is ever computed in the memory of x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.errors import ShapeError, check, check_sizes
from gpunn.functional.record import Given
from gpunn.nn.calls import Plain
from gpunn.nn.module import Module, Parameter, ndim_of
from gpunn.ops.activation.smooth import Approximate
from gpunn.spelling import spelled
from gpunn.tensor import Tensor


class _AlongAxis(Plain):
    @spelled
    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    @property
    def dim(self) -> int:
        """``axis``, by PyTorch's name."""
        return self.axis


class _Plain(Plain):
    def __init__(self, inplace: bool = False) -> None:
        """Without settings: ``inplace`` has no effect."""


class ReLU(_Plain):
    """``max(x, 0)``, element by element.

    >>> ReLU()(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """

    def forward(self, x: Any) -> Any:
        return F.relu(x)


class LeakyReLU(Plain):
    """x where x > 0, else ``negative_slope x``, element by element.

    >>> LeakyReLU(0.1)(np.array([-1.0, 2.0])).tolist()
    [-0.1, 2.0]
    """

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: Any) -> Any:
        return F.leaky_relu(x, self.negative_slope)


class Hardsigmoid(_Plain):
    """``x / 6 + 1/2``, cut off at 0 and 1, element by element.

    >>> Hardsigmoid()(np.array([-4.0, 0.0])).tolist()
    [0.0, 0.5]
    """

    def forward(self, x: Any) -> Any:
        return F.hardsigmoid(x)


class Sigmoid(Plain):
    """``1 / (1 + exp(-x))``, element by element.

    >>> Sigmoid()(np.array([0.0])).tolist()
    [0.5]
    """

    def forward(self, x: Any) -> Any:
        return F.sigmoid(x)


class Tanh(Plain):
    """The hyperbolic tangent, element by element.

    >>> Tanh()(np.array([0.0])).tolist()
    [0.0]
    """

    def forward(self, x: Any) -> Any:
        return F.tanh(x)


class SiLU(_Plain):
    """``x sigmoid(x)``, element by element; also called swish.

    >>> SiLU()(np.array([0.0, 2.0])).round(4).tolist()
    [0.0, 1.7616]
    """

    def forward(self, x: Any) -> Any:
        return F.silu(x)


class GELU(Plain):
    """``x Phi(x)``, Phi the normal distribution's, element by element; ``approximate="tanh"`` is the form with a tanh.

    >>> GELU()(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8413]
    """

    def __init__(self, approximate: Approximate = "none") -> None:
        self.approximate: Approximate = approximate

    def forward(self, x: Any) -> Any:
        return F.gelu(x, self.approximate)


class Softplus(Plain):
    """``log(1 + exp(beta x)) / beta``, and x itself where ``beta x > threshold``, element by element.

    >>> Softplus()(np.array([0.0, 1000.0])).round(4).tolist()
    [0.6931, 1000.0]
    """

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = beta, threshold

    def forward(self, x: Any) -> Any:
        return F.softplus(x, self.beta, self.threshold)


class ELU(Plain):
    """x where x > 0, else ``alpha (exp(x) - 1)``, element by element.

    >>> ELU()(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        return F.elu(x, self.alpha)


class SELU(_Plain):
    """``1.0507 elu(x, 1.6733)``, element by element.

    >>> SELU()(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """

    def forward(self, x: Any) -> Any:
        return F.selu(x)


class Hardtanh(Plain):
    """x, cut off at ``min_val`` and ``max_val``, element by element.

    >>> Hardtanh()(np.array([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val, self.max_val = min_val, max_val

    def forward(self, x: Any) -> Any:
        return F.hardtanh(x, self.min_val, self.max_val)


class ReLU6(_Plain):
    """x, cut off at 0 and 6, element by element.

    >>> ReLU6()(np.array([-2.0, 0.5, 7.0])).tolist()
    [0.0, 0.5, 6.0]
    """

    min_val, max_val = 0.0, 6.0

    def forward(self, x: Any) -> Any:
        return F.relu6(x)


class Hardswish(_Plain):
    """``x min(max(x + 3, 0), 6) / 6``, element by element.

    >>> Hardswish()(np.array([0.0, 1.5, 4.0])).tolist()
    [0.0, 1.125, 4.0]
    """

    def forward(self, x: Any) -> Any:
        return F.hardswish(x)


class Threshold(Plain):
    """x where x > ``threshold``, else ``value``, element by element.

    >>> Threshold(0.5, 7.0)(np.array([-1.0, 0.5, 2.0])).tolist()
    [7.0, 7.0, 2.0]
    """

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold, self.value = threshold, value

    def forward(self, x: Any) -> Any:
        return F.threshold(x, self.threshold, self.value)


class Hardshrink(Plain):
    """x where ``|x| > lambd``, else 0, element by element.

    >>> Hardshrink()(np.array([-1.0, 0.25, 2.0])).tolist()
    [-1.0, 0.0, 2.0]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: Any) -> Any:
        return F.hardshrink(x, self.lambd)


class Softshrink(Plain):
    """x, nearer to 0 by ``lambd``, element by element; 0 where it is nearer than that.

    >>> Softshrink()(np.array([-1.0, 0.25, 2.0])).tolist()
    [-0.5, 0.0, 1.5]
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: Any) -> Any:
        return F.softshrink(x, self.lambd)


class Softsign(Plain):
    """``x / (1 + |x|)``, element by element.

    >>> Softsign()(np.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """

    def forward(self, x: Any) -> Any:
        return F.softsign(x)


class Tanhshrink(Plain):
    """``x - tanh(x)``, element by element.

    >>> Tanhshrink()(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.2384]
    """

    def forward(self, x: Any) -> Any:
        return F.tanhshrink(x)


class LogSigmoid(Plain):
    """``-log(1 + exp(-x))``, element by element.

    >>> LogSigmoid()(np.array([-1000.0, 0.0])).round(4).tolist()
    [-1000.0, -0.6931]
    """

    def forward(self, x: Any) -> Any:
        return F.logsigmoid(x)


class Mish(_Plain):
    """``x tanh(log(1 + exp(x)))``, element by element.

    >>> Mish()(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8651]
    """

    def forward(self, x: Any) -> Any:
        return F.mish(x)


class CELU(Plain):
    """x where x > 0, else ``alpha (exp(x / alpha) - 1)``, element by element.

    >>> CELU(2.0)(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.7869, 2.0]
    """

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = alpha

    def forward(self, x: Any) -> Any:
        return F.celu(x, self.alpha)


class GLU(_AlongAxis):
    """The first half of x along ``axis`` times the sigmoid of the second: half as long there.

    >>> GLU()(np.array([1.0, 2.0, 0.0, 1000.0])).tolist()
    [0.5, 2.0]
    """

    def forward(self, x: Any) -> Any:
        return F.glu(x, self.axis)


class PReLU(Module):
    """x where x > 0, else ``weight x``: one learned slope, or one for each channel of x (N, num_parameters, ...).

    Parameter: ``weight`` (num_parameters,), which starts as ``init``.

    >>> PReLU()(np.float32([-1.0, 2.0])).tolist()
    [-0.25, 2.0]
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, dtype: Any = np.float32) -> None:
        check_sizes("PReLU", num_parameters=num_parameters)
        self.num_parameters = num_parameters
        self.weight = Parameter(np.full(num_parameters, init, dtype))

    def forward(self, x: Given) -> Tensor:
        return F.prelu(x, self.weight)


class RReLU(Plain):
    """x where x > 0, else r x, in training with a random slope r for each element, from ``lower`` to ``upper``.

    In evaluation r is their mean. ``generator`` is the default one unless given.

    >>> RReLU(0.0, 0.5).eval()(np.array([-1.0, 2.0])).tolist()
    [-0.25, 2.0]
    """

    def __init__(
        self,
        lower: float = 1 / 8,
        upper: float = 1 / 3,
        inplace: bool = False,
        generator: np.random.Generator | None = None,
    ) -> None:
        self.lower, self.upper, self.generator = lower, upper, generator

    def forward(self, x: Any) -> Any:
        return F.rrelu(x, self.lower, self.upper, self.training, generator=self.generator)


class Softmin(_AlongAxis):
    """``exp(-x[i]) / sum_j exp(-x[j])`` along ``axis``.

    >>> Softmin()(np.array([0.0, 1000.0])).tolist()
    [1.0, 0.0]
    """

    def forward(self, x: Any) -> Any:
        return F.softmin(x, self.axis)


class Softmax2d(Plain):
    """:class:`Softmax` over the channels of images (N, C, H, W), or (C, H, W), at each position.

    >>> Softmax2d()(np.zeros((1, 2, 1, 1))).ravel().tolist()
    [0.5, 0.5]
    """

    def forward(self, x: Any) -> Any:
        check(ndim_of(self, x) in (3, 4), ShapeError, "Softmax2d", "x must be (N, C, H, W) or (C, H, W)", shape=x.shape)
        return F.softmax(x, -3)


class Softmax(_AlongAxis):
    """``exp(x[i]) / sum_j exp(x[j])`` along ``axis``.

    >>> Softmax()(np.array([1.0, 2.0, 3.0])).round(4).tolist()
    [0.09, 0.2447, 0.6652]
    """

    def forward(self, x: Any) -> Any:
        return F.softmax(x, self.axis)


class LogSoftmax(_AlongAxis):
    """The logarithm of :class:`Softmax`.

    >>> LogSoftmax()(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """

    def forward(self, x: Any) -> Any:
        return F.log_softmax(x, self.axis)
