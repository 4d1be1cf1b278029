"""Activations of straight pieces (and one parabola), element by element, forward and backward.

    hardtanh(x) = min(max(x, low), high)        hardswish(x) = x min(max(x + 3, 0), 6) / 6
    threshold(x) = x if x > t else value        hardshrink(x) = x if |x| > l else 0
    softshrink(x) = x - l if x > l, x + l if x < -l, else 0
    prelu(x) = x if x > 0 else w x, with a slope w for all, or one for each channel of x (N, C, ...), which is learned
    rrelu(x) = x if x > 0 else r x, with a slope r for each element, drawn anew each time

Arrays of any shape; float16 is computed in float32. The derivatives are taken from x; at a corner they are PyTorch's,
and at NaN none is 0, which would hide it. Sources: Collobert 2004 (hardtanh); Howard et al. 2019, "Searching for
MobileNetV3" (hardswish); Donoho and Johnstone 1994 (the shrinkages); He et al. 2015, "Delving deep into rectifiers"
(prelu); Xu et al. 2015, "Empirical evaluation of rectified activations in convolutional network" (rrelu).
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.activation.pointwise import checked
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.chunks import by_element


def hardtanh(x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """x, cut off at ``min_val`` and ``max_val``.

    >>> hardtanh(np.array([-2.0, 0.5, 3.0])).tolist()
    [-1.0, 0.5, 1.0]
    """
    xp = operands("hardtanh", x=x)
    _check_ends("hardtanh", min_val, max_val)
    return by_element(xp, lambda y, x: xp.clip(x, min_val, max_val, out=y), x)


def hardtanh_backward(gy: Array, x: Array, min_val: float = -1.0, max_val: float = 1.0) -> Array:
    """``gy`` between the two ends, which are 0 themselves, and 0 beyond them."""
    xp = checked("hardtanh_backward", gy, x=x)
    _check_ends("hardtanh_backward", min_val, max_val)

    def block(gx: Array, gy: Array, x: Array) -> None:
        gx[...] = xp.where((x <= min_val) | (x >= max_val), 0, gy)

    return by_element(xp, block, gy, x)


def hardswish(x: Array) -> Array:
    """``x min(max(x + 3, 0), 6) / 6``: :func:`gpunn.ops.activation.silu` of straight pieces.

    >>> hardswish(np.array([-4.0, 0.0, 1.5, 4.0])).tolist()
    [-0.0, 0.0, 1.125, 4.0]
    """
    xp = operands("hardswish", x=x)

    def block(y: Array, x: Array) -> None:
        xp.add(x, 3, out=y)
        xp.clip(y, 0, 6, out=y)
        y /= 6
        y *= xp.maximum(x, -3)  # not infinity times 0

    return by_element(xp, block, x)


def hardswish_backward(gy: Array, x: Array) -> Array:
    """``gy (x / 3 + 1/2)`` between -3 and 3, 0 up to -3, gy from 3."""
    xp = checked("hardswish_backward", gy, x=x)

    def block(gx: Array, gy: Array, x: Array) -> None:
        slope = xp.where(x >= 3, 1, xp.clip(x, -3, 3) / 3 + 0.5)
        xp.multiply(gy, xp.where(x <= -3, 0, slope), out=gx)

    return by_element(xp, block, gy, x)


def threshold(x: Array, threshold: float, value: float) -> Array:
    """x where x > ``threshold``, else ``value``; NaN stays NaN.

    >>> threshold(np.array([-1.0, 0.5, 2.0]), 0.5, 7.0).tolist()
    [7.0, 7.0, 2.0]
    """
    xp = operands("threshold", x=x)
    check_number("threshold", threshold=threshold, value=value)

    def block(y: Array, x: Array) -> None:
        y[...] = xp.where(x <= threshold, value, x)

    return by_element(xp, block, x)


def threshold_backward(gy: Array, x: Array, threshold: float) -> Array:
    """``gy`` where x > ``threshold``, else 0."""
    xp = checked("threshold_backward", gy, x=x)

    def block(gx: Array, gy: Array, x: Array) -> None:
        gx[...] = xp.where(x <= threshold, 0, gy)

    return by_element(xp, block, gy, x)


def hardshrink(x: Array, lambd: float = 0.5) -> Array:
    """x where ``|x| > lambd``, else 0.

    >>> hardshrink(np.array([-1.0, 0.25, 2.0])).tolist()
    [-1.0, 0.0, 2.0]
    """
    xp = operands("hardshrink", x=x)
    check_number("hardshrink", lambd=lambd)
    return by_element(xp, lambda y, x: _outside(xp, x, lambd, x, y), x)


def hardshrink_backward(gy: Array, x: Array, lambd: float = 0.5) -> Array:
    """``gy`` where ``|x| > lambd``, else 0: that of :func:`softshrink` too."""
    xp = checked("hardshrink_backward", gy, x=x)
    return by_element(xp, lambda gx, gy, x: _outside(xp, x, lambd, gy, gx), gy, x)


def softshrink(x: Array, lambd: float = 0.5) -> Array:
    """x, nearer to 0 by ``lambd``; 0 where it is nearer than that.

    >>> softshrink(np.array([-1.0, 0.25, 2.0])).tolist()
    [-0.5, 0.0, 1.5]
    """
    xp = operands("softshrink", x=x)
    check_number("softshrink", lambd=lambd)
    check(lambd >= 0, ArgumentError, "softshrink", "lambd must be at least 0", lambd=lambd)
    return by_element(xp, lambda y, x: xp.subtract(x, xp.clip(x, -lambd, lambd), out=y), x)


def _outside(xp: Any, x: Array, lambd: float, chosen: Array, out: Array) -> None:
    """Write to ``out`` what is ``chosen`` where x lies outside -lambd to lambd, else 0."""
    out[...] = xp.where((x >= -lambd) & (x <= lambd), 0, chosen)


def prelu(x: Array, weight: Array) -> Array:
    """x where x > 0, else ``weight x``; weight is () or (1,), or (C,) for x (N, C, ...).

    >>> prelu(np.array([[-1.0, 2.0], [-3.0, -4.0]]), np.array([0.5, 0.25])).tolist()
    [[-0.5, 2.0], [-1.5, -1.0]]
    """
    xp, w = _slopes("prelu", x, weight)
    wide = x.astype(w.dtype, copy=False)
    with np.errstate(invalid="ignore"):  # slope 0 times infinity
        return xp.asarray(xp.where(wide > 0, wide, w * wide)).astype(x.dtype, copy=False)


def prelu_backward_x(gy: Array, x: Array, weight: Array) -> Array:
    """The gradient with respect to x: ``gy`` where x > 0, else ``weight gy``."""
    xp, w = _slopes("prelu_backward_x", x, weight)
    wide = _wide("prelu_backward_x", gy, x)
    return xp.asarray(xp.where(x > 0, wide, w * wide)).astype(x.dtype, copy=False)


def prelu_backward_weight(gy: Array, x: Array, weight: Array) -> Array:
    """The gradient with respect to weight: the sum of ``gy x`` over the elements with that slope."""
    xp, w = _slopes("prelu_backward_weight", x, weight)
    wide = _wide("prelu_backward_weight", gy, x)
    products = xp.asarray(xp.where(x > 0, 0, x.astype(w.dtype, copy=False) * wide))
    axes = tuple(axis for axis in range(x.ndim) if w.ndim <= axis or w.shape[axis] == 1 or weight.size == 1)
    return products.sum(axes).reshape(weight.shape).astype(x.dtype, copy=False)


def _slopes(op: str, x: Array, weight: Array) -> tuple[Any, Array]:
    """The array module, and weight wide, in a shape that broadcasts to that of x."""
    xp = operands(op, x=x, weight=weight)
    channels = 1 if x.ndim < 2 else x.shape[1]
    rule = "weight must be one number, or one for each channel of x (N, C, ...)"
    fits = weight.ndim < 2 and weight.size in (1, channels)
    check(fits, ShapeError, op, rule, weight=weight.shape, x=x.shape)
    wide = weight.astype(accumulation_dtype(x.dtype), copy=False)
    return xp, wide.reshape(()) if weight.size == 1 else wide.reshape(1, channels, *(1,) * (x.ndim - 2))


def _wide(op: str, gy: Array, x: Array) -> Array:
    operands(op, gy=gy, x=x)
    check_shape(op, "gy", gy, x.shape)
    return gy.astype(accumulation_dtype(gy.dtype), copy=False)


def rrelu_slopes(x: Array, lower: float, upper: float, key: int) -> Array:
    """A slope between ``lower`` and ``upper`` for each element of x, wide; the same for the same key on every device.

    They are ``lower + (upper - lower) numpy.random.Generator(numpy.random.Philox(key=key)).random(x.shape)``.

    >>> rrelu_slopes(np.ones(3), 0.0, 1.0, key=1).round(4).tolist()
    [0.3036, 0.8487, 0.1561]
    """
    xp, dtype = operands("rrelu", x=x), accumulation_dtype(x.dtype)
    check_rrelu("rrelu", lower, upper)
    cuda.refuse_capture("rrelu", "its slopes are drawn on the CPU")
    numbers = np.random.Generator(np.random.Philox(key=key)).random(prod(x.shape))
    return xp.asarray((lower + (upper - lower) * numbers).reshape(x.shape).astype(dtype))


def rrelu(x: Array, slopes: Array) -> Array:
    """x where x > 0, else ``slopes x``; ``slopes`` is what :func:`rrelu_slopes` gave.

    >>> rrelu(np.array([-1.0, 2.0]), np.array([0.25, 0.5])).tolist()
    [-0.25, 2.0]
    """
    return _bent("rrelu", x, x, slopes)


def rrelu_backward(gy: Array, x: Array, slopes: Array) -> Array:
    """``gy`` where x > 0, else ``slopes gy``."""
    checked("rrelu_backward", gy, x=x)
    return _bent("rrelu_backward", gy, x, slopes)


def _bent(op: str, a: Array, x: Array, slopes: Array) -> Array:
    xp = get_array_module(a, x, slopes)
    check_shape(op, "slopes", slopes, x.shape)
    with np.errstate(invalid="ignore"):
        wide = a.astype(slopes.dtype, copy=False)
        return xp.asarray(xp.where(x > 0, wide, slopes * wide)).astype(a.dtype, copy=False)


def check_rrelu(op: str, lower: float, upper: float) -> None:
    """Check the ends of the range of slopes."""
    check_number(op, lower=lower, upper=upper)
    check(lower <= upper, ArgumentError, op, "lower must be at most upper", lower=lower, upper=upper)


def _check_ends(op: str, min_val: float, max_val: float) -> None:
    check_number(op, min_val=min_val, max_val=max_val)
    check(min_val <= max_val, ArgumentError, op, "min_val must be at most max_val", min_val=min_val, max_val=max_val)
