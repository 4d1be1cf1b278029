"""Batch normalisation of float32 by oneDNN, on the CPU: sums by NumPy, then x is gone through once."""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array
from gpunn.ops.activation import relu_backward
from gpunn.ops.norm import batch_images, batch_sums, channels_onednn
from gpunn.ops.norm.affine import Affine
from gpunn.ops.norm.channels_onednn import apply_affine, blend, sums
from gpunn.ops.shared.chunks import cut_off, each_block
from gpunn.ops.shared.routes import route

_NUMPY = (batch_images, batch_sums)


def takes(x: Array) -> bool:
    """True for images of float32 on the CPU where the library is, unless kernels are emulated."""
    return channels_onednn.takes(x)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    known = channels_onednn.statistics(x)
    if known is None:
        both: tuple[Array, Array] = route(_NUMPY, x).statistics(x)
        return both
    mean, var = known
    return mean.astype(x.dtype), var.astype(x.dtype)


def apply(x: Array, affine: Affine, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    y = np.empty(x.shape, x.dtype)
    apply_affine(x, *affine[:3], y)
    if relu:
        flat = y.reshape(-1)
        each_block(np, lambda part: cut_off(np, flat[part], flat[part]), flat.size, flat.itemsize)
    return y


def backward(gy: Array, x: Array, affine: Affine, relu: bool, training: bool) -> tuple[Array, Array, Array]:
    """gx and the sums, as :func:`gpunn.ops.norm.batch_sums.backward` has them."""
    gx, g = np.empty(x.shape, x.dtype), gy
    if relu:
        apply_affine(x, *affine[:3], gx)
        g = relu_backward(gy, gx)
    sum_g, sum_gx = (a.sum(0) for a in sums(g, x, affine.mean, affine.root))
    if not np.isfinite([sum_g, sum_gx]).all():
        result: tuple[Array, Array, Array] = route(_NUMPY, x).backward(gy, x, affine, relu, training)
        return result
    mean_g, slope = affine.through(sum_g, sum_gx, x.size // x.shape[1], training)
    blend(x, affine.mean, -slope, g, -mean_g, affine.scale, gx)
    return gx, sum_g, sum_gx
