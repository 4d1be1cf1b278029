"""Differentiable lengths and distances of vectors; see :mod:`gpunn.ops.linear.distance`."""

from __future__ import annotations

from collections.abc import Sequence

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import Input, X, Y, differentiable, kept, raw
from gpunn.ops import linear as ops


@in_float32
def normalize(x: X, p: float = 2.0, axis: int | tuple[int, ...] = 1, eps: float = 1e-12) -> X:
    """``x / max(|x|, eps)``, with the length ``|x| = (sum_i |x[i]|^p)^(1 / p)`` of the vectors along ``axis``.

    >>> import numpy as np
    >>> normalize(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    xd = raw(x)
    y = ops.normalize(xd, p, axis, eps)
    return differentiable(y, (x,), lambda gy, _: (ops.normalize_backward(gy, xd, p, axis, eps),))


@in_float32
def pairwise_distance(x1: Input[Y], x2: Input[Y], p: float = 2.0, eps: float = 1e-6, keepdims: bool = False) -> Y:
    """``(sum_i |x1[i] - x2[i] + eps|^p)^(1 / p)`` along the last axis; shapes broadcast.

    >>> import numpy as np
    >>> pairwise_distance(np.array([[3.0, 4.0]]), np.array([[0.0, 0.0]]), eps=0.0).tolist()
    [5.0]
    """
    (a, b), settings = kept(x1, x2), (p, eps, keepdims)

    def backward(gy: Array, _: tuple[bool, ...]) -> Sequence[Array | None]:
        return ops.pairwise_distance_backward(gy, a, b, *settings)

    return differentiable(ops.pairwise_distance(a, b, *settings), (x1, x2), backward)
