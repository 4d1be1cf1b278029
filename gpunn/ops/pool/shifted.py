"""Pooling on any array module, over two or three axes: a run of memory for each element of the window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.cpu import threads
from gpunn.ops.pool.geometry import Plan
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.chunks import chunks
from gpunn.ops.shared.window import Window


def takes(plan: Plan, x: Array) -> bool:
    """Whatever comes."""
    return True


def max_forward(plan: Plan, x: Array) -> tuple[Array, Array]:
    """The maxima (N, C, *out) and their places."""
    xp, place_type, phases = get_array_module(x), plan.place_dtype, plan.phases
    y, place = (xp.empty(plan.y_shape, dtype) for dtype in (x.dtype, place_type))

    def part(buffer: Array, images: Array, maxima: Array, places: Array) -> None:
        phases.split(images, buffer)
        first, *rest = phases.views(buffer)
        most, found = first.copy(), xp.zeros(first.shape, place_type)
        better, tap_if = xp.empty(first.shape, bool), xp.empty(first.shape, place_type)
        for tap, candidate in enumerate(rest, 1):
            xp.greater(candidate, most, out=better)  # not where they are equal: the first maximum wins
            xp.multiply(better, place_type.type(tap), out=tap_if)
            xp.maximum(found, tap_if, out=found)
            xp.maximum(most, candidate, out=most)
        if bool((most != most).any()):  # NaN is greater than nothing; the last one in the window wins, as in PyTorch
            for tap, candidate in enumerate([first, *rest]):
                xp.copyto(found, place_type.type(tap), where=candidate != candidate)
        maxima[...], places[...] = phases.crop(most), phases.crop(found)

    _each_part(plan, x.dtype, -np.inf, part, x, y, place)
    size, out = plan.image, plan.out
    if plan.window.reach(size, out) != size:  # a window may begin in the padding, which is never a maximum's place
        place = xp.where(y == -np.inf, _first_inside(xp, size, out, plan.window), place).astype(place_type)
    return y, place


def max_backward(plan: Plan, gy: Array, place: Array) -> Array:
    """gx (N, C, *image): each gy added at the element that was its window's maximum."""
    xp, acc, phases = get_array_module(gy), accumulation_dtype(gy.dtype), plan.phases
    gx = xp.empty(plan.x_shape, gy.dtype)

    def part(buffer: Array, images: Array, gradients: Array, places: Array) -> None:
        views = phases.views(buffer)
        g, found = xp.zeros(views[0].shape, acc), xp.zeros(views[0].shape, place.dtype)
        phases.crop(g)[...], phases.crop(found)[...] = gradients, places
        here, share = xp.empty(g.shape, bool), xp.empty_like(g)
        for tap, view in enumerate(views):
            xp.equal(found, place.dtype.type(tap), out=here)
            view += xp.multiply(g, here, out=share)
        phases.join(buffer, images)

    _each_part(plan, acc, 0, part, gx, gy, place)
    return gx


def avg_forward(plan: Plan, x: Array) -> Array:
    """The means (N, C, *out)."""
    xp, acc, phases = get_array_module(x), accumulation_dtype(x.dtype), plan.phases
    y, divisor = xp.empty(plan.y_shape, x.dtype), _divisor(xp, plan, acc)

    def part(buffer: Array, images: Array, means: Array) -> None:
        phases.split(images, buffer)
        first, *rest = phases.views(buffer)
        total = first.copy()
        with np.errstate(over="ignore", invalid="ignore"):  # windows outside the output are nobody's
            for view in rest:
                total += view
        means[...] = phases.crop(total) / divisor

    _each_part(plan, acc, 0, part, x, y)
    return y


def avg_backward(plan: Plan, gy: Array) -> Array:
    """gx (N, C, *image): each gy, divided as its mean was, added over its window."""
    xp, acc, phases = get_array_module(gy), accumulation_dtype(gy.dtype), plan.phases
    gx, divisor = xp.empty(plan.x_shape, gy.dtype), _divisor(xp, plan, acc)

    def part(buffer: Array, images: Array, gradients: Array) -> None:
        views = phases.views(buffer)
        share = xp.zeros(views[0].shape, acc)
        phases.crop(share)[...] = gradients / divisor
        for view in views:
            view += share
        phases.join(buffer, images)

    _each_part(plan, acc, 0, part, gx, gy)
    return gx


def _each_part(plan: Plan, dtype: Any, padding: float, work: Callable[..., None], *arrays: Array) -> None:
    """``work`` of some images (M, *image) of each of ``arrays``, after a buffer in ``dtype`` for their phases.

    What is written into the images is written into ``arrays``, where these are contiguous.
    """
    xp, planes = get_array_module(*arrays), [a.reshape(-1, *a.shape[2:]) for a in arrays]

    def of(part: slice) -> None:
        buffer = plan.phases.empty(xp, part.stop - part.start, padding, dtype)
        work(buffer, *(each[part] for each in planes))

    threads.run(of, chunks(xp, len(planes[0]), plan.phases.elements * dtype.itemsize))


def _first_inside(xp: Any, size: Size, out: Size, win: Window) -> Array:
    """The place (*out) of each window's first element inside the image: the maximum if all of them are -inf."""
    place, inside = xp.zeros((), np.int64), xp.ones((), bool)
    for length, number, count, step, (before, _), apart in zip(
        size, out, win.kernel, win.stride, win.pads, win.dilation, strict=True
    ):
        start = xp.arange(number) * step - before
        first = xp.maximum(-(start // apart), 0)
        place = place[..., None] * count + first
        inside = inside[..., None] & (first < count) & (start + first * apart < length)
    return xp.where(inside, place, 0)


def _divisor(xp: Any, plan: Plan, dtype: Any) -> Array:
    """The number of elements that each window is divided by, (*out)."""
    if plan.divisor is not None:
        return xp.full(plan.out, plan.divisor, dtype)
    divisor, win = xp.ones((), dtype), plan.window
    axes = zip(plan.image, plan.out, win.kernel, win.stride, win.pads, strict=True)
    for length, number, extent, step, (before, after) in axes:
        start = xp.arange(number) * step - before
        end = xp.minimum(start + extent, length + (after if plan.count_include_pad else 0))
        count = end - (start if plan.count_include_pad else xp.maximum(start, 0))
        divisor = divisor[..., None] * count.astype(dtype)
    return divisor
