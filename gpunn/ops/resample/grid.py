"""Images and volumes read at any places, forward and backward.

    y[n, c, o] = sum of w(u - i) x[n, c, i] over the elements i around u, u the place that grid[n, o] says

x is (N, C, H, W) or (N, C, D, H, W), the grid (N, *out, 2) or (N, *out, 3), y is (N, C, *out). A place has its
coordinates in the order x, y, z, the last axis of the image first: -1 and 1 are the two ends of an axis, the middles of
the outermost elements with ``align_corners``, their outer edges without:

    u = (g + 1) (L - 1) / 2        or        u = ((g + 1) L - 1) / 2

w is a product over the axes: of ``bilinear`` max(0, 1 - |d|), of ``nearest`` 1 for the element nearest to u (of two the
even one), of ``bicubic`` (images only) Keys' cubic with a = -0.75. What lies outside is 0 (``zeros``), the outermost
element (``border``), or what is mirrored at the ends (``reflection``). NaN in the grid counts as -1. float16 is
computed in float32. Elements that several places read add up their gradients in a fixed order. Source: Jaderberg et al.
2015, "Spatial transformer networks".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.ops.linear.embedding import embedding_backward
from gpunn.ops.resample.axis import keys, keys_slope
from gpunn.ops.shared.checks import Size, check_shape

GridMode = Literal["bilinear", "nearest", "bicubic"]
PaddingMode = Literal["zeros", "border", "reflection"]


class _Tap(NamedTuple):
    """Along one axis: which element each place reads (N, P), whether x has it, its weight, and the slope of that."""

    index: Array
    inside: Array
    weight: Array
    slope: Array


def grid_sample(
    x: Array, grid: Array, mode: GridMode = "bilinear", padding_mode: PaddingMode = "zeros", align_corners: bool = False
) -> Array:
    """What x holds at the places of the grid, (N, C, *out).

    >>> x, grid = np.array([[[[1.0, 3.0]]]]), np.array([[[[0.0, 0.0], [1.0, 0.0]]]])
    >>> grid_sample(x, grid, align_corners=True).tolist()
    [[[[2.0, 3.0]]]]
    """
    op = "grid_sample"
    xp = operands(op, x=x, grid=grid)
    _check(op, x.shape, grid.shape, mode, padding_mode)
    rows, out = _rows(xp, x), grid.shape[1:-1]
    y = xp.zeros((len(x) * prod(out), x.shape[1]), rows.dtype)
    for at, weights, _ in _each(x.shape, grid, mode, padding_mode, align_corners):
        y += rows.take(at, 0) * weights[:, None]
    return xp.ascontiguousarray(_images(y, len(x), out)).astype(x.dtype, copy=False)


def grid_sample_backward(
    gy: Array,
    x: Array,
    grid: Array,
    mode: GridMode = "bilinear",
    padding_mode: PaddingMode = "zeros",
    align_corners: bool = False,
    needs: tuple[bool, ...] = (True, True),
) -> tuple[Array | None, Array | None]:
    """The gradients with respect to x and to the grid, each if it is needed."""
    op = "grid_sample_backward"
    xp = operands(op, gy=gy, x=x, grid=grid)
    _check(op, x.shape, grid.shape, mode, padding_mode)
    check_shape(op, "gy", gy, (*x.shape[:2], *grid.shape[1:-1]))
    rows, g = _rows(xp, x), _rows(xp, gy)[:-1]
    outside = len(rows) - 1
    gx = xp.zeros(rows.shape, rows.dtype) if needs[0] else None
    places = xp.zeros((len(g), grid.shape[-1]), rows.dtype) if needs[1] else None
    for at, weights, slopes in _each(x.shape, grid, mode, padding_mode, align_corners):
        if gx is not None:
            gx += embedding_backward(g * weights[:, None], at, len(rows), outside)
        if places is not None and mode != "nearest":
            dots = (g * rows.take(at, 0)).sum(1)
            for axis, slope in enumerate(slopes):
                places[:, axis] += dots * slope
    return (
        None if gx is None else xp.ascontiguousarray(_images(gx[:-1], len(x), x.shape[2:])).astype(x.dtype, copy=False),
        None if places is None else places.reshape(grid.shape).astype(grid.dtype, copy=False),
    )


def _check(op: str, x: Size, grid: Size, mode: str, padding_mode: str) -> None:
    known = mode in ("bilinear", "nearest", "bicubic")
    check(known, ArgumentError, op, 'mode must be "bilinear", "nearest" or "bicubic"', mode=mode)
    known = padding_mode in ("zeros", "border", "reflection")
    rule = 'padding_mode must be "zeros", "border" or "reflection"'
    check(known, ArgumentError, op, rule, padding_mode=padding_mode)
    check(len(x) in (4, 5), ShapeError, op, "x must have the dimensions (N, C, H, W) or (N, C, D, H, W)", shape=x)
    fits = len(grid) == len(x) and grid[-1] == len(x) - 2 and grid[0] == x[0]
    check(fits, ShapeError, op, f"grid must have the dimensions (N, ..., {len(x) - 2}), as many as x", grid=grid, x=x)
    check(0 not in x[2:], ShapeError, op, "x must have elements along each axis", shape=x)
    check(mode != "bicubic" or len(x) == 4, ShapeError, op, 'mode="bicubic" is for images (N, C, H, W)', shape=x)


def _rows(xp: Any, x: Array) -> Array:
    """x (N, C, ...) as a row of channels for each pixel, and one of zeros behind them."""
    n, c, *image = x.shape
    rows = xp.zeros((n * prod(image) + 1, c), accumulation_dtype(x.dtype))
    rows[:-1].reshape(n, prod(image), c)[...] = x.reshape(n, c, prod(image)).swapaxes(1, 2)
    return rows


def _images(rows: Array, examples: int, image: Size) -> Array:
    """Rows of channels, one for each pixel, as (N, C, *image)."""
    channels = rows.shape[1]
    return rows.reshape(examples, prod(image), channels).swapaxes(1, 2).reshape(examples, channels, *image)


def _each(
    x_shape: Size, grid: Array, mode: str, padding_mode: str, align_corners: bool
) -> Iterator[tuple[Array, Array, list[Array]]]:
    """For each element around the places: its row, its weight, and the slopes of that along the grid's coordinates."""
    xp, image = get_array_module(grid), x_shape[2:]
    places = grid.reshape(len(grid), prod(grid.shape[1:-1]), len(image))
    places = places.astype(accumulation_dtype(grid.dtype), copy=False)
    axes = [
        _taps(xp, places[..., -1 - axis], length, mode, padding_mode, align_corners)
        for axis, length in enumerate(image)
    ]
    first = xp.arange(len(grid))[:, None] * prod(image)
    for taps in product(*axes):
        at, inside = 0, True
        for tap, length in zip(taps, image, strict=True):
            at, inside = at * length + tap.index, inside & tap.inside
        slopes = []
        for axis in range(len(image)):
            each = [tap.slope if own == axis else tap.weight for own, tap in enumerate(taps)]
            slopes.append(prod(each[1:], start=each[0]).reshape(-1))
        weights = [tap.weight for tap in taps]
        row = xp.where(inside, first + at, len(grid) * prod(image)).reshape(-1)
        yield row, prod(weights[1:], start=weights[0]).reshape(-1), slopes[::-1]


def _taps(xp: Any, g: Array, length: int, mode: str, padding_mode: str, align_corners: bool) -> list[_Tap]:
    """The elements around the places along one axis."""
    kind = g.dtype.type
    g = xp.where(g != g, kind(-1), g)
    scale = kind((length - 1 if align_corners else length) / 2)
    u = (g + kind(1)) * scale - kind(0 if align_corners else 0.5)
    rate = xp.full(u.shape, scale, u.dtype)
    if padding_mode == "zeros" or (mode == "bicubic" and padding_mode == "border"):
        # What is farther out is 0, or the element at the edge, all the same, and its index not too large.
        u = xp.clip(u, kind(-4), kind(length + 3))
    elif mode != "bicubic":
        u, slope = _into(xp, u, length, padding_mode, align_corners)
        rate = rate * slope
    if mode == "nearest":
        return [_tap(xp, xp.rint(u), length, xp.ones_like(u), xp.zeros_like(u))]
    first = xp.floor(u)
    t = u - first
    if mode == "bilinear":
        return [_tap(xp, first, length, kind(1) - t, -rate), _tap(xp, first + kind(1), length, t, rate)]
    taps = []
    for apart in range(-1, 3):
        d = t - kind(apart)
        index = first + kind(apart)
        if padding_mode != "zeros":
            index = _into(xp, index, length, padding_mode, align_corners)[0]
        taps.append(_tap(xp, index, length, keys(xp, d, -0.75), keys_slope(xp, d, -0.75) * rate))
    return taps


def _tap(xp: Any, index: Array, length: int, weight: Array, slope: Array) -> _Tap:
    whole = index.astype(np.int64)
    return _Tap(whole, (whole >= 0) & (whole < length), weight, slope)


def _into(xp: Any, u: Array, length: int, padding_mode: str, align_corners: bool) -> tuple[Array, Array]:
    """u brought into 0 ... length - 1, and the slope of that."""
    kind, slope = u.dtype.type, xp.ones_like(u)
    if padding_mode == "reflection":
        low, span = (kind(0), kind(length - 1)) if align_corners else (kind(-0.5), kind(length))
        if span == 0:
            return xp.zeros_like(u), xp.zeros_like(u)
        slope = xp.where(u < low, kind(-1), kind(1))
        far = abs(u - low)
        odd = xp.floor(far / span) % kind(2) != 0
        rest = far % span
        u = xp.where(odd, span - rest, rest) + low
        slope = xp.where(odd, -slope, slope)
    inside = (u > 0) & (u < length - 1)
    return xp.clip(u, kind(0), kind(length - 1)), xp.where(inside, slope, kind(0))
