"""Random changes to training images that leave their meaning as it is."""

from __future__ import annotations

import numpy as np

from gpunn.backend import Array, asarray, device_of, operands
from gpunn.errors import ShapeError, check


def jitter(
    x: Array, generator: np.random.Generator, *, shift: float = 0.7, degrees: float = 15.0, zoom: float = 0.15
) -> Array:
    """Shift, turn and scale each image by a little, at random; bilinear interpolation, zeros outside.

    The pixel at p = (row, column), measured from the centre c of the image, is read from ``s·R(θ)·(p - c) + c + d``
    with θ uniform in ±``degrees``, the scale s in 1 ± ``zoom``, and d in ±``shift`` pixels along each axis.

    x is (N, C, H, W), of a floating dtype; the result has its shape, dtype and device. The numbers are drawn on
    the CPU, so that every device gives the same images.

    >>> from gpunn.backend import random_generator
    >>> x = np.ones((2, 1, 5, 5), np.float32)
    >>> y = jitter(x, random_generator(0))
    >>> y.shape, y.dtype, float(y[0, 0, 2, 2])
    ((2, 1, 5, 5), dtype('float32'), 1.0)
    """
    xp = operands("jitter", x=x)
    check(x.ndim == 4, ShapeError, "jitter", "x must be (N, C, H, W)", shape=x.shape)
    n, _, height, width = x.shape
    angle = np.deg2rad(generator.uniform(-degrees, degrees, (n, 1, 1)))
    scale = 1 + generator.uniform(-zoom, zoom, (n, 1, 1))
    offset = generator.uniform(-shift, shift, (2, n, 1, 1))
    centre = (height - 1) / 2, (width - 1) / 2
    row, column = np.arange(height)[:, np.newaxis] - centre[0], np.arange(width) - centre[1]
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    rows = cos * row - sin * column + centre[0] + offset[0]  # (N, H, W)
    columns = sin * row + cos * column + centre[1] + offset[1]

    # A border of zeros on each side; what is read from beyond it is zero as well, so it may be read at its edge.
    padded = xp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))).transpose(0, 2, 3, 1)  # (N, H + 2, W + 2, C)
    rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
    top, left = np.minimum(rows.astype(int), height), np.minimum(columns.astype(int), width)
    down, right = (a.astype(x.dtype)[..., np.newaxis] for a in (rows - top, columns - left))  # weights in [0, 1]
    image = np.arange(n)[:, np.newaxis, np.newaxis]
    i, top, left, down, right = (asarray(a, device_of(x)) for a in (image, top, left, down, right))
    upper = (1 - right) * padded[i, top, left] + right * padded[i, top, left + 1]
    lower = (1 - right) * padded[i, top + 1, left] + right * padded[i, top + 1, left + 1]
    return xp.ascontiguousarray(((1 - down) * upper + down * lower).transpose(0, 3, 1, 2))
