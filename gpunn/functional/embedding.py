"""Differentiable embedding; see :mod:`gpunn.ops.embedding`."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.functional.record import copied, differentiable, raw
from gpunn.ops import embedding as ops


def embedding(indices: Any, weight: Any, padding_idx: int | None = None) -> Any:
    """The rows of weight (V, D) that the integers ``indices`` name: one more axis than indices, of D.

    The row ``padding_idx`` (negative: counted from the end) gets no gradient.

    >>> import numpy as np
    >>> embedding(np.array([2, 0]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """
    index, y = copied(indices, weight), ops.embedding(raw(indices), raw(weight))
    rows = weight.shape[0]
    if padding_idx is not None:
        rule = f"padding_idx must lie in {-rows} to {rows - 1}"
        check(
            isinstance(padding_idx, Integral) and -rows <= padding_idx < rows,
            ArgumentError,
            "embedding",
            rule,
            padding_idx=padding_idx,
        )
        padding_idx %= rows
    return differentiable(y, (weight,), lambda gy, _: (ops.embedding_backward(gy, index, rows, padding_idx),))
