"""Differentiable recurrent layers over whole sequences, one direction each; see :mod:`gpunn.ops.rnn` for the formulas.

x is (T, N, in), or, for sequences of different lengths, packed: (S, in) with ``batch_sizes``, the number of sequences
that reach each step, none larger than the one before. States are (N, H), zeros where they are left out; ``reverse``
goes from the last step to the first. Returned are the outputs, (T, N, H) or (S, H), and the states at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gpunn.backend import Array, check_array, get_array_module, operands
from gpunn.casting import in_half
from gpunn.errors import ShapeError, check
from gpunn.functional.record import differentiable, kept, raw
from gpunn.ops import linear as products
from gpunn.ops import rnn as ops
from gpunn.ops import rnn_reset_before as reset_before
from gpunn.ops.rnn_cell import gru_reset
from gpunn.ops.rnn_sequence import Sizes, Weights, before, wide

Needs = tuple[bool, ...]


@in_half
def rnn(
    x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None,
    nonlinearity: str = "tanh", batch_sizes: Sequence[int] | None = None, reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """``h_t = f(x_t W_ih^T + b_ih + h_{t-1} W_hh^T + b_hh)``, f being ``"tanh"`` or ``"relu"``: all h_t, and the last.

    x is (T, N, in), h (N, H) or None for zeros, w_ih (H, in), w_hh (H, H), both biases (H,); the results are
    (T, N, H) and (N, H). For sequences of different lengths x is packed, (S, in), with ``batch_sizes``, the number of
    sequences in each step; ``reverse`` goes from the last step to the first.

    >>> import numpy as np
    >>> y, h = rnn(np.ones((3, 1, 1)), None, np.ones((1, 1)), np.ones((1, 1)), nonlinearity="relu")
    >>> y.ravel().tolist(), h.item()
    ([1.0, 2.0, 3.0], 3.0)
    """
    rows, sizes = _rows("rnn", x, batch_sizes, reverse)
    h = _zeros("rnn", rows, sizes, w_hh) if h is None else h
    xd, hd, *weights = kept(rows, h, w_ih, w_hh, b_ih, b_hh)
    w = Weights(*weights)
    out = ops.rnn(xd, hd, w, sizes, nonlinearity)

    def backward(g: Array, needs: Needs) -> Sequence[Array | None]:
        ggates, gh = ops.rnn_backward(g, out, w.w_hh, sizes, nonlinearity)
        return _gradients(needs, xd, w, ggates, ggates, [gh], lambda: before(out[: len(xd)], hd, sizes))

    both = differentiable(out, (rows, h, w_ih, w_hh, b_ih, b_hh), backward)
    return _outputs(both, x), both[len(xd) :]


@in_half
def lstm(
    x: Any, state: tuple[Any, Any] | None, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None,
    batch_sizes: Sequence[int] | None = None, reverse: bool = False,
) -> tuple[Any, tuple[Any, Any]]:  # fmt: skip
    """The steps of :func:`gpunn.functional.lstm_cell` from ``state = (h, c)``: all h_t, and the last ``(h, c)``.

    Shapes are those of :func:`gpunn.functional.rnn`, with 4 H rows of weights and biases, in the order i, f, g, o.

    >>> import numpy as np
    >>> y, (h, c) = lstm(np.ones((2, 1, 3)), None, np.ones((4, 3)), np.ones((4, 1)))
    >>> y.shape, h.round(2).item(), c.round(2).item()
    ((2, 1, 1), 0.93, 1.9)
    """
    rows, sizes = _rows("lstm", x, batch_sizes, reverse)
    h, c = (_zeros("lstm", rows, sizes, w_hh), _zeros("lstm", rows, sizes, w_hh)) if state is None else state
    xd, hd, cd, *weights = kept(rows, h, c, w_ih, w_hh, b_ih, b_hh)
    w = Weights(*weights)
    out, every_c, gates = ops.lstm(xd, hd, cd, w, sizes)

    def backward(g: Array, needs: Needs) -> Sequence[Array | None]:
        ggates, gh, gc = ops.lstm_backward(g, cd, every_c, gates, w.w_hh, sizes)
        return _gradients(needs, xd, w, ggates, ggates, [gh, gc], lambda: before(out[: len(xd)], hd, sizes))

    both = differentiable(out, (rows, h, c, w_ih, w_hh, b_ih, b_hh), backward)
    end = len(xd) + len(hd)
    return _outputs(both, x), (both[len(xd) : end], both[end:])


@in_half
def gru(
    x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any = None, b_hh: Any = None,
    reset_after: bool = True, batch_sizes: Sequence[int] | None = None, reverse: bool = False,
) -> tuple[Any, Any]:  # fmt: skip
    """The steps of :func:`gpunn.functional.gru_cell` from h: all h_t, and the last.

    Shapes are those of :func:`gpunn.functional.rnn`, with 3 H rows of weights and biases, in the order r, z, n.

    >>> import numpy as np
    >>> y, h = gru(np.ones((2, 1, 3)), None, np.ones((3, 3)), np.ones((3, 1)), reset_after=False)
    >>> y.shape, h.round(2).item()
    ((2, 1, 1), 0.09)
    """
    rows, sizes = _rows("gru", x, batch_sizes, reverse)
    h = _zeros("gru", rows, sizes, w_hh) if h is None else h
    xd, hd, *weights = kept(rows, h, w_ih, w_hh, b_ih, b_hh)
    w = Weights(*weights)
    forward = ops.gru if reset_after else reset_before.gru
    out, first, second = forward(xd, hd, w, sizes)  # the gates of x and of h, or rz and n

    def old() -> Array:
        return before(out[: len(xd)], hd, sizes)

    def backward(g: Array, needs: Needs) -> Sequence[Array | None]:
        if reset_after:
            of_x, of_h, gh = ops.gru_backward(g, out, hd, first, second, w.w_hh, sizes)
            return _gradients(needs, xd, w, of_x, of_h, [gh], old)
        ggates, gh = reset_before.gru_backward(g, out, hd, first, second, w.w_hh, sizes)
        return _gradients(needs, xd, w, ggates, ggates, [gh], old, first)

    both = differentiable(out, (rows, h, w_ih, w_hh, b_ih, b_hh), backward)
    return _outputs(both, x), both[len(xd) :]


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


def _gradients(
    needs: Needs, x: Array, w: Weights, of_x: Array, of_h: Array, of_states: list[Array],
    old: Callable[[], Array], rz: Array | None = None,
) -> list[Array | None]:  # fmt: skip
    """The gradients of x, the states, W_ih, W_hh and the biases, in the dtype of x, from those of the gates.

    ``old()`` is the h that each row was computed from; ``rz`` are the gates that reset it before the product, if so.
    """
    needs_x, needs_ih, needs_hh, needs_b_ih, needs_b_hh = needs[0], *needs[-4:]
    of_w_hh = None
    if needs_hh:
        h, two = old(), 2 * w.w_hh.shape[1]
        h = wide(h)
        of_w_hh = products.linear_backward_w(of_h if rz is None else of_h[:, :two], h)
        if rz is not None:
            of_n = products.linear_backward_w(of_h[:, two:], gru_reset(rz, h))
            of_w_hh = get_array_module(of_n).concatenate([of_w_hh, of_n])
    gradients = [
        products.linear_backward_x(of_x, wide(w.w_ih)) if needs_x else None,
        *of_states,
        products.linear_backward_w(of_x, wide(x)) if needs_ih else None,
        of_w_hh,
        products.linear_backward_b(of_x) if needs_b_ih else None,
        products.linear_backward_b(of_h) if needs_b_hh else None,
    ]
    return [None if g is None else g.astype(x.dtype, copy=False) for g in gradients]
