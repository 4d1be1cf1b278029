"""Points of two classes on two rings: the smallest problem that no straight line solves."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, check, check_sizes

Points: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
Labels: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


def circles(
    seed: int = 0, train: int = 1000, test: int = 500, inner: float = 0.5, noise: float = 0.06
) -> tuple[tuple[Points, Labels], tuple[Points, Labels]]:
    """Return ``(x_train, y_train), (x_test, y_test)``: points (N, 2) float32, labels (N,) int64, drawn by ``seed``.

    Class 0 lies on the ring of radius 1, class 1 on that of radius ``inner``, at uniform angles; each coordinate then
    moves by a normal number of deviation ``noise``. Half of each part is of each class.

    >>> (x, y), (x_test, y_test) = circles(seed=1, noise=0.0)
    >>> x.shape, x_test.shape, sorted({round(float(r), 3) for r in np.hypot(*x[y == 1].T)})
    ((1000, 2), (500, 2), [0.5])
    """
    check_sizes("circles", train=train, test=test)
    check(min(train, test) >= 2, ArgumentError, "circles", "each part needs two points", train=train, test=test)
    check(0 < inner < 1, ArgumentError, "circles", "inner must lie between 0 and 1", inner=inner)
    check(noise >= 0, ArgumentError, "circles", "noise must be at least 0", noise=noise)
    generator = random_generator(seed)
    labels = np.concatenate([generator.permutation(np.arange(count) % 2) for count in (train, test)])
    angles = generator.uniform(0, 2 * np.pi, labels.shape)
    radii = np.where(labels == 1, inner, 1.0)
    points = radii[:, np.newaxis] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points = (points + noise * generator.standard_normal(points.shape)).astype(np.float32)
    return (points[:train], labels[:train]), (points[train:], labels[train:])
