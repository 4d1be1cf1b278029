"""Differentiable joining and splitting; see :mod:`gpunn.ops.shape`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.casting import in_widest
from gpunn.errors import ArgumentError, check
from gpunn.functional.record import differentiable, raw
from gpunn.ops import shape as ops


@in_widest
def concatenate(arrays: Sequence[Any], axis: int = 0) -> Any:
    """The arrays one after another along ``axis``; their other axes must be equal.

    >>> import numpy as np
    >>> concatenate([np.array([1, 2]), np.array([3])]).tolist()
    [1, 2, 3]
    """
    parts = _raw("concatenate", arrays)
    y, shapes = ops.concatenate(parts, axis), [part.shape for part in parts]
    return differentiable(y, arrays, lambda gy, _: ops.concatenate_backward(gy, shapes, axis))


@in_widest
def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """The arrays, all of one shape, side by side along a new ``axis``.

    >>> import numpy as np
    >>> stack([np.array([1, 2]), np.array([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    y = ops.stack(_raw("stack", arrays), axis)
    return differentiable(y, arrays, lambda gy, _: ops.stack_backward(gy, axis))


def split(x: Any, split_size_or_sections: int | Sequence[int], axis: int = 0) -> tuple[Any, ...]:
    """The pieces of ``x`` along ``axis``: each of one size (the last may be smaller), or of the sizes listed.

    The pieces are views: a change in place of one is a change of x.

    >>> import numpy as np
    >>> [piece.tolist() for piece in split(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    >>> [piece.tolist() for piece in split(np.arange(5), [1, 4])]
    [[0], [1, 2, 3, 4]]
    """
    return tuple(x[index] for index in ops.split_indices(raw(x), split_size_or_sections, axis))


def _raw(op: str, arrays: Any) -> list[Any]:
    several = isinstance(arrays, list | tuple)
    check(several, ArgumentError, op, "arrays must be a list or tuple of them", type=type(arrays).__name__)
    return [raw(a) for a in arrays]
