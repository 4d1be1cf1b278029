"""Padding by a constant or by what the array holds, forward and backward.

    along one axis, for x = 1 2 3 and 2 elements on both sides:
    constant: v v 1 2 3 v v        reflect: 3 2 1 2 3 2 1        replicate: 1 1 1 2 3 3 3        circular: 2 3 1 2 3 1 2

A negative pad takes elements away: from what the other pad has made, but for circular, which goes round what is left.
The pads are given from the last axis to the first, two numbers each: (left, right), (left, right, top, bottom), and so
on. One axis after the other is gathered; backward, what lies in the pads is added to what it was copied from, axis by
axis in the opposite order, the left pad before the right one: the same bits in every run. float16 is summed in float32.
"""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.shared.checks import check_shape

PadMode = Literal["constant", "reflect", "replicate", "circular"]


def pad(x: Array, pads: tuple[int, ...], mode: PadMode = "constant", value: float = 0.0) -> Array:
    """x with ``pads`` elements added; a negative number takes away.

    >>> import numpy as np
    >>> pad(np.array([[1.0, 2.0, 3.0]]), (2, 1), "reflect").tolist()
    [[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]
    """
    xp = operands("pad", x=x)
    if mode != "constant" and (steps := _steps("pad", pads, mode)):
        for step_pads, step_mode in steps:
            x = pad(x, step_pads, step_mode, value if step_mode == mode else 0.0)
        return x
    axes = _axes("pad", x.shape, pads, mode, value)
    if mode == "constant":
        y = xp.full(_padded(x.shape, axes), value, x.dtype)
        inner, outer = _overlap(x.shape, axes)
        y[outer] = x[inner]
        return y
    if not axes:
        return x.copy()
    for axis, before, after in axes:
        x = xp.take(x, _sources(xp, mode, x.shape[axis], before, after), axis)
    return x


def pad_backward(gy: Array, shape: tuple[int, ...], pads: tuple[int, ...], mode: PadMode = "constant") -> Array:
    """The gradient with respect to x, of ``shape``."""
    op = "pad_backward"
    xp = operands(op, gy=gy)
    if mode != "constant" and (steps := _steps(op, pads, mode)):
        (first, first_mode), (last, last_mode) = steps
        between = _padded(shape, _axes(op, shape, first, first_mode, 0.0))
        return pad_backward(pad_backward(gy, between, last, last_mode), shape, first, first_mode)
    axes = _axes(op, shape, pads, mode, 0.0)
    check_shape(op, "gy", gy, _padded(shape, axes))
    if mode == "constant":
        gx = xp.zeros(shape, gy.dtype)
        inner, outer = _overlap(shape, axes)
        gx[inner] = gy[outer]
        return gx
    g = gy.astype(accumulation_dtype(gy.dtype), copy=False)
    for axis, before, after in axes[::-1]:
        g = xp.moveaxis(_fold(xp.moveaxis(g, axis, 0), mode, before, after), 0, axis)
    return xp.ascontiguousarray(g).astype(gy.dtype, copy=False)


def _steps(op: str, pads: Any, mode: str) -> list[tuple[tuple[int, ...], Any]]:
    """What pads that are negative in part mean, one after another; nothing, if none is."""
    numbers = isinstance(pads, tuple | list) and all(isinstance(p, Integral) for p in pads)
    if not numbers or min(pads, default=0) >= 0:
        return []
    more, less = (tuple(max(0, int(p)) for p in pads), mode), (tuple(min(0, int(p)) for p in pads), "constant")
    return [less, more] if mode == "circular" else [more, less]


def _sources(xp: Any, mode: str, length: int, before: int, after: int) -> Array:
    """Which element of an axis of ``length`` each element of the padded axis is."""
    place = xp.arange(-before, length + after)
    if mode == "reflect":
        return (length - 1) - abs((length - 1) - abs(place))
    return xp.clip(place, 0, length - 1) if mode == "replicate" else place % length


def _fold(g: Array, mode: str, before: int, after: int) -> Array:
    """The gradient of the first axis without its pads, from that with them."""
    length = len(g) - before - after
    core = g[before : before + length].copy()
    left, right = g[:before], g[before + length :]
    if mode == "reflect":
        core[1 : before + 1] += left[::-1]
        core[length - 1 - after : length - 1] += right[::-1]
    elif mode == "replicate":
        core[:1] += left.sum(0)
        core[-1:] += right.sum(0)
    else:
        core[length - before :] += left
        core[:after] += right
    return core


def _padded(shape: tuple[int, ...], axes: list[tuple[int, int, int]]) -> tuple[int, ...]:
    added = {axis: before + after for axis, before, after in axes}
    return tuple(length + added.get(axis, 0) for axis, length in enumerate(shape))


def _overlap(shape: tuple[int, ...], axes: list[tuple[int, int, int]]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where the elements that stay lie in x, and where in the padded array."""
    inner, outer = [slice(None)] * len(shape), [slice(None)] * len(shape)
    for axis, before, after in axes:
        inner[axis] = slice(max(0, -before), shape[axis] + min(0, after))
        outer[axis] = slice(max(0, before), shape[axis] + before + min(0, after))
    return tuple(inner), tuple(outer)


_LONGEST = {"reflect": ("less than", 1), "circular": ("at most", 0)}


def _axes(op: str, shape: tuple[int, ...], pads: Any, mode: str, value: float) -> list[tuple[int, int, int]]:
    """The axes that grow or shrink, from the last to the first, each with what is added before and after."""
    known = mode in ("constant", "reflect", "replicate", "circular")
    check(known, ArgumentError, op, 'mode is "constant", "reflect", "replicate" or "circular"', mode=mode)
    numbers = isinstance(pads, tuple | list) and all(isinstance(p, Integral) for p in pads)
    check(numbers and len(pads) % 2 == 0, ArgumentError, op, "pads must be pairs of integers, flat", pads=pads)
    rule = "there must be two pads for each axis, at most"
    check(len(pads) <= 2 * len(shape), ShapeError, op, rule, pads=tuple(pads), shape=shape)
    check_number(op, value=value)
    check(mode == "constant" or value == 0, ArgumentError, op, 'value belongs to mode="constant"', value=value)
    axes = []
    for number in range(len(pads) // 2):
        axis, before, after = len(shape) - 1 - number, int(pads[2 * number]), int(pads[2 * number + 1])
        length = shape[axis]
        if mode == "constant":
            room = length + before + after >= 0 and min(before, after) >= -length
            check(room, ShapeError, op, "pads must not take away more than there is", pads=(before, after), size=length)
        else:
            word, less = _LONGEST.get(mode, ("", 0))
            fits = not word or max(before, after) <= length - less or before == after == 0
            check(fits, ShapeError, op, f'mode="{mode}" needs pads {word} the size', pads=(before, after), size=length)
            rule = f'mode="{mode}" needs an element to copy'
            check(length > 0 or before == after == 0, ShapeError, op, rule, pads=(before, after), size=length)
        if before or after:
            axes.append((axis, before, after))
    return axes
