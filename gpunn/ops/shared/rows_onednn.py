"""Sums of rows of float32 by oneDNN, on the CPU, in the threads that compute with the rows.

Each thread has the rows that it has in other jobs: what one core has just written takes another one long to read.
"""

from __future__ import annotations

import math

import numpy as np

from gpunn.backend import Array
from gpunn.cpu import onednn

_SUM, _NO_NORM = 0x2FFF4, 0.0
_X, _Y = 1, 17
_FEW = 1 << 13  # elements that NumPy goes through sooner than oneDNN is called
_PARTS = 64  # at most, into which an array is split to be summed


def row_sums(rows: Array, work: float) -> Array:
    """The sum of each row of (R, P), P from 2; ``work`` is that of the job the rows are for, see :func:`onednn.job`."""
    sums = np.empty(len(rows), rows.dtype)
    onednn.run(work, _row_sums, rows.shape, rows, sums)
    return sums


def is_finite(a: Array, work: float) -> bool:
    """Whether no element is infinite or NaN; False, too, where many are so large that their sum is.

    ``a`` is contiguous.
    """
    flat = a.reshape(-1)
    if flat.size <= _FEW:
        return bool(np.isfinite(flat).all())
    sums = row_sums(flat.reshape(math.gcd(flat.size, _PARTS), -1), work)
    return all(map(math.isfinite, sums.tolist()))


def _row_sums(count: int, length: int) -> onednn.Job:
    x, y = onednn.Layout((count, length)), onednn.Layout((count, 1))
    own = onednn.Description("reduction", _SUM, x, y, _NO_NORM, _NO_NORM)
    return onednn.Job(own, [(_X, x, False), (_Y, y, True)])
