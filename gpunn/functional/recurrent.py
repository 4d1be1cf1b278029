"""Differentiable recurrent cells and layers, and the packing of sequences; see :mod:`gpunn.ops.recurrent`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpunn.backend import Array, check_array, get_array_module, operands
from gpunn.casting import in_half
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.functional.activation import relu, tanh
from gpunn.functional.linear import linear
from gpunn.functional.record import Input, X, Y, alone, differentiable, kept, lifted, raw
from gpunn.ops import recurrent as ops
from gpunn.ops.array import indexing
from gpunn.ops.recurrent import Inputs, Sizes, Weights, reset_before
from gpunn.ops.shared.checks import check_shape


@in_half
def rnn_cell(
    x: Input[Y], h: Input[Y], w_ih: Input[Y], w_hh: Input[Y],
    b_ih: Input[Y] | None = None, b_hh: Input[Y] | None = None, nonlinearity: str = "tanh",
) -> Y:  # fmt: skip
    """``h' = f(x W_ih^T + b_ih + h W_hh^T + b_hh)`` (N, H), where f is ``"tanh"`` or ``"relu"``.

    >>> import numpy as np
    >>> rnn_cell(np.ones((1, 1)), np.ones((1, 1)), np.array([[2.0]]), np.array([[3.0]]), nonlinearity="relu").item()
    5.0
    """
    _check_nonlinearity("rnn_cell", nonlinearity)
    if _is_alone("rnn_cell", 1, x, h, w_ih, w_hh):
        return alone(rnn_cell, x, lifted(h), w_ih, w_hh, b_ih, b_hh, nonlinearity)
    total: Any = linear(x, w_ih, b_ih)
    total = total + linear(h, w_hh, b_hh)
    return tanh(total) if nonlinearity == "tanh" else relu(total)


@in_half
def lstm_cell(
    x: Input[Y], state: tuple[Input[Y], Input[Y]], w_ih: Input[Y], w_hh: Input[Y],
    b_ih: Input[Y] | None = None, b_hh: Input[Y] | None = None,
) -> tuple[Y, Y]:  # fmt: skip
    """``(h', c')`` for ``state = (h, c)``: ``c' = s(f) c + s(i) tanh(g)``, ``h' = s(o) tanh(c')``, with the gates
    ``[i, f, g, o] = x W_ih^T + b_ih + h W_hh^T + b_hh`` and s the logistic function.

    >>> import numpy as np
    >>> x, h, c = np.ones((1, 2)), np.zeros((1, 1)), np.full((1, 1), 4.0)
    >>> h, c = lstm_cell(x, (h, c), np.zeros((4, 2)), np.zeros((4, 1)))
    >>> h.round(4).item(), c.item()
    (0.482, 2.0)
    """
    h, c = state
    if _is_alone("lstm_cell", 4, x, h, w_ih, w_hh):
        return alone(lstm_cell, x, (lifted(h), lifted(c)), w_ih, w_hh, b_ih, b_hh)
    gates: Any = linear(x, w_ih, b_ih)
    gates = gates + linear(h, w_hh, b_hh)
    gd, cd = kept(gates, c)
    both = differentiable(ops.lstm_cell(gd, cd), (gates, c), lambda gy, _: ops.lstm_cell_backward(gy, gd, cd))
    return both[0], both[1]


@in_half
def gru_cell(
    x: Input[Y], h: Input[Y], w_ih: Input[Y], w_hh: Input[Y],
    b_ih: Input[Y] | None = None, b_hh: Input[Y] | None = None, reset_after: bool = True,
) -> Y:  # fmt: skip
    """``h' = (1 - z) n + z h`` (N, H), with ``r = s(..)``, ``z = s(..)`` of ``x W_ih^T + b_ih + h W_hh^T + b_hh``, and

    ``n = tanh(x W_in^T + b_in + r (h W_hn^T + b_hn))``, or with ``reset_after=False`` (the form of Cho et al. 2014)
    ``n = tanh(x W_in^T + b_in + (r h) W_hn^T + b_hn)``. The weights lie in the order r, z, n.

    >>> import numpy as np
    >>> gru_cell(np.ones((1, 2)), np.full((1, 1), 4.0), np.zeros((3, 2)), np.zeros((3, 1))).item()
    2.0
    """
    if _is_alone("gru_cell", 3, x, h, w_ih, w_hh):
        return alone(gru_cell, x, lifted(h), w_ih, w_hh, b_ih, b_hh, reset_after)
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
    y, rz, n = reset_before.gru_cell(xg, hd, w, b)
    inputs = (x_gates, h, w_hh, b_hh)
    return differentiable(y, inputs, lambda gy, needs: reset_before.gru_cell_backward(gy, hd, w, rz, n, needs))


def _check_nonlinearity(op: str, nonlinearity: str) -> None:
    known = nonlinearity in ("tanh", "relu")
    check(known, ArgumentError, op, 'nonlinearity must be "tanh" or "relu"', nonlinearity=nonlinearity)


def _is_alone(op: str, gates: int, *inputs: Any) -> bool:
    """Whether x is one example (in,), and h (H,); of a batch the shapes are checked."""
    x, h, w_ih, w_hh = map(raw, inputs)
    operands(op, x=x, h=h, w_ih=w_ih, w_hh=w_hh)
    if x.ndim == h.ndim == 1:
        return True
    fits = x.ndim == h.ndim == 2 and x.shape[0] == h.shape[0]
    check(fits, ShapeError, op, "x must have the dimensions (N, in), and h (N, H)", x=x.shape, h=h.shape)
    check_shape(op, "w_ih", w_ih, (gates * h.shape[1], x.shape[1]))
    check_shape(op, "w_hh", w_hh, (gates * h.shape[1], h.shape[1]))
    return False


@in_half
def rnn(
    x: Input[Y], h: Input[Y] | None, w_ih: Input[Y], w_hh: Input[Y],
    b_ih: Input[Y] | None = None, b_hh: Input[Y] | None = None,
    nonlinearity: str = "tanh", batch_sizes: Sequence[int] | None = None, reverse: bool = False,
) -> tuple[Y, Y]:  # fmt: skip
    """``h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh)``, f being ``"tanh"`` or ``"relu"``: all h_t, and the last.

    x is (T, N, in), h (N, H) or None for zeros, w_ih (H, in), w_hh (H, H), both biases (H,); the results are
    (T, N, H) and (N, H). For sequences of different lengths x is packed, (S, in), with ``batch_sizes``, the number of
    sequences in each step; ``reverse`` goes from the last step to the first.

    >>> import numpy as np
    >>> y, h = rnn(np.ones((3, 1, 1)), None, np.ones((1, 1)), np.ones((1, 1)), nonlinearity="relu")
    >>> y.ravel().tolist(), h.item()
    ([1.0, 2.0, 3.0], 3.0)
    """
    _check_nonlinearity("rnn", nonlinearity)
    rows, sizes = _rows("rnn", x, batch_sizes, reverse)
    h = _zeros("rnn", rows, sizes, w_hh) if h is None else h
    both = _sequence(nonlinearity, rows, [h], [w_ih, w_hh, b_ih, b_hh], sizes)
    return _outputs(both, x), both[len(rows) :]


@in_half
def lstm(
    x: Input[Y], state: tuple[Input[Y], Input[Y]] | None, w_ih: Input[Y], w_hh: Input[Y],
    b_ih: Input[Y] | None = None, b_hh: Input[Y] | None = None,
    batch_sizes: Sequence[int] | None = None, reverse: bool = False, w_hr: Input[Y] | None = None,
) -> tuple[Y, tuple[Y, Y]]:  # fmt: skip
    """The steps of :func:`gpunn.functional.lstm_cell` from ``state = (h, c)``: all h_t, and the last ``(h, c)``.

    Shapes are those of :func:`gpunn.functional.rnn`, with 4 H rows of weights and biases, in the order i, f, g, o. With
    ``w_hr`` (P, H) each h is the product ``W_hr h`` of the cell's: all h have P elements, c has H, w_hh is (4 H, P).

    >>> import numpy as np
    >>> y, (h, c) = lstm(np.ones((2, 1, 3)), None, np.ones((4, 3)), np.ones((4, 1)))
    >>> y.shape, h.round(2).item(), c.round(2).item()
    ((2, 1, 1), 0.93, 1.9)
    """
    rows, sizes = _rows("lstm", x, batch_sizes, reverse)
    if w_hr is not None:
        return _projected(x, rows, state, [w_ih, w_hh, b_ih, b_hh, w_hr], sizes)
    h, c = (_zeros("lstm", rows, sizes, w_hh), _zeros("lstm", rows, sizes, w_hh)) if state is None else state
    both = _sequence("lstm", rows, [h, c], [w_ih, w_hh, b_ih, b_hh], sizes)
    end = len(rows) + len(raw(h))
    return _outputs(both, x), (both[len(rows) : end], both[end:])


@in_half
def gru(
    x: Input[Y], h: Input[Y] | None, w_ih: Input[Y], w_hh: Input[Y],
    b_ih: Input[Y] | None = None, b_hh: Input[Y] | None = None,
    reset_after: bool = True, batch_sizes: Sequence[int] | None = None, reverse: bool = False,
) -> tuple[Y, Y]:  # fmt: skip
    """The steps of :func:`gpunn.functional.gru_cell` from h: all h_t, and the last.

    Shapes are those of :func:`gpunn.functional.rnn`, with 3 H rows of weights and biases, in the order r, z, n.

    >>> import numpy as np
    >>> y, h = gru(np.ones((2, 1, 3)), None, np.ones((3, 3)), np.ones((3, 1)), reset_after=False)
    >>> y.shape, h.round(2).item()
    ((2, 1, 1), 0.09)
    """
    rows, sizes = _rows("gru", x, batch_sizes, reverse)
    h = _zeros("gru", rows, sizes, w_hh) if h is None else h
    cell = "gru" if reset_after else "gru before"
    both = _sequence(cell, rows, [h], [w_ih, w_hh, b_ih, b_hh], sizes)
    return _outputs(both, x), both[len(rows) :]


def _sequence(cell: str, rows: Any, states: list[Any], weights: list[Any], sizes: Sizes) -> Any:
    """The outputs of all rows, and behind them the last of each state."""
    given = rows, *states, *weights
    xd, *others = kept(*given)
    inputs = Inputs(cell, xd, others[: len(states)], Weights(*others[len(states) :]), sizes)
    out, saved = ops.sequence(inputs)
    return differentiable(out, given, lambda gy, needs: ops.sequence_backward(inputs, gy, out, saved, needs))


def _projected(x: Any, rows: Any, state: Any, weights: list[Any], sizes: Sizes) -> Any:
    """All h_t, and the last (h, c), of an LSTM with the projection that comes last in ``weights``."""
    widths = weights[1], weights[-1]
    h, c = tuple(_zeros("lstm", rows, sizes, w) for w in widths) if state is None else state
    given = rows, h, c, *weights
    xd, hd, cd, *others, w_hr = kept(*given)
    inputs = Inputs("lstm projected", xd, [hd, cd], Weights(*others), sizes)
    out, saved = ops.projected(inputs, w_hr)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return ops.projected_backward(inputs, w_hr, gy, out, saved, needs)

    y, *last = ops.parts(differentiable(out, given, backward), inputs)
    return y if x.ndim == 2 else y.reshape(*x.shape[:2], -1), tuple(last)


def _rows(op: str, x: Any, batch_sizes: Sequence[int] | None, reverse: bool) -> tuple[Any, Sizes]:
    """x as rows (S, in), and how many of them each step has."""
    operands(op, x=raw(x))
    if batch_sizes is not None:
        check(x.ndim == 2, ShapeError, op, "packed x must have the dimensions (S, in)", shape=x.shape)
        return x, Sizes([int(n) for n in batch_sizes], reverse)
    check(x.ndim == 3, ShapeError, op, "x must have the dimensions (T, N, in)", shape=x.shape)
    steps, n, size = x.shape
    check(steps > 0, ShapeError, op, "there must be at least 1 step", shape=x.shape)
    return x.reshape(steps * n, size), Sizes([n] * steps, reverse)


def _zeros(op: str, rows: Any, sizes: Sizes, w_hh: Any) -> Array:
    check_array(op, w_hh=raw(w_hh))
    check(w_hh.ndim == 2, ShapeError, op, "w_hh must have 2 dimensions", shape=w_hh.shape)
    xp = get_array_module(raw(rows))
    return xp.zeros((max(sizes.batch_sizes, default=0), w_hh.shape[-1]), rows.dtype)


def _outputs(both: Any, x: Any) -> Any:
    hidden = both.shape[1]
    return both[: len(x)] if x.ndim == 2 else both[: x.shape[0] * x.shape[1]].reshape(*x.shape[:2], hidden)


def pick(x: X, index: Array, axis: int = 0) -> X:
    """The rows ``index``, an integer array, of x along ``axis``; none may be named twice.

    >>> import numpy as np
    >>> pick(np.array([1.0, 2.0, 3.0]), np.array([2, 0])).tolist()
    [3.0, 1.0]
    """
    xd = raw(x)
    rows = get_array_module(xd).array(index)
    y = indexing.pick(xd, rows, axis)
    return differentiable(y, (x,), lambda gy, _: (indexing.pick_backward(gy, xd.shape, rows, axis),))


def place(x: X, index: Array, count: int, fill: float = 0.0) -> X:
    """An array of ``count`` rows that has row i of x at ``index[i]``, and ``fill`` in the rows that get none.

    >>> import numpy as np
    >>> place(np.array([1.0, 2.0]), np.array([2, 0]), 4).tolist()
    [2.0, 0.0, 1.0, 0.0]
    """
    xd = raw(x)
    rows = get_array_module(xd).array(index)
    y = indexing.place(xd, rows, count, fill)
    return differentiable(y, (x,), lambda gy, _: (indexing.place_backward(gy, rows),))
