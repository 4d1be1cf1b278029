"""Sequences step by step, on any array module: cells by :mod:`gpunn.ops.recurrent.cell`, the rest by products.

The inputs of all steps take one product ahead of the loop. Backward gives the gradients of the gates in a loop from the
last step to the first; from them follow the rest, by one product over all steps for each:

    gx = gx_gates W_ih;  gW_ih = gx_gates^T x;  gb_ih = sum of gx_gates over the rows
    gW_hh = gh_gates^T h, h being the state that each row was computed from;  gb_hh = sum of gh_gates over the rows

gx_gates and gh_gates, the gradients of what x and h give to the gates, differ in the GRU alone. The GRU that resets
before the product has r h in place of h in the rows of n.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from gpunn.backend import Array, get_array_module
from gpunn.ops.activation.pointwise import relu_backward, tanh_backward
from gpunn.ops.array.product import product
from gpunn.ops.linear.affine import linear, linear_backward_b, linear_backward_w, linear_backward_x
from gpunn.ops.recurrent import cell as cells
from gpunn.ops.recurrent import reset_before
from gpunn.ops.recurrent.rows import Inputs, Needs, Weights, before, meet, wide
from gpunn.ops.shared.routes import route


def takes(inputs: Inputs) -> bool:
    """Whatever comes."""
    return True


def forward(inputs: Inputs) -> tuple[Array, Any]:
    """The outputs and last states, and what the steps back need."""
    out, saved = _LOOPS[inputs.cell][0](inputs.wide())
    return out.astype(inputs.x.dtype, copy=False), saved


def backward(inputs: Inputs, gout: Array, out: Array, saved: Any, needs: Needs) -> list[Array | None]:
    """The gradients of x, the states and the weights, in the dtype of x."""
    given, x = inputs.wide(), inputs.x
    y = wide(out)[: len(x)]
    old = before(y, given.states[0], inputs.sizes)
    of_x, of_h, of_states = _LOOPS[inputs.cell][1](given, wide(gout), y, old, saved)
    needs_x, needs_ih, needs_hh, needs_b_ih, needs_b_hh = needs[0], *needs[-4:]
    of_w_hh = None
    if needs_hh:
        resets = inputs.cell == "gru before"
        of_w_hh = reset_before.weight_gradient(of_h, old, saved[0]) if resets else linear_backward_w(of_h, old)
    gradients = [
        linear_backward_x(of_x, given.weights.w_ih) if needs_x else None,
        *of_states,
        linear_backward_w(of_x, given.x) if needs_ih else None,
        of_w_hh,
        linear_backward_b(of_x) if needs_b_ih else None,
        linear_backward_b(of_h) if needs_b_hh else None,
    ]
    return [None if g is None else g.astype(x.dtype, copy=False) for g in gradients]


# ---- forward: the outputs and last states, and what the loop back needs ---------------------------------------------


def _rnn(inputs: Inputs) -> tuple[Array, None]:
    xp, (h0,), w = get_array_module(inputs.x), inputs.states, inputs.weights
    gates, w_hh = input_gates(inputs.x, w), transposed(w.w_hh)
    out = xp.empty((len(gates) + len(h0), h0.shape[1]), gates.dtype)
    y, last = out[: len(gates)], out[len(gates) :]
    h = h0[:0]
    for rows, n in inputs.sizes.steps():
        h = meet(xp, h, n, h0, last)
        total = gates[rows]
        total += product(h, w_hh)
        h = y[rows]
        if inputs.cell == "tanh":
            xp.tanh(total, out=h)
        else:
            xp.maximum(total, 0, out=h)
    last[: len(h)] = h
    return out, None


def _lstm(inputs: Inputs) -> tuple[Array, tuple[Array, Array]]:
    xp, (h0, c0), w = get_array_module(inputs.x), inputs.states, inputs.weights
    gates, w_hh, way = input_gates(inputs.x, w), transposed(w.w_hh), way_of_cells(h0)
    out = xp.empty((len(gates) + 2 * len(h0), h0.shape[1]), gates.dtype)
    y, (last_h, last_c) = out[: len(gates)], out[len(gates) :].reshape(2, *h0.shape)
    every_c = xp.empty_like(y)
    h, c = h0[:0], c0[:0]
    for rows, n in inputs.sizes.steps():
        h, c = meet(xp, h, n, h0, last_h), meet(xp, c, n, c0, last_c)
        total = gates[rows]
        total += product(h, w_hh)
        old, h, c = c, y[rows], every_c[rows]
        way.lstm_forward(total, old, (h, c))
    last_h[: len(h)], last_c[: len(c)] = h, c
    return out, (every_c, gates)


def _gru(inputs: Inputs) -> tuple[Array, tuple[Array, Array]]:
    xp, (h0,), w = get_array_module(inputs.x), inputs.states, inputs.weights
    x_gates, w_hh, way = linear(inputs.x, w.w_ih, w.b_ih), transposed(w.w_hh), way_of_cells(h0)
    h_gates = xp.empty_like(x_gates)
    out = xp.empty((len(x_gates) + len(h0), h0.shape[1]), x_gates.dtype)
    y, last = out[: len(x_gates)], out[len(x_gates) :]
    h = h0[:0]
    for rows, n in inputs.sizes.steps():
        h = meet(xp, h, n, h0, last)
        of_h, old, h = h_gates[rows], h, y[rows]
        product(old, w_hh, of_h)
        if w.b_hh is not None:
            of_h += w.b_hh
        way.gru_forward(x_gates[rows], of_h, old, h)
    last[: len(h)] = h
    return out, (x_gates, h_gates)


def _gru_before(inputs: Inputs) -> tuple[Array, tuple[Array, Array]]:
    """What is kept are the gates [r, z] (S, 2H), and n (S, H) before its tanh."""
    xp, (h0,), w = get_array_module(inputs.x), inputs.states, inputs.weights
    two = 2 * h0.shape[1]  # r and z; n lies behind them
    gates, w_rz, w_n, way = (
        input_gates(inputs.x, w),
        transposed(w.w_hh[:two]),
        transposed(w.w_hh[two:]),
        way_of_cells(h0),
    )
    every_rz, every_n = xp.ascontiguousarray(gates[:, :two]), xp.ascontiguousarray(gates[:, two:])
    out = xp.empty((len(gates) + len(h0), h0.shape[1]), gates.dtype)
    y, last = out[: len(gates)], out[len(gates) :]
    h = h0[:0]
    for rows, n in inputs.sizes.steps():
        h = meet(xp, h, n, h0, last)
        rz, candidate = every_rz[rows], every_n[rows]
        rz += product(h, w_rz)
        candidate += product(way.reset_forward(rz, h), w_n)
        y[rows] = way.update_forward(rz, candidate, h)
        h = y[rows]
    last[: len(h)] = h
    return out, (every_rz, every_n)


def way_of_cells(h0: Array) -> ModuleType:
    """The way to compute every step's cell; their arrays have been checked."""
    way: ModuleType = route(cells.ROUTES, h0)
    return way


def transposed(w: Array) -> Array:
    """W^T, on NumPy in rows of its own: the product of a few rows with it is up to three times as fast."""
    return np.ascontiguousarray(w.T) if get_array_module(w) is np else w.T


def input_gates(x: Array, w: Weights) -> Array:
    """What every step's gates have from x and from the biases."""
    both = w.b_ih if w.b_hh is None else w.b_hh if w.b_ih is None else w.b_ih + w.b_hh
    return linear(x, w.w_ih, both)


# ---- backward: the gradients of the gates of x and of h, and of the states ------------------------------------------

_Gradients = tuple[Array, Array, list[Array]]


def _rnn_backward(inputs: Inputs, gout: Array, y: Array, old: Array, saved: None) -> _Gradients:
    xp, w = get_array_module(gout), inputs.weights.w_hh
    derivative = tanh_backward if inputs.cell == "tanh" else relu_backward
    ggates, glast = derivative(xp.ones_like(y), y), gout[len(y) :]
    gh0, gh = xp.empty_like(glast), glast[:0]
    for rows, n in inputs.sizes.steps(backward=True):
        gh = meet(xp, gh, n, glast, gh0)
        of_gates = ggates[rows]
        of_gates *= gh + gout[rows]
        gh = product(of_gates, w)
    gh0[: len(gh)] = gh
    return ggates, ggates, [gh0]


def _lstm_backward(inputs: Inputs, gout: Array, y: Array, old: Array, saved: tuple[Array, Array]) -> _Gradients:
    xp, w, (every_c, gates), way = get_array_module(gout), inputs.weights.w_hh, saved, way_of_cells(gout)
    old_c = before(every_c, inputs.states[1], inputs.sizes)
    glast_h, glast_c = gout[len(y) :].reshape(2, -1, y.shape[1])
    ggates, gh0, gc0 = xp.empty_like(gates), xp.empty_like(glast_h), xp.empty_like(glast_c)
    gh, gc = glast_h[:0], glast_c[:0]
    for rows, n in inputs.sizes.steps(backward=True):
        gh, gc = meet(xp, gh, n, glast_h, gh0), meet(xp, gc, n, glast_c, gc0)
        of_gates, later = ggates[rows], gc
        gc = xp.empty_like(later)
        way.lstm_backward(gh + gout[rows], later, gates[rows], old_c[rows], of_gates, gc)
        gh = product(of_gates, w)
    gh0[: len(gh)], gc0[: len(gc)] = gh, gc
    return ggates, ggates, [gh0, gc0]


def _gru_backward(inputs: Inputs, gout: Array, y: Array, old: Array, saved: tuple[Array, Array]) -> _Gradients:
    xp, w, (x_gates, h_gates), way = get_array_module(gout), inputs.weights.w_hh, saved, way_of_cells(gout)
    glast = gout[len(y) :]
    of_x, of_h, gh0, gh = xp.empty_like(x_gates), xp.empty_like(h_gates), xp.empty_like(glast), glast[:0]
    for rows, n in inputs.sizes.steps(backward=True):
        gh = meet(xp, gh, n, glast, gh0)
        of_h_rows, direct = of_h[rows], xp.empty_like(gh)
        way.gru_backward(gh + gout[rows], x_gates[rows], h_gates[rows], old[rows], of_x[rows], of_h_rows, direct)
        gh = product(of_h_rows, w)
        gh += direct
    gh0[: len(gh)] = gh
    return of_x, of_h, [gh0]


def _gru_before_backward(inputs: Inputs, gout: Array, y: Array, old: Array, saved: tuple[Array, Array]) -> _Gradients:
    xp, w, (every_rz, every_n), way = get_array_module(gout), inputs.weights.w_hh, saved, way_of_cells(gout)
    two = every_rz.shape[1]
    ggates, glast = xp.empty((len(y), w.shape[0]), gout.dtype), gout[len(y) :]
    gh0, gh = xp.empty_like(glast), glast[:0]
    for rows, n in inputs.sizes.steps(backward=True):
        gh = meet(xp, gh, n, glast, gh0)
        gy, rz, candidate = gh + gout[rows], every_rz[rows], every_n[rows]
        gn = way.update_backward_n(gy, rz, candidate)
        grz, gh = way.reset_backward(gy, linear_backward_x(gn, w[two:]), rz, candidate, old[rows])
        ggates[rows, :two], ggates[rows, two:] = grz, gn
        gh = gh + linear_backward_x(grz, w[:two])
    gh0[: len(gh)] = gh
    return ggates, ggates, [gh0]


_Forward = Callable[[Inputs], tuple[Array, Any]]
_Backward = Callable[[Inputs, Array, Array, Array, Any], _Gradients]
_LOOPS: dict[str, tuple[_Forward, _Backward]] = {
    "tanh": (_rnn, _rnn_backward),
    "relu": (_rnn, _rnn_backward),
    "lstm": (_lstm, _lstm_backward),
    "gru": (_gru, _gru_backward),
    "gru before": (_gru_before, _gru_before_backward),
}
