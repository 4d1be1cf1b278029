"""Group normalisation, forward and backward; with a group for each channel it is instance normalisation.

    y = weight (x - mean) / sqrt(var + eps) + bias

x is (N, C, ...), weight and bias are (C,). Mean and variance, without Bessel's correction, are those of each group: a
run of C / num_groups channels of one example. The gradient passes through them::

    gx = (g - mean(g) - xhat mean(g xhat)) / sqrt(var + eps)      g = weight gy,  xhat = (x - mean) / sqrt(var + eps)

float16 is computed in float32. Sources: Wu and He 2018, "Group normalization"; Ulyanov, Vedaldi and Lempitsky 2016,
"Instance normalization: the missing ingredient for fast stylization".

CUDA: ``kernels/batch_norm.cu``. What it takes for the channels of one example are here first the groups, then the
channels, of all examples.
"""

from __future__ import annotations

from math import prod

from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.norm.batch import batch_norm, batch_norm_backward, batch_norm_statistics
from gpunn.ops.shared.checks import Size, check_shape, integer


def group_norm(
    x: Array, num_groups: int, weight: Array | None = None, bias: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """y, and the mean and variance of each group, which the gradient needs: (N, num_groups), float32 for float16.

    >>> import numpy as np
    >>> y, mean, var = group_norm(np.array([[1.0, 3.0, 5.0, 5.0]]), 2, eps=0.01)
    >>> y.round(3).tolist(), mean.tolist(), var.tolist()
    ([[-0.995, 0.995, 0.0, 0.0]], [[2.0, 5.0]], [[1.0, 0.0]])

    Raises ShapeError unless x is (N, C, ...) and ``num_groups`` divides C, ArgumentError for a negative eps.
    """
    op = "group_norm"
    xp = operands(op, {"weight": weight, "bias": bias}, x=x)
    (n, c, _), groups = _checked(op, x.shape, num_groups, eps)
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None:
            check_shape(op, name, array, (c,))
    acc = accumulation_dtype(x.dtype)
    if x.size == 0:
        return x.copy(), xp.zeros((n, groups), acc), xp.zeros((n, groups), acc)
    wide = x.astype(acc, copy=False)
    mean, var = batch_norm_statistics(wide.reshape(1, n * groups, -1))
    each_mean, each_var = (xp.repeat(a, c // groups) for a in (mean, var))
    scale, shift = (None if a is None else xp.tile(a.astype(acc, copy=False), n) for a in (weight, bias))
    y = batch_norm(wide.reshape(1, n * c, -1), each_mean, each_var, scale, shift, eps)
    return y.reshape(x.shape).astype(x.dtype, copy=False), mean.reshape(n, groups), var.reshape(n, groups)


def group_norm_backward(
    gy: Array, x: Array, mean: Array, var: Array, num_groups: int, weight: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias, from the ``mean`` and ``var`` of :func:`group_norm`."""
    op = "group_norm_backward"
    xp = operands(op, {"weight": weight}, gy=gy, x=x)
    (n, c, pixels), groups = _checked(op, x.shape, num_groups, eps)
    check_shape(op, "gy", gy, x.shape)
    if weight is not None:
        check_shape(op, "weight", weight, (c,))
    if x.size == 0:
        return x.copy(), xp.zeros(c, x.dtype), xp.zeros(c, x.dtype)
    acc, per_group = accumulation_dtype(x.dtype), c // groups
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
    gw, gb = gw.sum(0).reshape(c), gb.sum(0).reshape(c)
    return gx.reshape(x.shape).astype(x.dtype, copy=False), gw.astype(x.dtype), gb.astype(x.dtype)


def _checked(op: str, x_shape: Size, num_groups: int, eps: float) -> tuple[tuple[int, int, int], int]:
    """N, C, the pixels of a channel, and the number of groups."""
    check(len(x_shape) >= 2, ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x_shape)
    groups = integer(op, "num_groups", num_groups, 1)
    rule = "num_groups must divide the channels"
    check(x_shape[1] % groups == 0, ShapeError, op, rule, num_groups=groups, channels=x_shape[1])
    check_number(op, eps=eps)
    check(eps >= 0, ArgumentError, op, "eps must be at least 0", eps=eps)
    return (x_shape[0], x_shape[1], prod(x_shape[2:])), groups
