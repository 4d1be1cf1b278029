"""Local response normalisation on any array module: the squares are added over shifted views of the channels."""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.norm.lrn_geometry import LrnPlan
from gpunn.ops.shared.chunks import each_block


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def forward(plan: LrnPlan, x: Array) -> Array:
    """y (N, C, ...)."""
    xp, acc, y = get_array_module(x), accumulation_dtype(x.dtype), get_array_module(x).empty(x.shape, x.dtype)

    def block(part: slice) -> None:
        wide = x[part].astype(acc, copy=False)
        factor = _factor(xp, plan, _scale(plan, wide))
        if acc == x.dtype:
            xp.multiply(wide, factor, out=y[part])
        else:
            y[part] = wide * factor

    each_block(xp, block, len(x), prod(x.shape[1:]) * acc.itemsize)
    return y


def backward(plan: LrnPlan, gy: Array, x: Array) -> Array:
    """gx (N, C, ...)."""
    xp, acc, gx = get_array_module(x), accumulation_dtype(x.dtype), get_array_module(x).empty(x.shape, x.dtype)

    def block(part: slice) -> None:
        wide = x[part].astype(acc, copy=False)
        s = _scale(plan, wide)
        direct = _factor(xp, plan, s)
        direct *= gy[part]
        term = xp.divide(wide, s, out=s)
        term *= direct
        # Channel i lies in the windows of the channels i - right ... i + left: the mirrored window.
        shared = _channel_sum(term, before=(plan.size - 1) // 2, after=plan.size // 2)
        shared *= wide
        shared *= 2 * plan.a * plan.beta
        direct -= shared
        gx[part] = direct

    each_block(xp, block, len(x), prod(x.shape[1:]) * acc.itemsize)
    return gx


def _scale(plan: LrnPlan, x: Array) -> Array:
    s = _channel_sum(x * x, before=plan.size // 2, after=(plan.size - 1) // 2)
    s *= plan.a
    s += plan.k
    return s


def _factor(xp: Any, plan: LrnPlan, s: Array) -> Array:
    """``s^-beta``; roots are ten times as fast as powers."""
    if plan.beta not in (0.75, 0.5):
        return s**-plan.beta
    root = xp.sqrt(s)
    if plan.beta == 0.75:
        root *= xp.sqrt(root)
    return xp.divide(1, root, out=root)


def _channel_sum(v: Array, before: int, after: int) -> Array:
    """The sum over channels c - before ... c + after, at each channel c."""
    channels = v.shape[1]
    total = v.copy()
    for shift in range(1, min(before, channels - 1) + 1):
        total[:, shift:] += v[:, :-shift]
    for shift in range(1, min(after, channels - 1) + 1):
        total[:, :-shift] += v[:, shift:]
    return total
