"""Dropout, forward and backward: zeros at random places, the rest scaled so that the mean stays.

    y[i] = x[i] / (1 - p) if u[d(i)] >= p else 0        gx[i] = gy[i] / (1 - p) if u[d(i)] >= p else 0

d(i) = i, the element's place in row-major order, for ``dropout``, and i // (H W), the number of its plane, for
``dropout2d``. u is ``numpy.random.Generator(numpy.random.Philox(key=key, counter=offset)).random(n)``: u[d] is the top
53 bits, as a fraction, of word d % 4 of the Philox4x64-10 block of counter offset + 1 + d // 4 under the key
(key, 0). So the mask is a function of ``key`` and ``offset`` alone, the same bits on every backend and for every
dtype, and the backward pass can form it again instead of storing it. n numbers use up ceil(n / 4) counters.

p = 0 gives x and p = 1 gives zeros, exactly; a dropped infinity or NaN is 0. Sources: Srivastava et al. 2014,
"Dropout: a simple way to prevent neural networks from overfitting"; whole channels: Tompson et al. 2015, "Efficient
object localization using convolutional networks"; the numbers: Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3".

The ways to compute are :mod:`gpunn.ops.dropout.kernel`, which reads the key from memory (:func:`dropout_key` puts it
there, and in a captured step a new one before each replay), and :mod:`gpunn.ops.dropout.drawn`.
:mod:`gpunn.ops.dropout.alpha`, which stands on them, drops elements to a low value and keeps mean and variance.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from types import ModuleType
from typing import Any

import numpy as np

from gpunn.backend import Array, is_array, operands
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.dropout import drawn, kernel
from gpunn.ops.dropout.drawn import Key
from gpunn.ops.shared.checks import check_image
from gpunn.ops.shared.routes import route

__all__ = [
    "check_flag",
    "check_probability",
    "dropout",
    "dropout2d",
    "dropout2d_backward",
    "dropout_backward",
    "dropout_key",
    "dropout_mask",
]

ROUTES: tuple[ModuleType, ...] = (kernel, drawn)


def dropout_key(x: Array, draw: Callable[[], int]) -> Key:
    """The key that ``draw()`` gives, for dropout of ``x`` and its gradient; an array beside x if a kernel takes x.

    >>> dropout_key(np.ones(6), lambda: 7)
    7
    """
    return route(ROUTES, x).key(x, draw) if is_array(x) else draw()


def dropout(x: Array, p: float, key: Key, offset: int = 0, keep: Array | None = None) -> Array:
    """Drop each element of x with probability ``p``; ``key`` (of 64 bits) and ``offset`` (of 63) choose which.

    ``keep`` is what :func:`dropout_mask` gave for the same arguments, if the caller has it.

    >>> dropout(np.ones(6), 0.5, key=1).tolist()
    [0.0, 2.0, 0.0, 0.0, 2.0, 0.0]
    """
    return _apply("dropout", x, p, key, offset, keep=keep)


def dropout_backward(gy: Array, p: float, key: Key, offset: int = 0, keep: Array | None = None) -> Array:
    """The gradient with respect to x: gy through the same mask."""
    return _apply("dropout_backward", gy, p, key, offset, keep=keep)


def dropout_mask(x: Array, p: float, key: Key, offset: int = 0) -> Array | None:
    """True for each element, in row-major order, that :func:`dropout` keeps; None where a kernel finds it faster.

    Without a kernel the numbers are what takes the time, so the gradient had better not draw them again.

    >>> dropout_mask(np.ones(6), 0.5, key=1).tolist()
    [False, True, False, False, True, False]
    """
    _check("dropout", x, p, key, offset)
    return route(ROUTES, x).mask(x, p, key, offset)


def dropout2d(x: Array, p: float, key: Key, offset: int = 0) -> Array:
    """Drop each plane (H, W) of x (N, C, H, W) as a whole with probability ``p``.

    >>> dropout2d(np.ones((1, 3, 1, 2)), 0.5, key=1).tolist()
    [[[[0.0, 0.0]], [[2.0, 2.0]], [[0.0, 0.0]]]]
    """
    check_image("dropout2d", "x", x)
    return _apply("dropout2d", x, p, key, offset, x.shape[0] * x.shape[1])


def dropout2d_backward(gy: Array, p: float, key: Key, offset: int = 0) -> Array:
    """The gradient with respect to x: gy through the same mask."""
    check_image("dropout2d_backward", "gy", gy)
    return _apply("dropout2d_backward", gy, p, key, offset, gy.shape[0] * gy.shape[1])


def check_flag(op: str, inplace: object) -> None:
    """Check that ``inplace`` is True or False: in its place stood a generator once."""
    if inplace is not True and inplace is not False:
        rule = "inplace must be True or False, and a generator has a name: generator="
        check(False, ArgumentError, op, rule, inplace=inplace)


def check_probability(op: str, p: float) -> None:
    """Check that ``p`` is a number from 0 to 1."""
    check_number(op, p=p)
    check(0 <= p <= 1, ArgumentError, op, "p must be a probability, 0 to 1", p=p)


def _apply(
    op: str, x: Array, p: float, key: Key, offset: int, planes: int | None = None, keep: Array | None = None
) -> Array:
    """x with ``planes`` equal parts of it (None: its elements), in row-major order, kept or dropped as a whole."""
    _check(op, x, p, key, offset)
    if x.size == 0:
        return x.copy()
    return route(ROUTES, x).apply(x, p, key, offset, x.size if planes is None else planes, keep)


def _check(op: str, x: Array, p: float, key: Key, offset: int) -> None:
    operands(op, x=x)
    check_probability(op, p)
    numbers: list[tuple[str, Any, int]] = [("offset", offset, 63)]  # 63: no array can carry the counter past 64
    if is_array(key):
        fits = key.dtype == np.uint64 and key.size == 1
        check(fits, ArgumentError, op, "key must hold one uint64", dtype=str(key.dtype), shape=key.shape)
    else:
        numbers.insert(0, ("key", key, 64))
    for name, value, bits in numbers:
        valid = isinstance(value, Integral) and 0 <= int(value) < 2**bits
        check(valid, ArgumentError, op, f"{name} must be an integer from 0 to 2**{bits} - 1", **{name: value})
