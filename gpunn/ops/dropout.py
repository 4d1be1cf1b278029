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

CUDA: ``kernels/dropout.cu``, which reads the key from memory: :func:`dropout_key` puts it there, and in a captured step
a new one before each replay. Without it: NumPy draws the mask, which is then moved to where x is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, is_array, operands
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.blocks import blocks
from gpunn.ops.vector import vector
from gpunn.ops.window import check_image

Key: TypeAlias = Any
"""An integer of 64 bits, or the array of one that :func:`dropout_key` gives."""


def dropout_key(x: Array, draw: Callable[[], int]) -> Key:
    """The key that ``draw()`` gives, for dropout of ``x`` and its gradient; an array beside x if a kernel takes x.

    >>> dropout_key(np.ones(6), lambda: 7)
    7
    """
    if not (is_array(x) and cuda.takes(x)):
        return draw()

    def drawn() -> np.ndarray[Any, Any]:
        return np.array([draw()], np.uint64)

    return cuda.live(x, drawn(), drawn)


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
    xp = _checked("dropout", x, p, key, offset)
    return None if cuda.takes(x) else _mask(xp, x.size, p, key, offset)


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


def check_probability(op: str, p: float) -> None:
    """Check that ``p`` is a number from 0 to 1."""
    check_number(op, p=p)
    check(0 <= p <= 1, ArgumentError, op, "p must be a probability, 0 to 1", p=p)


def _apply(
    op: str, x: Array, p: float, key: Key, offset: int, planes: int | None = None, keep: Array | None = None
) -> Array:
    """x with ``planes`` equal parts of it (None: its elements), in row-major order, kept or dropped as a whole."""
    xp = _checked(op, x, p, key, offset)
    planes = x.size if planes is None else planes
    scale = 1 / (1 - p) if p < 1 else 0.0
    if x.size == 0:
        return x.copy()
    y = xp.empty(x.shape, x.dtype)
    if cuda.takes(x):
        _launch(xp.ascontiguousarray(x), y, p, key, offset, scale, planes)
        return y
    keep = _mask(xp, planes, p, key, offset) if keep is None else keep
    source, result = x.reshape(planes, -1), y.reshape(planes, -1)
    acc = accumulation_dtype(x.dtype)
    bits = np.dtype(f"i{acc.itemsize}")
    for part in blocks(xp, planes, x.size // planes * acc.itemsize):
        # Not a product: 0 * inf is not 0. -True has all bits set, and is faster than a choice.
        kept = source[part].astype(acc, copy=False).view(bits) & -keep[part, None].astype(bits)
        result[part] = kept.view(acc) * acc.type(scale)
    return y


def _checked(op: str, x: Array, p: float, key: Key, offset: int) -> Any:
    xp = operands(op, x=x)
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
    return xp


def _mask(xp: Any, planes: int, p: float, key: Key, offset: int) -> Array:
    """Drawn on the CPU, as CuPy's generators have other streams; only dtypes without a kernel come here."""
    cuda.refuse_capture("dropout", "only float32 and float64 have a kernel; others draw their mask on the CPU")
    key = int(key.item()) if is_array(key) else key
    generator, keep = np.random.Generator(np.random.Philox(key=key, counter=offset)), np.empty(planes, bool)
    for part in blocks(np, planes, 8):
        np.greater_equal(generator.random(part.stop - part.start), p, out=keep[part])
    return xp.asarray(keep)


_THREADS = 128


def _launch(x: Array, y: Array, p: float, key: Key, offset: int, scale: float, planes: int) -> None:
    if planes == x.size:
        kernel, length, blocks = "dropout", x.size, -(-x.size // (4 * _THREADS))
    else:
        kernel, length, blocks = "dropout2d", x.size // planes, planes
    index = cuda.index_type(x.size)
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": index, "VECTOR": vector(length, x, y)}
    # u >= p exactly if the 53 bits, as an integer, are at least 2^53 p; and 2^53 p is exact.
    threshold = math.ceil(p * 2**53)
    key = key if is_array(key) else cuda.live(x, np.array([key], np.uint64))
    size = np.int32(length) if index == "int" else np.int64(length)
    scalars = [np.uint64(offset + 1), np.uint64(threshold), x.dtype.type(scale)]
    cuda.launch("dropout.cu", kernel, macros, (blocks,), (_THREADS,), [x, y, size, key, *scalars])
