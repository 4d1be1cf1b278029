"""A whole sequence through one recurrent layer in one direction, forward and backward.

    RNN     h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh), f = tanh or relu
    LSTM    gates [i, f, g, o] = x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh, then :mod:`gpunn.ops.recurrent.cell`
    GRU     gates [r, z, n] of x, x_t W_ih^T + b_ih, and of h, h_{t-1} W_hh^T + b_hh, then the cell of that module

x is (S, in), its rows in the order of :mod:`gpunn.ops.recurrent.rows`; W_ih is (gates H, in), W_hh (gates H, H), the
biases are (gates H,), h0 and c0 (N, H). :mod:`gpunn.ops.recurrent.reset_before` has the GRU that resets before the
product.

A forward function returns one array (S + N, H), the output of every row and then the last h of every sequence ((S + 2N,
H) for the LSTM, the last c behind it), and what the backward function wants back. A backward function gives the
gradients of the gates (S, gates H) and of the initial state. From those of the gates follow the rest, each by one
product over all steps: that of x, W_ih and the biases, and, with :func:`gpunn.ops.recurrent.rows.before`, of W_hh.

Inputs of all steps take one product ahead of the loop. float16 is computed in float32, in which the saved arrays are
too. Sources: Elman 1990, "Finding structure in time"; those of the cells; Werbos 1990, "Backpropagation through time".
"""

from __future__ import annotations

from gpunn.backend import Array, get_array_module
from gpunn.errors import ArgumentError, check
from gpunn.ops.activation.pointwise import relu_backward, tanh_backward
from gpunn.ops.array.product import product
from gpunn.ops.linear.affine import linear
from gpunn.ops.recurrent import cell as cells
from gpunn.ops.recurrent.rows import Sizes, Weights, before, check_sequence, input_gates, meet, wide


def rnn(x: Array, h0: Array, weights: Weights, sizes: Sizes, nonlinearity: str = "tanh") -> Array:
    """The outputs (S, H) and behind them the last states (N, H); backward needs nothing else.

    >>> import numpy as np
    >>> one = np.ones((1, 1))
    >>> rnn(np.ones((3, 1)), np.zeros((1, 1)), Weights(one, one), Sizes([1, 1, 1]), "relu").ravel().tolist()
    [1.0, 2.0, 3.0, 3.0]
    """
    known = nonlinearity in ("tanh", "relu")
    check(known, ArgumentError, "rnn", 'nonlinearity must be "tanh" or "relu"', nonlinearity=nonlinearity)
    xp, dtype = check_sequence("rnn", 1, x, weights, sizes, h0=h0)
    x, h0, w = wide(x), wide(h0), Weights(*map(wide, weights))
    gates = input_gates(x, w)
    out = xp.empty((len(x) + len(h0), h0.shape[1]), gates.dtype)
    y, last = out[: len(x)], out[len(x) :]
    h = h0[:0]
    for rows, n in sizes.steps():
        h = meet(xp, h, n, h0, last)
        total = gates[rows]
        total += product(h, w.w_hh.T)
        h = y[rows]
        if nonlinearity == "tanh":
            xp.tanh(total, out=h)
        else:
            xp.maximum(total, 0, out=h)
    last[: len(h)] = h
    return out.astype(dtype, copy=False)


def rnn_backward(gout: Array, out: Array, w_hh: Array, sizes: Sizes, nonlinearity: str = "tanh") -> tuple[Array, Array]:
    """The gradients of the gates (S, H) and of h0, given that of :func:`rnn`'s result ``out``."""
    xp, count = get_array_module(gout), len(gout) - sizes.batch_sizes[0]
    gout, y, w = wide(gout), wide(out)[:count], wide(w_hh)
    derivative = tanh_backward if nonlinearity == "tanh" else relu_backward
    ggates, glast = xp.empty_like(y), gout[count:]
    gh0, gh = xp.empty_like(glast), glast[:0]
    for rows, n in sizes.steps(backward=True):
        gh = meet(xp, gh, n, glast, gh0)
        ggates[rows] = derivative(gh + gout[rows], y[rows])
        gh = product(ggates[rows], w)
    gh0[: len(gh)] = gh
    return ggates, gh0


def lstm(x: Array, h0: Array, c0: Array, weights: Weights, sizes: Sizes) -> tuple[Array, Array, Array]:
    """The outputs (S, H), last h (N, H) and last c (N, H) as one array, every c (S, H), and the gates (S, 4H).

    >>> import numpy as np
    >>> weights = Weights(np.zeros((4, 1)), np.zeros((4, 1)), np.array([-99.0, 99.0, 0.0, 99.0]))  # only remembers
    >>> out, c, _ = lstm(np.ones((3, 1)), np.zeros((1, 1)), np.full((1, 1), 5.0), weights, Sizes([1, 1, 1]))
    >>> c.ravel().tolist(), out.ravel().round(4).tolist()
    ([5.0, 5.0, 5.0], [0.9999, 0.9999, 0.9999, 0.9999, 5.0])
    """
    xp, dtype = check_sequence("lstm", 4, x, weights, sizes, h0=h0, c0=c0)
    x, h0, c0, w = wide(x), wide(h0), wide(c0), Weights(*map(wide, weights))
    gates = input_gates(x, w)
    out = xp.empty((len(x) + 2 * len(h0), h0.shape[1]), gates.dtype)
    y, (last_h, last_c) = out[: len(x)], out[len(x) :].reshape(2, *h0.shape)
    every_c = xp.empty_like(y)
    h, c = h0[:0], c0[:0]
    for rows, n in sizes.steps():
        h, c = meet(xp, h, n, h0, last_h), meet(xp, c, n, c0, last_c)
        total = gates[rows]
        total += product(h, w.w_hh.T)
        h, c = cells.lstm_cell(total, c, (y[rows], every_c[rows]))
    last_h[: len(h)], last_c[: len(c)] = h, c
    return out.astype(dtype, copy=False), every_c, gates


def lstm_backward(
    gout: Array, c0: Array, every_c: Array, gates: Array, w_hh: Array, sizes: Sizes
) -> tuple[Array, Array, Array]:
    """The gradients of the gates (S, 4H), h0 and c0, given that of the first result of :func:`lstm`."""
    xp, gout, w = get_array_module(gout), wide(gout), wide(w_hh)
    old_c = before(every_c, wide(c0), sizes)
    gy, (glast_h, glast_c) = gout[: len(gates)], gout[len(gates) :].reshape(2, *c0.shape)
    ggates, gh0, gc0 = xp.empty_like(gates), xp.empty_like(glast_h), xp.empty_like(glast_c)
    gh, gc = glast_h[:0], glast_c[:0]
    for rows, n in sizes.steps(backward=True):
        gh, gc = meet(xp, gh, n, glast_h, gh0), meet(xp, gc, n, glast_c, gc0)
        results = ggates[rows], xp.empty_like(gc)
        _, gc = cells.lstm_cell_backward((gh + gy[rows], gc), gates[rows], old_c[rows], results)
        gh = product(ggates[rows], w)
    gh0[: len(gh)], gc0[: len(gc)] = gh, gc
    return ggates, gh0, gc0


def gru(x: Array, h0: Array, weights: Weights, sizes: Sizes) -> tuple[Array, Array, Array]:
    """The outputs (S, H) and last states (N, H) as one array, and the gates of x and of h, (S, 3H) each.

    >>> import numpy as np
    >>> weights = Weights(np.ones((3, 1)), np.zeros((3, 1)), np.array([0.0, -99.0, 0.0]))  # never keeps its state
    >>> gru(np.array([[0.0], [1.0]]), np.zeros((1, 1)), weights, Sizes([1, 1]))[0].ravel().round(4).tolist()
    [0.0, 0.7616, 0.7616]
    """
    xp, dtype = check_sequence("gru", 3, x, weights, sizes, h0=h0)
    x, h0, w = wide(x), wide(h0), Weights(*map(wide, weights))
    x_gates = linear(x, w.w_ih, w.b_ih)
    h_gates = xp.empty_like(x_gates)
    out = xp.empty((len(x) + len(h0), h0.shape[1]), x.dtype)
    y, last = out[: len(x)], out[len(x) :]
    h = h0[:0]
    for rows, n in sizes.steps():
        h = meet(xp, h, n, h0, last)
        product(h, w.w_hh.T, h_gates[rows])
        if w.b_hh is not None:
            h_gates[rows] += w.b_hh
        h = cells.gru_cell(x_gates[rows], h_gates[rows], h, y[rows])
    last[: len(h)] = h
    return out.astype(dtype, copy=False), x_gates, h_gates


def gru_backward(
    gout: Array, out: Array, h0: Array, x_gates: Array, h_gates: Array, w_hh: Array, sizes: Sizes
) -> tuple[Array, Array, Array]:
    """The gradients of the gates of x, the gates of h and h0, given that of the first result of :func:`gru`."""
    xp, gout, w = get_array_module(gout), wide(gout), wide(w_hh)
    old = before(wide(out)[: len(x_gates)], wide(h0), sizes)
    glast = gout[len(x_gates) :]
    of_x, of_h, gh0, gh = xp.empty_like(x_gates), xp.empty_like(h_gates), xp.empty_like(glast), glast[:0]
    for rows, n in sizes.steps(backward=True):
        gh = meet(xp, gh, n, glast, gh0)
        results = of_x[rows], of_h[rows], xp.empty_like(gh)
        cells.gru_cell_backward(gh + gout[rows], x_gates[rows], h_gates[rows], old[rows], results)
        gh = product(of_h[rows], w)
        gh += results[2]
    gh0[: len(gh)] = gh
    return of_x, of_h, gh0
