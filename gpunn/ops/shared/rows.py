"""Sums over the rows or columns of matrices that fit into a cache, and vectors beside them.

NumPy leaves the sums to BLAS, which is faster.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar, cast

import numpy as np

from gpunn.backend import Array
from gpunn.cpu.blas import matmul

Function = TypeVar("Function", bound=Callable[..., Any])

_SHORT = 512  # elements that BLAS adds with a rounding that does not matter; NumPy adds the sums of so many by halves
_LONG = 1024  # the same of products; for 500 results and fewer, as few long rows have, NumPy lets no other thread run
_FEW = 64  # elements that are not worth a call of BLAS each; longer rows are read from memory faster one by one


def row_sums(xp: Any, a: Array, weights: Array | None = None) -> Array:
    """The sum of each row of a (R, P), its elements times ``weights`` (P,) if these are given.

    >>> row_sums(np, np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [3.0, 7.0]
    """
    if xp is not np or (weights is not None and a.shape[1] > _LONG):
        return (a if weights is None else a * weights).sum(1)
    if weights is not None:
        return matmul(np, a, weights)
    size = a.shape[1]
    if size == 1:
        return a[:, 0]
    if size < _FEW:
        return matmul(np, a, ones(size, a.dtype))
    if size <= _SHORT:
        return np.vecdot(a, ones(size, a.dtype))
    part = part_length(size, _SHORT)
    if not part:
        whole = size // _SHORT * _SHORT
        return row_sums(np, a[:, :whole]) + row_sums(np, a[:, whole:])
    return np.vecdot(a.reshape(len(a), -1, part), ones(part, a.dtype)).sum(1)


@lru_cache(16)
def ones(size: int, dtype: Any) -> Array:
    """So many ones, for whoever wants them: they are not changed.

    >>> ones(2, np.float32)
    array([1., 1.], dtype=float32)
    """
    made = np.ones(size, dtype)
    made.flags.writeable = False
    return made


@lru_cache(512)
def part_length(size: int, most: int) -> int:
    """The length of equal parts of a row: the largest divisor of at most ``most``, or 0 if that is too short to pay.

    >>> part_length(3000, 1024)
    1000
    """
    largest = next(k for k in range(most, 0, -1) if size % k == 0)
    return largest if largest >= _FEW else 0


def row_dots(xp: Any, a: Array, b: Array) -> Array:
    """The sum of the products of each row of a (R, P) with that of b.

    >>> row_dots(np, np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]])).tolist()
    [11.0]
    """
    size = a.shape[1]
    if xp is not np or size < _FEW:
        return row_sums(xp, a * b)
    if size <= _LONG:
        return np.vecdot(a, b)
    part = part_length(size, _LONG)
    if not part:
        whole = size // _LONG * _LONG
        return row_dots(np, a[:, :whole], b[:, :whole]) + row_dots(np, a[:, whole:], b[:, whole:])
    return np.vecdot(a.reshape(len(a), -1, part), b.reshape(len(b), -1, part)).sum(1)


def row_maxima(xp: Any, a: Array) -> Array:
    """The largest element of each row of a (R, P), as (R, 1).

    >>> row_maxima(np, np.array([[1.0, 2.0], [4.0, 3.0]])).tolist()
    [[2.0], [4.0]]
    """
    if xp is np and a.shape[1] < _FEW:  # NumPy compares long rows with each other at once, and starts anew for each row
        return np.maximum.reduce(np.ascontiguousarray(a.T), 0)[:, None]
    return a.max(1, keepdims=True)


def column_sums(xp: Any, a: Array, weights: Array) -> Array:
    """The sum of the rows of a (R, P), times a weight (R,) each.

    >>> column_sums(np, np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0])).tolist()
    [31.0, 42.0]
    """
    return matmul(np, weights, a) if xp is np else (a * weights[:, None]).sum(0)


def outer(xp: Any, column: Array, row: Array) -> Array:
    """The products of each element of ``column`` (R,) with each of ``row`` (P,): (R, P).

    >>> outer(np, np.array([1.0, 2.0]), np.array([3.0, 4.0])).tolist()
    [[3.0, 4.0], [6.0, 8.0]]
    """
    if xp is not np:
        return column[:, None] * row
    a, b = np.zeros((len(column), 2), column.dtype), np.zeros((2, len(row)), row.dtype)
    a[:, 0], b[0] = column, row
    return matmul(np, a, b)  # BLAS is three times as fast as NumPy, and of two terms, which NumPy leaves to it


def repeated(xp: Any, a: Array, rows: int) -> Array:
    """``a`` (P,) as so many rows, to compute with beside matrices: NumPy is slow with short rows of which one is given.

    >>> repeated(np, np.array([1.0, 2.0]), 2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    whole = xp.broadcast_to(a, (rows, len(a)))
    return whole if xp is not np or len(a) > 2 * _BUFFER else np.ascontiguousarray(whole)


def unbuffered(function: Function) -> Function:
    """``function``, in which NumPy computes with a column (R, 1) beside a matrix (R, P) without a copy in a buffer.

    It makes one for rows of less than ``np.getbufsize()`` elements, and takes twice the time. What mixes dtypes does
    need the buffer.
    """

    @wraps(function)
    def called(*arguments: Any) -> Any:
        if not any(type(a) is np.ndarray and a.size >= _LARGE for a in arguments):
            return function(*arguments)
        before = np.setbufsize(_BUFFER)
        try:
            return function(*arguments)
        finally:
            np.setbufsize(before)

    return cast(Function, called)


_LARGE = 1 << 14  # elements of an array for which a change of the buffer is worth its time
_BUFFER = 256
