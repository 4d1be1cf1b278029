"""Differentiable pooling; see :mod:`gpunn.ops.pool_nd` for the formulas and the rules."""

from __future__ import annotations

from typing import Any

from gpunn.functional.record import differentiable, raw
from gpunn.ops import pool_nd as ops
from gpunn.ops.pool_window import Stride
from gpunn.ops.window import Pair, Sizes


def max_pool1d(
    x: Any,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The maximum of each window of x (N, C, L); ``stride`` is the window's size unless given.

    There are ``floor((L + 2 padding - dilation (kernel_size - 1) - 1) / stride) + 1`` windows, with ``ceil_mode`` the
    quotient rounded up. What lies in the padding is -infinity.

    ``return_indices`` also returns where each maximum lies along L, a plain int64 array.

    >>> import numpy as np
    >>> max_pool1d(np.array([[[3.0, 1.0, 2.0, 4.0]]]), 2, return_indices=True)
    (array([[[3., 4.]]]), array([[[0, 3]]]))
    """
    return _max_pool(1, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    x: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool1d` of images x (N, C, H, W): the maximum of each window of a plane.

    ``return_indices`` also returns where each maximum lies in its flattened (H, W) plane, a plain int64 array.

    >>> import numpy as np
    >>> max_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), 2, stride=1).tolist()
    [[[[4.0, 5.0], [7.0, 8.0]]]]
    """
    return _max_pool(2, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    x: Any,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool1d` of volumes x (N, C, D, H, W): the maximum of each window of a volume.

    ``return_indices`` also returns where each maximum lies in its flattened (D, H, W) volume, a plain int64 array.

    >>> import numpy as np
    >>> max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2).tolist()
    [[[[[7.0]]]]]
    """
    return _max_pool(3, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(rank: int, x: Any, return_indices: bool, *settings: Any) -> Any:
    y, place = ops.max_pool(rank, raw(x), *settings)
    shape = raw(x).shape
    pooled = differentiable(y, (x,), lambda gy, _: (ops.max_pool_backward(rank, gy, place, shape, *settings),))
    return (pooled, ops.max_pool_indices(rank, place, shape, *settings)) if return_indices else pooled


def avg_pool1d(
    x: Any,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window of x (N, C, L); ``stride`` is the window's size unless given.

    There are as many windows as in :func:`max_pool1d`. ``count_include_pad`` counts the zeros of the padding in the
    mean; what a window has beyond the padding, with ``ceil_mode``, never counts.

    >>> import numpy as np
    >>> avg_pool1d(np.array([[[3.0, 1.0, 2.0, 4.0]]]), 2).tolist()
    [[[2.0, 3.0]]]
    """
    return _avg_pool(1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    x: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """:func:`avg_pool1d` of images x (N, C, H, W): the mean of each window of a plane.

    >>> import numpy as np
    >>> avg_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), 2, stride=1).tolist()
    [[[[2.0, 3.0], [5.0, 6.0]]]]
    """
    return _avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool3d(
    x: Any,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """:func:`avg_pool1d` of volumes x (N, C, D, H, W): the mean of each window of a volume.

    >>> import numpy as np
    >>> avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2).tolist()
    [[[[[3.5]]]]]
    """
    return _avg_pool(3, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _avg_pool(rank: int, x: Any, *settings: Any) -> Any:
    y = ops.avg_pool(rank, raw(x), *settings)
    shape = raw(x).shape
    return differentiable(y, (x,), lambda gy, _: (ops.avg_pool_backward(rank, gy, shape, *settings),))
