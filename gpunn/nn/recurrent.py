"""Recurrent cells and layers, and packed sequences; see :mod:`gpunn.ops.recurrent`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, overload

import numpy as np

from gpunn import functional as F
from gpunn.backend import check_array, get_array_module, to_cpu
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number, check_sizes
from gpunn.functional.record import Given, raw
from gpunn.functional.recurrent import pick, place
from gpunn.nn.init import uniform_fan_in
from gpunn.nn.module import Module, Parameter, ndim_of
from gpunn.tensor import Tensor

States: TypeAlias = tuple[Any, Any] | None


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

    @property
    def bias(self) -> bool:
        """Whether it has biases."""
        return self.bias_ih is not None

    def _weights(self) -> dict[str, Any]:
        return {"w_ih": self.weight_ih, "w_hh": self.weight_hh, "b_ih": self.bias_ih, "b_hh": self.bias_hh}

    def _zeros(self, x: Any) -> Any:
        rule = "x must have the dimensions (N, input_size) or (input_size,)"
        check(ndim_of(self, x) in (1, 2), ShapeError, type(self).__name__, rule, shape=x.shape)
        return get_array_module(raw(x)).zeros((*x.shape[:-1], self.hidden_size), x.dtype)


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

    def forward(self, x: Any, h: Any = None) -> Tensor:
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

    def forward(self, x: Any, state: tuple[Any, Any] | None = None) -> tuple[Tensor, Tensor]:
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

    def forward(self, x: Any, h: Any = None) -> Tensor:
        return F.gru_cell(x, self._zeros(x) if h is None else h, **self._weights(), reset_after=self.reset_after)


class _Recurrent(Module):
    _gates: int
    _states: tuple[str, ...] = ("h",)
    proj_size = 0

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int, bias: bool, batch_first: bool, dropout: float,
        bidirectional: bool, generator: np.random.Generator | None, dtype: Any, proj_size: int = 0,
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
        rows, directions, width = self._gates * hidden_size, 1 + bidirectional, proj_size or hidden_size
        self._widths = dict(zip(self._states, (width, hidden_size), strict=False))
        biases = ("bias_ih", "bias_hh") if bias else ()
        self._names = ("weight_ih", "weight_hh", *biases, *(("weight_hr",) if proj_size else ()))
        for layer in range(num_layers):
            inputs = width * directions if layer else input_size
            shapes = {"weight_ih": (rows, inputs), "weight_hh": (rows, width), "weight_hr": (width, hidden_size)}
            for suffix in self._suffixes(layer):
                for name in self._names:
                    drawn = uniform_fan_in(shapes.get(name, (rows,)), hidden_size, generator, dtype)
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
                rows = F.dropout(rows, self.dropout, self.training, generator=self.generator)
        ended = tuple(_stacked(ends) for ends in zip(*last, strict=True))
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
        for (name, width), state in zip(self._widths.items(), states, strict=True):
            op, shape = type(self).__name__, (layers, width) if alone else (layers, n, width)
            check_array(op, **{name: raw(state)})
            check(tuple(state.shape) == shape, ShapeError, op, f"{name} must have shape {shape}", shape=state.shape)
        return [state.reshape(layers, n, state.shape[-1]) for state in states]


def _stacked(states: Sequence[Any]) -> Any:
    return F.stack(states) if len(states) > 1 else states[0].reshape(1, *states[0].shape)


class _OneState(_Recurrent):
    """A layer whose only state is h."""

    def _step(self, x: Any, h: Any, **how: Any) -> tuple[Any, Any]:
        """One layer in one direction: the output, and the last h."""
        raise NotImplementedError

    def _one(self, x: Any, states: list[Any], **how: Any) -> tuple[Any, tuple[Any, ...]]:
        output, h = self._step(x, states[0] if states else None, **how)
        return output, (h,)

    if TYPE_CHECKING:

        @overload
        def __call__(self, x: PackedSequence, h: Any = None) -> tuple[PackedSequence, Tensor]: ...
        @overload
        def __call__(self, x: Given, h: Any = None) -> tuple[Tensor, Tensor]: ...
        def __call__(self, x: Any, h: Any = None) -> Any: ...

    def forward(self, x: Any, h: Any = None) -> tuple[Any, Any]:
        output, (h_n,) = self._all(x, None if h is None else (h,))
        return output, h_n


class RNN(_OneState):
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

    def _step(self, x: Any, h: Any, **how: Any) -> tuple[Any, Any]:
        return F.rnn(x, h, nonlinearity=self.nonlinearity, **how)


class LSTM(_Recurrent):
    """Long short-term memory over sequences, in several layers; shapes and settings are those of :class:`RNN`.

    Returns ``(output, (h_n, c_n))``; the initial ``state`` is a pair ``(h, c)``, each (L D, N, H). The weights of
    the four gates lie in the order i, f, g, o: ``weight_ih_lk`` (4H, in), and so on. With ``proj_size`` P > 0 each h is
    projected to P elements by one more parameter, ``weight_hr_lk`` (P, H): output and h have P in the place of H.

    >>> output, (h, c) = LSTM(4, 3)(np.zeros((5, 2, 4), np.float32))
    >>> output.shape, h.shape, c.shape
    ((5, 2, 3), (1, 2, 3), (1, 2, 3))
    """

    _gates = 4
    _states = ("h", "c")

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, *,
        generator: np.random.Generator | None = None, dtype: Any = np.float32,
    ) -> None:  # fmt: skip
        check_sizes("LSTM", 0, proj_size=proj_size)
        rule = "proj_size must be less than hidden_size"
        smaller = not isinstance(hidden_size, int) or proj_size < max(hidden_size, 1)
        check(smaller, ArgumentError, "LSTM", rule, proj_size=proj_size, hidden_size=hidden_size)
        self.proj_size = proj_size
        settings = bias, batch_first, dropout, bidirectional, generator, dtype, proj_size
        super().__init__(input_size, hidden_size, num_layers, *settings)

    def _one(self, x: Any, states: list[Any], **how: Any) -> tuple[Any, tuple[Any, ...]]:
        return F.lstm(x, tuple(states) or None, **how)

    if TYPE_CHECKING:

        @overload
        def __call__(self, x: PackedSequence, state: States = None) -> tuple[PackedSequence, tuple[Tensor, Tensor]]: ...
        @overload
        def __call__(self, x: Given, state: States = None) -> tuple[Tensor, tuple[Tensor, Tensor]]: ...
        def __call__(self, x: Any, state: States = None) -> Any: ...

    def forward(self, x: Any, state: States = None) -> tuple[Any, tuple[Any, Any]]:
        pair = state is None or (isinstance(state, tuple | list) and len(state) == 2)
        check(pair, ArgumentError, "LSTM", "the state must be a pair (h, c)", type=type(state).__name__)
        output, (h_n, c_n) = self._all(x, state)
        return output, (h_n, c_n)


class GRU(_OneState):
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

    def _step(self, x: Any, h: Any, **how: Any) -> tuple[Any, Any]:
        return F.gru(x, h, reset_after=self.reset_after, **how)


Indices = np.ndarray[Any, np.dtype[np.int64]]


class PackedSequence(NamedTuple):
    """What :func:`pack_padded_sequence` gives and :class:`gpunn.nn.LSTM` and the others take.

    ``data`` (S, ...) holds the rows, ``batch_sizes`` the number of them in each step. ``sorted_indices`` names the
    sequences from the longest to the shortest, ``unsorted_indices`` undoes that; both are None if they came sorted.
    The last three are NumPy arrays wherever ``data`` is.
    """

    data: Any
    batch_sizes: Indices
    sorted_indices: Indices | None = None
    unsorted_indices: Indices | None = None


def pack_padded_sequence(
    input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Drop the padding of ``input`` (T, N, ...), or (N, T, ...) with ``batch_first``, given the lengths.

    With ``enforce_sorted`` the sequences must come from the longest to the shortest; else they are put in that order,
    and everything that returns something for each sequence puts it back.

    >>> packed = pack_padded_sequence(np.array([[1, 2, 0], [3, 4, 5]]), [2, 3], batch_first=True, enforce_sorted=False)
    >>> packed.data.tolist(), packed.batch_sizes.tolist()
    ([3, 1, 4, 2, 5], [2, 2, 1])
    """
    op = "pack_padded_sequence"
    check_array(op, input=raw(input))
    check(input.ndim >= 2, ShapeError, op, "input must have the dimensions (T, N, ...)", shape=input.shape)
    n, steps = input.shape[:2] if batch_first else input.shape[1::-1]
    given = to_cpu(raw(lengths))
    whole = given.ndim == 1 and (given.dtype.kind in "iu" or given.size == 0)
    check(whole, ArgumentError, op, "lengths must be integers, one for each sequence", lengths=lengths)
    given = given.astype(np.int64)
    check(len(given) == n, ShapeError, op, "there must be a length for each sequence", lengths=len(given), sequences=n)
    check(n > 0, ShapeError, op, "there must be at least 1 sequence", shape=input.shape)
    fits = given.min() >= 1 and given.max() <= steps
    check(
        bool(fits), ArgumentError, op, f"lengths must lie in 1 to {steps}, the steps of input", lengths=given.tolist()
    )
    falling = bool((np.diff(given) <= 0).all())
    rule = "lengths must not grow from sequence to sequence with enforce_sorted; or pass enforce_sorted=False"
    check(falling or not enforce_sorted, ArgumentError, op, rule, lengths=given.tolist())
    order = None if enforce_sorted else np.argsort(-given, kind="stable")
    batch_sizes = (given[:, None] > np.arange(given.max())).sum(0)
    rows = _places(batch_sizes, order, n, steps, batch_first)
    data = pick(input.reshape(n * steps, *input.shape[2:]), rows)
    return PackedSequence(data, batch_sizes, order, None if order is None else np.argsort(order))


def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Any, Indices]:
    """The padded form, (T, N, ...) or (N, T, ...), and the lengths; ``total_length`` asks for a longer T.

    >>> packed = pack_sequence([np.array([1.0, 2.0, 3.0]), np.array([4.0])])
    >>> padded, lengths = pad_packed_sequence(packed, batch_first=True, padding_value=-1.0)
    >>> padded.tolist(), lengths.tolist()
    ([[1.0, 2.0, 3.0], [4.0, -1.0, -1.0]], [3, 1])
    """
    is_packed = isinstance(sequence, PackedSequence)
    rule = "sequence must be a PackedSequence"
    check(is_packed, DtypeError, "pad_packed_sequence", rule, type=type(sequence).__name__)
    sizes = np.asarray(sequence.batch_sizes)
    n, longest = int(sizes[0]), len(sizes)
    steps = longest if total_length is None else total_length
    rule = "total_length must be at least the longest length"
    check(steps >= longest, ArgumentError, "pad_packed_sequence", rule, total_length=steps, longest=longest)
    lengths = (sizes > np.arange(n)[:, None]).sum(1)
    if sequence.unsorted_indices is not None:
        lengths = lengths[sequence.unsorted_indices]
    rows = _places(sizes, sequence.sorted_indices, n, steps, batch_first)
    padded = place(sequence.data, rows, n * steps, padding_value)
    shape = (n, steps) if batch_first else (steps, n)
    return padded.reshape(*shape, *sequence.data.shape[1:]), lengths


def pad_sequence(sequences: Sequence[Any], batch_first: bool = False, padding_value: float = 0.0) -> Any:
    """Sequences (T_k, ...) as one array (T, N, ...), or (N, T, ...), T the longest length.

    >>> pad_sequence([np.array([1.0, 2.0]), np.array([3.0])], batch_first=True).tolist()
    [[1.0, 2.0], [3.0, 0.0]]
    """
    lengths = _lengths("pad_sequence", sequences)
    n, steps = len(lengths), max(lengths)
    rows = [k * steps + t if batch_first else t * n + k for k, length in enumerate(lengths) for t in range(length)]
    padded = place(F.concatenate(sequences, 0), np.array(rows, np.int64), n * steps, padding_value)
    return padded.reshape(*((n, steps) if batch_first else (steps, n)), *sequences[0].shape[1:])


def pack_sequence(sequences: Sequence[Any], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences (T_k, ...); see :func:`pack_padded_sequence` for ``enforce_sorted``.

    >>> pack_sequence([np.array([1, 2]), np.array([3])]).data.tolist()
    [1, 3, 2]
    """
    lengths = _lengths("pack_sequence", sequences)
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def _lengths(op: str, sequences: Sequence[Any]) -> list[int]:
    several = isinstance(sequences, list | tuple)
    check(several, DtypeError, op, "sequences must be a list of arrays", type=type(sequences).__name__)
    check(len(sequences) > 0, ShapeError, op, "there must be at least 1 sequence", sequences=0)
    first = sequences[0]
    for number, each in enumerate(sequences):
        check_array(op, **{f"sequence {number}": raw(each)})
        check(each.ndim > 0, ShapeError, op, f"sequence {number} must have an axis of steps", shape=each.shape)
        rule = f"sequence {number} must be like sequence 0 but for its length"
        same = each.shape[1:] == first.shape[1:] and each.dtype == first.dtype
        check(same, ShapeError, op, rule, first=(first.shape, str(first.dtype)), this=(each.shape, str(each.dtype)))
    return [each.shape[0] for each in sequences]


def _places(batch_sizes: Indices, order: Indices | None, n: int, steps: int, batch_first: bool) -> Indices:
    """Where each packed row lies in the rows (steps n) of the padded form, or (n steps) with ``batch_first``."""
    ranks = np.arange(n) if order is None else to_cpu(order)
    each = [(t, ranks[: int(size)]) for t, size in enumerate(batch_sizes)]
    return np.concatenate([who * steps + t if batch_first else t * n + who for t, who in each])
