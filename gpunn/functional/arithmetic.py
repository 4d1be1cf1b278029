"""The differentiable matrix product as a function; see :mod:`gpunn.ops.arithmetic`."""

from __future__ import annotations

from typing import Any

from gpunn.casting import in_half
from gpunn.functional.record import differentiable, kept
from gpunn.ops import arithmetic as ops


@in_half
def matmul(a: Any, b: Any) -> Any:
    """``a @ b``: the matrix product of the last two axes, (..., N, K) by (..., K, M); the axes before them broadcast.

    A vector counts as a row of a, or a column of b. Raises ShapeError if the inner sizes differ.

    >>> import numpy as np
    >>> matmul(np.ones((2, 3)), np.ones((3, 1))).tolist()
    [[3.0], [3.0]]
    """
    x, y = ops.agreeing("matmul", *kept(a, b))
    return differentiable(ops.matmul(x, y), (a, b), lambda gy, needs: ops.matmul_backward(gy, x, y, needs))
