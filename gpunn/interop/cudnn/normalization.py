"""Batch normalisation, by :mod:`gpunn.ops.norm`.

With ``is_for_conv2d`` x is (N, C, ...): in mode ``CUDNN_BATCHNORM_SPATIAL`` (or ``_SPATIAL_PERSISTENT``, which only
tunes cuDNN) each channel has a mean, over images and pixels, in mode ``CUDNN_BATCHNORM_PER_ACTIVATION`` each pixel of
each channel, over the images. Without it the last axis of x counts the channels. ``gamma``, ``beta`` and the statistics
may have any shape that has an element for each mean; of float16 arrays they are computed, and returned, in float32.
"""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.interop.cudnn.arrays import channels_first, on_device, write
from gpunn.interop.cudnn.constants import (
    CUDNN_BATCHNORM_PER_ACTIVATION,
    CUDNN_BATCHNORM_SPATIAL,
    CUDNN_BATCHNORM_SPATIAL_PERSISTENT,
    CUDNN_TENSOR_NCHW,
)
from gpunn.ops import norm
from gpunn.ops.shared.checks import check_shape


def batch_normalization_forward_training(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array,
    mean: Array | None, inv_std: Array | None, eps: float, decay: float,
    is_for_conv2d: bool, cudnn_mode: int, debug: bool = False, d_layout: int = CUDNN_TENSOR_NCHW,
) -> Any:  # fmt: skip
    """``gamma (x - mean) / sqrt(var + eps) + beta`` by the statistics of x: y, mean and ``1 / sqrt(var + eps)``.

    ``running_mean`` and ``running_var`` become ``decay old + (1 - decay) new`` in place, where the new variance is
    divided by m - 1. If arrays ``mean`` and ``inv_std`` are given, the statistics are written to them, and y alone is
    returned. ``debug`` is taken, and changes nothing.

    >>> import numpy as np
    >>> x, one, mean, var = np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), np.ones(1)
    >>> y, *_ = batch_normalization_forward_training(
    ...     x, one, 0 * one, mean, var, None, None, 0.0, 0.9, False, CUDNN_BATCHNORM_SPATIAL, False)
    >>> y.tolist(), mean.round(3).tolist(), var.round(3).tolist()
    ([[-1.0], [1.0]], [0.2], [1.1])
    """
    op = "cudnn.batch_normalization_forward_training"
    check((mean is None) == (inv_std is None), ArgumentError, op, "mean and inv_std must both be arrays, or both None")
    with (
        on_device(op, x=x),
        on_device(
            op, gamma=gamma, beta=beta, running_mean=running_mean, running_var=running_var, mean=mean, inv_std=inv_std
        ),
    ):
        rows, eps, decay = _rows(op, x, is_for_conv2d, cudnn_mode, d_layout), float(eps), float(decay)
        check(rows.size > 0, ShapeError, op, "x must have elements", shape=x.shape)
        scale, shift = _of_channels(op, rows, gamma=gamma, beta=beta)
        _of_channels(op, rows, running_mean=running_mean, running_var=running_var)
        batch_mean, batch_var = norm.batch_norm_statistics(rows)
        y = norm.batch_norm(rows, batch_mean, batch_var, scale, shift, eps)
        count = rows.size // rows.shape[1]
        unbiased = batch_var * (count / max(count - 1, 1))
        for name, running, new in (("running_mean", running_mean, batch_mean), ("running_var", running_var, unbiased)):
            write(op, name, running, decay * running + (1 - decay) * new.reshape(running.shape))
        saved = batch_mean.reshape(gamma.shape), (1 / get_array_module(x).sqrt(batch_var + eps)).reshape(gamma.shape)
        y = _as_given(y, x, is_for_conv2d, d_layout)
        if mean is None or inv_std is None:
            return y, *saved
        for name, out, new in (("mean", mean, saved[0]), ("inv_std", inv_std, saved[1])):
            _of_channels(op, rows, **{name: out})
            write(op, name, out, new.reshape(out.shape))
        return y


def batch_normalization_forward_training_ex(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array,
    mean: Array | None, inv_std: Array | None, eps: float, decay: float,
    is_for_conv2d: bool, cudnn_mode: int, debug: bool = False, d_layout: int = CUDNN_TENSOR_NCHW,
) -> Any:  # fmt: skip
    """What :func:`batch_normalization_forward_training` gives, behind a reserve space, which is None here."""
    settings = running_mean, running_var, mean, inv_std, eps, decay, is_for_conv2d, cudnn_mode, debug, d_layout
    result = batch_normalization_forward_training(x, gamma, beta, *settings)
    return (None, *result) if mean is None else (None, result)


def batch_normalization_forward_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, var: Array, eps: float,
    is_for_conv2d: bool, cudnn_mode: int, d_layout: int = CUDNN_TENSOR_NCHW,
) -> Array:  # fmt: skip
    """``gamma (x - mean) / sqrt(var + eps) + beta`` by statistics that are given.

    >>> import numpy as np
    >>> x, one = np.array([[1.0], [3.0]]), np.ones(1)
    >>> batch_normalization_forward_inference(x, one, one, one, one, 0.0, False, CUDNN_BATCHNORM_SPATIAL).tolist()
    [[1.0], [3.0]]
    """
    op = "cudnn.batch_normalization_forward_inference"
    with on_device(op, x=x), on_device(op, gamma=gamma, beta=beta, mean=mean, var=var):
        rows = _rows(op, x, is_for_conv2d, cudnn_mode, d_layout)
        scale, shift = _of_channels(op, rows, gamma=gamma, beta=beta)
        mean, var = _of_channels(op, rows, mean=mean, var=var)
        y = norm.batch_norm(rows, mean, var, scale, shift, float(eps))
        return _as_given(y, x, is_for_conv2d, d_layout)


def batch_normalization_backward(
    x: Array, gamma: Array, gy: Array, mean: Array | None, inv_std: Array | None, eps: float,
    is_for_conv2d: bool, cudnn_mode: int, debug: bool = False, d_layout: int = CUDNN_TENSOR_NCHW, *,
    reserve_space: None = None,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The gradients with respect to x, gamma and beta of a normalisation in training.

    ``mean`` and ``inv_std`` are what :func:`batch_normalization_forward_training` gave; with None they are computed
    anew. ``debug`` and ``reserve_space`` are taken, and change nothing.
    """
    op = "cudnn.batch_normalization_backward"
    check((mean is None) == (inv_std is None), ArgumentError, op, "mean and inv_std must both be arrays, or both None")
    with on_device(op, x=x, gy=gy), on_device(op, gamma=gamma), on_device(op, gamma=gamma, mean=mean, inv_std=inv_std):
        check_shape(op, "gy", gy, x.shape)
        rows, gradients = (_rows(op, a, is_for_conv2d, cudnn_mode, d_layout) for a in (x, gy))
        (scale,) = _of_channels(op, rows, gamma=gamma)
        if mean is None or inv_std is None:
            (own_mean, var), eps = norm.batch_norm_statistics(rows), float(eps)
        else:
            own_mean, root = _of_channels(op, rows, mean=mean, inv_std=inv_std)
            var, eps = 1 / root**2, 0.0
        gx, ggamma, gbeta = norm.batch_norm_backward(gradients, rows, own_mean, var, scale, None, eps)
        of_gamma = (a.reshape(gamma.shape).astype(gamma.dtype, copy=False) for a in (ggamma, gbeta))
        return _as_given(gx, x, is_for_conv2d, d_layout), *of_gamma


def _rows(op: str, x: Array, is_for_conv2d: bool, mode: int, layout: int) -> Array:
    """x as an array (N, C, ...) that has one mean for each of C; of float16 in float32."""
    modes = (CUDNN_BATCHNORM_PER_ACTIVATION, CUDNN_BATCHNORM_SPATIAL, CUDNN_BATCHNORM_SPATIAL_PERSISTENT)
    rule = "cudnn_mode must be CUDNN_BATCHNORM_PER_ACTIVATION, _SPATIAL or _SPATIAL_PERSISTENT"
    check(mode in modes, ArgumentError, op, rule, cudnn_mode=mode)
    check(x.ndim >= 2, ShapeError, op, "x must have at least 2 dimensions", shape=x.shape)
    x = x.astype(accumulation_dtype(x.dtype), copy=False)
    if not is_for_conv2d:
        return x.reshape(-1, x.shape[-1])
    x = channels_first(op, "x", x, layout)
    return x.reshape(len(x), prod(x.shape[1:])) if mode == CUDNN_BATCHNORM_PER_ACTIVATION else x


def _as_given(y: Array, x: Array, is_for_conv2d: bool, layout: int) -> Array:
    """What has the elements of :func:`_rows`, in the shape and dtype of x."""
    y = y.astype(x.dtype, copy=False)
    if not is_for_conv2d or layout == CUDNN_TENSOR_NCHW:
        return y.reshape(x.shape)
    xp = get_array_module(y)
    return xp.ascontiguousarray(xp.moveaxis(y.reshape(x.shape[0], x.shape[-1], *x.shape[1:-1]), 1, -1))


def _of_channels(op: str, rows: Array, **named: Array) -> list[Array]:
    """Arrays that have an element for each mean, flat, and of the dtype of the rows."""
    for name, array in named.items():
        fits = array.size == rows.shape[1]
        check(fits, ShapeError, op, f"{name} must have {rows.shape[1]} elements", shape=array.shape)
    return [array.reshape(-1).astype(rows.dtype, copy=False) for array in named.values()]
