"""Batch normalisation of float32 by oneDNN, on the CPU: sums by NumPy, then x is gone through once."""

from __future__ import annotations

from gpunn.backend import Array, get_array_module
from gpunn.ops.activation import relu_backward
from gpunn.ops.norm import batch_images, batch_sums, channels_onednn
from gpunn.ops.norm.batch_sums import Through
from gpunn.ops.norm.channels_onednn import affine, blend
from gpunn.ops.shared.chunks import cut_off, each_block
from gpunn.ops.shared.routes import route

_SUMS = (batch_images, batch_sums)


def takes(x: Array) -> bool:
    """True for images of float32 on the CPU where the library is, unless kernels are emulated."""
    return channels_onednn.takes(x)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    both: tuple[Array, Array] = route(_SUMS, x).statistics(x)
    return both


def apply(x: Array, mean: Array, scale: Array, shift: Array, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    xp = get_array_module(x)
    y = xp.empty(x.shape, x.dtype)
    affine(x, mean, scale, shift, y)
    if relu:
        flat = y.reshape(-1)
        each_block(xp, lambda part: cut_off(xp, flat[part], flat[part]), flat.size, flat.itemsize)
    return y


def backward(
    gy: Array, x: Array, mean: Array, scale: Array, shift: Array, relu: bool, through: Through
) -> tuple[Array, Array, Array]:
    """gx and the sums, as :func:`gpunn.ops.norm.batch_sums.backward` has them."""
    gx = get_array_module(x).empty(x.shape, x.dtype)
    if relu:
        affine(x, mean, scale, shift, gx)
        gy = relu_backward(gy, gx)
    _, sum_g, sum_gx = route(_SUMS, x).sums(gy, x, mean, scale, shift, False)
    mean_g, slope = through(sum_g, sum_gx)
    blend(x, mean, -slope, gy, -mean_g, scale, gx)
    return gx, sum_g, sum_gx
