"""Depthwise convolution on any array module: for each plane a product of its few filters with its windows."""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.cpu import threads
from gpunn.cpu.blas import matmul
from gpunn.ops.conv import depthwise
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.shared.chunks import chunks
from gpunn.ops.shared.phases import Phases
from gpunn.ops.shared.rows import unbuffered


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for a :func:`gpunn.ops.conv.depthwise.is_depthwise`, of any dtype."""
    return depthwise.is_depthwise(plan)


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, OH, OW), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    xp, acc, phases = get_array_module(x), accumulation_dtype(x.dtype), plan.phases
    (n, c), k = plan.x_shape[:2], plan.w_shape[0]
    y, filters, each = xp.empty(plan.y_shape, x.dtype), _filters(xp, plan, w), k // c
    bias = None if b is None else xp.tile(b.astype(acc, copy=False).reshape(c, each, 1), (n, 1, 1))
    planes, y_planes = x.reshape(n * c, *plan.image), y.reshape(n * c, each, *plan.out)

    def block(part: slice) -> None:
        columns = xp.empty((len(planes[part]), len(phases.taps), phases.pixels), acc)
        for tap, view in enumerate(_views(xp, planes[part], phases, acc)):
            columns[:, tap] = view
        total = matmul(xp, filters[part], columns)
        if bias is not None:
            total += bias[part]
        if relu:
            xp.maximum(total, 0, out=total)
        y_planes[part] = phases.crop(total)

    threads.run(block, chunks(xp, n * c, len(phases.taps) * phases.pixels * acc.itemsize))
    return y


@unbuffered
def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, H, W) from gy (N, K, OH, OW)."""
    xp, acc, phases = get_array_module(gy), accumulation_dtype(gy.dtype), plan.phases
    (n, c), each = plan.x_shape[:2], plan.w_shape[0] // plan.x_shape[1]
    gx, filters = xp.empty(plan.x_shape, gy.dtype), _filters(xp, plan, w)
    planes, gy_planes = gx.reshape(n * c, *plan.image), gy.reshape(n * c, each, *plan.out)

    def block(part: slice) -> None:
        buffer, g = phases.empty(xp, len(planes[part]), 0, acc), _on_grid(xp, gy_planes[part], phases, acc)
        term = xp.empty((len(g), phases.pixels), acc)
        for m in range(each):
            for tap, view in enumerate(phases.views(buffer)):
                view += xp.multiply(g[:, m], filters[part, m, tap, None], out=term).reshape(-1)
        phases.join(buffer, planes[part])

    threads.run(block, chunks(xp, n * c, phases.elements * acc.itemsize))
    return gx


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, 1, KH, KW) from gy (N, K, OH, OW), summed over the batch."""
    xp, acc, phases = get_array_module(gy), accumulation_dtype(gy.dtype), plan.phases
    (n, c), each = plan.x_shape[:2], plan.w_shape[0] // plan.x_shape[1]
    gw = xp.empty((n * c, each, prod(plan.window.kernel)), acc)
    planes, gy_planes = x.reshape(n * c, *plan.image), gy.reshape(n * c, each, *plan.out)

    def block(part: slice) -> None:
        g = _on_grid(xp, gy_planes[part], phases, acc)
        for tap, view in enumerate(_views(xp, planes[part], phases, acc)):
            gw[part, :, tap] = matmul(xp, g, view[:, :, None])[:, :, 0]

    threads.run(block, chunks(xp, n * c, phases.elements * acc.itemsize))
    return gw.reshape(n, *plan.w_shape).sum(0).astype(gy.dtype, copy=False)


def _views(xp: Any, planes: Array, phases: Phases, acc: Any) -> list[Array]:
    """What ``planes`` (P, H, W) hold at each element of the windows: (P, pixels of the grid)."""
    buffer = phases.empty(xp, len(planes), 0, acc)
    phases.split(planes, buffer)
    return [view.reshape(len(planes), phases.pixels) for view in phases.views(buffer)]


def _on_grid(xp: Any, gy: Array, phases: Phases, acc: Any) -> Array:
    """gy (P, m, OH, OW) as (P, m, pixels of the grid), zeros outside the output."""
    g = xp.zeros((*gy.shape[:2], phases.pixels), acc)
    phases.crop(g)[...] = gy
    return g


def _filters(xp: Any, plan: Plan, w: Array) -> Array:
    """w as (N * C, m, KH * KW), a filter for each plane of x."""
    n, channels = plan.x_shape[:2]
    filters = w.astype(accumulation_dtype(w.dtype), copy=False).reshape(channels, w.shape[0] // channels, -1)
    return xp.tile(filters, (n, 1, 1))
