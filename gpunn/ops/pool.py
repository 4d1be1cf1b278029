"""Two-dimensional max and average pooling, NCHW, forward and backward: the two axes of :mod:`gpunn.ops.pool_nd`.

x is (N, C, H, W), y is (N, C, OH, OW), place is (N, C, OH, OW).
"""

from __future__ import annotations

from gpunn.backend import Array
from gpunn.ops import pool_nd
from gpunn.ops.pool_window import Stride
from gpunn.ops.window import Pair, Size


def max_pool2d(
    x: Array, kernel_size: Pair, stride: Stride = None, padding: Pair = 0, dilation: Pair = 1, ceil_mode: bool = False
) -> tuple[Array, Array]:
    """The maxima (N, C, OH, OW) and their places in the windows, counted row by row from 0.

    >>> import numpy as np
    >>> y, place = max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)
    >>> y[0, 0].tolist(), place[0, 0].tolist()
    ([[5.0, 7.0], [13.0, 15.0]], [[3, 3], [3, 3]])
    """
    return pool_nd.max_pool(2, x, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d_backward(
    gy: Array,
    place: Array,
    x_shape: Size,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """The gradient with respect to x: each gy added at the element that was its window's maximum."""
    return pool_nd.max_pool_backward(2, gy, place, x_shape, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d_indices(
    place: Array,
    x_shape: Size,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
) -> Array:
    """``place`` as indices into each flattened (H, W) plane of x, int64: the form that PyTorch and ONNX use."""
    return pool_nd.max_pool_indices(2, place, x_shape, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The means (N, C, OH, OW); the divisor counts the padding if asked, the overhang of ``ceil_mode`` never.

    >>> import numpy as np
    >>> avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4), 2)[0, 0].tolist()
    [[2.5, 4.5], [10.5, 12.5]]
    """
    return pool_nd.avg_pool(2, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d_backward(
    gy: Array,
    x_shape: Size,
    kernel_size: Pair,
    stride: Stride = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Array:
    """The gradient with respect to x: each gy, divided as its mean was, added over its window."""
    return pool_nd.avg_pool_backward(2, gy, x_shape, kernel_size, stride, padding, ceil_mode, count_include_pad)
