"""Group normalisation of float32 by oneDNN, on the CPU.

What oneDNN takes for the channels of one image are here the channels of all examples. Sums come first, by NumPy: of x
and its squares; backward of gy and its products with x. Then all are gone through once.
"""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array
from gpunn.ops.norm import channels_onednn, group_rows
from gpunn.ops.norm.channels_onednn import apply_affine, blend, statistics, sums
from gpunn.ops.norm.group_rows import each, passed

_LARGE = 1e15


def takes(x: Array) -> bool:
    """True for images of float32 on the CPU where the library is, unless kernels are emulated."""
    return channels_onednn.takes(x)


def forward(x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, (N, groups)."""
    n, c = x.shape[:2]
    known = statistics(x.reshape(1, n * groups, -1))
    if known is None:
        return group_rows.forward(x, groups, weight, bias, eps)
    y, images = np.empty(x.shape, x.dtype), (1, n * c, -1)
    mean, var = (a.astype(x.dtype) for a in known)
    with np.errstate(all="ignore"):
        scale = _of_channels(1 / np.sqrt(known[1] + eps), n * c)
        if weight is not None:
            scale = (scale.reshape(n, c) * weight).reshape(-1)
        shift = np.zeros(n * c, x.dtype) if bias is None else np.tile(bias, n)
        apply_affine(x.reshape(images), _of_channels(mean, n * c), scale, shift, y.reshape(images))
    return y, mean.reshape(n, groups), var.reshape(n, groups)


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
