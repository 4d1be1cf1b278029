"""Group normalisation of float32 by oneDNN, on the CPU.

What oneDNN takes for the channels of one image, or for rows, are here the channels of all examples. Forward, these are
normalised one by one, which then needs a factor and a term for each: Chan, Golub and LeVeque 1979 give the variance of
a group from those of its parts. Backward, NumPy forms the sums, then x and gy are gone through once.
"""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array
from gpunn.ops.norm import channels_onednn, group_rows, layer_onednn
from gpunn.ops.norm.channels_onednn import apply_affine, blend, sums
from gpunn.ops.norm.group_rows import each, passed
from gpunn.ops.shared.rows import row_sums
from gpunn.ops.shared.rows_onednn import is_finite

_LARGE = 1e15
_LEAST_VAR = 1e-30  # of a channel; of one that is constant the differences from its mean are kept


def takes(x: Array) -> bool:
    """True for images of float32 on the CPU where the library is, unless kernels are emulated."""
    return channels_onednn.takes(x) and layer_onednn.takes(x.reshape(x.shape[0] * x.shape[1], -1))


def forward(x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, (N, groups)."""
    n, c = x.shape[:2]
    y, mean_c, var_c = layer_onednn.forward(x.reshape(n * c, -1), None, None, _LEAST_VAR)
    means, vars = mean_c.reshape(n * groups, -1), var_c.reshape(n * groups, -1)
    mean = row_sums(np, means) / means.shape[1]
    apart = means - mean[:, None]
    var = row_sums(np, vars + apart * apart) / means.shape[1]
    # (x - mean) / sqrt(var + eps), from each channel's own (x - mean_c) / sqrt(var_c + least)
    root, least = np.sqrt(var + eps)[:, None], np.sqrt(vars + np.float32(_LEAST_VAR))
    scale, shift = (least / root).reshape(n, c), (apart / root).reshape(n, c)
    if weight is not None:
        scale, shift = weight * scale, weight * shift
    if bias is not None:
        shift = shift + bias
    if not (is_finite(scale, 0) and is_finite(shift, 0)):
        return group_rows.forward(x, groups, weight, bias, eps)
    images = y.reshape(1, n * c, -1)
    apply_affine(images, np.zeros(n * c, x.dtype), scale.reshape(-1), shift.reshape(-1), images)
    return y.reshape(x.shape), mean.reshape(n, groups), var.reshape(n, groups)


def backward(
    gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of x, weight and bias."""
    (n, groups), c = mean.shape, x.shape[1]
    root, images = np.sqrt(var.reshape(-1, 1) + eps), (1, n * c, -1)
    invstd, means, own, g = 1 / root, _of_channels(mean, n * c), x.reshape(images), gy.reshape(images)
    of_g, of_gx = (a.reshape(n * groups, -1) for a in sums(g, own, means, _of_channels(root, n * c)))
    factors = passed(of_gx, of_g, invstd, each(weight, n, groups, x.dtype), x.size // mean.size)
    scale, mean_g, slope = (_of_channels(a, n * c) for a in factors)
    with np.errstate(all="ignore"):
        shift, slope = mean_g / -scale, slope / -scale
    if not (np.abs(shift).max() < _LARGE and np.abs(slope).max() < _LARGE):  # a weight is 0, or about that
        return group_rows.backward(gy, x, mean, var, weight, eps)
    gx = np.empty(x.shape, x.dtype)
    blend(own, means, slope, g, shift, scale, gx.reshape(images))
    return gx, (of_gx * invstd).reshape(n, c).sum(0), of_g.reshape(n, c).sum(0)


def _of_channels(of_groups: Array, count: int) -> Array:
    """What each group has, or each channel, for all ``count`` channels."""
    return of_groups.reshape(-1) if of_groups.size == count else np.repeat(of_groups, count // of_groups.size)
