"""Reductions over axes, and running sums, with their gradients.

    sum_i x[i]      mean = sum / n      var = sum_i (x[i] - mean)^2 / (n - ddof)      std = sqrt(var)
    max, min        prod_i x[i]         logsumexp = log sum_i exp(x[i])               cumsum[i] = sum_{j<=i} x[j]

``axis`` is None (all), an integer or a tuple; ``keepdims`` keeps the reduced axes with size 1. float16 is accumulated
in float32. Among equal maxima (minima) the gradient is shared evenly, so that it does not depend on the order of the
elements (PyTorch's ``amax`` does so too); where the maximum is NaN, the NaN elements share it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, is_floating, operands
from gpunn.errors import ShapeError, check, check_number
from gpunn.ops.array.shape import Axis, axes_of, spread


def sum(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> sum(np.ones((2, 3)), axis=1).tolist()
    [3.0, 3.0]
    """
    return _narrow(x.sum(_axes("sum", x, axis), dtype=_wide(x), keepdims=keepdims), x)


def mean(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> mean(np.array([1.0, 2.0])).tolist()
    1.5
    """
    _not_empty("mean", x, axis, "there must be elements to average")
    return _narrow(x.mean(_axes("mean", x, axis), dtype=_wide(x), keepdims=keepdims), x)


def mean_backward(gy: Array, shape: tuple[int, ...], axis: Axis, keepdims: bool) -> Array:
    """``gy / n``."""
    share = gy.size / math.prod(shape) if gy.size else 1.0
    return spread(_narrow(gy.astype(_wide(gy), copy=False) * share, gy), shape, axis, keepdims)


def prod(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> prod(np.array([2.0, 3.0])).tolist()
    6.0
    """
    return _narrow(x.prod(_axes("prod", x, axis), dtype=_wide(x), keepdims=keepdims), x)


def prod_backward(gy: Array, x: Array, axis: Axis, keepdims: bool) -> Array:
    """``gy`` times the product of all other elements: those before it times those after it, so zeros do no harm."""
    xp, axes = get_array_module(gy), axes_of("prod", x, axis)
    last = tuple(range(-len(axes), 0))
    moved = xp.moveaxis(x, axes, last)
    rows = moved.reshape(*moved.shape[: x.ndim - len(axes)], math.prod(x.shape[a] for a in axes)).astype(_wide(x))
    before, after = xp.ones_like(rows), xp.ones_like(rows)
    before[..., 1:] = rows[..., :-1].cumprod(-1)
    after[..., :-1] = rows[..., :0:-1].cumprod(-1)[..., ::-1]
    others = xp.moveaxis((before * after).reshape(moved.shape), last, axes)
    return (spread(gy, x.shape, axis, keepdims) * others).astype(gy.dtype, copy=False)


def var(x: Array, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """
    >>> var(np.array([1.0, 3.0])).tolist(), var(np.array([1.0, 3.0]), ddof=1).tolist()
    (1.0, 2.0)
    """
    _count("var", x, axis, ddof)
    return _narrow(x.var(_axes("var", x, axis), dtype=_wide(x), ddof=ddof, keepdims=keepdims), x)


def var_backward(gy: Array, x: Array, axis: Axis, ddof: float, keepdims: bool) -> Array:
    """``2 gy (x - mean) / (n - ddof)``."""
    wide = x.astype(_wide(x), copy=False)
    scaled = (2 / _count("var", x, axis, ddof)) * (wide - wide.mean(_axes("var", x, axis), keepdims=True))
    return (spread(gy, x.shape, axis, keepdims) * scaled).astype(gy.dtype, copy=False)


def std(x: Array, axis: Axis = None, ddof: float = 0, keepdims: bool = False) -> Array:
    """
    >>> std(np.array([1.0, 3.0])).tolist()
    1.0
    """
    _count("std", x, axis, ddof)
    return _narrow(x.std(_axes("std", x, axis), dtype=_wide(x), ddof=ddof, keepdims=keepdims), x)


def std_backward(gy: Array, x: Array, y: Array, axis: Axis, ddof: float, keepdims: bool) -> Array:
    """``gy (x - mean) / ((n - ddof) std)``, 0 where all elements are equal."""
    xp = get_array_module(gy)
    half = xp.where(y == 0, 0, gy / xp.where(y == 0, 1, 2 * y)).astype(gy.dtype, copy=False)
    return var_backward(half, x, axis, ddof, keepdims)


def max(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> max(np.array([1.0, 3.0])).tolist()
    3.0
    """
    _not_empty("max", x, axis, "there must be elements to compare")
    return get_array_module(x).asarray(x.max(_axes("max", x, axis), keepdims=keepdims))


def min(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> min(np.array([1.0, 3.0])).tolist()
    1.0
    """
    _not_empty("min", x, axis, "there must be elements to compare")
    return get_array_module(x).asarray(x.min(_axes("min", x, axis), keepdims=keepdims))


def extremum_backward(gy: Array, x: Array, y: Array, axis: Axis, keepdims: bool) -> Array:
    """The gradient of :func:`max` or :func:`min`, y its result: ``gy / k`` at each of the k elements equal to y."""
    chosen = (x == spread(y, x.shape, axis, keepdims)) | (x != x)
    count = chosen.sum(_axes("max", x, axis), keepdims=True).astype(_wide(x))
    return (spread(gy, x.shape, axis, keepdims) * (chosen / count)).astype(gy.dtype, copy=False)


def argmax(x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the first of the largest elements, in the flattened array without ``axis``.

    >>> argmax(np.array([1.0, 3.0, 3.0])).tolist()
    1
    """
    _not_empty("argmax", x, axis, "there must be elements to compare")
    return get_array_module(x).asarray(x.argmax(axis, keepdims=keepdims))


def argmin(x: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    """The index of the first of the smallest elements.

    >>> argmin(np.array([3.0, 1.0, 1.0])).tolist()
    1
    """
    _not_empty("argmin", x, axis, "there must be elements to compare")
    return get_array_module(x).asarray(x.argmin(axis, keepdims=keepdims))


def all(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> all(np.array([True, False])).tolist()
    False
    """
    return get_array_module(x).asarray(x.all(_axes("all", x, axis), keepdims=keepdims))


def any(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """
    >>> any(np.array([True, False])).tolist()
    True
    """
    return get_array_module(x).asarray(x.any(_axes("any", x, axis), keepdims=keepdims))


def cumsum(x: Array, axis: int | None = None) -> Array:
    """Without ``axis``, over the flattened array.

    >>> cumsum(np.array([1.0, 2.0, 3.0])).tolist()
    [1.0, 3.0, 6.0]
    """
    along = (*axes_of("cumsum", x, axis), None)[0] if axis is not None else None
    y = x.cumsum(along, dtype=_wide(x))
    return _narrow(y if axis is None else y.reshape(x.shape), x)


def cumsum_backward(gy: Array, shape: tuple[int, ...], axis: int | None) -> Array:
    """The sum of ``gy`` from each element on."""
    xp, along = get_array_module(gy), 0 if axis is None else axis
    if not gy.ndim:
        return gy
    return xp.flip(cumsum(xp.flip(gy, along), along), along).reshape(shape)


def cumprod(x: Array, axis: int | None = None) -> Array:
    """The products of the elements up to each one, along ``axis``, or of the flattened array.

    >>> cumprod(np.array([2.0, 3.0, 4.0])).tolist()
    [2.0, 6.0, 24.0]
    """
    along = (*axes_of("cumprod", x, axis), None)[0] if axis is not None else None
    y = x.cumprod(along, dtype=_wide(x))
    return _narrow(y if axis is None else y.reshape(x.shape), x)


def cumprod_backward(gy: Array, x: Array, axis: int | None) -> Array:
    """The sum, from each element on, of ``gy`` times the product of the others up to there.

    That is of ``gy y / x``. From the first 0 on it is 0; of the first 0 itself, it is the sum of ``gy`` times the
    products that leave it out, up to the second one.
    """
    xp, last = get_array_module(gy), -1 if axis is None else axis
    if not gy.ndim:
        return gy
    rows = xp.moveaxis((x.reshape(-1) if axis is None else x).astype(_wide(x), copy=False), last, -1)
    g = xp.moveaxis(gy.astype(_wide(gy), copy=False), last, -1)
    zero = rows == 0
    zeros = zero.cumsum(-1)
    first = zero & (zeros == 1)
    nonzero = xp.where(zero, 1, rows).astype(rows.dtype, copy=False)
    before = _from_the_end(g * rows.cumprod(-1)) / nonzero
    at = _from_the_end(g * xp.where(first, 1, rows).astype(rows.dtype, copy=False).cumprod(-1))
    gx = xp.where(zeros == 0, before, xp.where(first, at, 0))
    return xp.moveaxis(gx, -1, last).reshape(x.shape).astype(gy.dtype, copy=False)


def _from_the_end(g: Array) -> Array:
    return g[..., ::-1].cumsum(-1)[..., ::-1]


def logsumexp(x: Array, axis: Axis = None, keepdims: bool = False) -> Array:
    """The maximum is subtracted first, so that nothing overflows.

    >>> logsumexp(np.array([1000.0, 1000.0])).round(4).tolist()
    1000.6931
    """
    xp = operands("logsumexp", x=x)
    _not_empty("logsumexp", x, axis, "there must be elements to add")
    axes, (top, exponentials) = _axes("logsumexp", x, axis), _exponentials(x, axis)
    with np.errstate(divide="ignore"):  # the logarithm of 0 is -inf: every element was
        y = xp.log(exponentials.sum(axes, keepdims=True)) + top
    return _narrow(y if keepdims else y.squeeze(axes), x)


def logsumexp_backward(gy: Array, x: Array, axis: Axis, keepdims: bool) -> Array:
    """``gy softmax(x)``, 0 where every element is -inf."""
    xp = get_array_module(gy)
    _, exponentials = _exponentials(x, axis)
    total = exponentials.sum(_axes("logsumexp", x, axis), keepdims=True)
    shares = exponentials / xp.where(total == 0, 1, total).astype(total.dtype, copy=False)
    return (spread(gy, x.shape, axis, keepdims) * shares).astype(gy.dtype, copy=False)


def _exponentials(x: Array, axis: Axis) -> tuple[Array, Array]:
    """The largest element along ``axis`` (0 for one that is infinite), and exp(x - largest)."""
    xp, wide = get_array_module(x), x.astype(_wide(x), copy=False)
    top = wide.max(_axes("logsumexp", x, axis), keepdims=True)
    top = xp.where(xp.isfinite(top), top, 0).astype(wide.dtype, copy=False)
    return top, xp.exp(wide - top)


def _axes(op: str, x: Array, axis: Axis) -> Any:
    """None stays None: NumPy then reduces in memory order, whatever the strides."""
    return None if axis is None else axes_of(op, x, axis)


def _wide(x: Array) -> Any:
    return accumulation_dtype(x.dtype) if is_floating(x.dtype) else None


def _narrow(y: Any, x: Array) -> Array:
    y = get_array_module(x).asarray(y)
    return y.astype(x.dtype, copy=False) if is_floating(x.dtype) else y


def _not_empty(op: str, x: Array, axis: Axis, rule: str) -> None:
    check(math.prod(x.shape[a] for a in axes_of(op, x, axis)) > 0, ShapeError, op, rule, shape=x.shape, axis=axis)


def _count(op: str, x: Array, axis: Axis, ddof: float) -> float:
    operands(op, x=x)
    check_number(op, ddof=ddof)
    count: int = math.prod(x.shape[a] for a in axes_of(op, x, axis))
    check(count > ddof, ShapeError, op, "there must be more elements than ddof", shape=x.shape, axis=axis, ddof=ddof)
    return count - ddof
