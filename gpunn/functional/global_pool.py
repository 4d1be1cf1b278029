"""Differentiable global pooling; see :mod:`gpunn.ops.global_pool` for the formulas and the rules."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import global_pool as ops


def global_avg_pool1d(x: Any) -> Any:
    """The mean of each channel of x (N, C, L), as (N, C, 1).

    >>> import numpy as np
    >>> global_avg_pool1d(np.arange(4.0).reshape(1, 1, 4)).tolist()
    [[[1.5]]]
    """
    return _global_avg_pool(1, x)


def global_avg_pool2d(x: Any) -> Any:
    """The mean of each plane of x (N, C, H, W), as (N, C, 1, 1).

    >>> import numpy as np
    >>> global_avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[1.5]]]]
    """
    return _global_avg_pool(2, x)


def global_avg_pool3d(x: Any) -> Any:
    """The mean of each volume of x (N, C, D, H, W), as (N, C, 1, 1, 1).

    >>> import numpy as np
    >>> global_avg_pool3d(np.arange(4.0).reshape(1, 1, 1, 2, 2)).tolist()
    [[[[[1.5]]]]]
    """
    return _global_avg_pool(3, x)


def global_max_pool1d(x: Any) -> Any:
    """The maximum of each channel of x (N, C, L), as (N, C, 1).

    >>> import numpy as np
    >>> global_max_pool1d(np.arange(4.0).reshape(1, 1, 4)).tolist()
    [[[3.0]]]
    """
    return _global_max_pool(1, x)


def global_max_pool2d(x: Any) -> Any:
    """The maximum of each plane of x (N, C, H, W), as (N, C, 1, 1).

    >>> import numpy as np
    >>> global_max_pool2d(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[3.0]]]]
    """
    return _global_max_pool(2, x)


def global_max_pool3d(x: Any) -> Any:
    """The maximum of each volume of x (N, C, D, H, W), as (N, C, 1, 1, 1).

    >>> import numpy as np
    >>> global_max_pool3d(np.arange(4.0).reshape(1, 1, 1, 2, 2)).tolist()
    [[[[[3.0]]]]]
    """
    return _global_max_pool(3, x)


def _global_avg_pool(rank: int, x: Any) -> Any:
    y = ops.global_avg_pool(rank, raw(x))
    shape = raw(x).shape
    return differentiable(y, (x,), lambda gy, _: (ops.global_avg_pool_backward(rank, gy, shape),))


def _global_max_pool(rank: int, x: Any) -> Any:
    y, place = ops.global_max_pool(rank, raw(x))
    shape = raw(x).shape
    return differentiable(y, (x,), lambda gy, _: (ops.global_max_pool_backward(rank, gy, place, shape),))
