"""Cross entropy of float32 by oneDNN, on the CPU: the probabilities, of which the loss is a logarithm.

Where one is too small for that, or a row is not finite, :mod:`gpunn.ops.loss.cross_entropy_rows` computes.
"""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.activation import softmax_onednn
from gpunn.ops.loss import cross_entropy_rows
from gpunn.ops.loss.cross_entropy_rows import Exponentials

_MULTIPLY = 0x1FFF1
_X, _OTHER, _Y = 1, 2, 17
_NANOSECONDS = 0.5  # of a logit, about, with its softmax
_LEAST_CLASSES, _LEAST_SIZE = 64, 1 << 15  # with fewer, the calls take longer than NumPy's
_LEAST = np.float32(1e-30)  # of a probability that has all its digits


def takes(x: Array) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated."""
    pays = x.shape[1] >= _LEAST_CLASSES and x.size >= _LEAST_SIZE
    return x.shape[1] > 1 and onednn.takes(x, pays) and not cuda.takes(x)  # of one oneDNN 3.2 takes wrong factors


def forward(
    rows: Array, classes: Array, counts: Array | None, keeps: bool
) -> tuple[Array, Array | Exponentials | None]:
    """``-log softmax(rows[n])[classes[n]]`` of each row that counts, 0 of the others; and the probabilities, less 1 at
    the row's class: the gradient, but for the slope."""
    known = softmax_onednn.forward(rows)
    if known is not None:
        places = np.arange(len(rows)), classes
        own = known[places]
        if counts is not None:
            own[~counts] = 1
        if own.min() >= _LEAST:
            known[places] = own - 1
            return 0 - np.log(own), known if keeps else None
    return cross_entropy_rows.forward(rows, classes, counts, keeps)


def backward(
    slope: Array, rows: Array, classes: Array, counts: Array | None, kept: Array | Exponentials | None
) -> Array:
    """The gradient of the rows, where ``slope`` is that of each loss; of one row, where it is that of all."""
    if kept is None:
        _, kept = forward(rows, classes, counts, keeps=True)
    if not isinstance(kept, np.ndarray):
        return cross_entropy_rows.backward(slope, rows, classes, counts, kept)
    slopes = np.empty(len(rows), rows.dtype)
    slopes[:] = slope if counts is None else np.where(counts, slope, 0)
    gx = np.empty(rows.shape, rows.dtype)
    onednn.run(rows.size * _NANOSECONDS, _scaled, rows.shape, kept, slopes, gx)
    if counts is not None:
        gx[~counts] = 0  # an ignored row may hold nothing but -infinity
    return gx


def _scaled(count: int, classes: int) -> onednn.Job:
    x, rows = onednn.Layout((1, count, classes)), onednn.Layout((1, count, 1))
    own = onednn.Description("binary", _MULTIPLY, x, rows, x)
    return onednn.Job(own, [(_X, x, False), (_OTHER, rows, False), (_Y, x, True)])
