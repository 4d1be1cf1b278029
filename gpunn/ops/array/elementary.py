"""Elementary functions, element by element: a table of their values and slopes; rounding; functions of two arrays.

    x -> y               dy/dx                           x -> y              dy/dx
    sin, cos, tan        cos x, -sin x, 1 + y^2          sinh, cosh          cosh x, sinh x
    asin, acos           1 / sqrt(1 - x^2), minus that   asinh, acosh        1 / sqrt(x^2 + 1), 1 / sqrt(x^2 - 1)
    atan                 1 / (1 + x^2)                   atanh               1 / (1 - x^2)
    exp2, expm1          y log 2, exp x                  erf, erfc           2 exp(-x^2) / sqrt(pi), minus that
    log1p, log2, log10   1 / (1 + x), 1 / (x log b)      floor, ceil, ...    0
    reciprocal, rsqrt    -y^2, -y^3 / 2                  square              2 x

    atan2(a, b): b / (a^2 + b^2), -a / (a^2 + b^2)       hypot: a / y, b / y       logaddexp: exp(a - y), exp(b - y)
    fmod, remainder: 1, -trunc(a / b) or -floor(a / b)   floor_divide: 0, 0
    lerp = a + w (b - a) = b - (1 - w) (b - a): 1 - w, w, b - a

Half types are computed in float32. Outside their range functions give what NumPy's give, and its warning. The error
function comes from the distribution function of :mod:`gpunn.ops.activation.normal`, and from its power series near 0,
where 1 - erfc(x) would have few digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, accumulation_dtype, cast, check_array, get_array_module, is_floating, operands, where
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number, fail
from gpunn.ops.activation.normal import tail
from gpunn.ops.array import math as basic
from gpunn.ops.array.arithmetic import Gradients, unbroadcast


class Rule(NamedTuple):
    """``value(xp, x)``, and ``slope(xp, x, y)`` with y the value."""

    value: Callable[[Any, Array], Array]
    slope: Callable[[Any, Array, Array], Any]


def _flat(xp: Any, x: Array, y: Array) -> float:
    return 0.0


def _erf(xp: Any, x: Array) -> Array:
    near = xp.clip(x, -_SERIES_TO, _SERIES_TO)
    square, series = near * near, 0.0
    for power in range(_TERMS, -1, -1):
        series = series * square + (-1) ** power / (math.factorial(power) * (2 * power + 1))
    near = near * series * _ROOT
    return xp.where(xp.abs(x) < _SERIES_TO, near, xp.sign(x) * (1 - _beyond(xp, xp.abs(x))))


_ROOT = 2 / math.sqrt(math.pi)
_SERIES_TO, _TERMS = 0.5, 13
"""Up to where the series of erf is taken; the first term that is left out is below 1e-17."""


def _erfc(xp: Any, x: Array) -> Array:
    far = _beyond(xp, xp.abs(x))
    return xp.where(x < 0, 2 - far, far)


def _beyond(xp: Any, x: Array) -> Array:
    """``erfc(x)`` for x of at least 0: twice the probability beyond ``sqrt(2) x``."""
    exponential, r = tail(xp, xp.minimum(x * math.sqrt(2), 1e3).reshape(-1))  # it writes into arrays, not numbers
    return (2 * exponential * r).reshape(x.shape)


RULES = {
    "acos": Rule(lambda xp, x: xp.arccos(x), lambda xp, x, y: -1 / xp.sqrt(1 - x * x)),
    "acosh": Rule(lambda xp, x: xp.arccosh(x), lambda xp, x, y: 1 / xp.sqrt(x * x - 1)),
    "asin": Rule(lambda xp, x: xp.arcsin(x), lambda xp, x, y: 1 / xp.sqrt(1 - x * x)),
    "asinh": Rule(lambda xp, x: xp.arcsinh(x), lambda xp, x, y: 1 / xp.sqrt(x * x + 1)),
    "atan": Rule(lambda xp, x: xp.arctan(x), lambda xp, x, y: 1 / (1 + x * x)),
    "atanh": Rule(lambda xp, x: xp.arctanh(x), lambda xp, x, y: 1 / (1 - x * x)),
    "ceil": Rule(lambda xp, x: xp.ceil(x), _flat),
    "cos": Rule(lambda xp, x: xp.cos(x), lambda xp, x, y: -xp.sin(x)),
    "cosh": Rule(lambda xp, x: xp.cosh(x), lambda xp, x, y: xp.sinh(x)),
    "erf": Rule(_erf, lambda xp, x, y: _ROOT * xp.exp(-x * x)),
    "erfc": Rule(_erfc, lambda xp, x, y: -_ROOT * xp.exp(-x * x)),
    "exp2": Rule(lambda xp, x: xp.exp2(x), lambda xp, x, y: y * math.log(2)),
    "expm1": Rule(lambda xp, x: xp.expm1(x), lambda xp, x, y: xp.exp(x)),
    "floor": Rule(lambda xp, x: xp.floor(x), _flat),
    "log10": Rule(lambda xp, x: xp.log10(x), lambda xp, x, y: 1 / (x * math.log(10))),
    "log1p": Rule(lambda xp, x: xp.log1p(x), lambda xp, x, y: 1 / (1 + x)),
    "log2": Rule(lambda xp, x: xp.log2(x), lambda xp, x, y: 1 / (x * math.log(2))),
    "reciprocal": Rule(lambda xp, x: 1 / x, lambda xp, x, y: -y * y),
    "rsqrt": Rule(lambda xp, x: 1 / xp.sqrt(x), lambda xp, x, y: -y * y * y / 2),
    "sign": Rule(lambda xp, x: basic.sign(x), _flat),
    "sin": Rule(lambda xp, x: xp.sin(x), lambda xp, x, y: xp.cos(x)),
    "sinh": Rule(lambda xp, x: xp.sinh(x), lambda xp, x, y: xp.cosh(x)),
    "square": Rule(lambda xp, x: x * x, lambda xp, x, y: 2 * x),
    "tan": Rule(lambda xp, x: xp.tan(x), lambda xp, x, y: 1 + y * y),
    "trunc": Rule(lambda xp, x: xp.trunc(x), _flat),
}
_OF_INTEGERS = ("ceil", "floor", "sign", "square", "trunc")


def of_each(name: str, x: Array) -> Array:
    """The function ``name`` of :data:`RULES` of each element.

    >>> of_each("sin", np.array([0.0])).tolist()
    [0.0]
    """
    if name in _OF_INTEGERS:
        _check_real(name, x)
        if not is_floating(x.dtype):
            changed = name == "square" or (name == "sign" and x.dtype.kind != "b")
            return RULES[name].value(get_array_module(x), x) if changed else x.copy()
    xp = operands(name, x=x)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    return cast(xp.asarray(RULES[name].value(xp, wide)), x.dtype)


def of_each_backward(name: str, gy: Array, x: Array, y: Array) -> Array:
    """``gy`` times the slope; y is what :func:`of_each` gave of x."""
    xp, dtype = operands(f"{name}_backward", gy=gy, x=x), accumulation_dtype(x.dtype)
    g, wide, value = (a.astype(dtype, copy=False) for a in (gy, x, y))
    return cast(xp.asarray(g * RULES[name].slope(xp, wide, value)), x.dtype)


def round(x: Array, decimals: int = 0) -> Array:
    """The nearest number of ``decimals`` digits, of two the one whose last digit is even; its slope is 0.

    >>> round(np.array([0.5, 1.5, 2.26]), 0).tolist()
    [0.0, 2.0, 2.0]
    """
    _check_real("round", x)
    check(isinstance(decimals, Integral), ArgumentError, "round", "decimals must be an integer", decimals=decimals)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False) if is_floating(x.dtype) else x
    return cast(get_array_module(x).asarray(wide.round(int(decimals))), x.dtype)


def nan_to_num(x: Array, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Array:
    """``nan`` for NaN, and the numbers given, or the largest and least of the dtype, for infinities.

    >>> nan_to_num(np.array([np.nan, np.inf, 1.0]), posinf=9.0).tolist()
    [0.0, 9.0, 1.0]
    """
    _check_real("nan_to_num", x)
    given = {name: v for name, v in {"nan": nan, "posinf": posinf, "neginf": neginf}.items() if v is not None}
    check_number("nan_to_num", **given)
    if not is_floating(x.dtype):
        return x.copy()
    info = _limits(x.dtype)
    y = where(x != x, given.get("nan", 0.0), x)
    y = where(x == math.inf, info.max if posinf is None else posinf, y)
    return cast(where(x == -math.inf, info.min if neginf is None else neginf, y), x.dtype)


def nan_to_num_backward(gy: Array, x: Array) -> Array:
    """``gy`` where x is finite, else 0."""
    return gy * get_array_module(x).isfinite(x).astype(gy.dtype)


def _limits(dtype: Any) -> Any:
    if dtype.kind == "f":
        return np.finfo(dtype)
    from ml_dtypes import finfo

    return finfo(dtype)  # type: ignore[no-untyped-call]


def isnan(x: Array) -> Array:
    """Booleans: where x is no number.

    >>> isnan(np.array([1.0, np.nan])).tolist()
    [False, True]
    """
    _check_real("isnan", x)
    return get_array_module(x).asarray(x != x)


def isinf(x: Array) -> Array:
    """Booleans: where x is infinite.

    >>> isinf(np.array([1.0, -np.inf])).tolist()
    [False, True]
    """
    _check_real("isinf", x)
    return get_array_module(x).asarray((x == math.inf) | (x == -math.inf))


def isfinite(x: Array) -> Array:
    """Booleans: where x is neither infinite nor NaN.

    >>> isfinite(np.array([1.0, -np.inf, np.nan])).tolist()
    [True, False, False]
    """
    _check_real("isfinite", x)
    return get_array_module(x).asarray((x == x) & (x != math.inf) & (x != -math.inf))


def _check_real(op: str, x: Array) -> None:
    check_array(op, x=x)
    real = x.dtype.kind in "biu" or is_floating(x.dtype)
    check(real, DtypeError, op, "x must hold real numbers", dtype=str(x.dtype))


# ---- of two arrays, and of three ------------------------------------------------------------------------------------


class PairRule(NamedTuple):
    """``value(xp, a, b)``, and ``slopes(xp, a, b, y)`` with respect to a and to b."""

    value: Callable[[Any, Array, Array], Array]
    slopes: Callable[[Any, Array, Array, Array], tuple[Any, Any]]


def _of_angle(xp: Any, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
    square = a * a + b * b
    return b / square, -a / square


def _part(xp: Any, a: Array, b: Array) -> Array:
    """``exp(a) / (exp(a) + exp(b))``, also where one of them is infinite."""
    return xp.exp(-xp.logaddexp(0, b - a))


def _remainder(xp: Any, a: Array, b: Array) -> Array:
    """``a - floor(a / b) b``, with the sign of b, without rounding the quotient, which CuPy's function does."""
    y = xp.fmod(a, b)
    return xp.where(y == 0, xp.copysign(y, b), xp.where((y < 0) != (b < 0), y + b, y))


def _floored(xp: Any, a: Array, b: Array, y: Array) -> Array:
    """``floor(a / b)`` as the remainder y has it; -1 or 0 for an infinite b."""
    endless = xp.isinf(b) & (a == a)
    return xp.where(endless, (y == a).astype(a.dtype) - 1, xp.rint((a - y) / xp.where(endless, b.dtype.type(1), b)))


def _quotient(xp: Any, a: Array, b: Array) -> Array:
    return xp.where(b == 0, a / b, _floored(xp, a, b, _remainder(xp, a, b)))


PAIR_RULES = {
    "atan2": PairRule(lambda xp, a, b: xp.arctan2(a, b), _of_angle),
    "floor_divide": PairRule(_quotient, lambda xp, a, b, y: (0.0, 0.0)),
    "fmod": PairRule(lambda xp, a, b: xp.fmod(a, b), lambda xp, a, b, y: (1.0, -xp.rint((a - y) / b))),
    "hypot": PairRule(lambda xp, a, b: xp.hypot(a, b), lambda xp, a, b, y: (a / y, b / y)),
    "logaddexp": PairRule(lambda xp, a, b: xp.logaddexp(a, b), lambda xp, a, b, y: (_part(xp, a, b), _part(xp, b, a))),
    "remainder": PairRule(_remainder, lambda xp, a, b, y: (1.0, -_floored(xp, a, b, y))),
}


def of_pair(name: str, a: Array, b: Array) -> Array:
    """The function ``name`` of :data:`PAIR_RULES`, element by element; the shapes broadcast.

    >>> of_pair("hypot", np.array([3.0]), np.array([4.0])).tolist()
    [5.0]
    """
    if name in ("floor_divide", "fmod", "remainder") and a.dtype.kind in "iu":
        xp = get_array_module(a, b)
        return xp.asarray(getattr(xp, name)(a, b))
    xp, dtype = operands(name, a=a, b=b), accumulation_dtype(a.dtype)
    y = PAIR_RULES[name].value(xp, a.astype(dtype, copy=False), b.astype(dtype, copy=False))
    return cast(xp.asarray(y), a.dtype)


def of_pair_backward(name: str, gy: Array, a: Array, b: Array, needs: tuple[bool, ...]) -> Gradients:
    """``gy`` times the slopes."""
    xp, dtype = operands(f"{name}_backward", gy=gy, a=a, b=b), accumulation_dtype(a.dtype)
    g, x, y = (each.astype(dtype, copy=False) for each in (gy, a, b))
    rule = PAIR_RULES[name]
    slopes = rule.slopes(xp, x, y, rule.value(xp, x, y))
    ga, gb = (
        cast(unbroadcast(g * slope, each.shape), each.dtype) if need else None
        for slope, each, need in zip(slopes, (a, b), needs, strict=True)
    )
    return ga, gb


def lerp(a: Array, b: Array, weight: Array) -> Array:
    """``a + weight (b - a)``, from b on where that is nearer: exactly b for a weight of 1; the shapes broadcast.

    >>> lerp(np.array([0.0]), np.array([4.0]), np.array([0.25])).tolist()
    [1.0]
    """
    xp, dtype = operands("lerp", a=a, b=b, weight=weight), accumulation_dtype(a.dtype)
    try:
        np.broadcast_shapes(a.shape, b.shape, weight.shape)
    except ValueError:
        fail(ShapeError, "lerp", "shapes must broadcast", a=a.shape, b=b.shape, weight=weight.shape)
    x, y, w = (each.astype(dtype, copy=False) for each in (a, b, weight))
    near = xp.abs(w) < 0.5
    return cast(xp.asarray(xp.where(near, x, y) + xp.where(near, w, w - 1) * (y - x)), a.dtype)


def lerp_backward(gy: Array, a: Array, b: Array, weight: Array, needs: tuple[bool, ...]) -> list[Array | None]:
    """``gy (1 - weight)``, ``gy weight`` and ``gy (b - a)``."""
    dtype = accumulation_dtype(a.dtype)
    g, x, y, w = (each.astype(dtype, copy=False) for each in (gy, a, b, weight))
    slopes = (1 - w, w, y - x)
    return [
        cast(unbroadcast(g * slope, each.shape), each.dtype) if need else None
        for slope, each, need in zip(slopes, (a, b, weight), needs, strict=True)
    ]
