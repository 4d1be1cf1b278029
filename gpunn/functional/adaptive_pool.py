"""Differentiable adaptive pooling; see :mod:`gpunn.ops.adaptive_pool` for the bins and the rules."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import adaptive_pool as ops
from gpunn.ops.adaptive_pool import OutputSize


def adaptive_avg_pool1d(x: Any, output_size: OutputSize) -> Any:
    """The mean of each of ``output_size`` bins of x (N, C, L); None stands for a size of x.

    >>> import numpy as np
    >>> adaptive_avg_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2).tolist()
    [[[1.5, 4.0]]]
    """
    return _adaptive_avg_pool(1, x, output_size)


def adaptive_avg_pool2d(x: Any, output_size: OutputSize) -> Any:
    """The mean of each of ``output_size`` bins of x (N, C, H, W); None stands for a size of x.

    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), (1, 2)).tolist()
    [[[[3.5, 4.5]]]]
    """
    return _adaptive_avg_pool(2, x, output_size)


def adaptive_avg_pool3d(x: Any, output_size: OutputSize) -> Any:
    """The mean of each of ``output_size`` bins of x (N, C, D, H, W); None stands for a size of x.

    >>> import numpy as np
    >>> adaptive_avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 1)).tolist()
    [[[[[1.5]], [[5.5]]]]]
    """
    return _adaptive_avg_pool(3, x, output_size)


def adaptive_max_pool1d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` bins of x (N, C, L); None stands for a size of x.

    ``return_indices`` also returns where each maximum lies along L, a plain int64 array.

    >>> import numpy as np
    >>> adaptive_max_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2).tolist()
    [[[2.0, 6.0]]]
    """
    return _adaptive_max_pool(1, x, output_size, return_indices)


def adaptive_max_pool2d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` bins of x (N, C, H, W); None stands for a size of x.

    ``return_indices`` also returns where each maximum lies in its flattened (H, W) plane, a plain int64 array.

    >>> import numpy as np
    >>> adaptive_max_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), (1, 2)).tolist()
    [[[[7.0, 8.0]]]]
    """
    return _adaptive_max_pool(2, x, output_size, return_indices)


def adaptive_max_pool3d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` bins of x (N, C, D, H, W); None stands for a size of x.

    ``return_indices`` also returns where each maximum lies in its flattened (D, H, W) volume, a plain int64 array.

    >>> import numpy as np
    >>> adaptive_max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 1)).tolist()
    [[[[[3.0]], [[7.0]]]]]
    """
    return _adaptive_max_pool(3, x, output_size, return_indices)


def _adaptive_avg_pool(rank: int, x: Any, output_size: OutputSize) -> Any:
    y = ops.adaptive_avg_pool(rank, raw(x), output_size)
    shape = raw(x).shape
    return differentiable(y, (x,), lambda gy, _: (ops.adaptive_avg_pool_backward(rank, gy, shape, output_size),))


def _adaptive_max_pool(rank: int, x: Any, output_size: OutputSize, return_indices: bool) -> Any:
    y, index = ops.adaptive_max_pool(rank, raw(x), output_size)
    shape = raw(x).shape
    pooled = differentiable(
        y, (x,), lambda gy, _: (ops.adaptive_max_pool_backward(rank, gy, index, shape, output_size),)
    )
    return (pooled, index) if return_indices else pooled
