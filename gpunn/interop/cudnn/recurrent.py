"""Recurrent nets of several layers, in one or both directions, by :mod:`gpunn.functional`'s ``rnn``, ``lstm``, ``gru``.

The weights lie in one array, as cuDNN's packed parameters do: for each layer, and in it for each direction, the rows
for the input and those for the state, of each gate in turn; behind all of them, in the same order, the two biases. The
gates of an LSTM are i, f, g, o, those of a GRU r, z, n (cuDNN calls them reset, update and new).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod
from typing import Any

from gpunn import functional as F
from gpunn.backend import Array, get_array_module
from gpunn.errors import ArgumentError, GraphError, ShapeError, check
from gpunn.interop.cudnn.arrays import on_device
from gpunn.interop.cudnn.constants import (
    CUDNN_BIDIRECTIONAL,
    CUDNN_GRU,
    CUDNN_LSTM,
    CUDNN_RNN_RELU,
    CUDNN_RNN_TANH,
    CUDNN_UNIDIRECTIONAL,
)
from gpunn.interop.cudnn.dropout import DropoutStates
from gpunn.ops.shared.checks import check_shape
from gpunn.tensor import Tensor, tensor

_GATES = {CUDNN_RNN_RELU: 1, CUDNN_RNN_TANH: 1, CUDNN_LSTM: 4, CUDNN_GRU: 3}
_DIRECTIONS = {CUDNN_UNIDIRECTIONAL: 1, CUDNN_BIDIRECTIONAL: 2}


class ReserveSpace:
    """What :func:`rnn_forward_training` keeps for the gradients: its graph."""

    def __init__(self, leaves: Sequence[Tensor], out: Tensor) -> None:
        self._leaves, self._out = leaves, out
        self._weights: list[Array] | None = None

    def backward(self, gradients: Sequence[Array]) -> list[Array]:
        """The gradients of the leaves that are no weights; :meth:`weights` gives the others from now on."""
        xp = get_array_module(self._out.data)
        for leaf in self._leaves:
            leaf.grad = None
        self._out.backward(xp.concatenate([g.reshape(-1) for g in gradients]), retain_graph=True)
        states = len(gradients)
        each = [xp.zeros_like(leaf.data) if leaf.grad is None else leaf.grad for leaf in self._leaves]
        self._weights = each[states:]
        return each[:states]

    def weights(self, op: str) -> list[Array]:
        check(self._weights is not None, GraphError, op, "rnn_backward_data must be called before it")
        assert self._weights is not None
        return self._weights


def rnn_forward_inference(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    hx: Array, cx: Array | None, w: Array, xs: Array, lengths: Sequence[int],
) -> tuple[Array, Array | None, Array]:  # fmt: skip
    """``hy, cy, ys``: the last states (L, N, H), cy of an LSTM alone, and the outputs (S, H) of all steps.

    xs (S, D) has the rows of step 0, of step 1 and so on, ``lengths`` of them each, of which none is more than the one
    before. hx and cx are (L, N, H), L the layers, twice as many with ``CUDNN_BIDIRECTIONAL``; then ys is (S, 2 H).
    Nothing is dropped.

    >>> import numpy as np
    >>> states, one = DropoutStates(None, 0), np.ones((1, 1, 1))
    >>> xs, w = np.ones((3, 1)), np.array([1.0, 1.0, 0.0, 0.0])
    >>> hy, _, ys = rnn_forward_inference(states, CUDNN_UNIDIRECTIONAL, CUDNN_RNN_RELU, one, None, w, xs, [1, 1, 1])
    >>> ys.ravel().tolist(), hy.item()
    ([2.0, 3.0, 4.0], 4.0)
    """
    op = "cudnn.rnn_forward_inference"
    with on_device(op, hx=hx, cx=cx, w=w, xs=xs):
        pieces = _pieces(op, direction_mode, rnn_mode, hx, cx, w, xs)
        ys, ends = _layers(direction_mode, rnn_mode, [hx, cx], pieces, xs, lengths, None)
        hy, *cy = (F.stack(each) for each in zip(*ends, strict=True))
        return hy, cy[0] if cy else None, ys


def rnn_forward_training(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    hx: Array, cx: Array | None, w: Array, xs: Array, lengths: Sequence[int],
) -> tuple[ReserveSpace, Array, Array | None, Array]:  # fmt: skip
    """What the gradients need, and what :func:`rnn_forward_inference` gives; between layers ``states`` drops."""
    op = "cudnn.rnn_forward_training"
    with on_device(op, hx=hx, cx=cx, w=w, xs=xs):
        pieces = [tensor(piece, requires_grad=True) for piece in _pieces(op, direction_mode, rnn_mode, hx, cx, w, xs)]
        x, h, c = (None if a is None else tensor(a, requires_grad=True) for a in (xs, hx, cx))
        ys, ends = _layers(direction_mode, rnn_mode, [h, c], pieces, x, lengths, states)
        lasts = [F.stack(each) for each in zip(*ends, strict=True)]
        out = F.concatenate([part.reshape(-1) for part in (ys, *lasts)])
        hy, *cy = (last.data for last in lasts)
        leaves = [leaf for leaf in (x, h, c) if leaf is not None]
        return ReserveSpace([*leaves, *pieces], out), hy, cy[0] if cy else None, ys.data


def rnn_backward_data(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    hx: Array, cx: Array | None, w: Array, xs: Array, ys: Array, reserve_space: ReserveSpace,
    dhy: Array, dcy: Array | None, dys: Array, lengths: Sequence[int],
) -> tuple[Array, Array | None, Array]:  # fmt: skip
    """``dhx, dcx, dxs``: the gradients with respect to hx, cx and xs, from those with respect to hy, cy and ys.

    The values are those that :func:`rnn_forward_training` put into ``reserve_space``, whatever hx, cx, w, xs and ys
    hold now.

    >>> import numpy as np
    >>> states, one = DropoutStates(None, 0), np.ones((1, 1, 1))
    >>> xs, w, how = np.ones((3, 1)), np.array([1.0, 1.0, 0.0, 0.0]), (states, CUDNN_UNIDIRECTIONAL, CUDNN_RNN_RELU)
    >>> space, hy, _, ys = rnn_forward_training(*how, one, None, w, xs, [1, 1, 1])
    >>> dhx, _, dxs = rnn_backward_data(*how, one, None, w, xs, ys, space, one, None, 0 * ys, [1, 1, 1])
    >>> dxs.ravel().tolist(), rnn_backward_weights(*how, xs, one, ys, w, space, [1, 1, 1]).tolist()
    ([1.0, 1.0, 1.0], [3.0, 6.0, 3.0, 3.0])
    """
    op = "cudnn.rnn_backward_data"
    with on_device(op, hx=hx, dhy=dhy, dcy=dcy, dys=dys):
        check_shape(op, "dys", dys, ys.shape)
        check_shape(op, "dhy", dhy, hx.shape)
        check((cx is None) == (dcy is None), ArgumentError, op, "cx and dcy must both be arrays, or both None")
        if dcy is not None:
            check_shape(op, "dcy", dcy, hx.shape)
        dxs, dhx, *dcx = reserve_space.backward([g for g in (dys, dhy, dcy) if g is not None])
        return dhx, dcx[0] if dcx else None, dxs


def rnn_backward_weights(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    xs: Array, hx: Array, ys: Array, w: Array, reserve_space: ReserveSpace, lengths: Sequence[int],
) -> Array:  # fmt: skip
    """The gradient with respect to w, of the last call of :func:`rnn_backward_data` with this ``reserve_space``."""
    op = "cudnn.rnn_backward_weights"
    with on_device(op, w=w):
        each = reserve_space.weights(op)
        return get_array_module(w).concatenate([g.reshape(-1) for g in each]).reshape(w.shape)


def _pieces(
    op: str, direction_mode: int, rnn_mode: int, hx: Array, cx: Array | None, w: Array, xs: Array
) -> list[Array]:
    """The matrices of w, two for each layer and direction, and then their biases, checked."""
    known = rnn_mode in _GATES
    check(known, ArgumentError, op, "rnn_mode must be CUDNN_RNN_RELU, _RNN_TANH, _LSTM or _GRU", rnn_mode=rnn_mode)
    rule = "direction_mode must be CUDNN_UNIDIRECTIONAL or CUDNN_BIDIRECTIONAL"
    check(direction_mode in _DIRECTIONS, ArgumentError, op, rule, direction_mode=direction_mode)
    check(hx.ndim == 3, ShapeError, op, "hx must have the dimensions (L, N, H)", shape=hx.shape)
    check(xs.ndim == 2, ShapeError, op, "xs must have the dimensions (S, D)", shape=xs.shape)
    needed = (cx is not None) == (rnn_mode == CUDNN_LSTM)
    check(needed, ArgumentError, op, "an LSTM needs cx, the others must have None", rnn_mode=rnn_mode)
    if cx is not None:
        check_shape(op, "cx", cx, hx.shape)
    directions, hidden = _DIRECTIONS[direction_mode], hx.shape[2]
    whole = hx.shape[0] % directions == 0
    check(whole, ShapeError, op, "hx must have states for each layer in each direction", shape=hx.shape)
    rows = _GATES[rnn_mode] * hidden
    shapes: list[tuple[int, ...]] = []
    for index in range(hx.shape[0]):
        inputs = xs.shape[1] if index < directions else hidden * directions
        shapes += [(rows, inputs), (rows, hidden)]
    shapes += [(rows,)] * (2 * hx.shape[0])
    ends = list(accumulate(prod(shape) for shape in shapes))
    check(w.size == ends[-1], ShapeError, op, f"w must have {ends[-1]} elements", shape=w.shape)
    flat = w.reshape(-1)
    return [flat[end - prod(shape) : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True)]


def _layers(
    direction_mode: int, rnn_mode: int, given: list[Any], pieces: list[Any], rows: Any, lengths: Sequence[int],
    drops: DropoutStates | None,
) -> tuple[Any, list[Any]]:  # fmt: skip
    """The outputs of the last layer, and the last states of each layer and direction."""
    batch_sizes, directions = [int(n) for n in lengths], _DIRECTIONS[direction_mode]
    matrices, biases = pieces[: len(pieces) // 2], pieces[len(pieces) // 2 :]
    ends: list[Any] = []
    while 2 * len(ends) < len(matrices):
        if ends and drops is not None and drops.ratio:
            rows = F.dropout(rows, drops.ratio, generator=drops.generator)
        outputs = []
        for direction in range(directions):
            at = 2 * len(ends)
            states = [state[len(ends)] for state in given if state is not None]
            weights = (*matrices[at : at + 2], *biases[at : at + 2])
            output, last = _one(rnn_mode, rows, states, weights, batch_sizes, direction == 1)
            outputs.append(output)
            ends.append(last)
        rows = outputs[0] if directions == 1 else F.concatenate(outputs, -1)
    return rows, ends


def _one(rnn_mode: int, rows: Any, states: list[Any], weights: Any, batch_sizes: list[int], reverse: bool) -> Any:
    """One layer in one direction: its outputs, and its last states."""
    how: Any = {"batch_sizes": batch_sizes, "reverse": reverse}
    if rnn_mode == CUDNN_LSTM:
        return F.lstm(rows, (states[0], states[1]), *weights, **how)
    if rnn_mode == CUDNN_GRU:
        output, last = F.gru(rows, states[0], *weights, **how)
    else:
        how["nonlinearity"] = "relu" if rnn_mode == CUDNN_RNN_RELU else "tanh"
        output, last = F.rnn(rows, states[0], *weights, **how)
    return output, (last,)
