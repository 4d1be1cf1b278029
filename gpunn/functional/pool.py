"""Differentiable pooling; see :mod:`gpunn.ops.pool` for the formulas and the rules."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import pool as ops
from gpunn.ops.window import Pair


def max_pool2d(
    x: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of x (N, C, H, W); ``stride`` is the window's size unless given.

    ``return_indices`` also returns where each maximum lies in its flattened (H, W) plane, a plain int64 array.

    >>> import numpy as np
    >>> max_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), 2, stride=1).tolist()
    [[[[4.0, 5.0], [7.0, 8.0]]]]
    """
    settings = (kernel_size, stride, padding, dilation, ceil_mode)
    y, place = ops.max_pool2d(raw(x), *settings)
    shape = raw(x).shape
    pooled = differentiable(y, (x,), lambda gy, _: (ops.max_pool2d_backward(gy, place, shape, *settings),))
    return (pooled, ops.max_pool2d_indices(place, shape, *settings)) if return_indices else pooled


def avg_pool2d(
    x: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of x (N, C, H, W); ``stride`` is the window's size unless given.

    >>> import numpy as np
    >>> avg_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), 2, stride=1).tolist()
    [[[[2.0, 3.0], [5.0, 6.0]]]]
    """
    settings = (kernel_size, stride, padding, ceil_mode, count_include_pad)
    y = ops.avg_pool2d(raw(x), *settings)
    shape = raw(x).shape
    return differentiable(y, (x,), lambda gy, _: (ops.avg_pool2d_backward(gy, shape, *settings),))
