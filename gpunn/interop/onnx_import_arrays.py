"""ONNX's operators on arrays: arithmetic, comparisons, activations, reductions and products.

How an operator looks says :mod:`gpunn.interop.onnx_import_operators`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce as fold
from typing import Any, Literal

import numpy as np

from gpunn import functional as F
from gpunn.backend import get_array_module, is_floating
from gpunn.interop.onnx_import_step import Step, around, axes_from, fixed, module_of, normal, number, untranslated
from gpunn.ops.activation.smooth import SELU_ALPHA, SELU_SCALE
from gpunn.tensor import Tensor, wrapped

# ---- element by element ---------------------------------------------------------------------------------------------


def unary(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """An operator that is a function of one array."""
    return lambda step, x: function(x)


def binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operator that is a function of two arrays."""
    return lambda step, a, b: function(a, b)


def of_integers(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of Tensors, done on the arrays of those that have no gradient."""
    return lambda *xs: untranslated(function(*[x.data for x in xs]), *xs)


def divide(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return a / b if is_floating(a.dtype) else of_integers(quotient)(a, b)


def quotient(a: Any, b: Any) -> Any:
    """``a / b``; of integers, cut off as in C."""
    if is_floating(a.dtype):
        return a / b
    xp = get_array_module(a)
    whole = a // b
    if a.dtype.kind == "i":
        whole = whole + ((whole * b != a) & ((a < 0) != (b < 0)))
    return xp.asarray(whole).astype(a.dtype, copy=False)


def power(step: Step, x: Tensor, exponent: Tensor) -> Tensor:
    if not is_floating(x.dtype):
        xp = module_of(x)
        return untranslated(xp.power(x.data, exponent.data).astype(x.dtype), x, exponent)
    if exponent.size == 1 and exponent.ndim <= x.ndim and not exponent.requires_grad:
        return x ** float(number(exponent))
    return x ** (exponent if exponent.dtype == x.dtype else exponent.astype(x.dtype))


def remainder(step: Step, a: Tensor, b: Tensor, fmod: int = 0) -> Tensor:
    """What is left of a, with the sign of b, or that of a with ``fmod``."""
    function: Any = F.fmod if fmod else F.remainder
    y: Tensor = function(a, b)
    return y


def several(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """An operator of any number of arrays, taken two by two."""
    return lambda step, *xs: fold(function, xs)


def mean_of(step: Step, *xs: Tensor) -> Tensor:
    return fold(lambda a, b: a + b, xs) / len(xs)


def clip(step: Step, x: Tensor, min: Any = None, max: Any = None) -> Tensor:
    low, high = (None if bound is None else number(bound) for bound in (min, max))
    if low is None and high is None:
        return x
    if low is not None and high is not None and low > high:
        low = high
    y: Tensor = F.clip(x, low, high)
    return y


def where(step: Step, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return F.where(condition, a, b)


def cast(step: Step, x: Any, to: int, **how: Any) -> Any:
    return converted(x, step.dtype(to))


def cast_like(step: Step, x: Any, like: Any, **how: Any) -> Any:
    return converted(x, like.dtype)


def converted(x: Tensor, dtype: np.dtype[Any]) -> Tensor:
    """``x`` in ``dtype``."""
    with np.errstate(all="ignore"):
        return x.astype(dtype)


def is_infinite(step: Step, x: Tensor, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    y = F.isinf(x)
    y = y if detect_negative else y & (x > 0)
    return y if detect_positive else y & (x < 0)


# ---- activations ----------------------------------------------------------------------------------------------------


def leaky_relu(step: Step, x: Tensor, alpha: float = 0.01) -> Tensor:
    return F.leaky_relu(x, alpha)


def prelu(step: Step, x: Tensor, slope: Tensor) -> Tensor:
    return F.where(x < 0, slope * x, x)


def elu(step: Step, x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.elu(x, alpha)


def celu(step: Step, x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.celu(x, alpha)


def selu(step: Step, x: Tensor, alpha: float = SELU_ALPHA, gamma: float = SELU_SCALE) -> Tensor:
    if abs(alpha - SELU_ALPHA) < 1e-6 and abs(gamma - SELU_SCALE) < 1e-6:
        return F.selu(x)
    return F.elu(x, alpha) * gamma


def hard_sigmoid(step: Step, x: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    if abs(alpha - 1 / 6) < 1e-7 and beta == 0.5:
        return F.hardsigmoid(x)
    return F.clip(x * alpha + beta, 0.0, 1.0)


def thresholded_relu(step: Step, x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.threshold(x, alpha, 0.0)


def shrink(step: Step, x: Tensor, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    if not is_floating(x.dtype):
        xp, a = module_of(x), x.data
        return untranslated(xp.where(a < -lambd, a + bias, xp.where(a > lambd, a - bias, 0)).astype(x.dtype), x)
    return F.where(x < -lambd, x + bias, F.where(x > lambd, x - bias, 0.0))


def gelu(step: Step, x: Tensor, approximate: Literal["none", "tanh"] = "none") -> Tensor:
    return F.gelu(x, approximate)


def swish(step: Step, x: Tensor, alpha: float = 1.0) -> Tensor:
    return F.silu(x) if alpha == 1 else x * F.sigmoid(x * alpha)


def along(function: Callable[[Any, int], Tensor]) -> Callable[..., Any]:
    """An operator along an axis; before version 13 along that and all behind it, as one."""

    def operator(step: Step, x: Tensor, axis: int | None = None) -> Tensor:
        if step.version >= 13:
            return function(x, -1 if axis is None else axis)
        first = normal(1 if axis is None else axis, x.ndim)
        rows = x.reshape(int(np.prod(x.shape[:first])), -1 if x.size else 0)
        return function(rows, 1).reshape(x.shape)

    return operator


def hardmax(x: Tensor, axis: int) -> Tensor:
    """1 at the first maximum along ``axis``, 0 elsewhere."""
    places = np.arange(x.shape[axis]).reshape(-1, *(1,) * (x.ndim - 1 - normal(axis, x.ndim)))
    return (x.argmax(axis, keepdims=True) == fixed(places, x)).astype(x.dtype)


# ---- reductions -----------------------------------------------------------------------------------------------------

Reduction = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def reduced(
    function: Reduction,
    before: Callable[[Tensor], Tensor] = lambda x: x,
    after: Callable[[Tensor], Tensor] = lambda x: x,
) -> Callable[..., Any]:
    """An operator that reduces axes, all of them if none are named."""

    def operator(step: Step, x: Tensor, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
        named = () if axes is None else axes_from(axes, x.ndim)
        y = before(x)
        if named or not noop_with_empty_axes:
            y = function(y, named or tuple(range(x.ndim)), bool(keepdims))
        return converted(after(y), x.dtype) if y.dtype != x.dtype else after(y)

    return operator


def total(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.sum(axes, keepdims)


def product(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    return x.prod(axes, keepdims)


def mean(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if is_floating(x.dtype):
        return x.mean(axes, keepdims)
    return untranslated(module_of(x).asarray(x.data.mean(axes, keepdims=keepdims)), x)


def logsumexp(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    if not x.size:
        return total(x, axes, keepdims) - np.inf
    if not is_floating(x.dtype):
        x = x.astype(np.float64)
    return F.logsumexp(x, axes, keepdims)


def extremum(which: str) -> Reduction:
    """The largest or the smallest, ``"max"`` or ``"min"``; of no elements, the other end of the dtype."""

    def function(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
        if x.dtype == np.bool_:
            return (x.any if which == "max" else x.all)(axes, keepdims)
        if x.size:
            y: Tensor = getattr(x, which)(axes, keepdims)
            return y
        shape = [n if axis not in axes else 1 for axis, n in enumerate(x.shape) if keepdims or axis not in axes]
        if is_floating(x.dtype):
            end = -np.inf if which == "max" else np.inf
        else:
            end = np.iinfo(x.dtype).min if which == "max" else np.iinfo(x.dtype).max
        return wrapped(module_of(x).full(shape, end, x.dtype))

    return function


def log(x: Tensor) -> Tensor:
    """The logarithm, -inf at 0 without a warning; of integers in float64."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return F.log(x if is_floating(x.dtype) else x.astype(np.float64))


def root(x: Tensor) -> Tensor:
    """The square root; of integers in float64."""
    return F.sqrt(x if is_floating(x.dtype) else x.astype(np.float64))


def extreme_index(which: str) -> Callable[..., Any]:
    """Where the largest or the smallest lies, ``"argmax"`` or ``"argmin"``."""

    def operator(step: Step, x: Tensor, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
        turned = x[around(x, axis, slice(None, None, -1))] if select_last_index else x
        places: Tensor = getattr(turned, which)(axis, bool(keepdims))
        return x.shape[axis] - 1 - places if select_last_index else places

    return operator


def cumsum(step: Step, x: Tensor, axis: Any, exclusive: int = 0, reverse: int = 0) -> Tensor:
    turn = around(x, int(number(axis)), slice(None, None, -1))
    y = x[turn] if reverse else x
    sums = y.cumsum(int(number(axis)))
    sums = sums if sums.dtype == x.dtype else converted(sums, x.dtype)
    sums = sums - y if exclusive else sums
    return sums[turn] if reverse else sums


def top(step: Step, x: Tensor, k: Any, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Tensor, Tensor]:
    """The ``k`` largest or smallest along an axis, in order, and where they lie; of equal ones the first."""
    return F.topk(x, int(number(k)), axis, bool(largest))  # in order in any case


def along_axis(xp: Any, places: Any, axis: int) -> tuple[Any, ...]:
    """The index of an array that names an element along ``axis`` for each place of ``places``."""
    grid = xp.ogrid[tuple(slice(0, n) for n in places.shape)]
    return tuple(places if each == axis else grid[each] for each in range(places.ndim))


# ---- products -------------------------------------------------------------------------------------------------------


def matmul(step: Step, a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def gemm(
    step: Step, a: Tensor, b: Tensor, c: Tensor | None = None, alpha: float = 1.0, beta: float = 1.0, transA: int = 0,
    transB: int = 0,
) -> Tensor:  # fmt: skip
    """``alpha a b + beta c``."""
    left = a.T if transA else a
    layer = transB and alpha == 1 and (c is None or (beta == 1 and c.shape == b.shape[:1]))
    if layer and is_floating(a.dtype):
        return F.linear(left, b, c)
    y = left @ (b.T if transB else b)
    y = y if alpha == 1 else y * alpha
    if c is None:
        return y
    return y + (c if beta == 1 else c * beta)


def einsum(step: Step, *xs: Tensor, equation: str) -> Tensor:
    return F.einsum(equation.replace(" ", ""), *xs)


# ---- on the CPU, of constants and shapes ----------------------------------------------------------------------------


def host_reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def operator(step: Step, x: Any, axes: Any = None, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Any:
        named = () if axes is None else axes_from(axes, x.ndim)
        if not named and noop_with_empty_axes:
            return x
        y = function(x, axis=named or None, keepdims=bool(keepdims))
        return np.asarray(y).astype(x.dtype)

    return operator


def host_clip(step: Step, x: Any, min: Any = None, max: Any = None) -> Any:
    low, high = (None if bound is None else np.asarray(bound, x.dtype) for bound in (min, max))
    return x if low is high is None else np.clip(x, low, high)


def host_concat(step: Step, *xs: Any, axis: int) -> Any:
    return np.concatenate(xs, axis)
