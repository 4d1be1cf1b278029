"""A whole sequence through one layer of an LSTM with projection, forward and backward.

    gates [i, f, g, o] = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh
    (z_t, c_t) = the cell of :mod:`gpunn.ops.recurrent.cell`;  h_t = z_t W_hr^T

x is (S, in), its rows in the order of :mod:`gpunn.ops.recurrent.rows`; W_ih is (4H, in), W_hh (4H, P), W_hr (P, H),
the biases are (4H,), h0 is (N, P), c0 (N, H). Forward gives one flat array, in which :func:`parts` finds all h_t
(S, P), the last h (N, P) and the last c (N, H), and what backward wants back. float16 is computed in float32. Source:
Sak, Senior and Beaufays 2014, "Long short-term memory recurrent neural network architectures for large scale acoustic
modeling".
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gpunn.backend import Array, get_array_module, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.array.product import product
from gpunn.ops.linear.affine import linear_backward_b, linear_backward_w, linear_backward_x
from gpunn.ops.recurrent.rows import Inputs, Needs, before, meet, wide
from gpunn.ops.recurrent.steps import input_gates, transposed, way_of_cells
from gpunn.ops.shared.checks import check_shape


class Saved(NamedTuple):
    """Of every row: the gates, the new c, and z, the result of the cell; all wide."""

    gates: Array
    c: Array
    z: Array


def parts(out: Array, inputs: Inputs) -> tuple[Array, Array, Array]:
    """All h_t, the last h and the last c: views of what :func:`projected` gives, or of its gradient."""
    (n, p), (_, hidden) = inputs.states[0].shape, inputs.states[1].shape
    rows = len(inputs.x)
    end = (rows + n) * p
    return out[: rows * p].reshape(rows, p), out[rows * p : end].reshape(n, p), out[end:].reshape(n, hidden)


def projected(inputs: Inputs, w_hr: Array) -> tuple[Array, Saved]:
    """The outputs and the last states, and what backward wants back.

    >>> import numpy as np
    >>> from gpunn.ops.recurrent.rows import Sizes, Weights
    >>> keeps = Weights(np.zeros((8, 1)), np.zeros((8, 1)), np.repeat([-99.0, 99.0, 0.0, 99.0], 2))
    >>> inputs = Inputs("lstm projected", np.zeros((1, 1)), [np.zeros((1, 1)), np.full((1, 2), 9.0)], keeps, Sizes([1]))
    >>> projected(inputs, np.array([[2.0, 3.0]]))[0].round(4).tolist()
    [5.0, 5.0, 9.0, 9.0]
    """
    _check(inputs, w_hr)
    given = inputs.wide()
    xp, (h0, c0), w = get_array_module(given.x), given.states, given.weights
    gates, w_hh, w_out, way = input_gates(given.x, w), transposed(w.w_hh), transposed(wide(w_hr)), way_of_cells(c0)
    out = xp.empty((len(gates) + len(h0)) * h0.shape[1] + c0.size, gates.dtype)
    y, last_h, last_c = parts(out, inputs)
    every_c, every_z = (xp.empty((len(gates), c0.shape[1]), gates.dtype) for _ in range(2))
    h, c = h0[:0], c0[:0]
    for rows, n in inputs.sizes.steps():
        h, c = meet(xp, h, n, h0, last_h), meet(xp, c, n, c0, last_c)
        total = gates[rows]
        total += product(h, w_hh)
        old, h, c, z = c, y[rows], every_c[rows], every_z[rows]
        way.lstm_forward(total, old, (z, c))
        product(z, w_out, h)
    last_h[: len(h)], last_c[: len(c)] = h, c
    return out.astype(inputs.x.dtype, copy=False), Saved(gates, every_c, every_z)


def projected_backward(
    inputs: Inputs, w_hr: Array, gout: Array, out: Array, saved: Saved, needs: Needs
) -> list[Array | None]:
    """The gradients of x, h0, c0, W_ih, W_hh, b_ih, b_hh and W_hr where ``needs`` says so, given that of ``out``."""
    op = "lstm_backward"
    operands(op, gout=gout, out=out)
    check_shape(op, "gout", gout, out.shape)
    given, w_out = inputs.wide(), wide(w_hr)
    xp, w, sizes, way = get_array_module(gout), given.weights, inputs.sizes, way_of_cells(given.x)
    gy, glast_h, glast_c = parts(wide(gout), inputs)
    old_c = before(saved.c, given.states[1], sizes)
    ggates, every_gh = xp.empty_like(saved.gates), xp.empty_like(gy)
    gh0, gc0 = xp.empty_like(glast_h), xp.empty_like(glast_c)
    gh, gc = glast_h[:0], glast_c[:0]
    for rows, n in sizes.steps(backward=True):
        gh, gc = meet(xp, gh, n, glast_h, gh0), meet(xp, gc, n, glast_c, gc0)
        of_h, of_gates, later = every_gh[rows], ggates[rows], gc
        xp.add(gh, gy[rows], out=of_h)
        gc = xp.empty_like(later)
        way.lstm_backward(product(of_h, w_out), later, saved.gates[rows], old_c[rows], of_gates, gc)
        gh = product(of_gates, w.w_hh)
    gh0[: len(gh)], gc0[: len(gc)] = gh, gc
    needs_x, _, _, needs_ih, needs_hh, needs_b_ih, needs_b_hh, needs_hr = needs
    gb = linear_backward_b(ggates) if needs_b_ih or needs_b_hh else None
    old_h = before(parts(wide(out), inputs)[0], given.states[0], sizes) if needs_hh else None
    gradients = [
        linear_backward_x(ggates, w.w_ih) if needs_x else None,
        gh0,
        gc0,
        linear_backward_w(ggates, given.x) if needs_ih else None,
        None if old_h is None else linear_backward_w(ggates, old_h),
        gb if needs_b_ih else None,
        gb if needs_b_hh else None,
        linear_backward_w(every_gh, saved.z) if needs_hr else None,
    ]
    return [None if g is None else g.astype(inputs.x.dtype, copy=False) for g in gradients]


def _check(inputs: Inputs, w_hr: Any) -> None:
    operands("lstm", x=inputs.x, w_hr=w_hr)
    check(w_hr.ndim == 2, ShapeError, "lstm", "w_hr must have 2 dimensions", shape=w_hr.shape)
    inputs.check(w_hr.shape[1])
    check_shape("lstm", "w_hr", w_hr, (inputs.states[0].shape[1], w_hr.shape[1]))
