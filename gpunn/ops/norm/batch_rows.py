"""Batch normalisation of small matrices (N, C) of NumPy: they stay in a cache, and every call more would cost more."""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array, accumulation_dtype
from gpunn.ops.norm.affine import Affine
from gpunn.ops.norm.batch_sums import gradient, pass_on, scaled
from gpunn.ops.shared.rows import ones

_MOST = 1 << 13  # elements, with which BLAS stays in one thread


def takes(x: Array) -> bool:
    """True for few rows of a dtype in which sums are formed."""
    if x.ndim != 2 or not 0 < x.size <= _MOST or type(x) is not np.ndarray:
        return False
    return bool(accumulation_dtype(x.dtype) == x.dtype)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel."""
    count = len(x)
    row_of_ones = ones(count, x.dtype)
    mean = row_of_ones @ x
    mean /= count
    distance = x - mean
    distance *= distance
    var = row_of_ones @ distance
    var /= count
    return mean, var


def apply(x: Array, affine: Affine, relu: bool) -> Array:
    """``scale (x - mean) + shift``, cut off at 0 if ``relu``."""
    y = np.empty(x.shape, x.dtype)
    scaled(x, *affine[:3], relu, y)
    return y


def backward(gy: Array, x: Array, affine: Affine, relu: bool, training: bool) -> tuple[Array, Array, Array]:
    """gx and the sums, as :func:`gpunn.ops.norm.batch_sums.backward` has them."""
    mean, scale, shift, _ = affine
    gx, distance, row_of_ones = np.empty(x.shape, x.dtype), x - mean, ones(len(x), x.dtype)
    if relu:
        pass_on(gy, distance, scale, shift, gx)
        gy = gx
    sum_g, sum_gx = row_of_ones @ gy, row_of_ones @ (distance * gy)
    gradient(gy, distance, *affine.through(sum_g, sum_gx, len(x), training), scale, gx)
    return gx, sum_g, sum_gx
