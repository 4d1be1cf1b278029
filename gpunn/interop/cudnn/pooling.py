"""Pooling over windows, by :mod:`gpunn.ops.pool`."""

from __future__ import annotations

from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.interop.cudnn.arrays import on_device, write
from gpunn.interop.cudnn.constants import (
    CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING,
    CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING,
    CUDNN_POOLING_MAX,
    CUDNN_POOLING_MAX_DETERMINISTIC,
)
from gpunn.ops import pool
from gpunn.ops.shared.checks import check_shape

Settings = tuple[int, ...]
_MAXIMA = (CUDNN_POOLING_MAX, CUDNN_POOLING_MAX_DETERMINISTIC)


def pooling_forward(x: Array, y: Array, ksize: Settings, stride: Settings, pad: Settings, mode: int) -> Array:
    """Write the maxima or means of the windows of x (N, C, ...) to y, and return y.

    ``mode`` is ``CUDNN_POOLING_MAX`` (or ``_MAX_DETERMINISTIC``, which is the same here), or
    ``CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING`` or ``_EXCLUDE_PADDING``. With maxima y may have a window more along
    an axis, which passes the end of the image, as Chainer's ``cover_all`` asks.

    >>> import numpy as np
    >>> x, y = np.array([[[[3.0, 1.0, 2.0, 4.0]]]]), np.empty((1, 1, 1, 2))
    >>> pooling_forward(x, y, (1, 2), (1, 2), (0, 0), CUDNN_POOLING_MAX).tolist()
    [[[[3.0, 4.0]]]]
    """
    op = "cudnn.pooling_forward"
    with on_device(op, x=x, y=y):
        plan = _plan(op, x, y, ksize, stride, pad, mode)
        write(op, "y", y, pool.max_pool(plan, x)[0] if mode in _MAXIMA else pool.avg_pool(plan, x))
    return y


def pooling_backward(
    x: Array, y: Array, gy: Array, ksize: Settings, stride: Settings, pad: Settings, mode: int
) -> Array:
    """The gradient with respect to x, from gy, that with respect to y; of equal maxima the first has all of it.

    >>> import numpy as np
    >>> x, y, gy = np.array([[[[3.0, 1.0, 4.0, 4.0]]]]), np.empty((1, 1, 1, 2)), np.array([[[[5.0, 6.0]]]])
    >>> pooling_backward(x, y, gy, (1, 2), (1, 2), (0, 0), CUDNN_POOLING_MAX).tolist()
    [[[[5.0, 0.0, 6.0, 0.0]]]]
    """
    op = "cudnn.pooling_backward"
    with on_device(op, x=x, y=y, gy=gy):
        plan = _plan(op, x, y, ksize, stride, pad, mode)
        if mode not in _MAXIMA:
            return pool.avg_pool_backward(plan, gy)
        return pool.max_pool_backward(plan, gy, pool.max_pool(plan, x)[1])


def _plan(op: str, x: Array, y: Array, ksize: Settings, stride: Settings, pad: Settings, mode: int) -> pool.Plan:
    rank = x.ndim - 2
    means = (CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING, CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING)
    rule = "mode must be CUDNN_POOLING_MAX, _MAX_DETERMINISTIC or _AVERAGE_COUNT_INCLUDE_PADDING, _EXCLUDE_PADDING"
    check(mode in (*means, *_MAXIMA), ArgumentError, op, rule, mode=mode)
    if mode in means:
        plan = pool.avg_plan(rank, x.shape, ksize, stride, pad, False, mode == means[0])
    else:
        plan = pool.max_plan(rank, x.shape, ksize, stride, pad)
        if y.shape != plan.y_shape:
            plan = pool.max_plan(rank, x.shape, ksize, stride, pad, ceil_mode=True)
    check_shape(op, "y", y, plan.y_shape)
    return plan
