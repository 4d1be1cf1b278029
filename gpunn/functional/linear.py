"""Differentiable affine map; see :mod:`gpunn.ops.linear`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_half
from gpunn.functional.record import differentiable, kept
from gpunn.ops import linear as ops


@in_half
def linear(x: Any, w: Any, b: Any = None) -> Any:
    """``x W^T + b`` for x (..., in), W (out, in), b (out,).

    >>> import numpy as np
    >>> linear(np.ones((1, 2)), np.array([[2.0, 3.0]])).tolist()
    [[5.0]]
    """
    xd, wd, bd = kept(x, w, b)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.linear_backward_x(gy, wd) if needs[0] else None,
            ops.linear_backward_w(gy, xd) if needs[1] else None,
            ops.linear_backward_b(gy) if needs[2] else None,
        )

    return differentiable(ops.linear(xd, wd, bd), (x, w, b), backward)
