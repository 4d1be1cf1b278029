"""Lengths without overflow: squares are of numbers divided by the largest, which is multiplied again at the end.

    norm = s (sum_i (|x[i]| / s)^kind)^(1 / kind),  s = max_i |x[i]|

float16 is computed in float32. Source: Blue 1978, "A portable Fortran program to find the Euclidean norm of a vector".
"""

from __future__ import annotations

import math

from gpunn.backend import Array, accumulation_dtype, get_array_module


def largest(x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """``max |x[i]|``, or NaN; 0 without elements. With ``axis``, along that one, which stays with size 1.

    >>> import numpy as np
    >>> largest(np.array([1.0, -3.0])).tolist()
    3.0
    """
    xp, dtype, keep = get_array_module(x), accumulation_dtype(x.dtype), axis is not None
    top = x.sum(axis, keepdims=keep) if x.size == 0 else xp.abs(x).max(axis, keepdims=keep)
    return xp.asarray(top, dtype)


def divisor(largest: Array) -> Array:
    """What to divide by before powers are taken: ``largest``, or 1 where that is 0 or not finite."""
    xp = get_array_module(largest)
    return xp.where((largest > 0) & (largest < math.inf), largest, xp.ones_like(largest))


def power_sum(x: Array, divisor: Array, kind: float) -> Array:
    """``sum_i (|x[i]| / divisor)^kind``, an array of no axes."""
    xp = get_array_module(x)
    share = x.astype(accumulation_dtype(x.dtype), copy=False) / divisor
    return xp.asarray((share * share if kind == 2 else xp.abs(share) ** kind).sum())


def norm(x: Array) -> Array:
    """The root of the sum of squares of all elements, an array of no axes.

    >>> import numpy as np
    >>> norm(np.array([3e-200, -4e-200])).tolist()
    5e-200
    """
    xp, unit = get_array_module(x), divisor(largest(x))
    return xp.asarray(unit * xp.sqrt(power_sum(x, unit, 2)))
