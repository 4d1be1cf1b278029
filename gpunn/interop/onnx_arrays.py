"""What arrays have in ONNX: activations, arithmetic, products, reductions, shapes and indices.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce as reduce_pairs
from math import prod, sqrt
from typing import Any

import numpy as np

from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value
from gpunn.ops.array.shape import axes_of, axis_of, permutation

LAST, FIRST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
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


def clip(g: Graph, x: Value, min: Any, max: Any) -> Name:
    if isinstance(min, Value) or isinstance(max, Value):
        y = g.name(x)
        for op, bound in (("Max", min), ("Min", max)):
            y = y if bound is None else g.node(op, y, operand(g, bound, x))
        return y
    return g.node("Clip", x, None if min is None else g.like(min, x), None if max is None else g.like(max, x))


def operand(g: Graph, value: Any, beside: Any) -> Name:
    """An operand of a pair; a number takes the dtype of the other one."""
    if isinstance(value, Value):
        return g.name(value)
    return g.constant(value, beside.dtype if isinstance(beside, Value) else g.results[0].dtype)


def binary(g: Graph, x: Any, other: Any, *, op: str, swapped: bool = False) -> Name:
    if op in ("And", "Or", "Xor") and g.results[0].dtype != np.bool_:
        g.refuse("logic must be of booleans", dtype=str(g.results[0].dtype))
    a, b = operand(g, x, other), operand(g, other, x)
    return g.node(op, b, a) if swapped else g.node(op, a, b)


def two(g: Graph, a: Any, b: Any, *, op: str) -> Name:
    return binary(g, a, b, op=op)


def divide(g: Graph, x: Value, other: Any, *, swapped: bool = False) -> Name:
    if x.dtype.kind != "f":
        g.refuse("only floats can be divided", dtype=str(x.dtype))
    return binary(g, x, other, op="Div", swapped=swapped)


def power(g: Graph, x: Value, exponent: Any) -> Name:
    return g.node("Pow", x, operand(g, exponent, x))


def reversed_power(g: Graph, x: Value, base: Any) -> Name:
    return g.node("Pow", operand(g, base, x), x)


def unequal(g: Graph, x: Value, other: Any) -> Name:
    return g.node("Not", binary(g, x, other, op="Equal"))


def invert(g: Graph, x: Value) -> Name:
    if x.dtype != np.bool_:
        g.refuse("~ must be of booleans", dtype=str(x.dtype))
    return g.node("Not", x)


def where(g: Graph, condition: Value, a: Any, b: Any) -> Name:
    return g.node("Where", condition, operand(g, a, b), operand(g, b, a))


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
        each = [(x.sizes(place), x.growth[place]) for x in (x1, x2) if x.ndim >= -place]
        axes.append(max(each, key=lambda pair: (pair[0] != (1,) * len(pair[0]) or pair[1] != 0, pair)))
    sizes, growth = zip(*axes, strict=True) if axes else ((), ())
    shape, *others = zip(*sizes, strict=True) if sizes else ((),) * (1 + len(x1.others))
    return Value(tuple(shape), x1.dtype, growth=tuple(growth), others=tuple(others))


# ---- products -------------------------------------------------------------------------------------------------------


def matmul(g: Graph, x: Any, other: Any, *, swapped: bool = False) -> Name:
    return binary(g, x, other, op="MatMul", swapped=swapped)


def einsum(g: Graph, equation: str, operands: Sequence[Value]) -> Name:
    return g.node("Einsum", *operands, equation=equation)


# ---- reductions -----------------------------------------------------------------------------------------------------


def axes_vector(g: Graph, x: Value, axis: Any) -> Name:
    """The axes that ``axis`` names, None for all, as a vector."""
    axes = axes_of("reduction", x, axis)
    if not axes:
        g.refuse("there must be an axis to reduce", axis=axis)
    return g.integers(*axes)


def reduce(g: Graph, x: Value, axis: Any, keepdims: bool, *, op: str) -> Name:
    return g.node(op, g.cast(x, g.results[0].dtype), axes_vector(g, x, axis), keepdims=int(keepdims))


def variance(g: Graph, x: Value, axis: Any, ddof: int, keepdims: bool) -> Name:
    axes, reduced = axes_vector(g, x, axis), axes_of("var", x, axis)
    away = g.node("Sub", x, g.node("ReduceMean", x, axes, keepdims=1))
    y = g.node("ReduceMean", g.node("Mul", away, away), axes, keepdims=int(keepdims))
    if not ddof:
        return y
    if not all(map(x.fixed, reduced)):
        g.refuse("over the examples and other axes of any size ddof must be 0", ddof=ddof)
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
    return g.cast(g.node(op, numbers, axes_vector(g, x, axis), keepdims=int(keepdims)), np.dtype(bool))


# ---- shape ----------------------------------------------------------------------------------------------------------


def reshape(g: Graph, x: Value, shape: Any) -> Name:
    y = g.results[0]
    if (y.shape, y.growth, y.others) == (x.shape, x.growth, x.others):
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
    if mode != "constant" and min((0, *pads)) < 0:
        g.refuse(f'mode="{mode}" needs pads of at least 0', pads=pads)
    if mode == "circular":
        y = g.name(x)
        for axis, before, after in each:
            g.need_fixed(x, [axis])
            n = x.shape[axis]
            if min(before, after) < 0:
                y, n = g.slice(y, [axis], [max(0, -before)], [n + min(0, after)]), n + min(0, before) + min(0, after)
            ends = [g.slice(y, [axis], [n - before], [n])] if before > 0 else []
            ends += [y] + ([g.slice(y, [axis], [0], [after])] if after > 0 else [])
            y = g.node("Concat", *ends, axis=axis)
        return y
    word = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    fill = g.like(value, x) if mode == "constant" else None
    y, added = g.name(x), [[0] * x.ndim, [0] * x.ndim]
    for axis, before, after in each:
        added[0][axis], added[1][axis] = max(0, before), max(0, after)
    y = g.node("Pad", y, g.integers(*added[0], *added[1]), fill, mode=word)
    for axis, before, after in each:
        if min(before, after) < 0:  # not every program takes negative pads
            y = g.slice(y, [axis], [max(0, -before)], [after if after < 0 else LAST])
    return y


def getitem(g: Graph, x: Value, index: Any) -> Name:
    """Integers, slices, None, ``...``, and arrays or lists of integers, or of truths that do not follow the input."""
    parts = _parts(g, x, index)
    y, axis, cut, arrays, dropped = g.name(x), 0, [], dict[int, Any](), dict[int, int]()
    tokens: list[Any] = []  # the axes of the result: of x by number, None for a new one; "+" where those of arrays go
    places = []
    for place, part in enumerate(parts):
        if part is None:
            tokens.append(None)
            continue
        if isinstance(part, slice):
            if part != slice(None):
                cut.append((axis, part))
            tokens.append(axis)
        elif isinstance(part, int):
            dropped[axis] = part
            places.append(place)
        else:
            arrays[axis] = part
            places.append(place)
        if not isinstance(part, slice) and "+" not in tokens:
            tokens.append("+")
        axis += 1
    if cut:
        y = _cut(g, y, cut)
    added = [None] * max((part.ndim for part in arrays.values()), default=0)
    beside = not arrays or places == list(range(places[0], places[-1] + 1))
    at = tokens.index("+") if "+" in tokens and beside else 0
    rest = [token for token in tokens if token != "+"]
    if len(arrays) == 1 and not dropped:
        ((of, each),) = arrays.items()
        y = g.node("Gather", y, each, axis=of)
    elif arrays:
        kept = [axis for axis in range(x.ndim) if axis not in arrays and axis not in dropped]
        y = gathered(g, x, y, arrays | dropped, kept)
        if at:  # the axes of the arrays come first, and belong behind some of the others
            before, count = sum(token is not None for token in rest[:at]), len(added)
            order = [count + axis for axis in range(before)] + list(range(count))
            y = g.node("Transpose", y, perm=order + [count + axis for axis in range(before, len(kept))])
    else:
        for of in sorted(dropped, reverse=True):
            y = g.node("Gather", y, g.constant(dropped[of], np.int64), axis=of)
    whole = [*rest[:at], *("+" for _ in added), *rest[at:]]
    new = [axis for axis, token in enumerate(whole) if token is None]
    return g.node("Unsqueeze", y, g.integers(*new)) if new else y


def _parts(g: Graph, x: Value, index: Any) -> list[Any]:
    """What an index says of each axis: an int, a slice, or a Value of integers; and None for a new axis."""
    parts: list[Any] = []
    for part in index if isinstance(index, tuple) else (index,):
        if part is None or part is Ellipsis or isinstance(part, slice):
            parts.append(part)
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            parts.append(int(part))
        elif isinstance(part, Value) and part.dtype.kind in "iu":
            parts.append(part)
        else:
            parts += _places(g, part)
    named = sum(part is not None and part is not Ellipsis for part in parts)
    whole = [slice(None)] * (x.ndim - named)
    if not any(part is Ellipsis for part in parts):
        return parts + whole
    at = next(place for place, part in enumerate(parts) if part is Ellipsis)
    return parts[:at] + whole + parts[at + 1 :]


def _places(g: Graph, part: Any) -> list[Value]:
    """A list, or a mask, as arrays of integers, one for each axis of it."""
    rule = "an index must be integers, slices, or arrays of integers; a mask, which gives a size, must be a constant"
    if isinstance(part, Value) and (part.array is None or not all(map(part.fixed, range(part.ndim)))):
        g.refuse(rule, dtype=str(part.dtype), shape=part.shape)
    array = part.array if isinstance(part, Value) else np.asarray(part)
    assert array is not None
    if array.dtype.kind not in "biu" and array.size:
        g.refuse(rule, dtype=str(array.dtype))
    found = np.nonzero(array) if array.dtype.kind == "b" else [array.astype(np.int64)]
    return [_constant(each) for each in found]


def _constant(array: Any) -> Value:
    return Value(array.shape, array.dtype, array, growth=(0,) * array.ndim)


def _cut(g: Graph, y: Name, cut: list[tuple[int, slice]]) -> Name:
    steps = [1 if part.step is None else part.step for _, part in cut]
    starts = [part.start if part.start is not None else (0 if step > 0 else LAST)
              for (_, part), step in zip(cut, steps, strict=True)]  # fmt: skip
    ends = [part.stop if part.stop is not None else (LAST if step > 0 else FIRST)
            for (_, part), step in zip(cut, steps, strict=True)]  # fmt: skip
    return g.slice(y, [axis for axis, _ in cut], starts, ends, steps)


def gathered(g: Graph, x: Value, y: Name, arrays: dict[int, Any], kept: list[int]) -> Name:
    """The elements at arrays of indices that are broadcast together, whose axes come first; then the ``kept`` axes."""
    of = sorted(arrays)
    each = [arrays[axis] if isinstance(arrays[axis], Value) else _constant(np.asarray(arrays[axis], np.int64))
            for axis in of]  # fmt: skip
    for part in each:  # constants were compared in all runs
        part.others = part.others or (part.shape,) * len(x.others)
    shape = reduce_pairs(_broadcast, each)
    wide = [g.node("Expand", g.cast(part, np.dtype(np.int64)), g.shape_of(shape)) for part in each]
    where = g.node("Concat", *(g.node("Unsqueeze", part, g.integers(-1)) for part in wide), axis=-1)
    order = [*of, *kept]
    rows = y if order == list(range(x.ndim)) else g.node("Transpose", y, perm=order)
    return g.node("GatherND", rows, where)


def take(g: Graph, x: Value, indices: Any, axis: int | None) -> Name:
    row = g.node("Reshape", x, g.integers(-1)) if axis is None else g.name(x)
    where = g.name(indices) if isinstance(indices, Value) else g.constant(indices, np.int64)
    return g.node("Gather", row, where, axis=axis or 0)


def one_hot(g: Graph, target: Value, num_classes: int) -> Name:
    depth = g.results[0].shape[-1]
    if num_classes == -1:
        g.refuse("the number of classes must be given", num_classes=num_classes)
    return g.node("OneHot", target, g.constant(depth, np.int64), g.integers(0, 1), axis=-1)
