"""Differentiable softmax; see :mod:`gpunn.ops.softmax`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, raw
from gpunn.ops import softmax as ops


@in_float32
def softmax(x: Any, axis: int = -1) -> Any:
    """``exp(x[i]) / sum_j exp(x[j])`` along ``axis``.

    >>> import numpy as np
    >>> softmax(np.array([0.0, 0.0])).tolist()
    [0.5, 0.5]
    """
    y = ops.softmax(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.softmax_backward(gy, y, axis),))


@in_float32
def log_softmax(x: Any, axis: int = -1) -> Any:
    """The logarithm of :func:`softmax`.

    >>> import numpy as np
    >>> log_softmax(np.array([0.0, 0.0])).round(4).tolist()
    [-0.6931, -0.6931]
    """
    y = ops.log_softmax(raw(x), axis)
    return differentiable(y, (x,), lambda gy, _: (ops.log_softmax_backward(gy, y, axis),))
