"""Local response normalisation on any array module: the squares are added over shifted views of the channels."""

from __future__ import annotations

from gpunn.backend import Array, accumulation_dtype
from gpunn.ops.norm.lrn_geometry import LrnPlan


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def forward(plan: LrnPlan, x: Array) -> Array:
    """y (N, C, ...)."""
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    return (wide * _scale(plan, wide) ** -plan.beta).astype(x.dtype, copy=False)


def backward(plan: LrnPlan, gy: Array, x: Array) -> Array:
    """gx (N, C, ...)."""
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    s = _scale(plan, wide)
    direct = gy * s**-plan.beta
    # Channel i lies in the windows of the channels i - right ... i + left: the mirrored window.
    shared = _channel_sum(direct * wide / s, before=(plan.size - 1) // 2, after=plan.size // 2)
    return (direct - 2 * plan.a * plan.beta * wide * shared).astype(x.dtype, copy=False)


def _scale(plan: LrnPlan, x: Array) -> Array:
    return plan.k + plan.a * _channel_sum(x * x, before=plan.size // 2, after=(plan.size - 1) // 2)


def _channel_sum(v: Array, before: int, after: int) -> Array:
    """The sum over channels c - before ... c + after, at each channel c."""
    channels = v.shape[1]
    total = v.copy()
    for shift in range(1, min(before, channels - 1) + 1):
        total[:, shift:] += v[:, :-shift]
    for shift in range(1, min(after, channels - 1) + 1):
        total[:, :-shift] += v[:, shift:]
    return total
