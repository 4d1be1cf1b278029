"""Convolution on NumPy, over two or three axes: products of columns that are copied as long runs of memory.

An image is split into phases (:mod:`gpunn.ops.shared.phases`), in which an element of all windows is one run. So the
columns are formed, or added up again, at the speed of memory, where the rows of an image would be too short. The price
is a product that is larger by the columns between the rows, which are cut away: :func:`takes` bounds it. Source of the
columns: Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document processing".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.cpu.blas import matmul
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.shared.chunks import chunks, each_thread
from gpunn.ops.shared.rows import unbuffered

_LEAST_COPY = 1 << 12  # elements of a run of all channels that are worth a call
_WORTH_THREADS = 1 << 25  # products, of a millisecond or so
_MOST_WASTE = 8  # products for nothing that an element of the columns is worth


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for NumPy's arrays, where images are large enough, and few columns are cut away."""
    return get_array_module(x) is np and _pays(plan)


@lru_cache(1024)
def _pays(plan: Plan) -> bool:
    if prod(plan.window.kernel) == 1 or prod(plan.y_shape) == 0:
        return False
    run, filters = plan.out[0] * prod(plan.phases.grid[1:]), plan.w_shape[0] // plan.groups
    wasted = (run / prod(plan.out) - 1) * filters
    return plan.x_shape[1] * run >= _LEAST_COPY and wasted <= _MOST_WASTE


@unbuffered
def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, *out), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    acc = accumulation_dtype(x.dtype)
    filters, y = _filters(plan, w, acc), np.empty(plan.y_shape, x.dtype)
    bias = None if b is None else b.astype(acc, copy=False).reshape(plan.groups, -1, 1)

    def part(images: slice) -> None:
        for image, rows, columns in _columns(plan, x[images], acc):
            product = matmul(np, filters, columns)
            if bias is not None:
                product += bias
            if relu:
                np.maximum(product, 0, out=product)
            y[images][image][:, rows] = _crop(plan, product, rows)

    each_thread(part, plan.x_shape[0], pays=plan.products > _WORTH_THREADS)
    return y


@unbuffered
def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, *image)."""
    acc, phases, channels = accumulation_dtype(gy.dtype), plan.phases, plan.x_shape[1]
    filters, gx = _filters(plan, w, acc).swapaxes(1, 2), np.empty(plan.x_shape, gy.dtype)

    def part(images: slice) -> None:
        buffer = phases.empty(np, channels, 0, acc)
        for image in range(images.start, images.stop):
            buffer.fill(0)
            for rows in _rows(plan, acc):
                product = matmul(np, filters, _on_grid(plan, gy[image][:, rows], acc))
                columns = product.reshape(channels, len(phases.taps), -1)
                for tap, run in enumerate(_runs(plan, buffer, rows)):
                    run += columns[:, tap]
            phases.join(buffer, gx[image])

    each_thread(part, plan.x_shape[0], pays=plan.products > _WORTH_THREADS)
    return gx


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, C/groups, *kernel), summed over the batch."""
    acc, (k, *terms) = accumulation_dtype(gy.dtype), plan.w_shape
    gw = np.zeros((plan.groups, prod(terms), k // plan.groups), acc)
    for image, rows, columns in _columns(plan, x, acc):
        gw += matmul(np, columns, _on_grid(plan, gy[image][:, rows], acc).swapaxes(1, 2))
    return gw.swapaxes(1, 2).reshape(plan.w_shape).astype(gy.dtype, copy=False)


def _filters(plan: Plan, w: Array, acc: Any) -> Array:
    """w as (groups, K/groups, C/groups * taps)."""
    k, *terms = plan.w_shape
    return w.astype(acc, copy=False).reshape(plan.groups, k // plan.groups, prod(terms))


def _rows(plan: Plan, acc: Any) -> list[slice]:
    """Which rows (of the first axis of ``out``) have their columns formed at a time."""
    row = plan.x_shape[1] * len(plan.phases.taps) * prod(plan.phases.grid[1:]) * acc.itemsize
    return chunks(np, plan.out[0], row)


def _runs(plan: Plan, buffer: Array, rows: slice) -> Iterator[Array]:
    """For each element of a window what it meets in the windows of these rows: (C, length of the run)."""
    phases, row = plan.phases, prod(plan.phases.grid[1:])
    length = (rows.stop - rows.start) * row
    for phase, shift in phases.taps:
        start = shift + rows.start * row
        # The last run may end behind its plane, so a view of all planes would end behind the buffer.
        shape, strides = (plan.x_shape[1], length), (phases.pixels * buffer.itemsize, buffer.itemsize)
        yield np.ndarray(shape, buffer.dtype, buffer, phase * buffer.strides[0] + start * buffer.itemsize, strides)


def _columns(plan: Plan, x: Array, acc: Any) -> Iterator[tuple[int, slice, Array]]:
    """The windows of some rows of an image at a time, as (groups, C/groups * taps, pixels of the grid)."""
    phases, channels = plan.phases, plan.x_shape[1]
    buffer = phases.empty(np, channels, 0, acc)
    for image in range(len(x)):
        phases.split(x[image], buffer)
        for rows in _rows(plan, acc):
            length = (rows.stop - rows.start) * prod(phases.grid[1:])
            columns = np.empty((channels, len(phases.taps), length), acc)
            for tap, run in enumerate(_runs(plan, buffer, rows)):
                columns[:, tap] = run
            yield image, rows, columns.reshape(plan.groups, -1, length)


def _crop(plan: Plan, product: Array, rows: slice) -> Array:
    """What of (groups, K/groups, pixels of the grid) belongs to the output: (K, rows, ...)."""
    on_grid = product.reshape(-1, rows.stop - rows.start, *plan.phases.grid[1:])
    return on_grid[(..., *(slice(0, length) for length in plan.out[1:]))]


def _on_grid(plan: Plan, gy: Array, acc: Any) -> Array:
    """gy (K, rows, ...) as (groups, K/groups, pixels of the grid), zeros outside the output."""
    g: Array = np.zeros((*gy.shape[:2], *plan.phases.grid[1:]), acc)
    g[(..., *(slice(0, length) for length in plan.out[1:]))] = gy
    return g.reshape(plan.groups, gy.shape[0] // plan.groups, -1)
