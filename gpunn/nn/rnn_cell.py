"""Recurrent cells, one step each; see :mod:`gpunn.ops.rnn_cell` for the formulas."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import functional as F
from gpunn.backend import get_array_module
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.functional.record import raw
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter


class _Cell(Module):
    _gates: int
    _places = (("bias_ih", Parameter), ("bias_hh", Parameter))

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, generator: np.random.Generator | None, dtype: Any
    ) -> None:
        check_sizes(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self._gates * hidden_size
        self.weight_ih = uniform_fan_in((rows, input_size), hidden_size, generator, dtype)
        self.weight_hh = uniform_fan_in((rows, hidden_size), hidden_size, generator, dtype)
        self.bias_ih = uniform_fan_in((rows,), hidden_size, generator, dtype) if bias else None
        self.bias_hh = uniform_fan_in((rows,), hidden_size, generator, dtype) if bias else None

    def _weights(self) -> dict[str, Any]:
        return {"w_ih": self.weight_ih, "w_hh": self.weight_hh, "b_ih": self.bias_ih, "b_hh": self.bias_hh}

    def _zeros(self, x: Any) -> Any:
        op = type(self).__name__
        check(x.ndim == 2, ShapeError, op, "x must have the dimensions (N, input_size)", shape=x.shape)
        return get_array_module(raw(x)).zeros((len(x), self.hidden_size), x.dtype)


class RNNCell(_Cell):
    """``h' = f(W_ih x + b_ih + W_hh h + b_hh)`` for x (N, input_size) and h (N, hidden_size), zeros if left out.

    Parameters: ``weight_ih`` (H, in), ``weight_hh`` (H, H), ``bias_ih`` and ``bias_hh`` (H,); f is ``"tanh"`` or
    ``"relu"``.

    >>> RNNCell(4, 3)(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    """

    _gates = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        known = nonlinearity in ("tanh", "relu")
        check(known, ArgumentError, "RNNCell", 'nonlinearity must be "tanh" or "relu"', nonlinearity=nonlinearity)
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, generator, dtype)

    def forward(self, x: Any, h: Any = None) -> Any:
        return F.rnn_cell(x, self._zeros(x) if h is None else h, **self._weights(), nonlinearity=self.nonlinearity)


class LSTMCell(_Cell):
    """One step of an LSTM: ``(h', c')`` for x (N, input_size) and ``state = (h, c)``, zeros if left out.

    Parameters as in :class:`RNNCell`, with 4H rows in the order of the gates i, f, g, o.

    >>> h, c = LSTMCell(4, 3)(np.zeros((2, 4), np.float32))
    >>> h.shape, c.shape
    ((2, 3), (2, 3))
    """

    _gates = 4

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, generator, dtype)

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
        h, c = (self._zeros(x), self._zeros(x)) if state is None else state
        return F.lstm_cell(x, (h, c), **self._weights())


class GRUCell(_Cell):
    """One step of a GRU: h' for x (N, input_size) and h (N, hidden_size), zeros if left out.

    Parameters as in :class:`RNNCell`, with 3H rows in the order of the gates r, z, n; ``reset_after`` as in
    :class:`gpunn.nn.GRU`.

    >>> GRUCell(4, 3)(np.zeros((2, 4), np.float32)).shape
    (2, 3)
    """

    _gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, reset_after: bool = True, *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        self.reset_after = reset_after
        super().__init__(input_size, hidden_size, bias, generator, dtype)

    def forward(self, x: Any, h: Any = None) -> Any:
        return F.gru_cell(x, self._zeros(x) if h is None else h, **self._weights(), reset_after=self.reset_after)
