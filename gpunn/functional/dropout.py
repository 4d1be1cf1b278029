"""Differentiable dropout; see :mod:`gpunn.ops.dropout` for the formula and for which random bits decide.

``inplace`` is taken because PyTorch has it, and changes nothing: x stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from gpunn.backend import check_array, generator_or_default
from gpunn.errors import ShapeError, check
from gpunn.functional.record import X, alone, differentiable, raw
from gpunn.ops import dropout as ops


def dropout(
    x: X, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: np.random.Generator | None = None
) -> X:
    """In training, zero each element of x with probability ``p`` and divide the others by 1 - p; else x itself.

    Each call draws a new key from ``generator`` (default: the one that :func:`gpunn.manual_seed` seeds); the key
    decides the mask, the same on every device.

    >>> import gpunn
    >>> dropout(np.ones(5), 0.5, generator=gpunn.backend.random_generator(0)).tolist()
    [2.0, 0.0, 0.0, 0.0, 2.0]
    """
    ops.check_flag("dropout", inplace)
    if not training:
        return x
    key = ops.dropout_key(raw(x), lambda: draw_key(generator))
    keep = ops.dropout_mask(raw(x), p, key)
    y = ops.dropout(raw(x), p, key, keep=keep)
    return differentiable(y, (x,), lambda gy, _: (ops.dropout_backward(gy, p, key, keep=keep),))


def dropout2d(
    x: X, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: np.random.Generator | None = None
) -> X:
    """:func:`dropout` of whole channels of the images x (N, C, H, W): each plane is kept or zeroed as one.

    An x of 3 dimensions is (N, C, L), as in PyTorch, and not one image: channels of it are kept or zeroed as by
    :func:`dropout1d`.

    >>> import gpunn
    >>> dropout2d(np.ones((1, 4, 1, 2)), 0.5, generator=gpunn.backend.random_generator(0)).tolist()
    [[[[2.0, 2.0]], [[0.0, 0.0]], [[0.0, 0.0]], [[0.0, 0.0]]]]
    """
    ops.check_flag("dropout2d", inplace)
    if not training:
        return x
    xd = raw(x)
    if getattr(xd, "ndim", 4) == 3:
        return dropout1d(x, p, generator=generator)
    key = ops.dropout_key(xd, lambda: draw_key(generator))
    return differentiable(ops.dropout2d(xd, p, key), (x,), lambda gy, _: (ops.dropout2d_backward(gy, p, key),))


def draw_key(generator: np.random.Generator | None) -> int:
    """A key of 64 bits from ``generator``, or from the one that :func:`gpunn.manual_seed` seeds."""
    return int(generator_or_default(generator).integers(2**64, dtype=np.uint64))


def dropout1d(
    x: X, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: np.random.Generator | None = None
) -> X:
    """:func:`dropout2d` for sequences (N, C, L), or one (C, L).

    >>> import gpunn
    >>> dropout1d(np.ones((1, 4, 2)), 0.5, generator=gpunn.backend.random_generator(0)).tolist()
    [[[2.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]
    """
    return _dropout_channels(dropout1d, 3, x, p, training, inplace, generator)


def dropout3d(
    x: X, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: np.random.Generator | None = None
) -> X:
    """:func:`dropout2d` for volumes (N, C, D, H, W), or one (C, D, H, W).

    >>> import gpunn
    >>> dropout3d(np.ones((1, 3, 1, 1, 2)), 0.5, generator=gpunn.backend.random_generator(0)).tolist()
    [[[[[2.0, 2.0]]], [[[0.0, 0.0]]], [[[0.0, 0.0]]]]]
    """
    return _dropout_channels(dropout3d, 5, x, p, training, inplace, generator)


def _dropout_channels(
    itself: Callable[..., Any], ndim: int, x: Any, p: float, training: bool, inplace: bool,
    generator: np.random.Generator | None,
) -> Any:  # fmt: skip
    op = itself.__name__
    ops.check_flag(op, inplace)
    check_array(op, x=raw(x))
    if x.ndim == ndim - 1:
        return alone(itself, x, p, training, inplace, generator=generator)
    check(x.ndim == ndim, ShapeError, op, f"x must have the {ndim} dimensions (N, C, ...)", shape=x.shape)
    ops.check_probability(op, p)
    images = x.reshape(*x.shape[:2], 1, prod(x.shape[2:]))
    return dropout2d(images, p, training, generator=generator).reshape(x.shape)
