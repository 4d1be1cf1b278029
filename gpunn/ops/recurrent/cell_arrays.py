"""The pointwise part of recurrent cells on any array module."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.activation.pointwise import sigmoid


def takes(h: Array) -> bool:
    """Whatever comes."""
    return True


def lstm_forward(gates: Array, c: Array, y: Sequence[Array]) -> None:
    """Write h' and c'."""
    xp = get_array_module(c)
    i, f, g, o = _gates(xp, gates, 4)
    new = f * c
    new += i * g
    y[1][...] = new
    xp.multiply(o, xp.tanh(new), out=y[0])


def lstm_backward(gh: Array, gnext: Array, gates: Array, c: Array, ggates: Array, gc: Array) -> None:
    """Write ``ggates`` and ``gc``."""
    xp = get_array_module(c)
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


def gru_forward(x_gates: Array, h_gates: Array, h: Array, y: Array) -> None:
    """Write h'."""
    xp = get_array_module(h)
    _, z, n, _ = _gru_gates(xp, x_gates, h_gates)
    xp.add(n, z * (h - n), out=y)


def gru_backward(gy: Array, x_gates: Array, h_gates: Array, h: Array, of_x: Array, of_h: Array, gh: Array) -> None:
    """Write the gradients of ``x_gates``, ``h_gates`` and ``h``."""
    xp = get_array_module(h)
    r, z, n, hn = _gru_gates(xp, x_gates, h_gates)
    gn = gy * (1 - z) * (1 - n * n)
    hidden = h.shape[1]
    of_x[:, :hidden] = gn * hn * (r - r * r)
    of_x[:, hidden : 2 * hidden] = gy * (h - n) * (z - z * z)
    of_x[:, 2 * hidden :] = gn
    of_h[:, : 2 * hidden] = of_x[:, : 2 * hidden]
    xp.multiply(gn, r, out=of_h[:, 2 * hidden :])
    xp.multiply(gy, z, out=gh)


def reset_forward(rz: Array, h: Array) -> Array:
    """``s(r) h``."""
    r, _, state = _wide(rz, 2, h)
    return (sigmoid(r) * state).astype(h.dtype, copy=False)


def update_forward(rz: Array, n: Array, h: Array) -> Array:
    """``(1 - s(z)) tanh(n) + s(z) h``."""
    _, z, candidate, state = _wide(rz, 2, n, h)
    z = sigmoid(z)
    return ((1 - z) * get_array_module(h).tanh(candidate) + z * state).astype(h.dtype, copy=False)


def update_backward_n(gy: Array, rz: Array, n: Array) -> Array:
    """The gradient of n."""
    _, z, candidate, g = _wide(rz, 2, n, gy)
    t = get_array_module(n).tanh(candidate)
    return (g * (1 - sigmoid(z)) * (1 - t * t)).astype(n.dtype, copy=False)


def reset_backward(gy: Array, gq: Array, rz: Array, n: Array, h: Array) -> tuple[Array, Array]:
    """The gradients of rz and h."""
    xp = get_array_module(h)
    r, z, candidate, state, g, product = _wide(rz, 2, n, h, gy, gq)
    r, z = sigmoid(r), sigmoid(z)
    parts = [product * state * r * (1 - r), g * (state - xp.tanh(candidate)) * z * (1 - z)]
    return xp.concatenate(parts, 1).astype(h.dtype, copy=False), (g * z + product * r).astype(h.dtype, copy=False)


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
