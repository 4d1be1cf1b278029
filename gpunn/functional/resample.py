"""Differentiable resampling; see :mod:`gpunn.ops.resample` for the formulas."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from gpunn.backend import Array, operands
from gpunn.casting import in_widest
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.functional.array import matmul
from gpunn.functional.pool import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from gpunn.functional.record import Input, X, Y, differentiable, kept, raw
from gpunn.ops import resample as ops
from gpunn.ops.resample import Factors, Mode, Sizes
from gpunn.ops.resample import grid as grids
from gpunn.ops.resample.grid import GridMode, PaddingMode
from gpunn.tensor import Tensor


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


@in_widest
def grid_sample(
    x: Input[Y],
    grid: Input[Y],
    mode: GridMode = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool | None = None,
) -> Y:
    """What x (N, C, H, W) holds at the places of the grid (N, H', W', 2): (N, C, H', W'); volumes with (..., 3).

    A place is (x, y), or (x, y, z), from -1 to 1 along each axis: between the middles of the outermost elements with
    ``align_corners``, else between their outer edges. ``mode`` is ``"bilinear"``, ``"nearest"`` or ``"bicubic"`` (of
    images); ``padding_mode`` says what lies outside: ``"zeros"``, the ``"border"``, or its ``"reflection"``.

    >>> import numpy as np
    >>> x, grid = np.array([[[[1.0, 3.0]]]]), np.array([[[[0.0, 0.0], [1.0, 0.0]]]])
    >>> grid_sample(x, grid, align_corners=True).tolist()
    [[[[2.0, 3.0]]]]
    """
    xd, places = kept(x, grid)
    settings: dict[str, Any] = {"mode": mode, "padding_mode": padding_mode, "align_corners": bool(align_corners)}
    y = grids.grid_sample(xd, places, **settings)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return grids.grid_sample_backward(gy, xd, places, needs=needs, **settings)

    return differentiable(y, (x, grid), backward)


def affine_grid(theta: X, size: Sequence[int], align_corners: bool | None = None) -> X:
    """The places of :func:`grid_sample` for images of ``size`` (N, C, H, W) that the matrices theta (N, 2, 3) move.

        grid[n, h, w] = theta[n] (x, y, 1) for the pixel at (x, y)

    Volumes of size (N, C, D, H, W) have theta (N, 3, 4), and (x, y, z, 1).

    >>> import numpy as np
    >>> affine_grid(np.array([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2)).tolist()
    [[[[0.0, 0.0], [1.0, 0.0]]]]
    """
    op, td = "affine_grid", raw(theta)
    xp = operands(op, theta=td)
    known = isinstance(size, tuple | list) and len(size) in (4, 5)
    check(known, ArgumentError, op, "size must be (N, C, H, W) or (N, C, D, H, W)", size=size)
    for length in size:
        check_sizes(op, size=length)
    examples, _, *image = map(int, size)
    shape = (examples, len(image), len(image) + 1)
    check(td.shape == shape, ShapeError, op, f"theta must have shape {shape}", shape=td.shape)
    along = []
    for length in image:
        ends = 1 if align_corners else (length - 1) / length
        along.append(xp.linspace(-ends, ends, length, dtype=td.dtype) if length > 1 else xp.zeros(1, td.dtype))
    axes = xp.meshgrid(*along, indexing="ij")
    base: Array = xp.stack([*axes[::-1], xp.ones(tuple(image), td.dtype)], -1).reshape(prod(image), len(image) + 1)
    matrices: Any = theta if isinstance(theta, Tensor) else td
    return matmul(base, matrices.swapaxes(1, 2)).reshape(examples, *image, len(image))
