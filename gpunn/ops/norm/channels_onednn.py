"""What normalisation does to images of float32 by channels, by oneDNN on the CPU: factors and terms in one pass."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.shared.chunks import each_block, each_thread
from gpunn.ops.shared.rows import row_dots, row_sums, unbuffered

_ADD, _MULTIPLY, _SUBTRACT = 0x1FFF0, 0x1FFF1, 0x1FFF5
_X, _OTHER, _Y = 1, 2, 17
_NANOSECONDS = 0.25  # of an element that is not in a cache, about
_LEAST = 1 << 14  # elements; a call takes as long as NumPy's with fewer
_NEAR = 2  # standard deviations
_NEAR_OF_SQUARES = 16  # variances
_WORTH_THREADS = 1 << 20  # elements; products of fewer are added before two threads have begun and ended
_PIXELS = 128  # of a channel; the factors of shorter ones are fetched too often


def takes(x: Array) -> bool:
    """True for images (N, C, ...) of float32 on the CPU where the library is, unless kernels are emulated."""
    channels = prod(x.shape[:2])
    if x.ndim < 3 or x.size <= channels or cuda.takes(x):  # of one pixel oneDNN 3.2 takes wrong factors
        return False
    pays = x.size >= _LEAST and x.size >= _PIXELS * channels
    return onednn.takes(x, pays) and _job(_blend, x) is not None


def apply_affine(x: Array, mean: Array, scale: Array, shift: Array, y: Array) -> None:
    """Write ``scale (x - mean) + shift`` to y; x is (N, C, ...), all others but y are (C,)."""
    _run(_affine, x, mean, scale, shift, y)


def rescale(x: Array, scale: Array, shift: Array, y: Array) -> None:
    """Write ``scale x + shift`` to y, which may be x; x is (N, C, ...), scale and shift are (C,)."""
    _run(_rescale, x, scale, shift, y)


def blend(x: Array, mean: Array, slope: Array, g: Array, shift: Array, scale: Array, y: Array) -> None:
    """Write ``scale (g + shift + slope (x - mean))`` to y; x and g are (N, C, ...), all others but y are (C,)."""
    _run(_blend, x, mean, slope, g, shift, scale, y)


def statistics(x: Array) -> tuple[Array, Array] | None:
    """Mean and biased variance of each channel, wide.

    None where a mean is so far beyond its standard deviation that the mean of the squares, less the square of the mean,
    has too few digits, or one of them is not finite.
    """
    rows = np.ascontiguousarray(x).reshape(prod(x.shape[:2]), -1)
    total, squares = np.empty((2, len(rows)), rows.dtype)

    def block(part: slice) -> None:
        squares[part] = row_dots(np, rows[part], rows[part])
        total[part] = row_sums(np, rows[part])

    with np.errstate(over="ignore", invalid="ignore"):
        each_thread(block, len(rows), pays=rows.size > _WORTH_THREADS)
        count = x.size // x.shape[1]
        mean, square = (a.reshape(x.shape[:2]).sum(0, dtype=np.float64) / count for a in (total, squares))
        var = square - mean * mean
        near = (mean * mean <= _NEAR_OF_SQUARES * var) & (square < np.inf)
    return (mean, var) if near.all() else None


@unbuffered
def sums(g: Array, x: Array, mean: Array, root: Array) -> tuple[Array, Array]:
    """The sums over the pixels of each channel of each image of g and of ``g (x - mean)``, (N, C).

    x and g are (N, C, ...), ``mean`` (C,), and ``root`` (C,) the standard deviation, or more. Where no mean is far
    beyond that, the differences need not be formed: ``sum(g x) - mean sum(g)`` loses few digits.
    """
    n, c = x.shape[:2]
    rows, g_rows, (of_g, of_gx) = x.reshape(n * c, -1), g.reshape(n * c, -1), np.empty((2, n * c), x.dtype)
    near, means = bool((np.abs(mean) <= _NEAR * root).all()), mean if n == 1 else np.tile(mean, n)

    def block(part: slice) -> None:
        own = rows[part] if near else rows[part] - means[part, None]
        of_gx[part] = row_dots(np, g_rows[part], own)
        of_g[part] = row_sums(np, g_rows[part])

    if near:
        each_thread(block, n * c, pays=x.size > _WORTH_THREADS)
    else:
        each_block(np, block, n * c, rows.shape[1] * x.itemsize)
    if near:
        of_gx -= means * of_g
    return of_g.reshape(n, c), of_gx.reshape(n, c)


def _run(make: Any, x: Array, *others: Array) -> None:
    job = _job(make, x)
    assert job is not None, "taken before"
    *given, y = others
    job(*[np.ascontiguousarray(a, np.float32) for a in (x, *given)], y)


def _job(make: Any, x: Array) -> onednn.Job | None:
    n, c = x.shape[:2]
    return onednn.job(x.size * _NANOSECONDS, make, n, c, x.size // (n * c))


def _affine(*shape: int) -> onednn.Job:
    return _chain(shape, [_SUBTRACT, _MULTIPLY, _ADD])


def _rescale(*shape: int) -> onednn.Job:
    return _chain(shape, [_MULTIPLY, _ADD])


def _blend(*shape: int) -> onednn.Job:
    return _chain(shape, [_SUBTRACT, _MULTIPLY, _ADD, _ADD, _MULTIPLY], whole=2)


def _chain(shape: tuple[int, ...], operations: list[int], whole: int = -1) -> onednn.Job:
    """The operations one after the other, each with an array of the channels, that of number ``whole`` with one of x's
    shape."""
    x, channels = onednn.Layout(shape), onednn.Layout((1, shape[1], 1))
    layouts = [x if number == whole else channels for number in range(len(operations))]
    first, *rest = zip(operations, layouts, strict=True)
    own = onednn.Description("binary", first[0], x, first[1], x, then=rest)
    numbers = [_OTHER, *(onednn.argument_of_step(number) for number in range(len(rest)))]
    others = [(number, layout, False) for number, layout in zip(numbers, layouts, strict=True)]
    return onednn.Job(own, [(_X, x, False), *others, (_Y, x, True)])
