"""Recurrent layers over whole sequences; see :mod:`gpunn.ops.rnn` for the formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import check_array
from gpunn.errors import ArgumentError, ShapeError, check, check_number, check_sizes
from gpunn.functional.packed import pick
from gpunn.functional.record import raw
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module
from gpunn.nn.packed import PackedSequence


class _Recurrent(Module):
    _gates: int
    _states: tuple[str, ...] = ("h",)

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
        bidirectional: bool, generator: np.random.Generator | None, dtype: Any,
    ) -> None:  # fmt: skip
        op = type(self).__name__
        check_sizes(op, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_number(op, dropout=dropout)
        check(0 <= dropout <= 1, ArgumentError, op, "dropout must be a probability, 0 to 1", dropout=dropout)
        rule = "dropout acts between layers, so num_layers must be at least 2"
        check(dropout == 0 or num_layers > 1, ArgumentError, op, rule, dropout=dropout, num_layers=num_layers)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout, self.bidirectional = bias, batch_first, dropout, bidirectional
        self.generator = generator
        self._names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if bias else 2]
        rows, directions = self._gates * hidden_size, 1 + bidirectional
        for layer in range(num_layers):
            inputs = hidden_size * directions if layer else input_size
            for suffix in self._suffixes(layer):
                for name in self._names:
                    columns = {"weight_ih": (inputs,), "weight_hh": (hidden_size,)}.get(name, ())
                    drawn = uniform_fan_in((rows, *columns), hidden_size, generator, dtype)
                    setattr(self, f"{name}_{suffix}", drawn)

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]

    def _one(self, x: Any, states: list[Any], **how: Any) -> tuple[Any, tuple[Any, ...]]:
        """One layer in one direction, ``how`` for its function: the output, and the last of each state."""
        raise NotImplementedError

    def _all(self, x: Any, states: Sequence[Any] | None) -> tuple[Any, tuple[Any, ...]]:
        """Every layer: the output as x came, and the last of each state, (layers directions, N, H)."""
        op, packed = type(self).__name__, x if isinstance(x, PackedSequence) else None
        rows = x if packed is None else packed.data
        check_array(op, x=raw(rows))
        dimensions = "(S, in)" if packed else "(N, T, in)" if self.batch_first else "(T, N, in)"
        alone = packed is None and rows.ndim == 2
        known = rows.ndim == (2 if packed else 3) or alone
        check(known, ShapeError, op, f"x must have the dimensions {dimensions}", shape=rows.shape)
        rule = f"the last dimension of x must equal input_size={self.input_size}"
        check(rows.shape[-1] == self.input_size, ShapeError, op, rule, shape=rows.shape)
        if alone:
            rows = rows.reshape(len(rows), 1, self.input_size)
        elif packed is None and self.batch_first:
            rows = rows.transpose(1, 0, 2)
        check(len(rows) > 0, ShapeError, op, "there must be at least 1 step", shape=rows.shape)
        n = rows.shape[1] if packed is None else int(packed.batch_sizes[0])
        back = None if packed is None else packed.unsorted_indices
        given = self._checked_states(states, n, alone)
        if packed is not None and packed.sorted_indices is not None:
            given = [pick(state, packed.sorted_indices, 1) for state in given]

        last: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                output, ends = self._one(
                    rows,
                    [state[len(last)] for state in given],
                    **{name[0] + name[-3:]: getattr(self, f"{name}_{suffix}") for name in self._names},
                    batch_sizes=None if packed is None else packed.batch_sizes,
                    reverse=direction == 1,
                )
                outputs.append(output)
                last.append(ends)
            rows = outputs[0] if len(outputs) == 1 else F.concatenate(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                rows = F.dropout(rows, self.dropout, self.training, self.generator)
        ended = tuple(F.stack(ends) for ends in zip(*last, strict=True))
        if back is not None:
            ended = tuple(pick(state, back, 1) for state in ended)
        if packed is not None:
            return packed._replace(data=rows), ended
        if alone:
            return rows.reshape(len(rows), -1), tuple(state.reshape(len(last), -1) for state in ended)
        return rows.transpose(1, 0, 2) if self.batch_first else rows, ended

    def _checked_states(self, states: Sequence[Any] | None, n: int, alone: bool) -> list[Any]:
        """The states (layers directions, N, H) that were given; none at all stands for zeros."""
        if states is None:
            return []
        layers = self.num_layers * (1 + self.bidirectional)
        shape = (layers, self.hidden_size) if alone else (layers, n, self.hidden_size)
        for name, state in zip(self._states, states, strict=True):
            op = type(self).__name__
            check_array(op, **{name: raw(state)})
            check(tuple(state.shape) == shape, ShapeError, op, f"{name} must have shape {shape}", shape=state.shape)
        return [state.reshape(layers, n, self.hidden_size) for state in states]


class RNN(_Recurrent):
    """``h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)`` over sequences x (T, N, input_size), in several layers.

    Returns ``(output, h_n)``: h_t of the last layer (T, N, D H), and the last state of every layer and direction
    (L D, N, H), with H = ``hidden_size``, L = ``num_layers``, D = 2 if ``bidirectional`` (forward and backward side by
    side) else 1. With ``batch_first`` x and output are (N, T, ...); a single sequence (T, input_size) goes without N; a
    :class:`PackedSequence` gives one. The initial state ``h`` (L D, N, H) is zeros if left out. ``dropout`` drops
    between layers, in training. ``nonlinearity`` is ``"tanh"`` or ``"relu"``.

    Parameters, for layer k, those backward in time with the suffix ``_reverse``: ``weight_ih_lk`` (H, in),
    ``weight_hh_lk`` (H, H), ``bias_ih_lk`` and ``bias_hh_lk`` (H,): PyTorch's, in its order.

    >>> output, h = RNN(4, 3, num_layers=2, bidirectional=True)(np.zeros((5, 2, 4), np.float32))
    >>> output.shape, h.shape
    ((5, 2, 6), (4, 2, 3))
    """

    _gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        known = nonlinearity in ("tanh", "relu")
        check(known, ArgumentError, "RNN", 'nonlinearity must be "tanh" or "relu"', nonlinearity=nonlinearity)
        self.nonlinearity = nonlinearity
        settings = bias, batch_first, dropout, bidirectional, generator, dtype
        super().__init__(input_size, hidden_size, num_layers, *settings)

    def _one(self, x: Any, states: list[Any], **how: Any) -> tuple[Any, tuple[Any, ...]]:
        output, h = F.rnn(x, states[0] if states else None, nonlinearity=self.nonlinearity, **how)
        return output, (h,)

    def forward(self, x: Any, h: Any = None) -> tuple[Any, Any]:
        output, (h_n,) = self._all(x, None if h is None else (h,))
        return output, h_n


class LSTM(_Recurrent):
    """Long short-term memory over sequences, in several layers; shapes and settings are those of :class:`RNN`.

    Returns ``(output, (h_n, c_n))``; the initial ``state`` is a pair ``(h, c)``, each (L D, N, H). The weights of
    the four gates lie in the order i, f, g, o: ``weight_ih_lk`` (4H, in), and so on.

    >>> output, (h, c) = LSTM(4, 3)(np.zeros((5, 2, 4), np.float32))
    >>> output.shape, h.shape, c.shape
    ((5, 2, 3), (1, 2, 3), (1, 2, 3))
    """

    _gates = 4
    _states = ("h", "c")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        settings = bias, batch_first, dropout, bidirectional, generator, dtype
        super().__init__(input_size, hidden_size, num_layers, *settings)

    def _one(self, x: Any, states: list[Any], **how: Any) -> tuple[Any, tuple[Any, ...]]:
        return F.lstm(x, tuple(states) or None, **how)

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Any, tuple[Any, Any]]:
        pair = state is None or (isinstance(state, tuple | list) and len(state) == 2)
        check(pair, ArgumentError, "LSTM", "the state must be a pair (h, c)", type=type(state).__name__)
        output, (h_n, c_n) = self._all(x, state)
        return output, (h_n, c_n)


class GRU(_Recurrent):
    """Gated recurrent units over sequences, in several layers; shapes and settings are those of :class:`RNN`.

    Returns ``(output, h_n)``. The weights of the three gates lie in the order r, z, n. ``reset_after=False`` resets the
    state before its product, as Cho et al. 2014 do; the default resets the product, as PyTorch and cuDNN do.

    >>> output, h = GRU(4, 3, batch_first=True)(np.zeros((2, 5, 4), np.float32))
    >>> output.shape, h.shape
    ((2, 5, 3), (1, 2, 3))
    """

    _gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, reset_after: bool = True, *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.reset_after = reset_after
        settings = bias, batch_first, dropout, bidirectional, generator, dtype
        super().__init__(input_size, hidden_size, num_layers, *settings)

    def _one(self, x: Any, states: list[Any], **how: Any) -> tuple[Any, tuple[Any, ...]]:
        output, h = F.gru(x, states[0] if states else None, reset_after=self.reset_after, **how)
        return output, (h,)

    def forward(self, x: Any, h: Any = None) -> tuple[Any, Any]:
        output, (h_n,) = self._all(x, None if h is None else (h,))
        return output, h_n
