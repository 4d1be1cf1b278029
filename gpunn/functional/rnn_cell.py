"""Differentiable recurrent cells: one step of an RNN, LSTM or GRU; see :mod:`gpunn.ops.rnn_cell` for the formulas.

Everywhere x is (N, in), h and c are (N, H), w_ih is (gates H, in), w_hh (gates H, H), and the two biases (gates H).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array, get_array_module, operands
from gpunn.casting import in_half
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.functional.activation import relu, tanh
from gpunn.functional.linear import linear
from gpunn.functional.record import differentiable, kept, raw
from gpunn.ops import linear as products
from gpunn.ops import rnn_cell as ops
from gpunn.ops.window import check_shape


@in_half
def rnn_cell(
    x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, nonlinearity: str = "tanh"
) -> Any:
    """``h' = f(x W_ih^T + b_ih + h W_hh^T + b_hh)`` (N, H), where f is ``"tanh"`` or ``"relu"``.

    >>> import numpy as np
    >>> rnn_cell(np.ones((1, 1)), np.ones((1, 1)), np.array([[2.0]]), np.array([[3.0]]), nonlinearity="relu").item()
    5.0
    """
    known = nonlinearity in ("tanh", "relu")
    check(known, ArgumentError, "rnn_cell", 'nonlinearity must be "tanh" or "relu"', nonlinearity=nonlinearity)
    _check("rnn_cell", 1, x, h, w_ih, w_hh)
    total = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)
    return tanh(total) if nonlinearity == "tanh" else relu(total)


@in_half
def lstm_cell(
    x: Any, state: tuple[Any, Any], w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None
) -> tuple[Any, Any]:
    """``(h', c')`` for ``state = (h, c)``: ``c' = s(f) c + s(i) tanh(g)``, ``h' = s(o) tanh(c')``, with the gates
    ``[i, f, g, o] = x W_ih^T + b_ih + h W_hh^T + b_hh`` and s the logistic function.

    >>> import numpy as np
    >>> x, h, c = np.ones((1, 2)), np.zeros((1, 1)), np.full((1, 1), 4.0)
    >>> h, c = lstm_cell(x, (h, c), np.zeros((4, 2)), np.zeros((4, 1)))
    >>> h.round(4).item(), c.item()
    (0.482, 2.0)
    """
    h, c = state
    _check("lstm_cell", 4, x, h, w_ih, w_hh)
    gates = linear(x, w_ih, b_ih) + linear(h, w_hh, b_hh)
    gd, cd = kept(gates, c)
    both = differentiable(ops.lstm_cell(gd, cd), (gates, c), lambda gy, _: ops.lstm_cell_backward(gy, gd, cd))
    return both[0], both[1]


@in_half
def gru_cell(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None, reset_after: bool = True) -> Any:
    """``h' = (1 - z) n + z h`` (N, H), with ``r = s(..)``, ``z = s(..)`` of ``x W_ih^T + b_ih + h W_hh^T + b_hh``, and

    ``n = tanh(x W_in^T + b_in + r (h W_hn^T + b_hn))``, or with ``reset_after=False`` (the form of Cho et al. 2014)
    ``n = tanh(x W_in^T + b_in + (r h) W_hn^T + b_hn)``. The weights lie in the order r, z, n.

    >>> import numpy as np
    >>> gru_cell(np.ones((1, 2)), np.full((1, 1), 4.0), np.zeros((3, 2)), np.zeros((3, 1))).item()
    2.0
    """
    _check("gru_cell", 3, x, h, w_ih, w_hh)
    x_gates = linear(x, w_ih, b_ih)
    if not reset_after:
        return _gru_cell_reset_before(x_gates, h, w_hh, b_hh)
    h_gates = linear(h, w_hh, b_hh)
    arrays = kept(x_gates, h_gates, h)
    return differentiable(
        ops.gru_cell(*arrays), (x_gates, h_gates, h), lambda gy, _: ops.gru_cell_backward(gy, *arrays)
    )


def _gru_cell_reset_before(x_gates: Any, h: Any, w_hh: Any, b_hh: Any) -> Any:
    xg, hd, w, b = kept(x_gates, h, w_hh, b_hh)
    two = 2 * hd.shape[-1]  # r and z; n lies behind them
    b_rz, b_n = (None, None) if b is None else (b[:two], b[two:])
    rz = xg[:, :two] + products.linear(hd, w[:two], b_rz)
    q = ops.gru_reset(rz, hd)
    n = xg[:, two:] + products.linear(q, w[two:], b_n)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        xp = get_array_module(gy)
        gn = ops.gru_update_backward_n(gy, rz, n)
        grz, gh = ops.gru_reset_backward(gy, products.linear_backward_x(gn, w[two:]), rz, n, hd)
        gates = xp.concatenate([grz, gn], 1)
        of_w = (products.linear_backward_w(grz, hd), products.linear_backward_w(gn, q)) if needs[2] else None
        return (
            gates,
            gh + products.linear_backward_x(grz, w[:two]) if needs[1] else None,
            None if of_w is None else xp.concatenate(of_w),
            products.linear_backward_b(gates) if needs[3] else None,
        )

    return differentiable(ops.gru_update(rz, n, hd), (x_gates, h, w_hh, b_hh), backward)


def _check(op: str, gates: int, *inputs: Any) -> None:
    x, h, w_ih, w_hh = map(raw, inputs)
    operands(op, x=x, h=h, w_ih=w_ih, w_hh=w_hh)
    fits = x.ndim == h.ndim == 2 and x.shape[0] == h.shape[0]
    check(fits, ShapeError, op, "x must have the dimensions (N, in), and h (N, H)", x=x.shape, h=h.shape)
    check_shape(op, "w_ih", w_ih, (gates * h.shape[1], x.shape[1]))
    check_shape(op, "w_hh", w_hh, (gates * h.shape[1], h.shape[1]))
