"""Elementary functions of one array and of two in ONNX, with their own operator or in parts.

How a translation looks says :mod:`gpunn.interop.onnx_nodes`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, log, pi
from typing import Any

import numpy as np

from gpunn.interop.onnx_arrays import divide, operand
from gpunn.interop.onnx_graph import Graph, Name
from gpunn.interop.trace import Value

# ---- of one array ---------------------------------------------------------------------------------------------------


def _one(g: Graph, x: Value, *, op: str) -> Name:
    return g.node(op, x)


def _logarithm(g: Graph, x: Value, *, base: float) -> Name:
    return g.node("Div", g.node("Log", x), g.like(log(base), x))


def log1p(g: Graph, x: Value) -> Name:
    return g.node("Log", g.node("Add", x, g.like(1, x)))


def expm1(g: Graph, x: Value) -> Name:
    return g.node("Sub", g.node("Exp", x), g.like(1, x))


def exp2(g: Graph, x: Value) -> Name:
    return g.node("Pow", g.like(2, x), x)


def erfc(g: Graph, x: Value) -> Name:
    return g.node("Sub", g.like(1, x), g.node("Erf", x))


def rsqrt(g: Graph, x: Value) -> Name:
    return g.node("Reciprocal", g.node("Sqrt", x))


def square(g: Graph, x: Value) -> Name:
    return g.node("Mul", x, x)


def trunc(g: Graph, x: Value) -> Name:
    return g.name(x) if x.dtype.kind != "f" else _toward_zero(g, g.name(x))


def _toward_zero(g: Graph, name: Name) -> Name:
    return g.node("Mul", g.node("Sign", name), g.node("Floor", g.node("Abs", name)))


def _whole(g: Graph, x: Value, *, op: str) -> Name:
    """Floor and ceil, which leave integers as they are."""
    return g.node(op, x) if x.dtype.kind == "f" else g.name(x)


def round_(g: Graph, x: Value, decimals: int) -> Name:
    if x.dtype.kind != "f":
        if decimals < 0:
            g.refuse("integers can be rounded to digits behind the point only", decimals=decimals)
        return g.name(x)
    scale = g.like(10.0**decimals, x)
    return g.node("Div", g.node("Round", g.node("Mul", x, scale)), scale) if decimals else g.node("Round", x)


def isfinite(g: Graph, x: Value) -> Name:
    if x.dtype.kind != "f":
        return g.node("Equal", x, x)
    return g.node("Not", g.node("Or", g.node("IsNaN", x), g.node("IsInf", x)))


def _is(g: Graph, x: Value, *, op: str) -> Name:
    return g.node(op, x) if x.dtype.kind == "f" else g.node("Not", g.node("Equal", x, x))


def nan_to_num(g: Graph, x: Value, nan: float, posinf: float | None, neginf: float | None) -> Name:
    if x.dtype.kind != "f":
        return g.name(x)
    most = np.finfo(x.dtype).max
    y = g.node("Where", g.node("IsNaN", x), g.like(nan, x), x)
    y = g.node("Where", g.node("Equal", y, g.like(inf, x)), g.like(most if posinf is None else posinf, x), y)
    return g.node("Where", g.node("Equal", y, g.like(-inf, x)), g.like(-most if neginf is None else neginf, x), y)


# ---- of two ---------------------------------------------------------------------------------------------------------


def _floats(function: Callable[[Graph, Name, Name, Value], Name]) -> Callable[..., Name]:
    """A translation of a function of two arrays, given their names and one of them, which has their dtype."""

    def of_pair(g: Graph, a: Any, b: Any) -> Name:
        return function(g, operand(g, a, b), operand(g, b, a), a if isinstance(a, Value) else b)

    return of_pair


def _atan2(g: Graph, a: Name, b: Name, x: Value) -> Name:
    """The angle of (b, a), from -pi to pi."""
    zero = g.like(0, x)
    flat = g.node("Equal", b, zero)
    angle = g.node("Atan", g.node("Div", a, g.node("Where", flat, g.like(1, x), b)))
    half_turn = g.node("Where", g.node("Less", a, zero), g.like(-pi, x), g.like(pi, x))
    angle = g.node("Where", g.node("Less", b, zero), g.node("Add", angle, half_turn), angle)
    return g.node("Where", flat, g.node("Mul", g.node("Sign", a), g.like(pi / 2, x)), angle)


def _hypot(g: Graph, a: Name, b: Name, x: Value) -> Name:
    return g.node("Sqrt", g.node("Add", g.node("Mul", a, a), g.node("Mul", b, b)))


def _logaddexp(g: Graph, a: Name, b: Name, x: Value) -> Name:
    tail = g.node("Exp", g.node("Neg", g.node("Abs", g.node("Sub", a, b))))
    return g.node("Add", g.node("Max", a, b), g.node("Log", g.node("Add", tail, g.like(1, x))))


def _fmod(g: Graph, a: Name, b: Name, x: Value) -> Name:
    return g.node("Mod", a, b, fmod=1)


def _remainder(g: Graph, a: Name, b: Name, x: Value) -> Name:
    if x.dtype.kind != "f":
        return g.node("Mod", a, b)
    return g.node("Sub", a, g.node("Mul", b, g.node("Floor", g.node("Div", a, b))))


def _floor_divide(g: Graph, a: Name, b: Name, x: Value) -> Name:
    if x.dtype.kind != "f":
        return g.node("Div", g.node("Sub", a, g.node("Mod", a, b)), b)
    return g.node("Floor", g.node("Div", a, b))


def _operator(function: Callable[[Graph, Name, Name, Value], Name], swapped: bool = False) -> Callable[..., Name]:
    """A translation of the operator of a Tensor."""
    of_pair = _floats(function)
    return lambda g, x, other: of_pair(g, other, x) if swapped else of_pair(g, x, other)


def lerp(g: Graph, a: Value, b: Value, weight: Any) -> Name:
    return g.node("Add", a, g.node("Mul", operand(g, weight, a), g.node("Sub", b, a)))


def quotient(g: Graph, x: Value, other: Any, rounding_mode: str | None) -> Name:
    y = divide(g, x, other)
    return y if rounding_mode is None else g.node("Floor", y) if rounding_mode == "floor" else _toward_zero(g, y)


_OPERATORS = {
    "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan", "atanh": "Atanh", "cos": "Cos",
    "cosh": "Cosh", "erf": "Erf", "reciprocal": "Reciprocal", "sign": "Sign", "sin": "Sin", "sinh": "Sinh",
    "tan": "Tan",
    **{f"Tensor.{op.lower()}": op for op in ("Exp", "Log", "Sqrt", "Sigmoid", "Tanh", "Relu")},
}  # fmt: skip
_PAIRS = {
    "atan2": _atan2, "floor_divide": _floor_divide, "fmod": _fmod, "hypot": _hypot, "logaddexp": _logaddexp,
    "remainder": _remainder,
}  # fmt: skip

ELEMENTARY: dict[str, Any] = {
    **{name: partial(_one, op=op) for name, op in _OPERATORS.items()},
    **{name: _floats(function) for name, function in _PAIRS.items()},
    **{each.__name__: each for each in (erfc, exp2, expm1, isfinite, lerp, log1p, nan_to_num, rsqrt, square, trunc)},
    "Tensor.__floordiv__": _operator(_floor_divide),
    "Tensor.__mod__": _operator(_remainder),
    "Tensor.__rfloordiv__": _operator(_floor_divide, swapped=True),
    "Tensor.__rmod__": _operator(_remainder, swapped=True),
    "Tensor.div": quotient,
    "Tensor.round": round_,
    "ceil": partial(_whole, op="Ceil"),
    "floor": partial(_whole, op="Floor"),
    "isinf": partial(_is, op="IsInf"),
    "isnan": partial(_is, op="IsNaN"),
    "log10": partial(_logarithm, base=10),
    "log2": partial(_logarithm, base=2),
    "round": round_,
}
"""The translations by the names of the functions."""
