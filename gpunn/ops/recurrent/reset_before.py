"""The GRU that multiplies h by r before the product, over a whole sequence.

    [r, z] = s(x_t W_rz^T + b_rz + h_{t-1} U_rz^T + c_rz);  n = tanh(x_t W_n^T + b_n + (r h_{t-1}) U_n^T + c_n)
    h_t = (1 - z) n + z h_{t-1}

Two products a step, one after the other. Source: Cho et al. 2014, "Learning phrase representations using RNN
encoder-decoder for statistical machine translation".
"""

from __future__ import annotations

from gpunn.backend import Array, get_array_module
from gpunn.ops.array.product import product
from gpunn.ops.linear.affine import linear_backward_x
from gpunn.ops.recurrent import cell as cells
from gpunn.ops.recurrent.rows import Sizes, Weights, before, check_sequence, input_gates, meet, wide


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
