"""Choosing elements: by a condition, the larger, the smaller, or kept within bounds; forward and backward.

Where two elements are equal, ``maximum`` and ``minimum`` give half of the gradient to each, as a maximum over an axis
does (:mod:`gpunn.ops.array.reduction`). ``clip`` has the gradient 1 from bound to bound, the bounds included, and 0
outside, where a bound that is an array has it. Where one of them gives NaN, the elements that it may come from all have
the whole gradient, so that nothing hides it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from gpunn import backend
from gpunn.backend import Array, cast, check_array, device_of, get_array_module, is_floating
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.array.arithmetic import Gradients, pair, unbroadcast


def where(condition: Array, a: Array, b: Array) -> Array:
    """``a`` where ``condition`` holds, else ``b``; the three shapes broadcast.

    >>> where(np.array([True, False]), np.array([1, 2]), np.array([3, 4])).tolist()
    [1, 4]
    """
    check_array("where", condition=condition)
    boolean = condition.dtype == np.bool_
    check(boolean, DtypeError, "where", "condition must hold booleans", dtype=str(condition.dtype))
    here, there = device_of(condition), device_of(a)
    check(here == there, DeviceError, "where", "all must be on one device", condition=here, a=there)
    try:
        np.broadcast_shapes(condition.shape, a.shape, b.shape)
    except ValueError:
        fail(ShapeError, "where", "shapes must broadcast", condition=condition.shape, a=a.shape, b=b.shape)
    return backend.where(condition, a, b)


def where_backward(gy: Array, condition: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy`` where the condition holds, and where it does not."""
    ga = unbroadcast(gy * condition, a.shape) if needs[0] else None
    gb = unbroadcast(gy * ~condition, b.shape) if needs[1] else None
    return ga, gb


def maximum(a: Array, b: Array) -> Array:
    """The larger of a and b; NaN if one of them is.

    >>> maximum(np.array([1.0, 5.0]), np.array([2.0, 3.0])).tolist()
    [2.0, 5.0]
    """
    xp = get_array_module(a, b)
    return xp.asarray(xp.maximum(a, b))


def maximum_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy`` to the larger, half of it to each where they are equal, all of it to both where one is NaN."""
    return _to_the_chosen(gy, a, b, needs, loses=operator.lt)


def minimum(a: Array, b: Array) -> Array:
    """The smaller of a and b; NaN if one of them is.

    >>> minimum(np.array([1.0, 5.0]), np.array([2.0, 3.0])).tolist()
    [1.0, 3.0]
    """
    xp = get_array_module(a, b)
    return xp.asarray(xp.minimum(a, b))


def minimum_backward(gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """As :func:`maximum_backward`, to the smaller."""
    return _to_the_chosen(gy, a, b, needs, loses=operator.gt)


def _to_the_chosen(
    gy: Array, a: Array, b: Array, needs: tuple[bool, ...], loses: Callable[[Array, Array], Array]
) -> Gradients:
    """The gradients of a choice of elements; ``loses(a, b)`` says where b is chosen before a."""
    ga = unbroadcast(gy * _share(loses(a, b), a == b, gy.dtype), a.shape) if needs[0] else None
    gb = unbroadcast(gy * _share(loses(b, a), a == b, gy.dtype), b.shape) if needs[1] else None
    return ga, gb


def _share(other: Array, equal: Array, dtype: Any) -> Array:
    """0 where the ``other`` element is chosen, 1/2 where they are equal, else (also beside NaN) 1."""
    return 1 - other.astype(dtype) - equal.astype(dtype) / 2


def clip(x: Array, min: float | None = None, max: float | None = None) -> Array:
    """``x`` with what is below ``min`` raised to it and what is above ``max`` lowered to it.

    >>> clip(np.array([-2.0, 0.5, 3.0]), 0, 1).tolist()
    [0.0, 0.5, 1.0]
    """
    low, high = _bounds(x, min, max)
    xp = get_array_module(x)
    return cast(xp.asarray(xp.clip(x, low, high)), x.dtype)  # of bfloat16 it makes float32


def clip_backward(gy: Array, x: Array, min: float | None = None, max: float | None = None) -> Array:
    """``gy`` where min <= x <= max or x is NaN, else 0."""
    low, high = _bounds(x, min, max)
    outside = x > high if low is None else x < low
    return gy * ~(outside if low is None or high is None else outside | (x > high))


def _bounds(x: Array, *bounds: float | None) -> list[Any]:
    """The bounds as numbers that leave the dtype of x as it is."""
    check_array("clip", x=x)
    low, high = bounds
    numbers = all(bound is None or isinstance(bound, Real) for bound in bounds)
    rule = "bounds must be numbers or arrays"
    check(numbers, DtypeError, "clip", rule, min=low, max=high)
    check(low is not None or high is not None, ArgumentError, "clip", "one of the bounds must be given")
    if low is not None and high is not None:
        check(low <= high, ArgumentError, "clip", "min must not be above max", min=low, max=high)
    if is_floating(x.dtype):
        # Of that dtype themselves: with bfloat16 Python's floats would make float32.
        return [None if bound is None else x.dtype.type(bound) for bound in bounds]
    whole = all(bound is None or isinstance(bound, Integral) for bound in bounds)
    check(whole, DtypeError, "clip", "bounds of integers must be integers", min=low, max=high, dtype=str(x.dtype))
    return [None if bound is None else int(bound) for bound in bounds]


def bounded(op: str, x: Array, low: Any, high: Any) -> tuple[Array, Array | None, Array | None]:
    """x and its bounds as arrays of one device, one dtype, and shapes that broadcast; None stays None."""
    check_array(op, x=x)
    low, high = (None if bound is None else pair(op, x, bound)[1] for bound in (low, high))
    if low is not None and high is not None:
        pair(op, low, high)
    return x, low, high


def clip_between(x: Array, low: Array | None, high: Array | None) -> Array:
    """:func:`clip` with bounds for each element; ``high`` where they cross.

    >>> clip_between(np.array([1.0, 5.0]), np.array([2.0, 2.0]), np.array([3.0, 3.0])).tolist()
    [2.0, 3.0]
    """
    y = x if low is None else maximum(x, low)
    return y if high is None else minimum(y, high)


def clip_between_backward(
    gy: Array, x: Array, low: Array | None, high: Array | None, needs: tuple[bool, ...]
) -> list[Array | None]:
    """``gy`` to x where it lies between the bounds, to ``high`` above it or where they cross, else to ``low``."""
    never = get_array_module(gy).zeros((), bool)
    below = never if low is None else x < low
    above = never if high is None else (x > high) if low is None else (x > high) | (low > high)
    shares = (~(below | above), below & ~above, above)
    return [
        unbroadcast(gy * share, a.shape) if need and a is not None else None
        for share, a, need in zip(shares, (x, low, high), needs, strict=True)
    ]
