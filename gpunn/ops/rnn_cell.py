"""The pointwise part of the LSTM and GRU cells, forward and backward, given what the matrix products gave.

    LSTM    gates [i, f, g, o]:  c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c')
    GRU     gates [r, z, n]:  r = s(xr + hr);  z = s(xz + hz);  n = tanh(xn + r hn);  h' = (1 - z) n + z h

s is the logistic function; h and c are (N, H), gates lie side by side in a row: (N, 4H) or (N, 3H). The GRU of
Cho et al. 2014 multiplies h by r before the product, in two parts: :func:`gru_reset` gives s(r) h, whose product the
caller adds to n for :func:`gru_update`. Backward forms the activations again from the arguments of forward, which the
products keep anyway. float16 is computed in float32. ``out`` takes the results, in the order in which they are
returned, into arrays of the inputs' dtype, such as rows of a sequence. Sources: Hochreiter and Schmidhuber 1997, Gers
et al. 2000 (forget gate); Cho et al. 2014.

CUDA: ``kernels/rnn_cell.cu``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.activation import sigmoid
from gpunn.ops.vector import vector
from gpunn.ops.window import check_shape


def lstm_cell(gates: Array, c: Array, out: Sequence[Array] | None = None) -> Any:
    """h' and c', the two parts of one array (2, N, H), or ``out``.

    >>> h, c = lstm_cell(np.array([[0.0, 0.0, 9.0, 99.0]]), np.array([[1.0]]))
    >>> h.round(4).item(), c.round(4).item()
    (0.7616, 1.0)
    """
    xp = _check("lstm_cell", c=c, gates=gates)
    if cuda.takes(c):
        y = xp.empty((2, *c.shape), c.dtype) if out is None else out
        _launch("lstm_forward", xp, [gates, c], [y[0], y[1]])
        return y
    y = xp.empty((2, *c.shape), c.dtype) if out is None else out
    i, f, g, o = _gates(xp, gates, 4)
    new = f * c
    new += i * g
    y[1][...] = new
    xp.multiply(o, xp.tanh(new), out=y[0])
    return y


def lstm_cell_backward(
    gy: Sequence[Array] | Array, gates: Array, c: Array, out: Sequence[Array] | None = None
) -> tuple[Array, Array]:
    """The gradients of ``gates`` and ``c``; gy, (2, N, H) or two arrays, holds those of h' and c'."""
    op = "lstm_cell_backward"
    xp = _check(op, c=c, gates=gates)
    check(len(gy) == 2, ShapeError, op, "gy must have the two parts of h' and c'", parts=len(gy))
    gh, gnext = gy
    operands(op, gh=gh, gc=gnext, c=c)
    for name, part in (("gy[0]", gh), ("gy[1]", gnext)):
        check_shape(op, name, part, c.shape)
    ggates, gc = (xp.empty(a.shape, c.dtype) for a in (gates, c)) if out is None else out
    if cuda.takes(c):
        _launch("lstm_backward", xp, [gh, gnext, gates, c], [ggates, gc])
        return ggates, gc
    i, f, g, o = _gates(xp, gates, 4)
    t = f * c
    t += i * g
    xp.tanh(t, out=t)
    gnext = gnext + gh * o * (1 - t * t)
    hidden = c.shape[1]
    parts = [gnext * g * (i - i * i), gnext * c * (f - f * f), gnext * i * (1 - g * g), gh * t * (o - o * o)]
    for k, part in enumerate(parts):
        ggates[:, k * hidden : (k + 1) * hidden] = part
    xp.multiply(gnext, f, out=gc)
    return ggates, gc


def gru_cell(x_gates: Array, h_gates: Array, h: Array, out: Array | None = None) -> Array:
    """h' (N, H), with the reset gate applied after the product of h: the gates of x and of h stay apart.

    >>> gru_cell(np.array([[0.0, 99.0, 0.0]]), np.zeros((1, 3)), np.array([[0.25]])).item()
    0.25
    """
    xp = _check("gru_cell", h=h, x_gates=x_gates, h_gates=h_gates)
    y = xp.empty(h.shape, h.dtype) if out is None else out
    if cuda.takes(h):
        _launch("gru_forward", xp, [x_gates, h_gates, h], [y])
        return y
    _, z, n, _ = _gru_gates(xp, x_gates, h_gates)
    xp.add(n, z * (h - n), out=y)
    return y


def gru_cell_backward(
    gy: Array, x_gates: Array, h_gates: Array, h: Array, out: Sequence[Array] | None = None
) -> tuple[Array, Array, Array]:
    """The gradients of ``x_gates``, ``h_gates`` and ``h`` (of h as it stands in the formula, beside ``h_gates``)."""
    xp = _check("gru_cell_backward", h=h, gy=gy, x_gates=x_gates, h_gates=h_gates)
    of_x, of_h, gh = (xp.empty(a.shape, h.dtype) for a in (x_gates, h_gates, h)) if out is None else out
    if cuda.takes(h):
        _launch("gru_backward", xp, [gy, x_gates, h_gates, h], [of_x, of_h, gh])
        return of_x, of_h, gh
    r, z, n, hn = _gru_gates(xp, x_gates, h_gates)
    gn = gy * (1 - z) * (1 - n * n)
    hidden = h.shape[1]
    of_x[:, :hidden] = gn * hn * (r - r * r)
    of_x[:, hidden : 2 * hidden] = gy * (h - n) * (z - z * z)
    of_x[:, 2 * hidden :] = gn
    of_h[:, : 2 * hidden] = of_x[:, : 2 * hidden]
    xp.multiply(gn, r, out=of_h[:, 2 * hidden :])
    xp.multiply(gy, z, out=gh)
    return of_x, of_h, gh


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


def _gates(xp: Any, gates: Array, count: int) -> list[Array]:
    """The activations (N, H) of a row's gates, in the dtype that sums are formed in: logistic, but for the tanh of g.

    ``s(x) = tanh(x / 2) / 2 + 1/2`` makes one tanh of a whole row.
    """
    hidden = gates.shape[1] // count
    scale = xp.full(gates.shape[1], 0.5, accumulation_dtype(gates.dtype))
    scale[2 * hidden : 3 * hidden] = 1
    a = gates * scale
    xp.tanh(a, out=a)
    a *= scale
    a += 1 - scale
    return [a[:, k * hidden : (k + 1) * hidden] for k in range(count)]


def _gru_gates(xp: Any, x_gates: Array, h_gates: Array) -> tuple[Array, Array, Array, Array]:
    """r, z, n, and what r multiplies."""
    hidden = x_gates.shape[1] // 3
    dtype = accumulation_dtype(x_gates.dtype)
    rz = xp.add(x_gates[:, : 2 * hidden], h_gates[:, : 2 * hidden], dtype=dtype)
    r, z = _gates(xp, rz, 2)
    hn = h_gates[:, 2 * hidden :].astype(dtype, copy=False)
    n = r * hn
    n += x_gates[:, 2 * hidden :]
    xp.tanh(n, out=n)
    return r, z, n, hn


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
