"""Differentiable cosine similarity; see :mod:`gpunn.ops.cosine`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32
from gpunn.functional.record import differentiable, kept
from gpunn.ops import cosine as ops


@in_float32
def cosine_similarity(x1: Any, x2: Any, axis: int = 1, eps: float = 1e-8) -> Any:
    """``(a . b) / (max(|a|, eps) max(|b|, eps))`` of the vectors of x1 and x2 along ``axis``; shapes broadcast.

    >>> import numpy as np
    >>> cosine_similarity(np.array([[3.0, 0.0]]), np.array([[5.0, 0.0]])).tolist()
    [1.0]
    """
    a, b = kept(x1, x2)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.cosine_similarity_backward_x1(gy, a, b, axis, eps) if needs[0] else None,
            ops.cosine_similarity_backward_x1(gy, b, a, axis, eps) if needs[1] else None,
        )

    return differentiable(ops.cosine_similarity(a, b, axis, eps), (x1, x2), backward)
