"""Group normalisation by ``kernels/batch_norm.cu``.

What it takes for the channels of one example are here first the groups, then the channels, of all examples.
"""

from __future__ import annotations

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.norm.batch import batch_norm, batch_norm_backward, batch_norm_statistics


def takes(x: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(x, half=True)


def forward(x: Array, groups: int, weight: Array | None, bias: Array | None, eps: float) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, (N, groups)."""
    xp, acc, (n, c) = get_array_module(x), accumulation_dtype(x.dtype), x.shape[:2]
    wide = x.astype(acc, copy=False)
    mean, var = batch_norm_statistics(wide.reshape(1, n * groups, -1))
    each_mean, each_var = (xp.repeat(a, c // groups) for a in (mean, var))
    scale, shift = (None if a is None else xp.tile(a.astype(acc, copy=False), n) for a in (weight, bias))
    y = batch_norm(wide.reshape(1, n * c, -1), each_mean, each_var, scale, shift, eps)
    return y.reshape(x.shape).astype(x.dtype, copy=False), mean.reshape(n, groups), var.reshape(n, groups)


def backward(
    gy: Array, x: Array, mean: Array, var: Array, weight: Array | None, eps: float
) -> tuple[Array, Array, Array]:
    """The gradients of x, weight and bias."""
    xp, acc, (n, c), groups = get_array_module(x), accumulation_dtype(x.dtype), x.shape[:2], mean.shape[1]
    pixels, per_group = x.size // (n * c), c // groups
    scale = xp.ones(c, acc) if weight is None else weight.astype(acc, copy=False)
    wide, wide_gy = (a.astype(acc, copy=False).reshape(1, n * c, pixels) for a in (x, gy))
    each_mean, each_var = (xp.repeat(a.reshape(-1), per_group) for a in (mean, var))
    # With the statistics held fixed: g / sqrt(var + eps), and the sums of gy xhat and gy over each channel.
    gx, gw, gb = batch_norm_backward(wide_gy, wide, each_mean, each_var, xp.tile(scale, n), eps=eps, training=False)
    gw, gb = gw.reshape(n, groups, per_group), gb.reshape(n, groups, per_group)
    weights, count, invstd = scale.reshape(groups, per_group), per_group * pixels, 1 / xp.sqrt(var + eps)
    mean_g, mean_gx = ((weights * sums).sum(2) * (invstd / count) for sums in (gb, gw))
    distance = wide.reshape(n, groups, count) - mean[:, :, None]
    gx = gx.reshape(n, groups, count) - mean_g[:, :, None] - distance * (mean_gx * invstd)[:, :, None]
    return gx.reshape(x.shape).astype(x.dtype, copy=False), gw.sum(0).reshape(c), gb.sum(0).reshape(c)
