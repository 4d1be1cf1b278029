"""The pointwise part of the LSTM and GRU cells, forward and backward, given what the matrix products gave.

    LSTM    gates [i, f, g, o]:  c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c')
    GRU     gates [r, z, n]:  r = s(xr + hr);  z = s(xz + hz);  n = tanh(xn + r hn);  h' = (1 - z) n + z h

s is the logistic function; h and c are (N, H), gates lie side by side in a row: (N, 4H) or (N, 3H). The GRU of
Cho et al. 2014 multiplies h by r before the product, in two parts: :func:`gru_reset` gives s(r) h, whose product the
caller adds to n for :func:`gru_update`. Backward forms the activations again from the arguments of forward, which the
products keep anyway. float16 is computed in float32. Sources: Hochreiter and Schmidhuber 1997, Gers et al. 2000
(forget gate); Cho et al. 2014.

CUDA: ``kernels/rnn_cell.cu``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.activation import sigmoid
from gpunn.ops.vector import vector
from gpunn.ops.window import check_shape


def lstm_cell(gates: Array, c: Array) -> Array:
    """h' and c', the two parts of one array (2, N, H).

    >>> h, c = lstm_cell(np.array([[0.0, 0.0, 9.0, 99.0]]), np.array([[1.0]]))
    >>> h.round(4).item(), c.round(4).item()
    (0.7616, 1.0)
    """
    xp = _check("lstm_cell", c=c, gates=gates)
    if cuda.takes(c):
        y = xp.empty((2, *c.shape), c.dtype)
        _launch("lstm_forward", xp, [gates, c], [y[0], y[1]])
        return y
    i, f, g, o, old = _wide(gates, 4, c)
    new = sigmoid(f) * old + sigmoid(i) * xp.tanh(g)
    return xp.stack([sigmoid(o) * xp.tanh(new), new]).astype(c.dtype, copy=False)


def lstm_cell_backward(gy: Array, gates: Array, c: Array) -> tuple[Array, Array]:
    """The gradients of ``gates`` and ``c``; gy (2, N, H) holds those of h' and c'."""
    op = "lstm_cell_backward"
    xp = _check(op, c=c, gates=gates)
    operands(op, gy=gy, c=c)
    check_shape(op, "gy", gy, (2, *c.shape))
    if cuda.takes(c):
        ggates, gc = xp.empty(gates.shape, c.dtype), xp.empty(c.shape, c.dtype)
        _launch("lstm_backward", xp, [gy[0], gy[1], gates, c], [ggates, gc])
        return ggates, gc
    i, f, g, o, old, gh, gnext = _wide(gates, 4, c, gy[0], gy[1])
    i, f, g, o = sigmoid(i), sigmoid(f), xp.tanh(g), sigmoid(o)
    t = xp.tanh(f * old + i * g)
    gnext = gnext + gh * o * (1 - t * t)
    parts = [gnext * g * i * (1 - i), gnext * old * f * (1 - f), gnext * i * (1 - g * g), gh * t * o * (1 - o)]
    return _joined(xp, parts, c.dtype), (gnext * f).astype(c.dtype, copy=False)


def gru_cell(x_gates: Array, h_gates: Array, h: Array) -> Array:
    """h' (N, H), with the reset gate applied after the product of h: the gates of x and of h stay apart.

    >>> gru_cell(np.array([[0.0, 99.0, 0.0]]), np.zeros((1, 3)), np.array([[0.25]])).item()
    0.25
    """
    xp = _check("gru_cell", h=h, x_gates=x_gates, h_gates=h_gates)
    if cuda.takes(h):
        y = xp.empty(h.shape, h.dtype)
        _launch("gru_forward", xp, [x_gates, h_gates, h], [y])
        return y
    xr, xz, xn, hr, hz, hn, state = [*_wide(x_gates, 3), *_wide(h_gates, 3, h)]
    z = sigmoid(xz + hz)
    n = xp.tanh(xn + sigmoid(xr + hr) * hn)
    return ((1 - z) * n + z * state).astype(h.dtype, copy=False)


def gru_cell_backward(gy: Array, x_gates: Array, h_gates: Array, h: Array) -> tuple[Array, Array, Array]:
    """The gradients of ``x_gates``, ``h_gates`` and ``h`` (of h as it stands in the formula, beside ``h_gates``)."""
    xp = _check("gru_cell_backward", h=h, gy=gy, x_gates=x_gates, h_gates=h_gates)
    if cuda.takes(h):
        results = tuple(xp.empty(a.shape, h.dtype) for a in (x_gates, h_gates, h))
        _launch("gru_backward", xp, [gy, x_gates, h_gates, h], results)
        return results
    xr, xz, xn, hr, hz, hn, state, g = [*_wide(x_gates, 3), *_wide(h_gates, 3, h, gy)]
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = xp.tanh(xn + r * hn)
    gn = g * (1 - z) * (1 - n * n)
    gr, gz = gn * hn * r * (1 - r), g * (state - n) * z * (1 - z)
    of_x, of_h = _joined(xp, [gr, gz, gn], h.dtype), _joined(xp, [gr, gz, gn * r], h.dtype)
    return of_x, of_h, (g * z).astype(h.dtype, copy=False)


def gru_reset(rz: Array, h: Array) -> Array:
    """``s(r) h`` for rz (N, 2H) = [r, z]: what the product of the candidate n takes.

    >>> gru_reset(np.zeros((1, 2)), np.array([[4.0]])).item()
    2.0
    """
    xp = _check("gru_reset", h=h, rz=rz)
    if cuda.takes(h):
        y = xp.empty(h.shape, h.dtype)
        _launch("reset_forward", xp, [rz, h], [y])
        return y
    r, _, state = _wide(rz, 2, h)
    return (sigmoid(r) * state).astype(h.dtype, copy=False)


def gru_update(rz: Array, n: Array, h: Array) -> Array:
    """``h' = (1 - s(z)) tanh(n) + s(z) h`` for rz (N, 2H) = [r, z] and the candidate n (N, H) before its tanh.

    >>> gru_update(np.zeros((1, 2)), np.array([[99.0]]), np.array([[4.0]])).item()
    2.5
    """
    xp = _check("gru_update", h=h, rz=rz, n=n)
    if cuda.takes(h):
        y = xp.empty(h.shape, h.dtype)
        _launch("update_forward", xp, [rz, n, h], [y])
        return y
    _, z, candidate, state = _wide(rz, 2, n, h)
    z = sigmoid(z)
    return ((1 - z) * xp.tanh(candidate) + z * state).astype(h.dtype, copy=False)


def gru_update_backward_n(gy: Array, rz: Array, n: Array) -> Array:
    """The gradient of ``n``: the first step back, as the product between reset and update needs it."""
    xp = _check("gru_update_backward_n", n=n, gy=gy, rz=rz)
    if cuda.takes(n):
        gn = xp.empty(n.shape, n.dtype)
        _launch("update_backward_n", xp, [gy, rz, n], [gn])
        return gn
    _, z, candidate, g = _wide(rz, 2, n, gy)
    t = xp.tanh(candidate)
    return (g * (1 - sigmoid(z)) * (1 - t * t)).astype(n.dtype, copy=False)


def gru_reset_backward(gy: Array, gq: Array, rz: Array, n: Array, h: Array) -> tuple[Array, Array]:
    """The gradients of ``rz`` and ``h``, given those of h' (gy) and of the result of :func:`gru_reset` (gq)."""
    xp = _check("gru_reset_backward", h=h, gy=gy, gq=gq, rz=rz, n=n)
    if cuda.takes(h):
        grz, gh = xp.empty(rz.shape, h.dtype), xp.empty(h.shape, h.dtype)
        _launch("reset_backward", xp, [gy, gq, rz, n, h], [grz, gh])
        return grz, gh
    r, z, candidate, state, g, product = _wide(rz, 2, n, h, gy, gq)
    r, z = sigmoid(r), sigmoid(z)
    parts = [product * state * r * (1 - r), g * (state - xp.tanh(candidate)) * z * (1 - z)]
    return _joined(xp, parts, h.dtype), (g * z + product * r).astype(h.dtype, copy=False)


_GATES = {"gates": 4, "x_gates": 3, "h_gates": 3, "rz": 2}


def _check(op: str, **arrays: Array) -> Any:
    """The first array gives (N, H); the width of each other one is a multiple of H by its name."""
    xp = operands(op, **arrays)
    (name, first), *others = arrays.items()
    check(first.ndim == 2, ShapeError, op, f"{name} must have the 2 dimensions (N, H)", shape=first.shape)
    for other, array in others:
        check_shape(op, other, array, (first.shape[0], first.shape[1] * _GATES.get(other, 1)))
    return xp


# ---- without the kernel ---------------------------------------------------------------------------------------------


def _wide(gates: Array, count: int, *more: Array) -> list[Array]:
    """The gates (N, H) of a row, one by one, and ``more``, in the dtype that sums are formed in."""
    hidden = gates.shape[1] // count
    parts = [gates[:, k * hidden : (k + 1) * hidden] for k in range(count)]
    return [a.astype(accumulation_dtype(a.dtype), copy=False) for a in (*parts, *more)]


def _joined(xp: Any, parts: list[Array], dtype: Any) -> Array:
    return xp.concatenate(parts, 1).astype(dtype, copy=False)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 128


def _launch(kernel: str, xp: Any, inputs: list[Array], outputs: Any) -> None:
    n, hidden = inputs[-1].shape  # (N, H) in every kernel
    if inputs[-1].size == 0:
        return
    arrays = [*map(xp.ascontiguousarray, inputs), *outputs]
    width = vector(hidden, *arrays)
    index = cuda.index_type(*(a.size for a in arrays))
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(inputs[0]), "INDEX": index, "VECTOR": width}
    blocks = -(-n * (hidden // width) // _THREADS)
    cuda.launch("rnn_cell.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, np.int32(n), np.int32(hidden)])
