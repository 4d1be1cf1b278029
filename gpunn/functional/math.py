"""Differentiable exponential, logarithm, square root and absolute value; see :mod:`gpunn.ops.math`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, raw
from gpunn.ops import math as ops


@in_float32
def exp(x: Any) -> Any:
    """``exp(x[i])``.

    >>> import numpy as np
    >>> exp(np.array([0.0])).tolist()
    [1.0]
    """
    y = ops.exp(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.exp_backward(gy, y),))


@in_float32
def log(x: Any) -> Any:
    """The natural logarithm ``log(x[i])``; -inf at 0 and NaN below it, with NumPy's warning.

    >>> import numpy as np
    >>> log(np.array([1.0])).tolist()
    [0.0]
    """
    xd = raw(x)
    return differentiable(ops.log(xd), (x,), lambda gy, _: (ops.log_backward(gy, xd),))


@in_float32
def sqrt(x: Any) -> Any:
    """``sqrt(x[i])``; NaN below 0, with NumPy's warning. The gradient at 0 is infinite.

    So a length written as ``sqrt((x * x).sum())`` has the gradient 0 times infinity, NaN, where x is 0: add a small
    number under the root.

    >>> import numpy as np
    >>> sqrt(np.array([4.0])).tolist()
    [2.0]
    """
    y = ops.sqrt(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.sqrt_backward(gy, y),))


def abs(x: Any) -> Any:
    """``|x[i]|``; the gradient at 0 is 0.

    >>> import numpy as np
    >>> abs(np.array([-1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    xd = raw(x)
    return differentiable(ops.abs(xd), (x,), lambda gy, _: (ops.abs_backward(gy, xd),))
