"""Differentiable reductions that are no methods of an array; see :mod:`gpunn.ops.reduction`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, raw
from gpunn.ops import reduction as ops
from gpunn.ops.shape import Axis


@in_float32
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """``log sum_i exp(x[i])`` over ``axis`` (all axes by default), without overflow.

    >>> import numpy as np
    >>> logsumexp(np.array([1000.0, 1000.0])).round(4).tolist()
    1000.6931
    """
    xd = raw(x)
    y = ops.logsumexp(xd, axis, keepdims)
    return differentiable(y, (x,), lambda gy, _: (ops.logsumexp_backward(gy, xd, axis, keepdims),))
