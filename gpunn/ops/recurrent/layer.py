"""A whole sequence through one recurrent layer in one direction, forward and backward.

    RNN     h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh), f = tanh or relu
    LSTM    gates [i, f, g, o] = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh, then :mod:`gpunn.ops.recurrent.cell`
    GRU     gates [r, z, n] of x, x_t W_ih^T + b_ih, and of h, h_{t-1} W_hh^T + b_hh, then the cell of that module

x is (S, in), its rows in the order of :mod:`gpunn.ops.recurrent.rows`; W_ih is (gates H, in), W_hh (gates H, H), the
biases are (gates H,), h0 and c0 (N, H). The cells are named ``"tanh"``, ``"relu"``, ``"lstm"``, ``"gru"``, and ``"gru
before"``, the GRU of :mod:`gpunn.ops.recurrent.reset_before` that resets h before its product.

Forward gives one array (S + N, H), the output of every row and then the last h of every sequence ((S + 2N, H) for the
LSTM, the last c behind it), and what backward wants back. Backward gives the gradient of every input.

float16 is computed in float32. Sources: Elman 1990, "Finding structure in time"; those of the cells; Werbos 1990,
"Backpropagation through time".
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

from gpunn.backend import Array, operands
from gpunn.ops.recurrent import onednn, steps
from gpunn.ops.recurrent.rows import CELLS, Inputs, Needs
from gpunn.ops.shared.checks import check_shape
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (onednn, steps)
"""Each has ``takes(inputs)``, ``forward(inputs)`` and ``backward(inputs, gout, out, values, needs)``."""


class Saved(NamedTuple):
    """What backward wants back: the way that forward took, and what that saved."""

    way: ModuleType
    values: Any


def sequence(inputs: Inputs) -> tuple[Array, Saved]:
    """The outputs (S, H) and behind them the last states (N, H), and what backward wants back.

    >>> import numpy as np
    >>> from gpunn.ops.recurrent.rows import Sizes, Weights
    >>> one, h0 = np.ones((1, 1)), np.zeros((1, 1))
    >>> sequence(Inputs("relu", np.ones((3, 1)), [h0], Weights(one, one), Sizes([1, 1, 1])))[0].ravel().tolist()
    [1.0, 2.0, 3.0, 3.0]
    >>> keeps = Weights(np.zeros((4, 1)), np.zeros((4, 1)), np.array([-99.0, 99.0, 0.0, 99.0]))
    >>> out, _ = sequence(Inputs("lstm", np.zeros((3, 1)), [h0, np.full((1, 1), 5.0)], keeps, Sizes([1, 1, 1])))
    >>> out.ravel().round(4).tolist()
    [0.9999, 0.9999, 0.9999, 0.9999, 5.0]
    """
    inputs.check()
    way = route(ROUTES, inputs)
    out, values = way.forward(inputs)
    return out, Saved(way, values)


def sequence_backward(inputs: Inputs, gout: Array, out: Array, saved: Saved, needs: Needs) -> Sequence[Array | None]:
    """The gradients of x, the states, W_ih, W_hh, b_ih and b_hh where ``needs`` says so, given that of ``out``."""
    op = f"{CELLS[inputs.cell].op}_backward"
    operands(op, gout=gout, out=out)
    check_shape(op, "gout", gout, out.shape)
    gradients: Sequence[Array | None] = saved.way.backward(inputs, gout, out, saved.values, needs)
    return gradients
