"""The GRU that multiplies h by r before the product: one step, and a whole sequence.

    [r, z] = s(x_t W_rz^T + b_rz + h_{t-1} U_rz^T + c_rz);  n = tanh(x_t W_n^T + b_n + (r h_{t-1}) U_n^T + c_n)
    h_t = (1 - z) n + z h_{t-1}

Two products a step, one after the other. Source: Cho et al. 2014, "Learning phrase representations using RNN
encoder-decoder for statistical machine translation".
"""

from __future__ import annotations

from gpunn.backend import Array, get_array_module
from gpunn.ops.array.product import product
from gpunn.ops.linear.affine import linear, linear_backward_b, linear_backward_w, linear_backward_x
from gpunn.ops.recurrent import cell as cells
from gpunn.ops.recurrent.rows import Needs, Sizes, Weights, before, check_sequence, input_gates, meet, wide


def gru_cell(x_gates: Array, h: Array, w_hh: Array, b_hh: Array | None) -> tuple[Array, Array, Array]:
    """h' (N, H), given what x gives to the gates (N, 3H); the gates [r, z] (N, 2H), and n (N, H) before its tanh.

    >>> import numpy as np
    >>> h, _, _ = gru_cell(np.zeros((1, 3)), np.full((1, 1), 4.0), np.zeros((3, 1)), None)
    >>> h.item()
    2.0
    """
    two = 2 * h.shape[-1]  # r and z; n lies behind them
    b_rz, b_n = (None, None) if b_hh is None else (b_hh[:two], b_hh[two:])
    rz = x_gates[:, :two] + linear(h, w_hh[:two], b_rz)
    n = x_gates[:, two:] + linear(cells.gru_reset(rz, h), w_hh[two:], b_n)
    return cells.gru_update(rz, n, h), rz, n


def gru_cell_backward(gy: Array, h: Array, w_hh: Array, rz: Array, n: Array, needs: Needs) -> list[Array | None]:
    """The gradients of x_gates, h, w_hh and b_hh, those of the last three where ``needs`` says so."""
    xp, two = get_array_module(gy), rz.shape[1]
    gn = cells.gru_update_backward_n(gy, rz, n)
    grz, gh = cells.gru_reset_backward(gy, linear_backward_x(gn, w_hh[two:]), rz, n, h)
    gates = xp.concatenate([grz, gn], 1)
    return [
        gates,
        gh + linear_backward_x(grz, w_hh[:two]) if needs[1] else None,
        weight_gradient(gates, h, rz) if needs[2] else None,
        linear_backward_b(gates) if needs[3] else None,
    ]


def weight_gradient(gates: Array, h: Array, rz: Array) -> Array:
    """The gradient of W_hh, given that of the gates and the states before (both with a row for each step)."""
    two = rz.shape[1]
    parts = [linear_backward_w(gates[:, :two], h), linear_backward_w(gates[:, two:], cells.gru_reset(rz, h))]
    return get_array_module(gates).concatenate(parts)


def gru(x: Array, h0: Array, weights: Weights, sizes: Sizes) -> tuple[Array, Array, Array]:
    """The outputs (S, H) and last states (N, H) as one array, the gates [r, z] (S, 2H), and n (S, H) before its tanh.

    >>> import numpy as np
    >>> weights = Weights(np.ones((3, 1)), np.zeros((3, 1)), np.array([0.0, -99.0, 0.0]))
    >>> out, _, _ = gru(np.array([[0.0], [1.0]]), np.zeros((1, 1)), weights, Sizes([1, 1]))
    >>> out.ravel().round(4).tolist()
    [0.0, 0.7616, 0.7616]
    """
    xp, dtype = check_sequence("gru", 3, x, weights, sizes, h0=h0)
    x, h0, w = wide(x), wide(h0), Weights(*map(wide, weights))
    two = 2 * h0.shape[1]  # r and z; n lies behind them
    gates = input_gates(x, w)
    every_rz, every_n = xp.ascontiguousarray(gates[:, :two]), xp.ascontiguousarray(gates[:, two:])
    out = xp.empty((len(x) + len(h0), h0.shape[1]), x.dtype)
    y, last = out[: len(x)], out[len(x) :]
    h = h0[:0]
    for rows, n in sizes.steps():
        h = meet(xp, h, n, h0, last)
        rz, candidate = every_rz[rows], every_n[rows]
        rz += product(h, w.w_hh[:two].T)
        candidate += product(cells.gru_reset(rz, h), w.w_hh[two:].T)
        y[rows] = cells.gru_update(rz, candidate, h)
        h = y[rows]
    last[: len(h)] = h
    return out.astype(dtype, copy=False), every_rz, every_n


def gru_backward(
    gout: Array, out: Array, h0: Array, every_rz: Array, every_n: Array, w_hh: Array, sizes: Sizes
) -> tuple[Array, Array]:
    """The gradients of the gates (S, 3H) and of h0, given that of the first result of :func:`gru`."""
    xp, gout, w = get_array_module(gout), wide(gout), wide(w_hh)
    count, two = every_rz.shape
    old = before(wide(out)[:count], wide(h0), sizes)
    ggates, glast = xp.empty((count, two + two // 2), gout.dtype), gout[count:]
    gh0, gh = xp.empty_like(glast), glast[:0]
    for rows, n in sizes.steps(backward=True):
        gh = meet(xp, gh, n, glast, gh0)
        gy, rz, candidate = gh + gout[rows], every_rz[rows], every_n[rows]
        gn = cells.gru_update_backward_n(gy, rz, candidate)
        grz, gh = cells.gru_reset_backward(gy, linear_backward_x(gn, w[two:]), rz, candidate, old[rows])
        ggates[rows, :two], ggates[rows, two:] = grz, gn
        gh = gh + linear_backward_x(grz, w[:two])
    gh0[: len(gh)] = gh
    return ggates, gh0
