"""The pointwise part of recurrent cells by ``kernels/rnn_cell.cu``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.ops.shared.vector import vector


def takes(h: Array) -> bool:
    """True where kernels run."""
    return cuda.takes(h)


def lstm_forward(gates: Array, c: Array, y: Sequence[Array]) -> None:
    """Write h' and c'."""
    _launch("lstm_forward", [gates, c], [y[0], y[1]])


def lstm_backward(gh: Array, gnext: Array, gates: Array, c: Array, ggates: Array, gc: Array) -> None:
    """Write ``ggates`` and ``gc``."""
    _launch("lstm_backward", [gh, gnext, gates, c], [ggates, gc])


def gru_forward(x_gates: Array, h_gates: Array, h: Array, y: Array) -> None:
    """Write h'."""
    _launch("gru_forward", [x_gates, h_gates, h], [y])


def gru_backward(gy: Array, x_gates: Array, h_gates: Array, h: Array, of_x: Array, of_h: Array, gh: Array) -> None:
    """Write the gradients of ``x_gates``, ``h_gates`` and ``h``."""
    _launch("gru_backward", [gy, x_gates, h_gates, h], [of_x, of_h, gh])


def reset_forward(rz: Array, h: Array) -> Array:
    """``s(r) h``."""
    y = get_array_module(h).empty(h.shape, h.dtype)
    _launch("reset_forward", [rz, h], [y])
    return y


def update_forward(rz: Array, n: Array, h: Array) -> Array:
    """``(1 - s(z)) tanh(n) + s(z) h``."""
    y = get_array_module(h).empty(h.shape, h.dtype)
    _launch("update_forward", [rz, n, h], [y])
    return y


def update_backward_n(gy: Array, rz: Array, n: Array) -> Array:
    """The gradient of n."""
    gn = get_array_module(n).empty(n.shape, n.dtype)
    _launch("update_backward_n", [gy, rz, n], [gn])
    return gn


def reset_backward(gy: Array, gq: Array, rz: Array, n: Array, h: Array) -> tuple[Array, Array]:
    """The gradients of rz and h."""
    xp = get_array_module(h)
    grz, gh = xp.empty(rz.shape, h.dtype), xp.empty(h.shape, h.dtype)
    _launch("reset_backward", [gy, gq, rz, n, h], [grz, gh])
    return grz, gh


_THREADS = 128


def _launch(kernel: str, inputs: list[Array], outputs: list[Array]) -> None:
    n, hidden = inputs[-1].shape  # (N, H) in every kernel
    if inputs[-1].size == 0:
        return
    arrays = [*map(get_array_module(inputs[0]).ascontiguousarray, inputs), *outputs]
    width = vector(hidden, *arrays)
    index = cuda.index_type(*(a.size for a in arrays))
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(inputs[0]), "INDEX": index, "VECTOR": width}
    macros["THREADS"] = _THREADS
    blocks = -(-n * (hidden // width) // _THREADS)
    cuda.launch("rnn_cell.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, np.int32(n), np.int32(hidden)])
