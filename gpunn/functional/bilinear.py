"""Differentiable bilinear map; see :mod:`gpunn.ops.bilinear`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_half
from gpunn.functional.record import differentiable, kept
from gpunn.ops import bilinear as ops
from gpunn.ops.linear import linear_backward_b


@in_half
def bilinear(x1: Any, x2: Any, w: Any, b: Any = None) -> Any:
    """``sum_ij x1[n, i] w[k, i, j] x2[n, j] + b[k]`` for x1 (..., I), x2 (..., J), w (K, I, J), b (K,).

    >>> import numpy as np
    >>> bilinear(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[[4.0], [5.0]]])).tolist()
    [[42.0]]
    """
    left, right, wd, bd = kept(x1, x2, w, b)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.bilinear_backward_x1(gy, right, wd) if needs[0] else None,
            ops.bilinear_backward_x1(gy, left, wd.transpose(0, 2, 1)) if needs[1] else None,
            ops.bilinear_backward_w(gy, left, right) if needs[2] else None,
            linear_backward_b(gy) if needs[3] else None,
        )

    return differentiable(ops.bilinear(left, right, wd, bd), (x1, x2, w, b), backward)
