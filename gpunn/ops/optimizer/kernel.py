"""The steps of optimizers by ``kernels/optimizer.cu``, one launch each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.ops.shared.vector import WIDEST, vector


def takes(p: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(p)


def sgd(p: Array, g: Array, v: Array | None, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.sgd_step`, changing p and v."""
    _launch("sgd", [p, g, p if v is None else v], (lr, momentum, weight_decay), np.int32(nesterov))


def rmsprop(
    p: Array, g: Array, s: Array, m: Array | None, v: Array | None, lr: float, alpha: float, eps: float,
    weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    """:func:`gpunn.ops.optimizer.rules.rmsprop_step`, changing p and the states that there are."""
    arrays = [p, g, s, s if m is None else m, s if v is None else v]
    _launch("rmsprop", arrays, (lr, alpha, 1 - alpha, eps, weight_decay, momentum), np.int32(m is not None))


def adagrad(p: Array, g: Array, s: Array, rate: float, eps: float, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.adagrad_step`: RMSprop that forgets nothing, and weighs each square by 1."""
    _launch("rmsprop", [p, g, s, s, s], (rate, 1, 1, eps, weight_decay, 0), np.int32(False))


def adadelta(p: Array, g: Array, s: Array, u: Array, lr: float, rho: float, eps: float, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.adadelta_step`, changing p, s and u."""
    _launch("adadelta", [p, g, s, u], (lr, rho, 1 - rho, eps, weight_decay))


def adam(
    p: Array, g: Array, m: Array, v: Array, step: float, look: float, root: float, betas: tuple[float, float],
    eps: float, weight_decay: float, decay: float,
) -> None:  # fmt: skip
    """``p -= decay p``, then ``p -= (step m + look G) / (sqrt(v) / root + eps)``, with the new m and v."""
    b1, b2 = betas
    _launch("adam", [p, g, m, v], (step, look, root, b1, 1 - b1, b2, 1 - b2, eps, weight_decay, decay))


_THREADS = 256


def _launch(kernel: str, arrays: list[Array], numbers: Sequence[float], *more: Any) -> None:
    """Launch a kernel of optimizer.cu, with the arguments p, g, the states, three sizes, ``numbers`` and ``more``.

    The numbers are those of this step: the kernel reads them from memory.
    """
    p = arrays[0]
    if p.size == 0:
        return
    index = cuda.index_type(p.size)
    width = WIDEST // p.dtype.itemsize
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(p), "INDEX": index, "VECTOR": width, "THREADS": _THREADS}
    head, packs = _packs(arrays, width)
    count = np.int32 if index == "int" else np.int64
    blocks = -(-(p.size - packs * (width - 1)) // _THREADS)
    sizes = [count(p.size), count(head), count(packs)]
    now = cuda.live(p, np.array(numbers, p.dtype))
    cuda.launch("optimizer.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, *sizes, now, *more])


def _packs(arrays: list[Array], width: int) -> tuple[int, int]:
    """Where the first 16-byte pack starts, and how many there are; none if the arrays start at different offsets."""
    for head in range(width):
        if vector(width, *(a[head:] for a in arrays)) == width:
            return head, max(0, arrays[0].size - head) // width
    return 0, 0
