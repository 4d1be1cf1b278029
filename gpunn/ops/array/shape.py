"""What changes the shape of arrays and not their elements: axes, joining, splitting and repeating, with gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, check_array, device_of, get_array_module, is_array
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check

Axis = int | tuple[int, ...] | None


def axes_of(op: str, x: Array, axis: Any) -> tuple[int, ...]:
    """``axis`` (None for all, an integer, or several) as distinct axes of ``x``, counted from 0.

    >>> axes_of("sum", np.ones((2, 3, 4)), (-1, 0))
    (2, 0)

    A number without dimensions counts as one element along axis 0, as in PyTorch.

    Raises ShapeError for an axis that x does not have, or that is given twice.
    """
    if axis is None:
        return tuple(range(x.ndim))
    given = axis if isinstance(axis, tuple | list) else (axis,)
    valid = all(isinstance(a, Integral) and -x.ndim <= a < x.ndim for a in given)
    if not valid and not x.ndim and all(isinstance(a, Integral) and a in (0, -1) for a in given):
        return ()
    check(valid, ShapeError, op, "axis must be one of x's", axis=axis, shape=x.shape)
    axes = tuple(int(a) % x.ndim for a in given)
    check(len(set(axes)) == len(axes), ShapeError, op, "each axis must be given once", axis=axis, shape=x.shape)
    return axes


def axis_of(op: str, x: Array, axis: Any) -> int:
    """``axis``, an integer, as an axis of ``x``, counted from 0; see :func:`axes_of`."""
    check(isinstance(axis, Integral), ShapeError, op, "axis must be an integer", axis=axis, shape=x.shape)
    check(x.ndim > 0, ShapeError, op, "axis must be one of x's", axis=axis, shape=x.shape)
    return axes_of(op, x, axis)[0]


def permutation(x: Array, axes: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The order of the axes that ``transpose(axes)`` asks for (none: reversed), and the order that undoes it."""
    order = axes_of("transpose", x, tuple(axes)) if axes else tuple(range(x.ndim))[::-1]
    check(len(order) == x.ndim, ShapeError, "transpose", "each axis must be given once", axis=order, shape=x.shape)
    return order, tuple(sorted(range(x.ndim), key=order.__getitem__))


def flattened(op: str, shape: Sequence[int], start_dim: int, end_dim: int) -> list[int]:
    """``shape`` with the axes from ``start_dim`` to ``end_dim`` as one.

    >>> flattened("flatten", (2, 3, 4), 1, -1)
    [2, 12]
    """
    ndim = max(1, len(shape))
    first, last = (_place(op, name, dim, ndim) for name, dim in (("start_dim", start_dim), ("end_dim", end_dim)))
    rule = "start_dim must not come after end_dim"
    check(first <= last, ShapeError, op, rule, start_dim=start_dim, end_dim=end_dim, shape=tuple(shape))
    return [*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]]


def unsqueezed(op: str, shape: Sequence[int], dim: int) -> list[int]:
    """``shape`` with an axis of size 1 more, which is number ``dim`` of the result.

    >>> unsqueezed("unsqueeze", (2, 3), -1)
    [2, 3, 1]
    """
    place = _place(op, "dim", dim, len(shape) + 1)
    return [*shape[:place], 1, *shape[place:]]


def _place(op: str, name: str, axis: Any, ndim: int) -> int:
    """``axis``, of ``ndim`` axes, counted from 0."""
    valid = isinstance(axis, Integral) and -ndim <= int(axis) < ndim
    check(valid, ShapeError, op, f"{name} must be an axis, {-ndim} to {ndim - 1}", **{name: axis})
    return int(axis) % ndim


def spread(g: Array, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """``g``, the gradient of a sum over ``axis``, broadcast back to the ``shape`` that was reduced."""
    xp = get_array_module(g)
    if axis is not None and not keepdims and shape:
        g = xp.expand_dims(g, axis)
    return xp.broadcast_to(g, shape)


def concatenate(arrays: Sequence[Array], axis: int = 0, op: str = "concatenate") -> Array:
    """The arrays one after another along ``axis``; their other axes must be equal.

    >>> concatenate([np.array([1, 2]), np.array([3])]).tolist()
    [1, 2, 3]
    """
    xp = _joined(op, arrays)
    first = arrays[0]
    check(first.ndim > 0, ShapeError, op, "arrays must have dimensions; use stack", shape=first.shape)
    along = axis_of(op, first, axis)
    rests = {(a.ndim, a.shape[:along], a.shape[along + 1 :]) for a in arrays}
    shapes = [a.shape for a in arrays]
    rule = "shapes may differ along axis only"
    check(len(rests) == 1, ShapeError, op, rule, axis=axis, shapes=shapes)
    return xp.concatenate(list(arrays), along)


def concatenate_backward(gy: Array, shapes: Sequence[tuple[int, ...]], axis: int = 0) -> list[Array]:
    """The part of ``gy`` that belongs to each of the arrays of ``shapes``."""
    sizes = [shape[axis] for shape in shapes]
    return [gy[part] for part in split_indices(gy, sizes, axis)]


def stack(arrays: Sequence[Array], axis: int = 0) -> Array:
    """The arrays, all of one shape, side by side along a new ``axis``.

    >>> stack([np.array([1, 2]), np.array([3, 4])], axis=1).tolist()
    [[1, 3], [2, 4]]
    """
    xp = _joined("stack", arrays)
    shapes = [a.shape for a in arrays]
    check(len(set(shapes)) == 1, ShapeError, "stack", "arrays must have one shape", shapes=shapes)
    ndim = len(shapes[0])
    valid = isinstance(axis, Integral) and -ndim - 1 <= axis <= ndim
    check(valid, ShapeError, "stack", f"axis must lie in {-ndim - 1} to {ndim}", axis=axis)
    return xp.stack(list(arrays), axis)


def stack_backward(gy: Array, axis: int = 0) -> list[Array]:
    """The part of ``gy`` that belongs to each array."""
    return list(get_array_module(gy).moveaxis(gy, axis, 0))


def _joined(op: str, arrays: Sequence[Array]) -> Any:
    check(len(arrays) > 0, ArgumentError, op, "there must be at least one array")
    check(all(map(is_array, arrays)), DtypeError, op, "every item must be an array", types=[type(a) for a in arrays])
    devices, dtypes = [device_of(a) for a in arrays], [str(a.dtype) for a in arrays]
    check(len(set(devices)) == 1, DeviceError, op, "arrays must be on one device", devices=devices)
    check(len(set(dtypes)) == 1, DtypeError, op, "arrays must have one dtype", dtypes=dtypes)
    return get_array_module(*arrays)


def split_indices(x: Array, size_or_sizes: int | Sequence[int], axis: int = 0) -> list[tuple[slice, ...]]:
    """The indices of the pieces of ``x`` along ``axis``: each of one size (the last may be smaller), or of given sizes.

    >>> [np.arange(5)[index].tolist() for index in split_indices(np.arange(5), 2)]
    [[0, 1], [2, 3], [4]]
    """
    check_array("split", x=x)
    along = axis_of("split", x, axis)
    length = x.shape[along]
    if isinstance(size_or_sizes, int | np.integer):
        size = int(size_or_sizes)
        check(size > 0, ArgumentError, "split", "pieces must have at least one element", size=size)
        ends = [min(length, start + size) for start in range(0, max(length, 1), size)]
    else:
        several = isinstance(size_or_sizes, list | tuple) and all(isinstance(size, Integral) for size in size_or_sizes)
        check(several, ArgumentError, "split", "pieces must be an integer, or a list of them", pieces=size_or_sizes)
        sizes = [int(size) for size in size_or_sizes]
        valid = min(sizes, default=-1) >= 0 and sum(sizes) == length
        check(valid, ArgumentError, "split", "sizes must add up to the axis", sizes=sizes, axis=axis, shape=x.shape)
        ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    before = (slice(None),) * along
    return [(*before, slice(start, end)) for start, end in zip([0, *ends], ends, strict=False)]


def repeat_backward(gy: Array, shape: tuple[int, ...], repeats: int, axis: int) -> Array:
    """The gradient of ``repeat`` along ``axis`` of an array of ``shape``: the sum over the copies of each element."""
    copies = gy.reshape(*shape[: axis + 1], repeats, *shape[axis + 1 :])
    return copies.sum(axis + 1, dtype=accumulation_dtype(gy.dtype)).astype(gy.dtype, copy=False)
