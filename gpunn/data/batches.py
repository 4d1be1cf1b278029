"""Minibatches of arrays that fit in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gpunn.backend import Array, asarray, device_of
from gpunn.errors import ArgumentError, ShapeError, check


def batches(
    x: Array, y: Array, batch_size: int, generator: np.random.Generator | None = None
) -> Iterator[tuple[Array, Array]]:
    """Yield ``(x, y)`` in batches of ``batch_size`` along axis 0; the last one holds what is left.

    With a ``generator`` every call visits the examples in a new random order, else in the order given.
    NumPy and CuPy arrays both stay on their device.

    >>> x, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [label.tolist() for _, label in batches(x, y, 2)]
    [[0, 1], [2, 3], [4]]

    Raises ShapeError if x and y differ in length or are empty, ArgumentError for a batch size below 1.
    """
    check(x.ndim > 0 and y.ndim > 0, ShapeError, "batches", "x and y need an axis of examples", x=x.shape, y=y.shape)
    check(len(x) == len(y), ShapeError, "batches", "x and y must have one length", x=len(x), y=len(y))
    check(len(x) > 0, ShapeError, "batches", "x and y must not be empty", x=x.shape, y=y.shape)
    check(batch_size >= 1, ArgumentError, "batches", "batch_size must be at least 1", batch_size=batch_size)
    return _batches(x, y, batch_size, generator)  # a generator function would put off the checks to the first batch


def _batches(
    x: Array, y: Array, batch_size: int, generator: np.random.Generator | None
) -> Iterator[tuple[Array, Array]]:
    if generator is not None:
        order = asarray(generator.permutation(len(x)), device_of(x))
    for start in range(0, len(x), batch_size):
        chosen = slice(start, start + batch_size)
        if generator is not None:
            chosen = order[chosen]
        yield x[chosen], y[chosen]
