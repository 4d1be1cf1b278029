"""Differentiable activations and softmax; see :mod:`gpunn.ops.activation`.

The argument ``inplace`` is PyTorch's, and has no effect: nothing is ever computed in the memory of x.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, generator_or_default, operands
from gpunn.casting import in_float32, in_half
from gpunn.functional.dropout import draw_key
from gpunn.functional.record import Input, X, Y, alone, differentiable, in_dtype, kept, raw
from gpunn.graph import is_recorded
from gpunn.ops import activation as ops
from gpunn.ops.activation.smooth import Approximate


def relu(x: X, inplace: bool = False) -> X:
    """``max(x, 0)``.

    >>> import numpy as np
    >>> relu(np.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    y = ops.relu(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.relu_backward(gy, y),))


def leaky_relu(x: X, negative_slope: float = 0.01, inplace: bool = False) -> X:
    """x where x > 0, else ``negative_slope x``.

    >>> import numpy as np
    >>> leaky_relu(np.array([-1.0, 2.0])).tolist()
    [-0.01, 2.0]
    """
    xd = raw(x)
    y = ops.leaky_relu(xd, negative_slope)
    return differentiable(y, (x,), lambda gy, _: (ops.leaky_relu_backward(gy, xd, negative_slope),))


def hardsigmoid(x: X, inplace: bool = False) -> X:
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


def silu(x: X, inplace: bool = False) -> X:
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


def elu(x: X, alpha: float = 1.0, inplace: bool = False) -> X:
    """x where x > 0, else ``alpha (exp(x) - 1)``.

    >>> import numpy as np
    >>> elu(np.array([-1.0, 2.0])).round(4).tolist()
    [-0.6321, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.elu(xd, alpha), (x,), lambda gy, _: (ops.elu_backward(gy, xd, alpha),))


def selu(x: X, inplace: bool = False) -> X:
    """``1.0507 elu(x, 1.6733)``, which keeps mean 0 and variance 1 through the layers.

    >>> import numpy as np
    >>> selu(np.array([-1.0, 2.0])).round(4).tolist()
    [-1.1113, 2.1014]
    """
    xd = raw(x)
    return differentiable(ops.selu(xd), (x,), lambda gy, _: (ops.selu_backward(gy, xd),))


def hardtanh(x: X, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> X:
    """x, cut off at ``min_val`` and ``max_val``.

    >>> import numpy as np
    >>> hardtanh(np.array([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    xd = raw(x)
    return differentiable(
        ops.hardtanh(xd, min_val, max_val), (x,), lambda gy, _: (ops.hardtanh_backward(gy, xd, min_val, max_val),)
    )


def relu6(x: X, inplace: bool = False) -> X:
    """x, cut off at 0 and 6.

    >>> import numpy as np
    >>> relu6(np.array([-2.0, 0.5, 7.0])).tolist()
    [0.0, 0.5, 6.0]
    """
    operands("relu6", x=raw(x))
    return hardtanh(x, 0.0, 6.0)


def hardswish(x: X, inplace: bool = False) -> X:
    """``x min(max(x + 3, 0), 6) / 6``.

    >>> import numpy as np
    >>> hardswish(np.array([0.0, 1.5, 4.0])).tolist()
    [0.0, 1.125, 4.0]
    """
    xd = raw(x)
    return differentiable(ops.hardswish(xd), (x,), lambda gy, _: (ops.hardswish_backward(gy, xd),))


def threshold(x: X, threshold: float, value: float, inplace: bool = False) -> X:
    """x where x > ``threshold``, else ``value``.

    >>> import numpy as np
    >>> threshold(np.array([-1.0, 0.5, 2.0]), 0.5, 7.0).tolist()
    [7.0, 7.0, 2.0]
    """
    xd = raw(x)
    return differentiable(
        ops.threshold(xd, threshold, value), (x,), lambda gy, _: (ops.threshold_backward(gy, xd, threshold),)
    )


def hardshrink(x: X, lambd: float = 0.5) -> X:
    """x where ``|x| > lambd``, else 0.

    >>> import numpy as np
    >>> hardshrink(np.array([-1.0, 0.25, 2.0])).tolist()
    [-1.0, 0.0, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.hardshrink(xd, lambd), (x,), lambda gy, _: (ops.hardshrink_backward(gy, xd, lambd),))


def softshrink(x: X, lambd: float = 0.5) -> X:
    """x, nearer to 0 by ``lambd``; 0 where it is nearer than that.

    >>> import numpy as np
    >>> softshrink(np.array([-1.0, 0.25, 2.0])).tolist()
    [-0.5, 0.0, 1.5]
    """
    xd = raw(x)
    return differentiable(ops.softshrink(xd, lambd), (x,), lambda gy, _: (ops.hardshrink_backward(gy, xd, lambd),))


def softsign(x: X) -> X:
    """``x / (1 + |x|)``.

    >>> import numpy as np
    >>> softsign(np.array([-1.0, 3.0])).tolist()
    [-0.5, 0.75]
    """
    xd = raw(x)
    return differentiable(ops.softsign(xd), (x,), lambda gy, _: (ops.softsign_backward(gy, xd),))


def tanhshrink(x: X) -> X:
    """``x - tanh(x)``.

    >>> import numpy as np
    >>> tanhshrink(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.2384]
    """
    xd = raw(x)
    return differentiable(ops.tanhshrink(xd), (x,), lambda gy, _: (ops.tanhshrink_backward(gy, xd),))


@in_float32
def logsigmoid(x: X) -> X:
    """``-log(1 + exp(-x))``, the logarithm of :func:`sigmoid`.

    >>> import numpy as np
    >>> logsigmoid(np.array([-1000.0, 0.0])).round(4).tolist()
    [-1000.0, -0.6931]
    """
    xd = raw(x)
    return differentiable(ops.logsigmoid(xd), (x,), lambda gy, _: (ops.logsigmoid_backward(gy, xd),))


def mish(x: X, inplace: bool = False) -> X:
    """``x tanh(log(1 + exp(x)))``.

    >>> import numpy as np
    >>> mish(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8651]
    """
    xd = raw(x)
    return differentiable(ops.mish(xd), (x,), lambda gy, _: (ops.mish_backward(gy, xd),))


def celu(x: X, alpha: float = 1.0, inplace: bool = False) -> X:
    """x where x > 0, else ``alpha (exp(x / alpha) - 1)``.

    >>> import numpy as np
    >>> celu(np.array([-1.0, 2.0]), 2.0).round(4).tolist()
    [-0.7869, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.celu(xd, alpha), (x,), lambda gy, _: (ops.celu_backward(gy, xd, alpha),))


def glu(x: X, axis: int = -1) -> X:
    """The first half of x along ``axis`` times the sigmoid of the second: half as long there.

    >>> import numpy as np
    >>> glu(np.array([1.0, 2.0, 0.0, 1000.0])).tolist()
    [0.5, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.glu(xd, axis), (x,), lambda gy, _: (ops.glu_backward(gy, xd, axis),))


@in_half
def prelu(x: Input[Y], weight: Input[Y]) -> Y:
    """x where x > 0, else ``weight x``; weight is () or (1,), or (C,), one for each channel of x (N, C, ...).

    >>> import numpy as np
    >>> prelu(np.array([[-1.0, 2.0], [-3.0, -4.0]]), np.array([0.5, 0.25])).tolist()
    [[-0.5, 2.0], [-1.5, -1.0]]
    """
    xd, wd = kept(x, weight)

    def backward(gy: Array, needs: tuple[bool, ...]) -> tuple[Array | None, Array | None]:
        return (
            ops.prelu_backward_x(gy, xd, wd) if needs[0] else None,
            ops.prelu_backward_weight(gy, xd, wd) if needs[1] else None,
        )

    return differentiable(ops.prelu(xd, wd), (x, weight), backward)


def rrelu(
    x: X,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    generator: np.random.Generator | None = None,
) -> X:
    """x where x > 0, else r x, in training with a slope r for each element, drawn evenly from ``lower`` to ``upper``.

    Outside training r is their mean. A call draws a key from ``generator`` (default: the one that
    :func:`gpunn.manual_seed` seeds), which decides all slopes, the same on every device.

    >>> import gpunn
    >>> rrelu(np.array([-1.0, 2.0]), 0.0, 0.5).tolist()
    [-0.25, 2.0]
    >>> rrelu(-np.ones(2), 0.0, 0.5, True, generator=gpunn.backend.random_generator(0)).round(4).tolist()
    [-0.2757, -0.191]
    """
    ops.check_rrelu("rrelu", lower, upper)
    operands("rrelu", x=raw(x))
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    xd = raw(x)
    slopes = ops.rrelu_slopes(xd, lower, upper, draw_key(generator))
    return differentiable(ops.rrelu(xd, slopes), (x,), lambda gy, _: (ops.rrelu_backward(gy, xd, slopes),))


@in_float32
def softmax(x: X, axis: int = -1, *, dtype: Any = None) -> X:
    """``exp(x[i]) / sum_j exp(x[j])`` along ``axis``, 1 for an x without axes; of x as ``dtype``, if one is given.

    >>> import numpy as np
    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    if dtype is not None:
        x = in_dtype(x, dtype, "softmax")
    if getattr(x, "ndim", 1) == 0:
        return alone(softmax, x, axis)
    y = ops.softmax(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.softmax_backward(gy, y, axis),))


@in_float32
def log_softmax(x: X, axis: int = -1, *, dtype: Any = None) -> X:
    """The logarithm of :func:`softmax`; of x as ``dtype``, if one is given.

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """
    if dtype is not None:
        x = in_dtype(x, dtype, "log_softmax")
    if getattr(x, "ndim", 1) == 0:
        return alone(log_softmax, x, axis)
    y = ops.log_softmax(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.log_softmax_backward(gy, y, axis),))


@in_float32
def softmin(x: X, axis: int = -1, *, dtype: Any = None) -> X:
    """``exp(-x[i]) / sum_j exp(-x[j])`` along ``axis``: :func:`softmax` of -x; of x as ``dtype``, if one is given.

    >>> import numpy as np
    >>> softmin(np.array([0.0, 1000.0])).tolist()
    [1.0, 0.0]
    """
    if dtype is not None:
        x = in_dtype(x, dtype, "softmin")
    if getattr(x, "ndim", 1) == 0:
        return alone(softmin, x, axis)
    y = ops.softmin(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.softmin_backward(gy, y, axis),))


@in_float32
def gumbel_softmax(
    logits: X, tau: float = 1.0, hard: bool = False, axis: int = -1, generator: np.random.Generator | None = None
) -> X:
    """``softmax((logits + g) / tau)`` along ``axis``, with g from Gumbel's distribution: nearly a draw.

    With ``hard`` the largest is 1 and the others are 0, and the gradient is that of the soft ones. g is drawn from
    ``generator`` (default: the one that :func:`gpunn.manual_seed` seeds).

    >>> import gpunn
    >>> gumbel_softmax(np.zeros(3), hard=True, generator=gpunn.backend.random_generator(0)).tolist()
    [1.0, 0.0, 0.0]
    """
    given = raw(logits)
    y = ops.gumbel_softmax(given, ops.gumbel_noise(given, generator_or_default(generator)), tau, axis)
    shown = ops.only_largest(y, axis) if hard else y
    return differentiable(shown, (logits,), lambda gy, _: (ops.gumbel_softmax_backward(gy, y, tau, axis),))
