"""Batch normalisation on any array module: sums over the axes, the variance from the differences to the mean."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from gpunn.backend import Array, accumulation_dtype, get_array_module

Through = Callable[[Array, Array], tuple[Array, Array]]


def takes(x: Array) -> bool:
    """Whatever comes."""
    return True


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    wide = _wide(x)
    mean = wide.mean((0, 2))
    return mean, ((wide - mean[:, None]) ** 2).mean((0, 2))


def apply(x: Array, mean: Array, scale: Array, shift: Array, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    y = _wide(x) - mean[:, None]
    y *= scale[:, None]
    y += shift[:, None]
    if relu:
        get_array_module(x).maximum(y, 0, out=y)
    return y.reshape(x.shape).astype(x.dtype, copy=False)


def backward(
    gy: Array, x: Array, mean: Array, scale: Array, shift: Array, relu: bool, through: Through
) -> tuple[Array, Array, Array]:
    """gx, and the sums over each channel of g and of ``g (x - mean)``; g is gy where ``relu`` passes it on.

    ``gx = scale (g - a - b (x - mean))``, with a and b of each channel by ``through`` of the two sums.
    """
    distance, g = _wide(x) - mean[:, None], _wide(gy)
    if relu:
        g = g * ~(distance * scale[:, None] + shift[:, None] <= 0)
    sum_g, sum_gx = g.sum((0, 2)), (g * distance).sum((0, 2))
    mean_g, slope = through(sum_g, sum_gx)
    gx = scale[:, None] * (g - mean_g[:, None] - distance * slope[:, None])
    return gx.reshape(x.shape).astype(x.dtype, copy=False), sum_g, sum_gx


def _wide(x: Array) -> Array:
    """x as (N, C, image), in the dtype of its sums."""
    return x.reshape(*x.shape[:2], prod(x.shape[2:])).astype(accumulation_dtype(x.dtype), copy=False)
