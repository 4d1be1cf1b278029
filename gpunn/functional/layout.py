"""Differentiable functions that move, choose and repeat elements; see :mod:`gpunn.ops.array.layout`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn.backend import (
    Array,
    asarray,
    cast,
    check_array,
    device_of,
    dtype_of,
    generator_or_default,
    get_array_module,
    is_array,
    is_floating,
)
from gpunn.casting import in_widest
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number
from gpunn.functional.array import einsum, split
from gpunn.functional.order import by_tensor
from gpunn.functional.record import Input, X, Y, copied, differentiable, kept, raw
from gpunn.ops.array import indexing, selection, vector
from gpunn.ops.array import layout as ops
from gpunn.ops.array.arithmetic import agreeing, pair, unbroadcast
from gpunn.ops.array.shape import axes_of, axis_of, unsqueezed
from gpunn.ops.shared.checks import integer
from gpunn.tensor import Tensor, wrapped

# ---- shapes ----------------------------------------------------------------------------------------------------------


def reshape(x: X, shape: Sequence[int]) -> X:
    """The elements of x in ``shape``; one of its sizes may be -1, what is left over.

    >>> import numpy as np
    >>> reshape(np.arange(4), (2, -1)).tolist()
    [[0, 1], [2, 3]]
    """
    return by_tensor("reshape", x, lambda t: t.reshape(shape))


def flatten(x: X, start_dim: int = 0, end_dim: int = -1) -> X:
    """A copy with the axes from ``start_dim`` to ``end_dim`` as one.

    >>> import numpy as np
    >>> flatten(np.ones((2, 3, 4)), 1).shape
    (2, 12)
    """
    return by_tensor("flatten", x, lambda t: t.flatten(start_dim, end_dim))


def squeeze(x: X, axis: int | tuple[int, ...] | None = None) -> X:
    """x without its axes of size 1, or without those of them that are in ``axis``.

    >>> import numpy as np
    >>> squeeze(np.ones((1, 2, 1))).shape, squeeze(np.ones((1, 2, 1)), 1).shape
    ((2,), (1, 2, 1))
    """

    def squeezed(t: Tensor) -> Tensor:
        gone = axes_of("squeeze", t.data, axis)
        return t.reshape([size for place, size in enumerate(t.shape) if size != 1 or place not in gone])

    return by_tensor("squeeze", x, squeezed)


def unsqueeze(x: X, axis: int) -> X:
    """x with an axis of size 1 more, which is number ``axis`` of the result.

    >>> import numpy as np
    >>> unsqueeze(np.ones((2, 3)), -1).shape
    (2, 3, 1)
    """
    return by_tensor("unsqueeze", x, lambda t: t.reshape(unsqueezed("unsqueeze", t.shape, axis)))


def permute(x: X, axes: Sequence[int]) -> X:
    """x with its axes in the order of ``axes``.

    >>> import numpy as np
    >>> permute(np.ones((2, 3, 4)), (2, 0, 1)).shape
    (4, 2, 3)
    """
    return by_tensor("permute", x, lambda t: t.permute(axes))


def swapaxes(x: X, axis1: int, axis2: int) -> X:
    """x with two axes exchanged: what PyTorch's ``transpose(x, dim0, dim1)`` gives.

    >>> import numpy as np
    >>> swapaxes(np.ones((2, 3, 4)), 0, 2).shape
    (4, 3, 2)
    """
    return by_tensor("swapaxes", x, lambda t: t.swapaxes(axis1, axis2))


def movedim(x: X, source: int | Sequence[int], destination: int | Sequence[int]) -> X:
    """x with the axes ``source`` at the places ``destination``, the others in the order they have.

    >>> import numpy as np
    >>> movedim(np.ones((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """

    def moved(t: Tensor) -> Tensor:
        given = [tuple(each) if isinstance(each, list | tuple) else each for each in (source, destination)]
        old, new = (axes_of("movedim", t.data, each if each is not None else ()) for each in given)
        rule = "each axis needs a place"
        check(len(old) == len(new), ArgumentError, "movedim", rule, source=source, destination=destination)
        order = [axis for axis in range(t.ndim) if axis not in old]
        for place, axis in sorted(zip(new, old, strict=True)):
            order.insert(place, axis)
        return t.permute(order)

    return by_tensor("movedim", x, moved)


def broadcast_to(x: X, shape: Sequence[int]) -> X:
    """A copy of x in ``shape``: its elements repeated along axes of size 1, and along new ones in front.

    >>> import numpy as np
    >>> broadcast_to(np.array([1, 2]), (2, 2)).tolist()
    [[1, 2], [1, 2]]
    """
    return by_tensor("broadcast_to", x, lambda t: t.expand(shape))


def tile(x: X, reps: int | Sequence[int]) -> X:
    """x ``reps`` times along each axis, the last ones if there are more: what PyTorch's ``x.repeat(*reps)`` gives.

    >>> import numpy as np
    >>> tile(np.array([1, 2]), (2, 2)).tolist()
    [[1, 2, 1, 2], [1, 2, 1, 2]]
    """
    xd = raw(x)
    counts, shape = ops.tiles(xd, reps), xd.shape
    y = get_array_module(xd).tile(xd, counts)
    return differentiable(y, (x,), lambda gy, _: (ops.tile_backward(gy, shape, counts),))


def chunk(x: X, chunks: int, axis: int = 0) -> tuple[X, ...]:
    """x along ``axis`` in ``chunks`` pieces of one size, the last smaller; there may be fewer. They are views.

    Of an axis of size 0 all pieces are empty.

    >>> import numpy as np
    >>> [piece.tolist() for piece in chunk(np.arange(5), 2)]
    [[0, 1, 2], [3, 4]]
    """
    check_array("chunk", x=raw(x))
    count, length = integer("chunk", "chunks", chunks, 1), raw(x).shape[axis_of("chunk", raw(x), axis)]
    return split(x, -(-length // count) if length else [0] * count, axis)


def unbind(x: X, axis: int = 0) -> tuple[X, ...]:
    """The slices of x along ``axis``, which they lack; views.

    >>> import numpy as np
    >>> [row.tolist() for row in unbind(np.array([[1, 2], [3, 4]]), 1)]
    [[1, 3], [2, 4]]
    """
    check_array("unbind", x=raw(x))
    whole: Any = x  # a Tensor stays one when it is indexed
    place = axis_of("unbind", raw(x), axis)
    return tuple(whole[(*(slice(None),) * place, number)] for number in range(raw(x).shape[place]))


# ---- triangles, diagonals, turns -------------------------------------------------------------------------------------


def tril(x: X, diagonal: int = 0) -> X:
    """The matrices of the last two axes, with 0 where the column is more than ``diagonal`` beyond the row.

    >>> import numpy as np
    >>> tril(np.ones((2, 2))).tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return differentiable(ops.tril(raw(x), diagonal), (x,), lambda gy, _: (ops.tril(gy, diagonal),))


def triu(x: X, diagonal: int = 0) -> X:
    """The matrices of the last two axes, with 0 where the column is less than ``diagonal`` beyond the row.

    >>> import numpy as np
    >>> triu(np.ones((2, 2)), 1).tolist()
    [[0.0, 1.0], [0.0, 0.0]]
    """
    return differentiable(ops.triu(raw(x), diagonal), (x,), lambda gy, _: (ops.triu(gy, diagonal),))


def diagonal(x: X, offset: int = 0, axis1: int = 0, axis2: int = 1) -> X:
    """The elements whose second index is ``offset`` more than the first, along a last axis of their own; a copy.

    >>> import numpy as np
    >>> diagonal(np.array([[1, 2], [3, 4]])).tolist()
    [1, 4]
    """
    return by_tensor("diagonal", x, lambda t: t.diagonal(offset, axis1, axis2))


def trace(x: X) -> X:
    """The sum of the diagonal of a matrix.

    >>> import numpy as np
    >>> trace(np.array([[1, 2], [3, 4]])).tolist()
    5
    """

    def traced(t: Tensor) -> Tensor:
        check(t.ndim == 2, ShapeError, "trace", "x must be a matrix", shape=t.shape)
        return t.trace()

    return by_tensor("trace", x, traced)


def flip(x: X, axis: int | Sequence[int]) -> X:
    """x with the elements along ``axis``, or several axes, from the last to the first; a copy.

    >>> import numpy as np
    >>> flip(np.array([1, 2, 3]), 0).tolist()
    [3, 2, 1]
    """
    return differentiable(ops.flip(raw(x), axis), (x,), lambda gy, _: (ops.flip(gy, axis),))


def roll(x: X, shifts: int | Sequence[int], axis: int | Sequence[int] | None = None) -> X:
    """Each element ``shifts`` places further along ``axis``, from the end to the beginning; several of both at once.

    Without an axis, of the flattened array.

    >>> import numpy as np
    >>> roll(np.array([1, 2, 3]), 1, 0).tolist()
    [3, 1, 2]
    """
    y = ops.roll(raw(x), shifts, axis)
    return differentiable(y, (x,), lambda gy, _: (ops.roll(gy, ops.opposite(shifts), axis),))


# ---- by masks and indices --------------------------------------------------------------------------------------------


@in_widest
def masked_fill(x: Input[Y], mask: Any, value: Input[Y] | float) -> Y:
    """``value``, a number or an array without dimensions, where ``mask`` (booleans) holds; else x. Shapes broadcast.

    >>> import numpy as np
    >>> masked_fill(np.array([1.0, 2.0]), np.array([True, False]), 9.0).tolist()
    [9.0, 2.0]
    """
    chosen, (xd, v) = copied(mask, x, value), pair("masked_fill", raw(x), raw(value))
    inputs = (value if is_array(raw(value)) else v, x)
    ops.check_fill("masked_fill", xd, chosen, v)
    y = selection.where(chosen, v, xd)
    return differentiable(y, inputs, lambda gy, needs: selection.where_backward(gy, chosen, v, xd, needs))


def masked_select(x: X, mask: Any) -> X:
    """The elements of x where ``mask`` holds, as a vector; the shapes broadcast.

    >>> import numpy as np
    >>> masked_select(np.array([1.0, 2.0]), np.array([False, True])).tolist()
    [2.0]
    """
    xd = raw(x)
    shape, chosen = ops.masked_index(xd, copied(mask, x))
    old, xp = xd.shape, get_array_module(xd)

    def backward(gy: Array, _: Any) -> tuple[Array]:
        return (unbroadcast(indexing.scatter(gy, shape, chosen), old),)

    return differentiable(xp.broadcast_to(xd, shape)[chosen], (x,), backward)


def index_select(x: X, axis: int, indices: Any) -> X:
    """The rows of x along ``axis`` that the vector ``indices`` names.

    >>> import numpy as np
    >>> index_select(np.array([[1, 2, 3]]), 1, np.array([2, 0])).tolist()
    [[3, 1]]
    """
    xd = raw(x)
    check_array("index_select", x=xd)
    if not xd.ndim:  # a row of a number without dimensions is a number
        return reshape(index_select(reshape(x, (1,)), axis, indices), ())
    return _at(x, ops.select_index(xd, axis, copied(indices, x)))


def gather(x: X, axis: int, indices: Any) -> X:
    """``y[i, j] = x[indices[i, j], j]`` for axis 0, and so for the others: elements named along one axis.

    ``indices`` has as many axes as x, none of them longer but ``axis``.

    >>> import numpy as np
    >>> gather(np.array([[1, 2], [3, 4]]), 1, np.array([[1], [0]])).tolist()
    [[2], [3]]
    """
    index = copied(indices, x)
    if getattr(raw(x), "ndim", 1) == 0 and getattr(index, "ndim", 0) == 1:
        return gather(reshape(x, (1,)), axis, index)
    return _at(x, ops.gather_index("gather", raw(x), axis, index))


def _at(x: Any, index: Any) -> Any:
    shape = raw(x).shape
    return differentiable(raw(x)[index], (x,), lambda gy, _: (indexing.scatter(gy, shape, index),))


@in_widest
def scatter(x: Input[Y], axis: int, indices: Any, src: Input[Y] | float) -> Y:
    """x with ``src[i, j]`` at ``[indices[i, j], j]``, for axis 0, and so for the others; src may be a number.

    Where an index comes twice, the last one stays, on the CPU; the gradient of both is that of the place.

    >>> import numpy as np
    >>> scatter(np.zeros(3), 0, np.array([2, 0]), np.array([5.0, 6.0])).tolist()
    [6.0, 0.0, 5.0]
    """
    own, shape = copied(indices, x, src), getattr(raw(src), "shape", ())
    y = ops.scatter_put(raw(x), axis, own, raw(src))
    inputs = (x, None if isinstance(src, int | float) else src)
    return differentiable(y, inputs, lambda gy, needs: ops.scatter_put_backward(gy, axis, own, shape, needs))


@in_widest
def scatter_add(x: Input[Y], axis: int, indices: Any, src: Input[Y]) -> Y:
    """x with ``src[i, j]`` added at ``[indices[i, j], j]``, for axis 0, and so for the others.

    >>> import numpy as np
    >>> scatter_add(np.zeros(3), 0, np.array([2, 2]), np.array([5.0, 6.0])).tolist()
    [0.0, 0.0, 11.0]
    """
    own, shape = copied(indices, x, src), getattr(raw(src), "shape", ())
    y = ops.scatter_add(raw(x), axis, own, raw(src))
    return differentiable(y, (x, src), lambda gy, needs: ops.scatter_add_backward(gy, axis, own, shape, needs))


# ---- of vectors ------------------------------------------------------------------------------------------------------


def dot(a: Input[Y], b: Input[Y]) -> Y:
    """``sum_i a[i] b[i]`` of two vectors of one length.

    >>> import numpy as np
    >>> dot(np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    11.0
    """
    _check_vectors("dot", a=a, b=b)
    sizes = raw(a).shape, raw(b).shape
    check(sizes[0] == sizes[1], ShapeError, "dot", "both must have one length", a=sizes[0], b=sizes[1])
    return einsum("i,i->", a, b)


def outer(a: Input[Y], b: Input[Y]) -> Y:
    """``y[i, j] = a[i] b[j]`` of two vectors.

    >>> import numpy as np
    >>> outer(np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    _check_vectors("outer", a=a, b=b)
    return einsum("i,j->ij", a, b)


def _check_vectors(op: str, **vectors: Any) -> None:
    for name, x in vectors.items():
        check_array(op, **{name: raw(x)})
        check(raw(x).ndim == 1, ShapeError, op, f"{name} must be a vector", shape=raw(x).shape)


@in_widest
def cross(a: Input[Y], b: Input[Y], axis: int = -1) -> Y:
    """The product of vectors of three elements along ``axis`` that stands upright on both; other axes broadcast.

    >>> import numpy as np
    >>> cross(np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])).tolist()
    [0.0, 0.0, 1.0]
    """
    x, y = agreeing("cross", *kept(a, b))
    result = vector.cross(x, y, axis)
    return differentiable(result, (a, b), lambda gy, needs: vector.cross_backward(gy, x, y, axis, needs))


# ---- filled ----------------------------------------------------------------------------------------------------------


def full_like(x: X, fill_value: float, dtype: Any = None, device: str | None = None) -> X:
    """``fill_value`` in the shape of x, of its dtype and on its device, unless others are given; no gradient passes.

    >>> import numpy as np
    >>> full_like(np.zeros(2), 7).tolist()
    [7.0, 7.0]
    """
    check_number("full_like", fill_value=fill_value)
    return _made("full_like", x, dtype, device, lambda shape: np.full(shape, fill_value))


def zeros_like(x: X, dtype: Any = None, device: str | None = None) -> X:
    """Zeros in the shape of x, of its dtype and on its device, unless others are given.

    >>> import numpy as np
    >>> zeros_like(np.ones(2)).tolist()
    [0.0, 0.0]
    """
    return _made("zeros_like", x, dtype, device, np.zeros)


def ones_like(x: X, dtype: Any = None, device: str | None = None) -> X:
    """Ones in the shape of x, of its dtype and on its device, unless others are given.

    >>> import numpy as np
    >>> ones_like(np.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return _made("ones_like", x, dtype, device, np.ones)


def rand_like(x: X, dtype: Any = None, device: str | None = None, generator: np.random.Generator | None = None) -> X:
    """Numbers from 0 to 1, evenly distributed, in the shape of x, of its dtype and on its device or those given.

    They are drawn on the CPU.

    >>> import numpy as np
    >>> bool((rand_like(np.zeros(9)) < 1).all())
    True
    """
    return _made("rand_like", x, dtype, device, lambda shape: generator_or_default(generator).random(shape), True)


def randn_like(x: X, dtype: Any = None, device: str | None = None, generator: np.random.Generator | None = None) -> X:
    """Normally distributed numbers of mean 0 and variance 1, as :func:`rand_like` gives even ones.

    >>> import numpy as np
    >>> randn_like(np.zeros((2, 3))).shape
    (2, 3)
    """
    draw = generator_or_default(generator).standard_normal
    return _made("randn_like", x, dtype, device, draw, True)


def _made(op: str, x: Any, dtype: Any, device: str | None, make: Callable[..., Any], floats: bool = False) -> Any:
    xd = raw(x)
    check_array(op, x=xd)
    wanted = xd.dtype if dtype is None else dtype_of(op, dtype)
    if floats:
        check(is_floating(wanted), DtypeError, op, "the dtype must be a floating one", dtype=str(wanted))
    y = asarray(cast(make(xd.shape), wanted), device_of(xd) if device is None else device)
    return wrapped(y) if isinstance(x, Tensor) else y
