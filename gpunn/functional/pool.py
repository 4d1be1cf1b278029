"""Differentiable pooling; see :mod:`gpunn.ops.pool` for the formulas and the rules.

An x without the axis N of the batch gives a y (and indices) without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, overload

from gpunn.functional.record import X, alone, copied, differentiable, lifted, raw
from gpunn.ops import pool as ops
from gpunn.ops.pool import Stride
from gpunn.ops.pool import adaptive as bins
from gpunn.ops.pool import global_pool as whole
from gpunn.ops.pool import unpool as places
from gpunn.ops.pool.adaptive import OutputSize
from gpunn.ops.shared.checks import shapes_of
from gpunn.ops.shared.window import Pair, Sizes


@overload
def max_pool1d(
    x: X, kernel_size: Sizes, stride: Stride = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> X: ...  # fmt: skip
@overload
def max_pool1d(
    x: Any, kernel_size: Sizes, stride: Stride = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any: ...  # fmt: skip
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
    return _max_pool(max_pool1d, 1, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


@overload
def max_pool2d(
    x: X, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1, ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> X: ...  # fmt: skip
@overload
def max_pool2d(
    x: Any, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0, dilation: Pair = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> Any: ...  # fmt: skip
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
    return _max_pool(max_pool2d, 2, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


@overload
def max_pool3d(
    x: X, kernel_size: Sizes, stride: Stride = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False,
    return_indices: Literal[False] = False,
) -> X: ...  # fmt: skip
@overload
def max_pool3d(
    x: Any, kernel_size: Sizes, stride: Stride = None, padding: Sizes = 0, dilation: Sizes = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any: ...  # fmt: skip
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
    return _max_pool(max_pool3d, 3, x, return_indices, kernel_size, stride, padding, dilation, ceil_mode)


def _max_pool(itself: Callable[..., Any], rank: int, x: Any, return_indices: bool, *settings: Any) -> Any:
    xd = raw(x)
    (shape,) = shapes_of(f"max_pool{rank}d", x=xd)
    if len(shape) == rank + 1:
        return alone(itself, x, *settings, return_indices=return_indices)
    plan = ops.max_plan(rank, shape, *settings)
    y, place = ops.max_pool(plan, xd)
    pooled = differentiable(y, (x,), lambda gy, _: (ops.max_pool_backward(plan, gy, place),))
    return (pooled, ops.max_pool_indices(plan, place)) if return_indices else pooled


def avg_pool1d(
    x: X,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> X:
    """The mean of each window of x (N, C, L); ``stride`` is the window's size unless given.

    There are as many windows as in :func:`max_pool1d`. ``count_include_pad`` counts the zeros of the padding in the
    mean; what a window has beyond the padding, with ``ceil_mode``, never counts.

    >>> import numpy as np
    >>> avg_pool1d(np.array([[[3.0, 1.0, 2.0, 4.0]]]), 2).tolist()
    [[[2.0, 3.0]]]
    """
    return _avg_pool(avg_pool1d, 1, x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    x: X,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> X:
    """:func:`avg_pool1d` of images x (N, C, H, W): the mean of each window of a plane.

    With ``divisor_override`` it is the sum of the window divided by that number.

    >>> import numpy as np
    >>> avg_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), 2, stride=1).tolist()
    [[[[2.0, 3.0], [5.0, 6.0]]]]
    """
    settings = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return _avg_pool(avg_pool2d, 2, x, *settings)


def avg_pool3d(
    x: X,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> X:
    """:func:`avg_pool1d` of volumes x (N, C, D, H, W): the mean of each window of a volume.

    With ``divisor_override`` it is the sum of the window divided by that number.

    >>> import numpy as np
    >>> avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), 2).tolist()
    [[[[[3.5]]]]]
    """
    settings = kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    return _avg_pool(avg_pool3d, 3, x, *settings)


def _avg_pool(itself: Callable[..., Any], rank: int, x: Any, *settings: Any) -> Any:
    xd = raw(x)
    (shape,) = shapes_of(f"avg_pool{rank}d", x=xd)
    if len(shape) == rank + 1:
        return alone(itself, x, *settings)
    plan = ops.avg_plan(rank, shape, *settings)
    return differentiable(ops.avg_pool(plan, xd), (x,), lambda gy, _: (ops.avg_pool_backward(plan, gy),))


def max_unpool1d(
    x: X,
    indices: Any,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> X:
    """The maxima x (N, C, L) of windows put back where :func:`max_pool1d` found them, and 0 elsewhere.

    ``indices`` are those that it gave; the last of several that are equal wins. y has
    ``(L - 1) * stride - 2 * padding + kernel_size`` elements a channel, or ``output_size``, which differs from that by
    less than the stride; it may also be the whole shape of y.

    >>> import numpy as np
    >>> y, indices = max_pool1d(np.array([[[3.0, 1.0, 2.0, 4.0]]]), 2, return_indices=True)
    >>> max_unpool1d(y, indices, 2).tolist()
    [[[3.0, 0.0, 0.0, 4.0]]]
    """
    return _max_unpool(max_unpool1d, 1, x, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(
    x: X,
    indices: Any,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    output_size: Sequence[int] | None = None,
) -> X:
    """:func:`max_unpool1d` of images x (N, C, H, W); ``indices`` count the elements of flattened planes.

    >>> import numpy as np
    >>> max_unpool2d(np.array([[[[7.0]]]]), np.array([[[[1]]]]), 2).tolist()
    [[[[0.0, 7.0], [0.0, 0.0]]]]
    """
    return _max_unpool(max_unpool2d, 2, x, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(
    x: X,
    indices: Any,
    kernel_size: Sizes,
    stride: Stride = None,
    padding: Sizes = 0,
    output_size: Sequence[int] | None = None,
) -> X:
    """:func:`max_unpool1d` of volumes x (N, C, D, H, W); ``indices`` count the elements of flattened volumes.

    >>> import numpy as np
    >>> max_unpool3d(np.array([[[[[7.0]]]]]), np.array([[[[[1]]]]]), (1, 1, 2)).tolist()
    [[[[[0.0, 7.0]]]]]
    """
    return _max_unpool(max_unpool3d, 3, x, indices, kernel_size, stride, padding, output_size)


def _max_unpool(itself: Callable[..., Any], rank: int, x: Any, indices: Any, *settings: Any) -> Any:
    xd = raw(x)
    (shape,) = shapes_of(f"max_unpool{rank}d", x=xd)
    if len(shape) == rank + 1:
        return alone(itself, x, lifted(indices), *settings)
    plan, index = places.plan(rank, shape, *settings), copied(indices, x)
    y = places.max_unpool(plan, xd, index)
    return differentiable(y, (x,), lambda gy, _: (places.max_unpool_backward(plan, gy, index),))


def global_avg_pool1d(x: X) -> X:
    """The mean of each channel of x (N, C, L), as (N, C, 1).

    >>> import numpy as np
    >>> global_avg_pool1d(np.arange(4.0).reshape(1, 1, 4)).tolist()
    [[[1.5]]]
    """
    return _global_avg_pool(global_avg_pool1d, 1, x)


def global_avg_pool2d(x: X) -> X:
    """The mean of each plane of x (N, C, H, W), as (N, C, 1, 1).

    >>> import numpy as np
    >>> global_avg_pool2d(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[1.5]]]]
    """
    return _global_avg_pool(global_avg_pool2d, 2, x)


def global_avg_pool3d(x: X) -> X:
    """The mean of each volume of x (N, C, D, H, W), as (N, C, 1, 1, 1).

    >>> import numpy as np
    >>> global_avg_pool3d(np.arange(4.0).reshape(1, 1, 1, 2, 2)).tolist()
    [[[[[1.5]]]]]
    """
    return _global_avg_pool(global_avg_pool3d, 3, x)


def global_max_pool1d(x: X) -> X:
    """The maximum of each channel of x (N, C, L), as (N, C, 1).

    >>> import numpy as np
    >>> global_max_pool1d(np.arange(4.0).reshape(1, 1, 4)).tolist()
    [[[3.0]]]
    """
    return _global_max_pool(global_max_pool1d, 1, x)


def global_max_pool2d(x: X) -> X:
    """The maximum of each plane of x (N, C, H, W), as (N, C, 1, 1).

    >>> import numpy as np
    >>> global_max_pool2d(np.arange(4.0).reshape(1, 1, 2, 2)).tolist()
    [[[[3.0]]]]
    """
    return _global_max_pool(global_max_pool2d, 2, x)


def global_max_pool3d(x: X) -> X:
    """The maximum of each volume of x (N, C, D, H, W), as (N, C, 1, 1, 1).

    >>> import numpy as np
    >>> global_max_pool3d(np.arange(4.0).reshape(1, 1, 1, 2, 2)).tolist()
    [[[[[3.0]]]]]
    """
    return _global_max_pool(global_max_pool3d, 3, x)


def _global_avg_pool(itself: Callable[..., Any], rank: int, x: Any) -> Any:
    xd = raw(x)
    if getattr(xd, "ndim", 0) == rank + 1:
        return alone(itself, x)
    y, shape = whole.global_avg_pool(rank, xd), xd.shape
    return differentiable(y, (x,), lambda gy, _: (whole.global_avg_pool_backward(rank, gy, shape),))


def _global_max_pool(itself: Callable[..., Any], rank: int, x: Any) -> Any:
    xd = raw(x)
    if getattr(xd, "ndim", 0) == rank + 1:
        return alone(itself, x)
    y, place = whole.global_max_pool(rank, xd)
    shape = xd.shape
    return differentiable(y, (x,), lambda gy, _: (whole.global_max_pool_backward(rank, gy, place, shape),))


def adaptive_avg_pool1d(x: X, output_size: OutputSize) -> X:
    """The mean of each of ``output_size`` bins of x (N, C, L); None stands for a size of x.

    >>> import numpy as np
    >>> adaptive_avg_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2).tolist()
    [[[1.5, 4.0]]]
    """
    return _adaptive_avg_pool(adaptive_avg_pool1d, 1, x, output_size)


def adaptive_avg_pool2d(x: X, output_size: OutputSize) -> X:
    """The mean of each of ``output_size`` bins of x (N, C, H, W); None stands for a size of x.

    >>> import numpy as np
    >>> adaptive_avg_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), (1, 2)).tolist()
    [[[[3.5, 4.5]]]]
    """
    return _adaptive_avg_pool(adaptive_avg_pool2d, 2, x, output_size)


def adaptive_avg_pool3d(x: X, output_size: OutputSize) -> X:
    """The mean of each of ``output_size`` bins of x (N, C, D, H, W); None stands for a size of x.

    >>> import numpy as np
    >>> adaptive_avg_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 1)).tolist()
    [[[[[1.5]], [[5.5]]]]]
    """
    return _adaptive_avg_pool(adaptive_avg_pool3d, 3, x, output_size)


@overload
def adaptive_max_pool1d(x: X, output_size: OutputSize, return_indices: Literal[False] = False) -> X: ...
@overload
def adaptive_max_pool1d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any: ...
def adaptive_max_pool1d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` bins of x (N, C, L); None stands for a size of x.

    ``return_indices`` also returns where each maximum lies along L, a plain int64 array.

    >>> import numpy as np
    >>> adaptive_max_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2).tolist()
    [[[2.0, 6.0]]]
    """
    return _adaptive_max_pool(adaptive_max_pool1d, 1, x, output_size, return_indices)


@overload
def adaptive_max_pool2d(x: X, output_size: OutputSize, return_indices: Literal[False] = False) -> X: ...
@overload
def adaptive_max_pool2d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any: ...
def adaptive_max_pool2d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` bins of x (N, C, H, W); None stands for a size of x.

    ``return_indices`` also returns where each maximum lies in its flattened (H, W) plane, a plain int64 array.

    >>> import numpy as np
    >>> adaptive_max_pool2d(np.arange(9.0).reshape(1, 1, 3, 3), (1, 2)).tolist()
    [[[[7.0, 8.0]]]]
    """
    return _adaptive_max_pool(adaptive_max_pool2d, 2, x, output_size, return_indices)


@overload
def adaptive_max_pool3d(x: X, output_size: OutputSize, return_indices: Literal[False] = False) -> X: ...
@overload
def adaptive_max_pool3d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any: ...
def adaptive_max_pool3d(x: Any, output_size: OutputSize, return_indices: bool = False) -> Any:
    """The maximum of each of ``output_size`` bins of x (N, C, D, H, W); None stands for a size of x.

    ``return_indices`` also returns where each maximum lies in its flattened (D, H, W) volume, a plain int64 array.

    >>> import numpy as np
    >>> adaptive_max_pool3d(np.arange(8.0).reshape(1, 1, 2, 2, 2), (2, 1, 1)).tolist()
    [[[[[3.0]], [[7.0]]]]]
    """
    return _adaptive_max_pool(adaptive_max_pool3d, 3, x, output_size, return_indices)


def _adaptive_avg_pool(itself: Callable[..., Any], rank: int, x: Any, output_size: OutputSize) -> Any:
    xd = raw(x)
    if getattr(xd, "ndim", 0) == rank + 1:
        return alone(itself, x, output_size)
    y, shape = bins.adaptive_avg_pool(rank, xd, output_size), xd.shape
    return differentiable(y, (x,), lambda gy, _: (bins.adaptive_avg_pool_backward(rank, gy, shape, output_size),))


def _adaptive_max_pool(
    itself: Callable[..., Any], rank: int, x: Any, output_size: OutputSize, return_indices: bool
) -> Any:
    xd = raw(x)
    if getattr(xd, "ndim", 0) == rank + 1:
        return alone(itself, x, output_size, return_indices)
    y, index = bins.adaptive_max_pool(rank, xd, output_size)
    shape = xd.shape
    pooled = differentiable(
        y, (x,), lambda gy, _: (bins.adaptive_max_pool_backward(rank, gy, index, shape, output_size),)
    )
    return (pooled, index) if return_indices else pooled
