"""Softmax of float32 along the last axis by oneDNN, on the CPU.

Along other axes it is slow, and its logarithm loses two digits.
"""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.shared.rows_onednn import row_sums

_SOFTMAX = 0x30000
_X, _Y, _GX, _GY = 1, 17, 129, 145
_NANOSECONDS = 0.5  # of an element, about
_LEAST_SIZE = 512  # below, the call takes longer than NumPy's
_FEW = 1 << 13  # elements that NumPy looks through sooner than oneDNN is called


def takes(x: Array, axis: int) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated, and the last axis is not of 1."""
    if axis not in (-1, x.ndim - 1) or x.shape[-1] < 2:
        return False
    return onednn.takes(x, pays=x.size >= _LEAST_SIZE) and not cuda.takes(x)


def forward(x: Array) -> Array | None:
    """Probabilities that add up to 1 along the last axis; None if x holds NaN or +infinity, or a sum overflows.

    Of a row with a NaN or +infinity oneDNN does not give NaN throughout.
    """
    rows, y = np.ascontiguousarray(x).reshape(-1, x.shape[-1]), np.empty(x.shape, x.dtype)
    work = rows.size * _NANOSECONDS
    looked_through = rows if rows.size <= _FEW else row_sums(rows, work)
    if not looked_through.max() < np.inf:
        return None
    onednn.run(work, _forward, rows.shape, rows, y)
    return y


def backward(gy: Array, y: Array) -> Array:
    """The gradient with respect to x."""
    gx, rows = np.empty(gy.shape, gy.dtype), (gy.size // gy.shape[-1], gy.shape[-1])
    onednn.run(gy.size * _NANOSECONDS, _backward, rows, y, gy, gx)
    return gx


def _forward(rows: int, length: int) -> onednn.Job:
    x, own = _described(rows, length)
    return onednn.Job(own, [(_X, x, False), (_Y, x, True)])


def _backward(rows: int, length: int) -> onednn.Job:
    x, hint = _described(rows, length)
    own = onednn.Description("softmax_backward", _SOFTMAX, x, x, x, 1, hint)
    return onednn.Job(own, [(_Y, x, False), (_GY, x, False), (_GX, x, True)])


def _described(rows: int, length: int) -> tuple[onednn.Layout, onednn.Description]:
    x = onednn.Layout((rows, length))
    return x, onednn.Description("softmax_forward", onednn.FORWARD, _SOFTMAX, x, x, 1)
