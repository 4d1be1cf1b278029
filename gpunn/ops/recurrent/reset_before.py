"""One step of the GRU that multiplies h by r before the product; :mod:`gpunn.ops.recurrent.steps` has sequences.

    [r, z] = s(x_t W_rz^T + b_rz + h_{t-1} U_rz^T + c_rz);  n = tanh(x_t W_n^T + b_n + (r h_{t-1}) U_n^T + c_n)
    h_t = (1 - z) n + z h_{t-1}

Two products a step, one after the other. Source: Cho et al. 2014, "Learning phrase representations using RNN
encoder-decoder for statistical machine translation".
"""

from __future__ import annotations

from gpunn.backend import Array, get_array_module
from gpunn.ops.linear.affine import linear, linear_backward_b, linear_backward_w, linear_backward_x
from gpunn.ops.recurrent import cell as cells
from gpunn.ops.recurrent.rows import Needs


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
