"""Differentiable global pooling; see :mod:`gpunn.ops.global_pool` for the formulas and the rules."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import global_pool as ops


def global_avg_pool2d(x: Any) -> Any:
    """The mean of each plane of x (N, C, H, W), as (N, C, 1, 1).

    >>> import numpy as np
    >>> global_avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[1.5]]]]
    """
    shape = raw(x).shape
    y = ops.global_avg_pool2d(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.global_avg_pool2d_backward(gy, shape),))


def global_max_pool2d(x: Any) -> Any:
    """The maximum of each plane of x (N, C, H, W), as (N, C, 1, 1).

    >>> import numpy as np
    >>> global_max_pool2d(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[3.0]]]]
    """
    shape = raw(x).shape
    y, place = ops.global_max_pool2d(raw(x))
    return differentiable(y, (x,), lambda gy, _: (ops.global_max_pool2d_backward(gy, place, shape),))
