"""The pointwise part of the LSTM and GRU cells, forward and backward, given what the matrix products gave.

    LSTM    gates [i, f, g, o]:  c' = s(f) c + s(i) tanh(g);  h' = s(o) tanh(c')
    GRU     gates [r, z, n]:  r = s(xr + hr);  z = s(xz + hz);  n = tanh(xn + r hn);  h' = (1 - z) n + z h

s is the logistic function; h and c are (N, H), gates lie side by side in a row: (N, 4H) or (N, 3H). The GRU of
Cho et al. 2014 multiplies h by r before the product, in two parts: :func:`gru_reset` gives s(r) h, whose product the
caller adds to n for :func:`gru_update`. Backward forms the activations again from the arguments of forward, which the
products keep anyway. float16 is computed in float32. ``out`` takes the results, in the order in which they are
returned, into arrays of the inputs' dtype, such as rows of a sequence. Sources: Hochreiter and Schmidhuber 1997, Gers
et al. 2000 (forget gate); Cho et al. 2014.

The ways to compute are :mod:`gpunn.ops.recurrent.cell_kernel` and :mod:`gpunn.ops.recurrent.cell_arrays`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gpunn.backend import Array, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.recurrent import cell_arrays, cell_kernel
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (cell_kernel, cell_arrays)


def lstm_cell(gates: Array, c: Array, out: Sequence[Array] | None = None) -> Any:
    """h' and c', the two parts of one array (2, N, H), or ``out``.

    >>> import numpy as np
    >>> h, c = lstm_cell(np.array([[0.0, 0.0, 9.0, 99.0]]), np.array([[1.0]]))
    >>> h.round(4).item(), c.round(4).item()
    (0.7616, 1.0)
    """
    xp = _check("lstm_cell", c=c, gates=gates)
    y = xp.empty((2, *c.shape), c.dtype) if out is None else out
    route(ROUTES, c).lstm_forward(gates, c, y)
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
    route(ROUTES, c).lstm_backward(gh, gnext, gates, c, ggates, gc)
    return ggates, gc


def gru_cell(x_gates: Array, h_gates: Array, h: Array, out: Array | None = None) -> Array:
    """h' (N, H), with the reset gate applied after the product of h: the gates of x and of h stay apart.

    >>> import numpy as np
    >>> gru_cell(np.array([[0.0, 99.0, 0.0]]), np.zeros((1, 3)), np.array([[0.25]])).item()
    0.25
    """
    xp = _check("gru_cell", h=h, x_gates=x_gates, h_gates=h_gates)
    y = xp.empty(h.shape, h.dtype) if out is None else out
    route(ROUTES, h).gru_forward(x_gates, h_gates, h, y)
    return y


def gru_cell_backward(
    gy: Array, x_gates: Array, h_gates: Array, h: Array, out: Sequence[Array] | None = None
) -> tuple[Array, Array, Array]:
    """The gradients of ``x_gates``, ``h_gates`` and ``h`` (of h as it stands in the formula, beside ``h_gates``)."""
    xp = _check("gru_cell_backward", h=h, gy=gy, x_gates=x_gates, h_gates=h_gates)
    of_x, of_h, gh = (xp.empty(a.shape, h.dtype) for a in (x_gates, h_gates, h)) if out is None else out
    route(ROUTES, h).gru_backward(gy, x_gates, h_gates, h, of_x, of_h, gh)
    return of_x, of_h, gh


def gru_reset(rz: Array, h: Array) -> Array:
    """``s(r) h`` for rz (N, 2H) = [r, z]: what the product of the candidate n takes.

    >>> import numpy as np
    >>> gru_reset(np.zeros((1, 2)), np.array([[4.0]])).item()
    2.0
    """
    _check("gru_reset", h=h, rz=rz)
    return route(ROUTES, h).reset_forward(rz, h)


def gru_update(rz: Array, n: Array, h: Array) -> Array:
    """``h' = (1 - s(z)) tanh(n) + s(z) h`` for rz (N, 2H) = [r, z] and the candidate n (N, H) before its tanh.

    >>> import numpy as np
    >>> gru_update(np.zeros((1, 2)), np.array([[99.0]]), np.array([[4.0]])).item()
    2.5
    """
    _check("gru_update", h=h, rz=rz, n=n)
    return route(ROUTES, h).update_forward(rz, n, h)


def gru_update_backward_n(gy: Array, rz: Array, n: Array) -> Array:
    """The gradient of ``n``: the first step back, as the product between reset and update needs it."""
    _check("gru_update_backward_n", n=n, gy=gy, rz=rz)
    return route(ROUTES, n).update_backward_n(gy, rz, n)


def gru_reset_backward(gy: Array, gq: Array, rz: Array, n: Array, h: Array) -> tuple[Array, Array]:
    """The gradients of ``rz`` and ``h``, given those of h' (gy) and of the result of :func:`gru_reset` (gq)."""
    _check("gru_reset_backward", h=h, gy=gy, gq=gq, rz=rz, n=n)
    both: tuple[Array, Array] = route(ROUTES, h).reset_backward(gy, gq, rz, n, h)
    return both


_GATES = {"gates": 4, "x_gates": 3, "h_gates": 3, "rz": 2}


def _check(op: str, **arrays: Array) -> Any:
    """The first array gives (N, H); the width of each other one is a multiple of H by its name."""
    xp = operands(op, **arrays)
    (name, first), *others = arrays.items()
    check(first.ndim == 2, ShapeError, op, f"{name} must have the 2 dimensions (N, H)", shape=first.shape)
    for other, array in others:
        check_shape(op, other, array, (first.shape[0], first.shape[1] * _GATES.get(other, 1)))
    return xp
