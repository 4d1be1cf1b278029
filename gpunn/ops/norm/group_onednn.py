"""Group normalisation of float32 by oneDNN, on the CPU.

What oneDNN takes for the channels of one image are here the channels of all examples. Forward each channel, or each
part of a long one, is normalised by itself, and then takes a factor and a term that make it the whole group's; backward
the sums come first, of gy and of its products with x, then both are gone through once.
"""

from __future__ import annotations

import math

import numpy as np

from gpunn.backend import Array
from gpunn.ops.norm import channels_onednn, group_rows, layer_onednn
from gpunn.ops.norm.channels_onednn import blend, rescale, sums
from gpunn.ops.norm.group_rows import each, passed
from gpunn.ops.shared.rows import part_length

_LARGE = 1e15
_EPS = 1e-30  # added to the variance of a part, so that one of equal numbers becomes 0; its factor undoes that
_LONGEST = 1024  # pixels of a part: oneDNN adds them one after the other, and the rounding grows with their number


def takes(x: Array) -> bool:
    """True for images of float32 on the CPU where the library is, unless kernels are emulated."""
    return channels_onednn.takes(x)


def forward(x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, (N, groups)."""
    n, c = x.shape[:2]
    pixels = x.size // (n * c)
    length = pixels if pixels <= _LONGEST else part_length(pixels, _LONGEST)
    if not length:
        return group_rows.forward(x, groups, weight, bias, eps)
    y, of_parts = np.empty(x.shape, x.dtype), np.empty((2, x.size // length), x.dtype)
    parts = y.reshape(-1, length)
    layer_onednn.normalise(x.reshape(parts.shape), _EPS, parts, *of_parts)
    wide = of_parts.astype(np.float64).reshape(2, n * groups, -1)
    with np.errstate(all="ignore"):
        of_groups = wide.sum(2) / wide.shape[2]
        mean, var = of_groups
        wide[0] -= mean[:, None]
        var += np.vecdot(wide[0], wide[0]) / wide.shape[2]
        wide[1] += _EPS
        np.sqrt(wide[1], out=wide[1])
        wide /= np.sqrt(var + eps)[:, None]
        shift, scale = affine = wide.reshape(2, n, c, -1)
        if weight is not None:
            affine *= weight[:, None]
        if bias is not None:
            shift += bias[:, None]
        finite = math.isfinite(var.sum() + scale.sum())
        shift, scale = affine.astype(x.dtype).reshape(2, -1)
        mean, var = of_groups.astype(x.dtype).reshape(2, n, groups)
    if not finite:
        return group_rows.forward(x, groups, weight, bias, eps)
    images = parts[None]
    rescale(images, scale, shift, images)
    return y, mean, var


def backward(
    gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of x, weight and bias."""
    (n, groups), c = mean.shape, x.shape[1]
    root, images = np.sqrt(var.reshape(-1, 1) + eps), (1, n * c, -1)
    invstd, means, own, g = 1 / root, _of_channels(mean, n * c), x.reshape(images), gy.reshape(images)
    of_g, of_gx = (a.reshape(n * groups, -1) for a in sums(g, own, means, _of_channels(root, n * c)))
    scale, mean_g, slope = passed(of_gx, of_g, invstd, each(weight, n, groups, x.dtype), x.size // mean.size)
    with np.errstate(all="ignore"):
        shift, slope = (_of_channels(a / -scale, n * c) for a in (mean_g, slope))
    if not (np.abs(shift).max() < _LARGE and np.abs(slope).max() < _LARGE):  # a weight is 0, or about that
        return group_rows.backward(gy, x, mean, var, weight, eps)
    scale = _of_channels(scale, n * c)
    gx = np.empty(x.shape, x.dtype)
    blend(own, means, slope, g, shift, scale, gx.reshape(images))
    return gx, (of_gx * invstd).reshape(n, c).sum(0), of_g.reshape(n, c).sum(0)


def _of_channels(of_groups: Array, count: int) -> Array:
    """What each group has, or each channel, for all ``count`` channels."""
    return of_groups.reshape(-1) if of_groups.size == count else np.repeat(of_groups, count // of_groups.size)
