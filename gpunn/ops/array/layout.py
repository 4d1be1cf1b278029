"""Elements elsewhere: triangles, diagonals, turned and rolled axes, and what is gathered or scattered by indices.

    tril: y[i, j] = x[i, j] where j <= i + k, else 0        flip: y[i] = x[n - 1 - i]        roll: y[i] = x[i - s mod n]
    gather: y[i, j] = x[index[i, j], j]                     scatter: y[index[i, j], j] = src[i, j], elsewhere x

Both of the last two along axis 0 here. Where an index occurs several times, ``scatter_add`` adds up, and of what
``scatter`` puts in one place the last stays; on CuPy the order of additions is not fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, check_array, device_of, get_array_module, where
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError, check, fail
from gpunn.ops.array.indexing import check_range
from gpunn.ops.array.order import places
from gpunn.ops.array.shape import axes_of, axis_of
from gpunn.ops.shared.checks import integer


def tril(x: Array, diagonal: int = 0) -> Array:
    """The last two axes with 0 above the diagonal; its gradient is that of ``gy``.

    >>> tril(np.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _triangle("tril", x, diagonal)


def triu(x: Array, diagonal: int = 0) -> Array:
    """The last two axes with 0 below the diagonal; its gradient is that of ``gy``.

    >>> triu(np.ones((2, 2)), 1).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return _triangle("triu", x, diagonal)


def _triangle(op: str, x: Array, diagonal: int) -> Array:
    check_array(op, x=x)
    check(x.ndim >= 2, ShapeError, op, "x must have two axes at least", shape=x.shape)
    check(isinstance(diagonal, Integral), ArgumentError, op, "diagonal must be an integer", diagonal=diagonal)
    xp = get_array_module(x)
    beyond = xp.arange(x.shape[-1]) - xp.arange(x.shape[-2])[:, None]
    return where(beyond <= int(diagonal) if op == "tril" else beyond >= int(diagonal), x, xp.zeros((), x.dtype))


def flip(x: Array, axis: int | Sequence[int]) -> Array:
    """The elements along ``axis``, or several axes, from the last to the first; a copy. Its own gradient.

    >>> flip(np.array([1, 2, 3]), 0).tolist()
    [3, 2, 1]
    """
    check_array("flip", x=x)
    check(axis is not None, ArgumentError, "flip", "axis must be an axis, or several", axis=axis)
    return get_array_module(x).flip(x, axes_of("flip", x, axis)).copy()


def roll(x: Array, shifts: Any, axis: Any = None) -> Array:
    """Each element ``shifts`` places further along ``axis``, round the end; of the flattened array without an axis.

    >>> roll(np.array([1, 2, 3]), 1).tolist()
    [3, 1, 2]
    """
    check_array("roll", x=x)
    each = tuple(shifts) if isinstance(shifts, tuple | list) else (shifts,)
    whole = all(isinstance(shift, Integral) for shift in each)
    check(whole, ArgumentError, "roll", "shifts must be integers", shifts=shifts)
    xp = get_array_module(x)
    if axis is None:
        check(len(each) == 1, ArgumentError, "roll", "several shifts need as many axes", shifts=shifts)
        return xp.roll(x, int(each[0]))
    axes = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    check(len(axes) == len(each), ArgumentError, "roll", "each axis needs a shift", shifts=shifts, axis=axis)
    for shift, one in zip(each, axes, strict=True):  # an axis may come twice
        x = xp.roll(x, int(shift), axis_of("roll", x, one))
    return x


def opposite(shifts: Any) -> Any:
    """The shifts that undo ``shifts``: of the gradient of :func:`roll`."""
    return tuple(-shift for shift in shifts) if isinstance(shifts, tuple | list) else -shifts


def diagonal_places(op: str, x: Array, offset: int, axis1: int, axis2: int) -> tuple[int, int]:
    """The two axes counted from 0."""
    check_array(op, x=x)
    check(isinstance(offset, Integral), ArgumentError, op, "offset must be an integer", offset=offset)
    check(x.ndim >= 2, ShapeError, op, "there must be two axes at least", shape=x.shape)
    whole = isinstance(axis1, Integral) and isinstance(axis2, Integral)
    check(whole, ShapeError, op, "axes must be integers", axis1=axis1, axis2=axis2)
    first, second = axes_of(op, x, (axis1, axis2))
    return first, second


def diagonal_backward(gy: Array, shape: tuple[int, ...], offset: int, axis1: int, axis2: int) -> Array:
    """``gy`` on the diagonal of zeros of ``shape``."""
    xp = get_array_module(gy)
    gx, step = xp.zeros(shape, gy.dtype), xp.arange(gy.shape[-1])
    xp.moveaxis(gx, (axis1, axis2), (-2, -1))[..., step + max(0, -offset), step + max(0, offset)] = gy
    return gx


def expanded(op: str, shape: tuple[int, ...], sizes: Sequence[Any]) -> tuple[int, ...]:
    """The shape that ``sizes`` asks for, where -1 leaves a size of ``shape`` as it is.

    >>> expanded("expand", (1, 3), (2, 4, -1))
    (2, 4, 3)
    """
    check(all(isinstance(size, Integral) for size in sizes), ArgumentError, op, "sizes must be integers", sizes=sizes)
    added = len(sizes) - len(shape)
    old = (*(-1,) * added, *shape)
    wanted = tuple(own if size == -1 else int(size) for own, size in zip(old, sizes, strict=added >= 0))
    fits = added >= 0 and all(size >= 0 and own in (-1, 1, size) for own, size in zip(old, wanted, strict=True))
    check(fits, ShapeError, op, "only axes of size 1 grow, and new ones are in front", shape=shape, sizes=tuple(sizes))
    return wanted


def masked_index(x: Array, mask: Array) -> tuple[tuple[int, ...], Array]:
    """The shape of x and mask broadcast together, and the mask in it."""
    check_array("masked_select", x=x)
    check_mask("masked_select", x, mask)
    try:
        shape = np.broadcast_shapes(x.shape, mask.shape)
    except ValueError:
        fail(ShapeError, "masked_select", "shapes must broadcast", x=x.shape, mask=mask.shape)
    return shape, get_array_module(x).broadcast_to(mask, shape)


def check_mask(op: str, x: Array, mask: Array) -> None:
    """Check that ``mask`` is an array of booleans, on the device of x."""
    check_array(op, mask=mask)
    check(mask.dtype == np.bool_, DtypeError, op, "mask must hold booleans", dtype=str(mask.dtype))
    _one_device(op, x=x, mask=mask)


def check_fill(op: str, x: Array, mask: Array, value: Array) -> None:
    """Check ``mask``, and that ``value`` is one number."""
    check_mask(op, x, mask)
    check(value.ndim == 0, ShapeError, op, "value must be one number; use where for several", shape=value.shape)


def _one_device(op: str, **arrays: Array) -> None:
    devices = {name: device_of(a) for name, a in arrays.items()}
    check(len(set(devices.values())) == 1, DeviceError, op, "arrays must be on one device", **devices)


# ---- by indices ------------------------------------------------------------------------------------------------------


def select_index(x: Array, axis: int, indices: Array) -> tuple[Any, ...]:
    """The index of ``index_select``: the rows ``indices``, a vector, along ``axis``."""
    place = _checked("index_select", x, axis, indices)
    check(indices.ndim <= 1, ShapeError, "index_select", "indices must be a vector", shape=indices.shape)
    return (*(slice(None),) * place, indices.reshape(-1))


def gather_index(op: str, x: Array, axis: int, indices: Array) -> tuple[Array, ...]:
    """The index of the elements of x that ``indices`` names along ``axis``: of as many axes, none of them longer."""
    check_array(op, x=x, indices=indices)
    if not x.ndim and not indices.ndim:  # an element of a number without dimensions: itself
        _checked(op, x.reshape(1), axis, indices)
        return ()
    place = _checked(op, x, axis, indices)
    within = indices.ndim == x.ndim and all(
        a == place or n <= own for a, (n, own) in enumerate(zip(indices.shape, x.shape, strict=True))
    )
    rule = "indices must have the axes of x, none longer but axis"
    check(within, ShapeError, op, rule, indices=indices.shape, x=x.shape)
    return places(get_array_module(x), indices, place)


def _checked(op: str, x: Array, axis: int, indices: Array) -> int:
    check_array(op, x=x, indices=indices)
    check(indices.dtype.kind in "iu", DtypeError, op, "indices must be integers", dtype=str(indices.dtype))
    _one_device(op, x=x, indices=indices)
    place = axis_of(op, x, axis)
    check_range(op, indices, place, x.shape)
    return place


def scatter_put(x: Array, axis: int, indices: Array, src: Any) -> Array:
    """x with ``src[i]`` at ``indices[i]`` along ``axis``, for each i of indices; src may be a number.

    >>> scatter_put(np.zeros(3), 0, np.array([2, 0]), np.array([5.0, 6.0])).tolist()
    [6.0, 0.0, 5.0]
    """
    index, part = _scattered("scatter", x, axis, indices, src)
    y = x.copy()
    y[index] = part
    return y


def scatter_put_backward(gy: Array, axis: int, indices: Array, shape: Any, needs: Sequence[bool]) -> list[Array | None]:
    """``gy`` but 0 where something was put; and what it is there, in an array of the ``shape`` of src."""
    index = gather_index("scatter", gy, axis, indices)
    gx = gy.copy() if needs[0] else None
    if gx is not None:
        gx[index] = 0
    return [gx, _from_places(gy, index, indices.shape, shape) if needs[1] else None]


def scatter_add(x: Array, axis: int, indices: Array, src: Array) -> Array:
    """x with ``src[i]`` added at ``indices[i]`` along ``axis``, for each i of indices.

    >>> scatter_add(np.zeros(3), 0, np.array([2, 2]), np.array([5.0, 6.0])).tolist()
    [0.0, 0.0, 11.0]
    """
    check_array("scatter_add", src=src)
    index, part = _scattered("scatter_add", x, axis, indices, src)
    dtype = accumulation_dtype(x.dtype) if x.dtype.kind not in "biu" else x.dtype
    y = x.astype(dtype)
    get_array_module(x).add.at(y, index, part.astype(dtype, copy=False))
    return y.astype(x.dtype, copy=False)


def scatter_add_backward(gy: Array, axis: int, indices: Array, shape: Any, needs: Sequence[bool]) -> list[Array | None]:
    """``gy``; and what it is where something was added, in an array of the ``shape`` of src."""
    index = gather_index("scatter_add", gy, axis, indices)
    return [gy if needs[0] else None, _from_places(gy, index, indices.shape, shape) if needs[1] else None]


def _from_places(gy: Array, index: Any, part: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    g = get_array_module(gy).zeros(shape, gy.dtype)
    g[tuple(map(slice, part))] = gy[index]
    return g


def _scattered(op: str, x: Array, axis: int, indices: Array, src: Any) -> tuple[Any, Any]:
    index = gather_index(op, x, axis, indices)
    if isinstance(src, int | float):
        return index, src
    check_array(op, src=src)
    _one_device(op, x=x, src=src)
    check(x.dtype == src.dtype, DtypeError, op, "arrays must have one dtype", x=str(x.dtype), src=str(src.dtype))
    fits = src.ndim == indices.ndim and all(n <= own for n, own in zip(indices.shape, src.shape, strict=True))
    check(fits, ShapeError, op, "indices must fit into src", indices=indices.shape, src=src.shape)
    return index, src[tuple(map(slice, indices.shape))]


# ---- repeated --------------------------------------------------------------------------------------------------------


def tiles(x: Array, reps: Any) -> tuple[int, ...]:
    """How often each axis of x comes, 1 for the first ones where there are fewer ``reps`` than axes."""
    check_array("tile", x=x)
    given = tuple(reps) if isinstance(reps, tuple | list) else (reps,)
    counts = tuple(integer("tile", "reps", rep, 0) for rep in given)
    return (*(1,) * (x.ndim - len(counts)), *counts)


def tile_backward(gy: Array, shape: tuple[int, ...], reps: tuple[int, ...]) -> Array:
    """The sum of ``gy`` over the copies of each element of an array of ``shape``."""
    sizes = (*(1,) * (len(reps) - len(shape)), *shape)
    apart = gy.reshape([n for pair in zip(reps, sizes, strict=True) for n in pair])
    g = apart.sum(tuple(range(0, 2 * len(reps), 2)), dtype=accumulation_dtype(gy.dtype))
    return get_array_module(gy).asarray(g).astype(gy.dtype, copy=False).reshape(shape)
