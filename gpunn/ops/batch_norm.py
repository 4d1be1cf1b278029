"""Batch normalisation, forward and backward.

    y = weight (x - mean) / sqrt(var + eps) + bias, then max(., 0) with ``relu``

x is (N, C, ...); mean, var, weight and bias are (C,). In training mean and var are those of each channel over all
other axes, var without Bessel's correction, and the gradient passes through them::

    gx = weight / sqrt(var + eps) (gy - mean(gy) - xhat mean(gy xhat))      xhat = (x - mean) / sqrt(var + eps)

float16 is computed in float32. Sources: Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network
training by reducing internal covariate shift"; the variance: Welford 1962, and Chan, Golub and LeVeque 1979.

CUDA: ``kernels/batch_norm.cu``. Without it: sums over the axes, the variance from the differences to the mean.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.vector import vector
from gpunn.ops.window import check_shape


def batch_norm_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, (C,); float32 for float16.

    >>> batch_norm_statistics(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    op = "batch_norm_statistics"
    xp = operands(op, x=x)
    _check_channels(op, x)
    check(x.size > 0, ShapeError, op, "x must hold at least one element for each channel", shape=x.shape)
    if cuda.takes(x):
        return _reduce("batch_norm_statistics", [xp.ascontiguousarray(x)], [])
    wide = _wide(xp, x)
    mean = wide.mean((0, 2))
    return mean, ((wide - mean[:, None]) ** 2).mean((0, 2))


def batch_norm(
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    relu: bool = False,
) -> Array:
    """Normalise x by ``mean`` and ``var``, then scale, shift and cut off at 0 as asked.

    >>> batch_norm(np.array([[1.0], [3.0]]), np.array([2.0]), np.array([1.0]), eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    xp, mean, _, scale, shift = _affine("batch_norm", x, mean, var, weight, bias, eps)
    if cuda.takes(x) and x.size > 0:
        y = xp.empty(x.shape, x.dtype)
        _launch("batch_norm_apply", [xp.ascontiguousarray(x), y], [mean, scale, shift], relu)
        return y
    y = _wide(xp, x) - mean[:, None]
    y *= scale[:, None]
    y += shift[:, None]
    if relu:
        xp.maximum(y, 0, out=y)
    return y.reshape(x.shape).astype(x.dtype, copy=False)


def batch_norm_backward(
    gy: Array,
    x: Array,
    mean: Array,
    var: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    relu: bool = False,
    training: bool = True,
) -> tuple[Array, Array, Array]:
    """The gradients with respect to x, weight and bias.

    ``training``: mean and var are the statistics of x, and pass the gradient on; otherwise they are constants.
    """
    op = "batch_norm_backward"
    xp, mean, var, scale, shift = _affine(op, x, mean, var, weight, bias, eps)
    operands(op, gy=gy, x=x)
    check_shape(op, "gy", gy, x.shape)
    if x.size == 0:
        return x.copy(), xp.zeros(scale.shape, x.dtype), xp.zeros(scale.shape, x.dtype)
    if cuda.takes(x):
        gy, x = xp.ascontiguousarray(gy), xp.ascontiguousarray(x)
        sum_g, sum_gx = _reduce("batch_norm_sums", [gy, x], [mean, scale, shift], relu)
    else:
        distance, g = _wide(xp, x) - mean[:, None], _wide(xp, gy)
        if relu:
            g = g * ~(distance * scale[:, None] + shift[:, None] <= 0)
        sum_g, sum_gx = g.sum((0, 2)), (g * distance).sum((0, 2))
    count = x.size // x.shape[1]
    mean_g = sum_g / count if training else xp.zeros_like(sum_g)
    slope = sum_gx / (var + eps) / count if training else mean_g
    if cuda.takes(x):
        gx = xp.empty(x.shape, x.dtype)
        _launch("batch_norm_backward_x", [gy, x, gx], [mean, scale, shift, mean_g, slope], relu)
    else:
        gx = scale[:, None] * (g - mean_g[:, None] - distance * slope[:, None])
        gx = gx.reshape(x.shape).astype(x.dtype, copy=False)
    return gx, (sum_gx / xp.sqrt(var + eps)).astype(x.dtype, copy=False), sum_g.astype(x.dtype, copy=False)


def _check_channels(op: str, x: Array) -> None:
    check(x.ndim >= 2, ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x.shape)


def _affine(
    op: str, x: Array, mean: Array, var: Array, weight: Array | None, bias: Array | None, eps: float
) -> tuple[Any, Array, Array, Array, Array]:
    """The array module, mean and var, and scale and shift of ``y = scale (x - mean) + shift``."""
    xp = operands(op, {"weight": weight, "bias": bias}, x=x)
    operands(op, mean=mean, var=var)
    _check_channels(op, x)
    for name, array in (("mean", mean), ("var", var), ("weight", weight), ("bias", bias)):
        if array is not None:
            check_shape(op, name, array, x.shape[1:2])
    check_number(op, eps=eps)
    check(eps >= 0, ArgumentError, op, "eps must be at least 0", eps=eps)
    dtype = accumulation_dtype(x.dtype)
    mean, var = mean.astype(dtype, copy=False), var.astype(dtype, copy=False)
    scale = 1 / xp.sqrt(var + eps)
    shift = xp.zeros_like(scale) if bias is None else bias.astype(dtype, copy=False)
    return xp, mean, var, scale if weight is None else scale * weight, shift


def _wide(xp: Any, x: Array) -> Array:
    """x as (N, C, image), in the dtype of its sums."""
    image = prod(x.shape[2:])
    return xp.reshape(x, (*x.shape[:2], image)).astype(accumulation_dtype(x.dtype), copy=False)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 256
_BLOCKS = 1024  # enough for the largest GPUs at 8 blocks a multiprocessor
_PACKS = 8  # the least that is worth a thread: below it, starting and merging the threads costs more


def _launch(kernel: str, arrays: list[Array], per_channel: list[Array], relu: bool) -> None:
    macros, sizes, (blocks, slices) = _plan(arrays, relu)
    cuda.launch("batch_norm.cu", kernel, macros, (blocks, slices), (_THREADS,), [*arrays, *per_channel, *sizes])


def _reduce(kernel: str, arrays: list[Array], per_channel: list[Array], relu: bool = False) -> tuple[Array, Array]:
    """Two values of each channel, (C,), from those of the slices of it."""
    macros, sizes, (blocks, slices) = _plan(arrays, relu)
    xp, channels, dtype = get_array_module(arrays[0]), arrays[0].shape[1], arrays[0].dtype
    first, second = xp.empty((slices, channels), dtype), xp.empty((slices, channels), dtype)
    args = [*arrays, *per_channel, first, second, *sizes]
    cuda.launch("batch_norm.cu", kernel, macros, (blocks, slices), (_THREADS,), args)
    if slices == 1:
        return first[0], second[0]
    merged = xp.empty(channels, dtype), xp.empty(channels, dtype)
    args = [first, second, *merged, *sizes, np.int32(slices)]
    cuda.launch("batch_norm.cu", f"{kernel}_merge", macros, (blocks,), (_THREADS,), args)
    return merged


def _plan(arrays: list[Array], relu: bool) -> tuple[dict[str, str | int], list[Any], tuple[int, int]]:
    """Macros, the arguments N, C and image, and the grid (groups of channels, slices), from shape and alignment."""
    x = arrays[0]
    n, channels, image = x.shape[0], x.shape[1], prod(x.shape[2:])
    together = 1 if image >= 8 else 32  # below 8 elements (32 bytes) a run of one channel wastes part of each access
    pack = vector(image, *arrays)
    blocks = -(-channels // together)
    workers = _THREADS // together
    slices = max(1, min(_BLOCKS // blocks, _THREADS, n * image // pack // (workers * _PACKS)))
    # A thread's offset may pass the end of x by the step to its next pack, over all channels.
    index = cuda.index_type(2 * x.size + _THREADS * pack * channels)
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": index, "CHANNELS": together}
    macros |= {"VECTOR": pack, "RELU": int(relu)}
    sizes = [np.int32(n), np.int32(channels), np.int32(image) if index == "int" else np.int64(image)]
    return macros, sizes, (blocks, slices)
