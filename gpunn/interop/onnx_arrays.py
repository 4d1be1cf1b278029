"""What arrays have in ONNX: activations, arithmetic, products, reductions, shapes and indices.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import Any

import numpy as np

from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value
from gpunn.ops.array.shape import axes_of, axis_of, permutation

_LAST, _FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
"""Beyond the ends of every axis, for slices."""

# ---- element by element ---------------------------------------------------------------------------------------------


def unary(g: Graph, x: Value, *, op: str, **attributes: Any) -> Name:
    return g.node(op, x, **attributes)


def leaky_relu(g: Graph, x: Value, negative_slope: float) -> Name:
    return g.node("LeakyRelu", x, alpha=negative_slope)


def silu(g: Graph, x: Value) -> Name:
    return g.node("Mul", x, g.node("Sigmoid", x))


def gelu(g: Graph, x: Value, approximate: str) -> Name:
    if approximate == "tanh":
        cube = g.node("Mul", g.node("Mul", x, x), x)
        inner = g.node("Add", x, g.node("Mul", cube, g.like(0.044715, x)))
        gate = g.node("Tanh", g.node("Mul", inner, g.like(sqrt(2 / np.pi), x)))
    else:
        gate = g.node("Erf", g.node("Mul", x, g.like(sqrt(0.5), x)))
    return g.node("Mul", g.node("Mul", x, g.like(0.5, x)), g.node("Add", gate, g.like(1, x)))


def softplus(g: Graph, x: Value, beta: float, threshold: float) -> Name:
    scaled, limit = g.node("Mul", x, g.like(beta, x)), g.like(threshold, x)
    curve = g.node("Div", g.node("Softplus", g.node("Min", scaled, limit)), g.like(beta, x))
    return g.node("Where", g.node("Greater", scaled, limit), x, curve)


def elu(g: Graph, x: Value, alpha: float) -> Name:
    return g.node("Elu", x, alpha=alpha)


def softmax(g: Graph, x: Value, axis: int, dtype: Any, *, op: str) -> Name:
    return g.node(op, x if dtype is None else g.cast(x, g.results[0].dtype), axis=axis)


def clip(g: Graph, x: Value, min: float | None, max: float | None) -> Name:
    return g.node("Clip", x, None if min is None else g.like(min, x), None if max is None else g.like(max, x))


def _operand(g: Graph, value: Any, beside: Any) -> Name:
    """An operand of a pair; a number takes the dtype of the other one."""
    if isinstance(value, Value):
        return g.name(value)
    return g.constant(value, beside.dtype if isinstance(beside, Value) else g.results[0].dtype)


def binary(g: Graph, x: Any, other: Any, *, op: str, swapped: bool = False) -> Name:
    a, b = _operand(g, x, other), _operand(g, other, x)
    return g.node(op, b, a) if swapped else g.node(op, a, b)


def two(g: Graph, a: Any, b: Any, *, op: str) -> Name:
    return binary(g, a, b, op=op)


def divide(g: Graph, x: Value, other: Any, *, swapped: bool = False) -> Name:
    if x.dtype.kind != "f":
        g.refuse("only floats can be divided", dtype=str(x.dtype))
    return binary(g, x, other, op="Div", swapped=swapped)


def power(g: Graph, x: Value, exponent: Any) -> Name:
    return g.node("Pow", x, _operand(g, exponent, x))


def reversed_power(g: Graph, x: Value, base: Any) -> Name:
    return g.node("Pow", _operand(g, base, x), x)


def unequal(g: Graph, x: Value, other: Any) -> Name:
    return g.node("Not", binary(g, x, other, op="Equal"))


def invert(g: Graph, x: Value) -> Name:
    return g.node("Not", x)


def where(g: Graph, condition: Value, a: Any, b: Any) -> Name:
    return g.node("Where", condition, _operand(g, a, b), _operand(g, b, a))


def cosine_similarity(g: Graph, x1: Value, x2: Value, axis: int, eps: float) -> Name:
    axes = g.integers(axis - max(x1.ndim, x2.ndim) if axis >= 0 else axis)
    dots = g.node("ReduceSum", g.node("Mul", x1, x2), axes, keepdims=0)
    wide = [g.node("Expand", x, g.shape_of(_broadcast(x1, x2))) for x in (x1, x2)]
    for x in wide:
        dots = g.node("Div", dots, g.node("Max", g.node("ReduceL2", x, axes, keepdims=0), g.like(eps, x1)))
    return dots


def _broadcast(x1: Value, x2: Value) -> Value:
    """What the shapes of both broadcast to."""
    ndim = max(x1.ndim, x2.ndim)
    axes = []
    for place in range(-ndim, 0):
        each = [(x.shape[place], x.growth[place]) for x in (x1, x2) if x.ndim >= -place]
        axes.append(max(each, key=lambda pair: (pair[0] != 1 or pair[1] != 0, pair)))
    sizes, growth = zip(*axes, strict=True)
    return Value(tuple(sizes), x1.dtype, growth=tuple(growth))


# ---- products -------------------------------------------------------------------------------------------------------


def matmul(g: Graph, x: Any, other: Any, *, swapped: bool = False) -> Name:
    return binary(g, x, other, op="MatMul", swapped=swapped)


def einsum(g: Graph, equation: str, operands: Sequence[Value]) -> Name:
    return g.node("Einsum", *operands, equation=equation)


# ---- reductions -----------------------------------------------------------------------------------------------------


def _axes(g: Graph, x: Value, axis: Any) -> Name:
    axes = axes_of("reduction", x, axis)
    if not axes:
        g.refuse("there must be an axis to reduce", axis=axis)
    return g.integers(*axes)


def reduce(g: Graph, x: Value, axis: Any, keepdims: bool, *, op: str) -> Name:
    return g.node(op, g.cast(x, g.results[0].dtype), _axes(g, x, axis), keepdims=int(keepdims))


def variance(g: Graph, x: Value, axis: Any, ddof: int, keepdims: bool) -> Name:
    axes, reduced = _axes(g, x, axis), axes_of("var", x, axis)
    away = g.node("Sub", x, g.node("ReduceMean", x, axes, keepdims=1))
    y = g.node("ReduceMean", g.node("Mul", away, away), axes, keepdims=int(keepdims))
    if not ddof:
        return y
    if any(x.growth[a] for a in reduced):
        g.refuse("over the examples ddof must be 0", ddof=ddof)
    n = prod(x.shape[a] for a in reduced)
    return g.node("Mul", y, g.like(n / (n - ddof), x))


def deviation(g: Graph, x: Value, axis: Any, ddof: int, keepdims: bool) -> Name:
    return g.node("Sqrt", variance(g, x, axis, ddof, keepdims))


def cumsum(g: Graph, x: Value, axis: int | None) -> Name:
    row = g.cast(x, g.results[0].dtype) if axis is not None else g.node("Reshape", x, g.integers(-1))
    return g.node("CumSum", row, g.constant(axis or 0, np.int64))


def extreme_index(g: Graph, x: Value, axis: int | None, keepdims: bool, *, op: str) -> Name:
    if axis is None:
        return g.reshape(g.node(op, g.node("Reshape", x, g.integers(-1)), axis=0, keepdims=1), g.results[0])
    return g.node(op, x, axis=axis, keepdims=int(keepdims))


def truth(g: Graph, x: Value, axis: Any, keepdims: bool, *, op: str) -> Name:
    numbers = g.cast(g.cast(x, np.dtype(bool)), np.dtype(np.int32))
    return g.cast(g.node(op, numbers, _axes(g, x, axis), keepdims=int(keepdims)), np.dtype(bool))


# ---- shape ----------------------------------------------------------------------------------------------------------


def reshape(g: Graph, x: Value, shape: Any) -> Name:
    y = g.results[0]
    if (y.shape, y.growth) == (x.shape, x.growth):
        return g.name(x)
    return g.reshape(x, g.results[0])


def transpose(g: Graph, x: Value, axes: Any) -> Name:
    given = axes[0] if len(axes) == 1 and isinstance(axes[0], tuple | list) else axes
    order = permutation(x, given)[0]
    return g.node("Transpose", x, perm=order) if order else same(g, x)  # ONNX has no list of no numbers


def swapaxes(g: Graph, x: Value, axis1: int, axis2: int) -> Name:
    order = list(range(x.ndim))
    a, b = (axis_of("swapaxes", x, axis) for axis in (axis1, axis2))
    order[a], order[b] = b, a
    return g.node("Transpose", x, perm=order)


def same(g: Graph, x: Value, **_: Any) -> Name:
    return g.node("Identity", x)


def astype(g: Graph, x: Value, dtype: Any) -> Name:
    return g.cast(x, g.results[0].dtype)


def concatenate(g: Graph, arrays: Sequence[Value], axis: int) -> Name:
    return g.node("Concat", *arrays, axis=axis)


def stack(g: Graph, arrays: Sequence[Value], axis: int) -> Name:
    return g.node("Concat", *(g.node("Unsqueeze", x, g.integers(axis)) for x in arrays), axis=axis)


def repeat(g: Graph, x: Value, repeats: Any, axis: int | None) -> Name:
    if not isinstance(repeats, int | np.integer):
        g.refuse("repeats must be one number", repeats=repeats)
    along = x.ndim if axis is None else axis_of("repeat", x, axis) + 1
    if axis is None:
        x_row, tiles = g.node("Reshape", x, g.integers(-1, 1)), [1, int(repeats)]
    else:
        x_row = g.node("Unsqueeze", x, g.integers(along))
        tiles = [int(repeats) if place == along else 1 for place in range(x.ndim + 1)]
    return g.reshape(g.node("Tile", x_row, g.integers(*tiles)), g.results[0])


def pad(g: Graph, x: Value, pads: Sequence[int], mode: str, value: float) -> Name:
    each = [(x.ndim - 1 - number, int(pads[2 * number]), int(pads[2 * number + 1])) for number in range(len(pads) // 2)]
    if mode == "circular":
        y = g.name(x)
        for axis, before, after in each:
            g.need_fixed(x, [axis])
            n = x.shape[axis]
            ends = [g.slice(y, [axis], [n - before], [n])] if before else []
            ends += [y] + ([g.slice(y, [axis], [0], [after])] if after else [])
            y = g.node("Concat", *ends, axis=axis)
        return y
    word = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    fill = g.like(value, x) if mode == "constant" else None
    y, added = g.name(x), [[0] * x.ndim, [0] * x.ndim]
    for axis, before, after in each:
        if min(before, after) < 0:  # not every program takes negative pads
            y = g.slice(y, [axis], [max(0, -before)], [after if after < 0 else _LAST])
        added[0][axis], added[1][axis] = max(0, before), max(0, after)
    return g.node("Pad", y, g.integers(*added[0], *added[1]), fill, mode=word)


def getitem(g: Graph, x: Value, index: Any) -> Name:
    """Integers, slices, None and ``...``, and one array of integers."""
    parts = index if isinstance(index, tuple) else (index,)
    arrays = [part for part in parts if not isinstance(part, int | np.integer | slice | None) and part is not Ellipsis]
    simple = all(isinstance(part, Value) and part.dtype.kind in "iu" for part in arrays)
    whole = all(isinstance(part, Value) or part == slice(None) or part is Ellipsis for part in parts)
    if not simple or (arrays and not (whole and len(arrays) == 1)):
        g.refuse("an index must be integers and slices, or one array of integers beside full slices", index=index)
    named = sum(part is not None and part is not Ellipsis for part in parts)
    if not any(part is Ellipsis for part in parts):
        parts = (*parts, Ellipsis)
    y, axis, cut, dropped, added, place = g.name(x), 0, [], [], [], 0
    for part in parts:
        if part is Ellipsis:
            axis, place = axis + x.ndim - named, place + x.ndim - named
        elif part is None:
            added.append(place)
            place += 1
        elif isinstance(part, Value):
            y = g.node("Gather", y, part, axis=axis)
            axis += 1
        elif isinstance(part, slice):
            if part != slice(None):
                cut.append((axis, part))
            axis, place = axis + 1, place + 1
        else:
            dropped.append((axis, int(part)))
            axis += 1
    if cut:
        steps = [1 if part.step is None else part.step for _, part in cut]
        starts = [part.start if part.start is not None else (0 if step > 0 else _LAST)
                  for (_, part), step in zip(cut, steps, strict=True)]  # fmt: skip
        ends = [part.stop if part.stop is not None else (_LAST if step > 0 else _FIRST)
                for (_, part), step in zip(cut, steps, strict=True)]  # fmt: skip
        y = g.slice(y, [axis for axis, _ in cut], starts, ends, steps)
    for axis, number in dropped[::-1]:
        y = g.node("Gather", y, g.constant(number, np.int64), axis=axis)
    return g.node("Unsqueeze", y, g.integers(*added)) if added else y


def take(g: Graph, x: Value, indices: Any, axis: int | None) -> Name:
    row = g.node("Reshape", x, g.integers(-1)) if axis is None else g.name(x)
    where = g.name(indices) if isinstance(indices, Value) else g.constant(indices, np.int64)
    return g.node("Gather", row, where, axis=axis or 0)


def one_hot(g: Graph, target: Value, num_classes: int) -> Name:
    depth = g.results[0].shape[-1]
    if num_classes == -1:
        g.refuse("the number of classes must be given", num_classes=num_classes)
    return g.node("OneHot", target, g.constant(depth, np.int64), g.integers(0, 1), axis=-1)
