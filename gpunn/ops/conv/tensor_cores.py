"""Convolution of images on tensor cores, by ``kernels/conv_mma.cu``.

    y[n,k,oh,ow] = b[k] + sum_{c,r,s} round(w[k,c,r,s]) round(x[n, c, oh*stride - pad + r*dilation, ow*stride - ...])

summed in float32. float32 arrays are rounded to what :func:`gpunn.backend.matmul_precision` names; float16 and bfloat16
arrays are multiplied as they are.

Operands are first copied, rounded, with their channels last; from there on 16 bytes are copied at a time, or 8 or 4
where a pixel's channels fill no more (:class:`gpunn.ops.conv.tensor_core_tiles.Layout`). Tiles:
:mod:`gpunn.ops.conv.tensor_core_tiles`, or :func:`gpunn.cuda.autotune`. Source: Chetlur et al. 2014, "cuDNN: efficient
primitives for deep learning" (implicit products).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import numpy as np

from gpunn import backend, cuda
from gpunn.backend import Array, dtype_name, get_array_module
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.conv.tensor_core_launch import HALVES, Axes, Axis, find_setting, find_tiling, launch, multiply, pack
from gpunn.ops.conv.tensor_core_tiles import Layout, Tiling, Work, split_pixels, tiles


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for images where kernels run: of half types, or of float32 with a precision below fp32."""
    return plan.rank == 2 and is_rounded(x) and cuda.takes(x, half=True)


def is_rounded(x: Array) -> bool:
    """True if products of ``x`` may be those of half types, or of float32 that is rounded.

    >>> with backend.matmul_precision("tf32"):
    ...     is_rounded(np.ones(1, np.float32)), is_rounded(np.ones(1, np.float16)), is_rounded(np.ones(1, np.float64))
    (True, True, False)
    """
    rounded = x.dtype == np.float32 and backend.chosen_matmul_precision() != "fp32"
    return rounded or dtype_name(x.dtype) in HALVES


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, OH, OW); with ``relu``, what is below 0 is 0."""
    xp, setting = get_array_module(x, w), find_setting(plan.op, x)
    y = xp.empty(plan.y_shape, x.dtype)
    if y.size == 0:
        return y
    axes = _axes(plan)

    def run(tiling: Tiling, x: Array, w: Array, y: Array) -> None:
        multiply(setting, tiling, w, b, pack(setting, tiling, x, plan.groups), y, plan.groups, axes, relu)

    work = Work(len(w) // plan.groups, math.prod(plan.out) * len(x), plan.groups, setting.chunk)
    run(find_tiling(setting, work, plan, run, (x, w, y)), x, w, y)
    return y


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, H, W) from gy (N, K, OH, OW).

    A pixel meets every stride-th tap. Those that meet the same taps make a convolution of their own, of stride 1: of gy
    with these taps, and with the filters' inputs and outputs exchanged.
    """
    xp, setting, groups = get_array_module(gy, w), find_setting(f"{plan.op}_backward_x", gy), plan.groups
    gx = xp.empty(plan.x_shape, gy.dtype)
    if gx.size == 0:
        return gx
    k, group_c, *taps = w.shape
    turned = w.reshape(groups, k // groups, group_c, *taps).swapaxes(1, 2).reshape(-1, k // groups, *taps)
    down, across = (list(_axes_backward(plan, axis)) for axis in (0, 1))

    def run(tiling: Tiling, gy: Array, turned: Array, gx: Array) -> None:
        packed = pack(setting, tiling, gy, groups)
        for axes in product(down, across):
            multiply(setting, tiling, turned, None, packed, gx, groups, axes, False)

    work = Work(group_c, len(gx) * down[0].outputs * across[0].outputs, groups, setting.chunk)
    arrays = (gy, turned, gx)
    run(find_tiling(setting, work, plan, run, arrays), *arrays)
    return gx


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, C/groups, KH, KW) from gy (N, K, OH, OW) and x (N, C, H, W), summed over the batch."""
    xp, setting, groups = get_array_module(gy, x), find_setting(f"{plan.op}_backward_w", gy), plan.groups
    gw = xp.empty(plan.w_shape, gy.dtype)
    if gw.size == 0:
        return gw
    k, group_c, *taps = plan.w_shape
    layout = Layout(group_c, setting.chunk)
    chunks = layout.chunks(taps[0] * taps[1])
    columns = chunks * setting.chunk
    work = Work(k // groups, columns, groups, setting.chunk, len(gy) * math.prod(plan.out))
    axes = [axis.gather() for axis in _axes(plan)]

    def run(tiling: Tiling, gy: Array, x: Array, gw: Array) -> None:
        packed_gy, packed_x = pack(setting, tiling, gy, groups, shared=False), pack(setting, tiling, x, groups)
        parts = xp.empty((tiling.splits, k, columns), np.float32)
        sizes = (groups, split_pixels(work, tiling.splits), k // groups, packed_gy.shape[-1] // setting.chunk)
        numbers = (*sizes, layout.parts, *taps, len(gy), *plan.out, *axes[0], *axes[1])
        grid = (*tiles(work.rows, columns, tiling.rows), groups * tiling.splits)
        args = [packed_gy, packed_x, parts, *map(np.int32, numbers)]
        launch(setting, tiling, layout, "conv_mma_backward_w", grid, args)
        of_taps = parts.sum(axis=0)[:, : taps[0] * taps[1] * layout.padded].reshape(k, -1, layout.padded)
        gw[...] = of_taps[:, :, :group_c].swapaxes(1, 2).reshape(plan.w_shape)

    arrays = (gy, x, gw)
    run(find_tiling(setting, work, plan, run, arrays), *arrays)
    return gw


def _axes(plan: Plan) -> Axes:
    """The axes of the forward product over the images."""
    win = plan.window
    down, across = (
        Axis(slice(None), outputs, stride, -pad, dilation, size, 0, 1)
        for outputs, stride, (pad, _), dilation, size in zip(
            plan.out, win.stride, win.pads, win.dilation, plan.image, strict=True
        )
    )
    return down, across


def _axes_backward(plan: Plan, axis: int) -> Iterator[Axis]:
    """Position h meets tap r in position (h + pad - r * dilation) / stride of gy, if that divides."""
    win, size, out = plan.window, plan.image[axis], plan.out[axis]
    stride, pad, dilation, taps = win.stride[axis], win.pads[axis][0], win.dilation[axis], win.kernel[axis]
    apart = stride // math.gcd(stride, dilation)  # taps so far apart meet the same positions
    for first in range(min(stride, size)):
        count = -(-(size - first) // stride)
        met = [r for r in range(min(apart, taps)) if (first + pad - r * dilation) % stride == 0]
        if met:
            offset, step = (first + pad - met[0] * dilation) // stride, -(apart * dilation // stride)
            yield Axis(slice(met[0], None, apart), count, 1, offset, step, out, first, stride)
        else:  # a gradient of zero
            yield Axis(slice(0), count, 1, 0, 0, out, first, stride)
