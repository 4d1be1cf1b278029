"""Differentiable resampling; see :mod:`gpunn.ops.resample` for the formulas."""

from __future__ import annotations

from typing import Any

from gpunn.backend import operands
from gpunn.functional.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from gpunn.functional.record import X, differentiable, raw
from gpunn.ops import resample as ops
from gpunn.ops.resample import Factors, Mode, Sizes


def interpolate(
    x: X,
    size: Sizes = None,
    scale_factor: Factors = None,
    mode: Mode = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> X:
    """x (N, C, L), (N, C, H, W) or (N, C, D, H, W) with another size: ``size``, or ``floor(length scale_factor)``.

    ``mode`` is ``"nearest"`` (rounded down, as PyTorch's), ``"nearest-exact"``, ``"linear"`` (of signals),
    ``"bilinear"``, ``"bicubic"`` (of images), ``"trilinear"`` (of volumes) or ``"area"`` (the mean of each bin, as
    :func:`adaptive_avg_pool2d`). ``align_corners`` puts the outermost elements of y on those of x; without it their
    outer edges coincide. ``recompute_scale_factor`` uses the ratio of the sizes where it differs from the factor.
    ``antialias`` (of bilinear and bicubic) smooths what becomes smaller.

    >>> import numpy as np
    >>> interpolate(np.array([[[1.0, 3.0]]]), scale_factor=2, mode="linear").tolist()
    [[[1.0, 1.5, 2.5, 3.0]]]
    """
    xd: Any = raw(x)
    operands("interpolate", x=xd)
    settings = size, scale_factor, mode, align_corners, recompute_scale_factor, antialias
    if mode == "area":
        out, _ = ops.output_sizes(xd.shape, *settings)
        return (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[len(out) - 1](x, out)
    tables = ops.plan(xd.shape, xd.dtype, *settings).tables
    return differentiable(ops.resample(xd, tables), (x,), lambda gy, _: (ops.resample_backward(gy, tables),))
