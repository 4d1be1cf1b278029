"""Differentiable power-average pooling; see :mod:`gpunn.ops.pool.lp`."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from gpunn.backend import check_array
from gpunn.casting import in_float32
from gpunn.functional.array import abs
from gpunn.functional.pool import max_pool1d, max_pool2d, max_pool3d
from gpunn.functional.record import X, differentiable, raw
from gpunn.ops.pool import Stride
from gpunn.ops.pool import lp as ops
from gpunn.ops.shared.window import Pair, Sizes
from gpunn.tensor import Tensor


@in_float32
def lp_pool1d(x: X, norm_type: float, kernel_size: Sizes, stride: Stride = None, ceil_mode: bool = False) -> X:
    """``(sum of x^p)^(1/p)`` over each window of x (N, C, L) or (C, L), p = ``norm_type``.

    There are as many windows as in :func:`avg_pool1d` without padding. With an infinite p it is the largest ``|x|``,
    with -infinity the smallest. Where a sum is 0 its gradient is 0; a negative sum of odd powers gives NaN.

    >>> import numpy as np
    >>> lp_pool1d(np.array([[[3.0, 4.0, 0.0, 2.0]]]), 2, 2).tolist()
    [[[5.0, 2.0]]]
    """
    return _lp_pool(1, x, norm_type, kernel_size, stride, ceil_mode)


@in_float32
def lp_pool2d(x: X, norm_type: float, kernel_size: Pair, stride: Pair | None = None, ceil_mode: bool = False) -> X:
    """:func:`lp_pool1d` of images (N, C, H, W) or (C, H, W).

    >>> import numpy as np
    >>> lp_pool2d(np.ones((1, 1, 2, 2)), 2, 2).tolist()
    [[[[2.0]]]]
    """
    return _lp_pool(2, x, norm_type, kernel_size, stride, ceil_mode)


@in_float32
def lp_pool3d(x: X, norm_type: float, kernel_size: Sizes, stride: Stride = None, ceil_mode: bool = False) -> X:
    """:func:`lp_pool1d` of volumes (N, C, D, H, W) or (C, D, H, W).

    >>> import numpy as np
    >>> lp_pool3d(np.ones((1, 1, 1, 2, 2)), 2, (1, 2, 2)).tolist()
    [[[[[2.0]]]]]
    """
    return _lp_pool(3, x, norm_type, kernel_size, stride, ceil_mode)


_MAX: tuple[Callable[..., Any], ...] = max_pool1d, max_pool2d, max_pool3d


def _lp_pool(rank: int, x: Any, p: float, kernel_size: Sizes, stride: Stride, ceil_mode: bool) -> Any:
    op, xd = f"lp_pool{rank}d", raw(x)
    check_array(op, x=xd)
    if xd.ndim == rank + 1:
        y = _lp_pool(rank, (x if isinstance(x, Tensor) else xd)[None], p, kernel_size, stride, ceil_mode)
        return y[0]
    if p in (inf, -inf):
        sign, pool = 1 if p > 0 else -1, _MAX[rank - 1]
        return sign * pool(sign * abs(x), kernel_size, stride, 0, 1, ceil_mode)
    plan = ops.lp_plan(rank, xd.shape, kernel_size, stride, ceil_mode)
    y = ops.lp_pool(plan, xd, p)
    return differentiable(y, (x,), lambda gy, _: (ops.lp_pool_backward(plan, gy, xd, y, p),))
