"""Random changes to training images that leave their meaning as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from gpunn.backend import Array, asarray, device_of, operands, to_cpu, where
from gpunn.errors import ArgumentError, ShapeError, check


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
    xp = _images("jitter", x)
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
    padded = xp.zeros((n, height + 2, width + 2, x.shape[1]), x.dtype)
    padded[:, 1:-1, 1:-1] = x.transpose(0, 2, 3, 1)
    rows, columns = np.clip(rows + 1, 0, height + 1), np.clip(columns + 1, 0, width + 1)
    top, left = np.minimum(rows.astype(int), height), np.minimum(columns.astype(int), width)
    down, right = (a.astype(x.dtype)[..., np.newaxis] for a in (rows - top, columns - left))  # weights in [0, 1]
    first = (np.arange(n)[:, np.newaxis, np.newaxis] * (height + 2) + top) * (width + 2) + left
    first, down, right = (asarray(a, device_of(x)) for a in (first, down, right))
    pixels, below = padded.reshape(-1, x.shape[1]), width + 2
    upper = (1 - right) * pixels.take(first, 0) + right * pixels.take(first + 1, 0)
    lower = (1 - right) * pixels.take(first + below, 0) + right * pixels.take(first + below + 1, 0)
    return xp.ascontiguousarray(((1 - down) * upper + down * lower).transpose(0, 3, 1, 2))


def random_crop(x: Array, size: int | tuple[int, int], generator: np.random.Generator) -> Array:
    """Cut a window of ``size`` (height, width; or both) out of each image, its place uniform over all that fit.

    x is (N, C, H, W), the result (N, C, *size), on the device of x.

    >>> from gpunn.backend import random_generator
    >>> random_crop(np.zeros((2, 3, 256, 256), np.float32), 227, random_generator(0)).shape
    (2, 3, 227, 227)

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    _images("random_crop", x)
    sizes = size if isinstance(size, tuple) else (size, size)
    whole = all(isinstance(s, int | np.integer) and not isinstance(s, bool) for s in sizes)
    fits = whole and len(sizes) == 2 and all(1 <= s <= length for s, length in zip(sizes, x.shape[2:], strict=True))
    check(fits, ShapeError, "random_crop", "size must fit into the images", size=sizes, shape=x.shape)
    image = np.arange(len(x))[:, np.newaxis, np.newaxis]
    places = [
        generator.integers(length - s + 1, size=len(x))[:, np.newaxis] + np.arange(s)
        for s, length in zip(sizes, x.shape[2:], strict=True)
    ]
    rows, columns = places[0][:, :, np.newaxis], places[1][:, np.newaxis, :]
    image, rows, columns = (asarray(a, device_of(x)) for a in (image, rows, columns))
    return x.transpose(0, 2, 3, 1)[image, rows, columns].transpose(0, 3, 1, 2).copy()


def random_flip(x: Array, generator: np.random.Generator, p: float = 0.5) -> Array:
    """Mirror each image, left and right, with probability ``p``.

    >>> from gpunn.backend import random_generator
    >>> random_flip(np.float32([[[[1, 2, 3]]]]), random_generator(0), p=1).tolist()
    [[[[3.0, 2.0, 1.0]]]]

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    _images("random_flip", x)
    check(0 <= p <= 1, ArgumentError, "random_flip", "p must be a probability, 0 to 1", p=p)
    chosen = asarray(generator.random((len(x), 1, 1, 1)) < p, device_of(x))
    return where(chosen, x[:, :, :, ::-1], x)


def normalise(x: Array, mean: Any, std: Any) -> Array:
    """``(x - mean) / std`` for each channel; mean and std have C numbers.

    >>> normalise(np.float32([[[[2.0]], [[8.0]]]]), (1, 2), (0.5, 3)).ravel().tolist()
    [2.0, 2.0]
    """
    _images("normalise", x)
    mean, std = (np.asarray(to_cpu(a), x.dtype).reshape(-1, 1, 1) for a in (mean, std))
    fits = len(mean) == len(std) == x.shape[1]
    rule = "mean and std must have one number for each channel"
    check(fits, ShapeError, "normalise", rule, mean=len(mean), std=len(std), channels=x.shape[1])
    positive = bool((std > 0).all())
    check(positive, ArgumentError, "normalise", "std must be above 0", std=std.ravel().tolist())
    return (x - asarray(mean, device_of(x))) / asarray(std, device_of(x))


Components: TypeAlias = tuple["np.ndarray[Any, np.dtype[np.float64]]", "np.ndarray[Any, np.dtype[np.float64]]"]
"""Variances (C,), the largest first, and the directions (C, C) that have them, as columns."""


def colour_components(images: Array) -> Components:
    """The principal components of the colours of all pixels of a training set (N, C, H, W), for :func:`colour_jitter`.

    Returns the eigenvalues (C,), largest first, and the eigenvectors (C, C), as columns, of the covariance of the
    channels, in float64 on the CPU. The largest element of each vector is positive.

    >>> grey = np.repeat(np.float32([[[[0.0, 1.0]]]]), 3, axis=1)
    >>> values, vectors = colour_components(grey)
    >>> values.round(6).tolist(), vectors[:, 0].round(4).tolist()
    ([0.75, 0.0, 0.0], [0.5774, 0.5774, 0.5774])
    """
    xp = _images("colour_components", images)
    n, channels, height, width = images.shape
    check(images.size > 0, ShapeError, "colour_components", "there must be pixels", shape=images.shape)
    count = n * height * width
    mean = sum(part.sum(1) for part in _colours(xp, images)) / count
    covariance = xp.zeros((channels, channels))
    for part in _colours(xp, images):
        centred = part - mean[:, np.newaxis]
        covariance += centred @ centred.T
    values, vectors = np.linalg.eigh(to_cpu(covariance) / count)
    vectors = vectors[:, ::-1]
    largest = np.abs(vectors).argmax(0)
    return values[::-1].clip(0), vectors * np.sign(vectors[largest, np.arange(channels)])


def colour_jitter(x: Array, components: Components, generator: np.random.Generator, std: float = 0.1) -> Array:
    """Add to all pixels of an image ``sum_i a_i l_i p_i``, with ``a_i`` from normal(0, ``std``) for each image.

    ``components`` are the variances l and the directions p of :func:`colour_components`: the light on a scene changes
    along them. A variance has the square of the unit of the pixels; take both from images in [0, 1].

    >>> from gpunn.backend import random_generator
    >>> x = random_generator(0).random((4, 3, 8, 8), np.float32)
    >>> colour_jitter(x, colour_components(x), random_generator(1)).dtype
    dtype('float32')

    Source: Krizhevsky et al. 2012, section 4.1.
    """
    _images("colour_jitter", x)
    values, vectors = components
    fits = values.shape == (x.shape[1],) and vectors.shape == (x.shape[1],) * 2
    rule = "components must be of as many channels as x has"
    shapes = {"values": values.shape, "vectors": vectors.shape, "channels": x.shape[1]}
    check(fits, ShapeError, "colour_jitter", rule, **shapes)
    check(std >= 0, ArgumentError, "colour_jitter", "std must be at least 0", std=std)
    change = (generator.normal(0, std, (len(x), len(values))) * values) @ vectors.T
    return x + asarray(change.astype(x.dtype)[:, :, np.newaxis, np.newaxis], device_of(x))


def _images(op: str, x: Array) -> Any:
    """The array module of x, which must be images."""
    xp = operands(op, x=x)
    check(x.ndim == 4, ShapeError, op, "x must be (N, C, H, W)", shape=x.shape)
    return xp


def _colours(xp: Any, images: Array) -> Iterator[Array]:
    """The pixels of a few images at a time, (C, pixels) in float64: a whole training set would not fit."""
    step = max(1, (1 << 22) // max(1, images[0].size))
    for start in range(0, len(images), step):
        yield images[start : start + step].swapaxes(0, 1).reshape(images.shape[1], -1).astype(np.float64)
