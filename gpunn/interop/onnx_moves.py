"""Elements in other places: turned, repeated, chosen, put somewhere, in order; products and lengths of vectors.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from gpunn.interop.onnx_activations import length
from gpunn.interop.onnx_arrays import FIRST, LAST, axes_vector, concatenate, gathered, operand
from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value
from gpunn.ops.array.shape import axes_of, axis_of

# ---- turned and repeated --------------------------------------------------------------------------------------------


def flip(g: Graph, x: Value, axis: Any) -> Name:
    axes = axes_of("flip", x, axis)
    return g.slice(x, axes, [LAST] * len(axes), [FIRST] * len(axes), [-1] * len(axes)) if axes else g.name(x)


def roll(g: Graph, x: Value, shifts: Any, axis: Any) -> Name:
    each = tuple(shifts) if isinstance(shifts, tuple | list) else (shifts,)
    if axis is None:
        g.need_fixed(x, range(x.ndim))
        row = g.node("Reshape", x, g.integers(-1))
        return g.reshape(_rolled(g, row, 0, int(each[0]) % max(1, int(np.prod(x.shape)))), x)
    axes = [axis_of("roll", x, one) for one in (axis if isinstance(axis, tuple | list) else (axis,))]
    g.need_fixed(x, axes)
    y = g.name(x)
    for shift, one in zip(each, axes, strict=True):
        y = _rolled(g, y, one, int(shift) % max(1, x.shape[one]))
    return y


def _rolled(g: Graph, y: Name, axis: int, shift: int) -> Name:
    if not shift:
        return y
    return g.node("Concat", g.slice(y, [axis], [-shift], [LAST]), g.slice(y, [axis], [0], [-shift]), axis=axis)


def expand(g: Graph, x: Value, sizes: Any) -> Name:
    return g.node("Expand", x, g.shape_of(g.results[0]))


def tile(g: Graph, x: Value, reps: Any) -> Name:
    counts = [int(rep) for rep in (reps if isinstance(reps, tuple | list) else (reps,))]
    more = len(counts) - x.ndim
    y = g.node("Unsqueeze", x, g.integers(*range(more))) if more > 0 else g.name(x)
    return g.node("Tile", y, g.integers(*(1,) * -more, *counts))


def triangle(g: Graph, x: Value, diagonal: int, *, upper: int) -> Name:
    return g.node("Trilu", x, g.constant(diagonal, np.int64), upper=upper)


def diagonal(g: Graph, x: Value, offset: int, axis1: int, axis2: int) -> Name:
    a, b = (axis_of("diagonal", x, axis) for axis in (axis1, axis2))
    g.need_fixed(x, [a, b])
    steps = np.arange(g.results[0].shape[-1])
    kept = [axis for axis in range(x.ndim) if axis not in (a, b)]
    y = gathered(g, x, g.name(x), {a: steps + max(0, -offset), b: steps + max(0, offset)}, kept)
    return g.node("Transpose", y, perm=[*range(1, len(kept) + 1), 0])


def like(g: Graph, x: Value, dtype: Any, device: Any, *, number: float) -> Name:
    return full_like(g, x, number, dtype, device)


def full_like(g: Graph, x: Value, fill_value: float, dtype: Any, device: Any) -> Name:
    y = g.results[0]
    return g.node("Expand", g.like(fill_value, y), g.shape_of(y))


# ---- chosen and put -------------------------------------------------------------------------------------------------


def masked_fill(g: Graph, x: Value, mask: Value, value: Any) -> Name:
    return g.node("Where", mask, operand(g, value, x), x)


def index_select(g: Graph, x: Value, axis: int, indices: Value) -> Name:
    return g.node("Gather", x, g.node("Reshape", indices, g.integers(-1)), axis=axis_of("index_select", x, axis))


def gather(g: Graph, x: Value, axis: int, indices: Value) -> Name:
    return g.node("GatherElements", x, indices, axis=axis)


def scatter(g: Graph, x: Value, axis: int, indices: Value, src: Any, *, reduction: str = "none") -> Name:
    if isinstance(src, Value) and src.ndim:
        rows: Name = g.name(src)
        if (src.shape, src.growth, src.others) != (indices.shape, indices.growth, indices.others):
            axes = list(range(src.ndim))  # those that indices has
            starts = g.integers(*[0] * len(axes))
            rows = g.node("Slice", src, starts, g.shape_of(indices), g.integers(*axes))
    else:
        rows = g.node("Expand", operand(g, src, x), g.shape_of(indices))
    return g.node("ScatterElements", x, indices, rows, axis=axis, reduction=reduction)


def scatter_add(g: Graph, x: Value, axis: int, indices: Value, src: Any) -> Name:
    return scatter(g, x, axis, indices, src, reduction="add")


# ---- in order -------------------------------------------------------------------------------------------------------


def _ordered(g: Graph, x: Value, axis: int, descending: bool, count: Name) -> list[Name]:
    wide = g.cast(x, np.dtype(np.int32)) if x.dtype.kind == "b" else x
    values, places = g.nodes_of("TopK", 2, wide, count, axis=axis, largest=int(descending), sorted=1)
    return [g.cast(values, x.dtype) if wide is not x else values, places]


def sort(g: Graph, x: Value, axis: int, descending: bool, stable: bool) -> list[Name]:
    if not x.ndim:
        g.refuse("there must be an axis", shape=x.shape)
    along = axis_of("sort", x, axis)
    return _ordered(g, x, along, descending, g.size_of(x, along))


def argsort(g: Graph, x: Value, axis: int, descending: bool = False, stable: bool = True) -> Name:
    return sort(g, x, axis, descending, stable)[1]


def topk(g: Graph, x: Value, k: int, axis: int, largest: bool, sorted: bool) -> list[Name]:
    if not x.ndim:
        g.refuse("there must be an axis", shape=x.shape)
    return _ordered(g, x, axis_of("topk", x, axis), largest, g.integers(k))


def searchsorted(
    g: Graph, x: Value, values: Any, right: bool, side: str | None, sorter: Any, out_int32: bool = False
) -> Name:
    return places(g, x, values, side or ("right" if right else "left"), sorter)


def places(g: Graph, x: Value, v: Any, side: str, sorter: Any = None) -> Name:
    """How many elements of the sorted x are less than each of v, or not more."""
    if sorter is not None:
        g.refuse("x must be sorted itself", sorter="given")
    y = g.results[0]
    rows = g.node("Unsqueeze", x, g.integers(-2)) if x.ndim > 1 else g.name(x)
    each = g.node("Unsqueeze", operand(g, v, x), g.integers(-1))
    before = g.node("Less" if side == "left" else "LessOrEqual", rows, each)
    return g.node("ReduceSum", g.cast(before, y.dtype), g.integers(-1), keepdims=0)


def cumprod(g: Graph, x: Value, axis: int | None) -> Name:
    """Factor by factor: ONNX has no such operator."""
    along = 0 if axis is None else axis_of("cumprod", x, axis)
    wide = g.cast(x, g.results[0].dtype)
    if axis is None:
        g.need_fixed(x, range(x.ndim))
        wide = g.node("Reshape", wide, g.integers(-1))
    else:
        g.need_fixed(x, [along])
    parts: list[Name] = []
    for place in range(g.results[0].shape[along]):
        factor = g.slice(wide, [along], [place], [place + 1])
        parts.append(g.node("Mul", parts[-1], factor) if parts else factor)
    return g.node("Concat", *parts, axis=along) if parts else wide


# ---- vectors --------------------------------------------------------------------------------------------------------


def norm(g: Graph, x: Value, p: Any, axis: Any, keepdims: bool, dtype: Any) -> Name:
    y = g.results[0]
    return length(g, g.cast(x, y.dtype), y, 2 if p == "fro" else p, axes_vector(g, x, axis), keepdims)


def cross(g: Graph, a: Value, b: Value, axis: int) -> Name:
    def part(x: Value, place: int) -> Name:
        return g.node("Gather", x, g.integers(place % 3), axis=axis)

    each = [g.node("Sub", g.node("Mul", part(a, k + 1), part(b, k + 2)), g.node("Mul", part(a, k + 2), part(b, k + 1)))
            for k in range(3)]  # fmt: skip
    return g.node("Concat", *each, axis=axis)


def cat(g: Graph, arrays: Sequence[Value], axis: int) -> Name:
    return concatenate(g, arrays, axis)


MOVES: dict[str, Any] = {
    **{
        each.__name__: each
        for each in (
            argsort, cat, cross, flip, full_like, gather, index_select, masked_fill, norm, roll, scatter, scatter_add,
            searchsorted, sort, tile, topk,
        )
    },
    "Tensor.argsort": argsort,
    "ones_like": partial(like, number=1),
    "tril": partial(triangle, upper=0),
    "triu": partial(triangle, upper=1),
    "zeros_like": partial(like, number=0),
    "Tensor.cumprod": cumprod,
    "Tensor.diagonal": diagonal,
    "Tensor.expand": expand,
    "Tensor.masked_fill": masked_fill,
    "Tensor.searchsorted": places,
}  # fmt: skip
"""The translations by the names of the functions."""
