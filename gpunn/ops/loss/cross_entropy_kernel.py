"""Cross entropy by ``kernels/loss.cu``: a row of logits is read once."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module


def takes(x: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(x)


def forward(rows: Array, classes: Array, counts: Array | None, keeps: bool) -> tuple[Array, None]:
    """``-log softmax(rows[n])[classes[n]]`` of each row that counts, 0 of the others; it keeps nothing."""
    xp = get_array_module(rows)
    losses = xp.empty(len(rows), rows.dtype)
    _launch("cross_entropy_forward", rows, [xp.ascontiguousarray(rows), _marked(classes, counts), losses], [])
    return losses, None


def backward(slope: Array, rows: Array, classes: Array, counts: Array | None, kept: None) -> Array:
    """The gradient of the rows, where ``slope`` is that of each loss; of one row, where it is that of all."""
    xp = get_array_module(rows)
    gx = xp.empty(rows.shape, rows.dtype)
    arrays = [xp.ascontiguousarray(slope, rows.dtype), xp.ascontiguousarray(rows), _marked(classes, counts), gx]
    _launch("cross_entropy_backward", rows, arrays, [np.int32(slope.size)])
    return gx


def _marked(classes: Array, counts: Array | None) -> Array:
    """The classes, -1 where a row does not count."""
    xp = get_array_module(classes)
    return xp.ascontiguousarray(classes) if counts is None else xp.where(counts, classes, -1)


_THREADS = 256
_WARP = 32
_WARP_ROW = 1024  # the longest row for a warp, 32 logits a thread; a longer one gets a block


def _launch(kernel: str, x: Array, arrays: list[Array], more: list[Any]) -> None:
    if x.size == 0:
        return
    rows, classes = x.shape
    row = _WARP if classes <= _WARP_ROW else _THREADS
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(x), "INDEX": cuda.index_type(x.size), "ROW": row}
    macros["THREADS"] = _THREADS
    blocks = -(-rows // (_THREADS // row))
    cuda.launch("loss.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, np.int32(rows), np.int32(classes), *more])
