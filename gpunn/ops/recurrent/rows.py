"""How the rows of a batch of sequences lie, and what a layer computes from, for :mod:`gpunn.ops.recurrent.layer`.

The steps lie one after the other in x (S, in), step t being ``batch_sizes[t]`` rows. Batch sizes never grow: sequence
k is row k of every step that it reaches, so sequences go from the longest to the shortest, S is the sum of their
lengths, and N = ``batch_sizes[0]`` sequences of one length T are simply (T, N, in). ``reverse`` begins at the end of
each sequence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.ops.shared.checks import check_shape

Needs = tuple[bool, ...]
"""Which inputs of a function need their gradients."""


class Sizes(NamedTuple):
    """How the rows of x belong to steps, and in which direction the steps are gone through."""

    batch_sizes: Sequence[int]
    reverse: bool = False

    def steps(self, backward: bool = False) -> Iterator[tuple[slice, int]]:
        """The rows of each step and their number, in the order of the computation, or in the opposite one."""
        ends = np.cumsum(self.batch_sizes).tolist()
        order = range(len(ends))
        for t in order[::-1] if self.reverse != backward else order:
            n = int(self.batch_sizes[t])
            yield slice(ends[t] - n, ends[t]), n

    @property
    def of_one_length(self) -> bool:
        """Whether all sequences have as many steps; batch sizes never grow."""
        return bool(self.batch_sizes[0] == self.batch_sizes[-1])


class Weights(NamedTuple):
    """The parameters of a layer in one direction."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None


class Inputs(NamedTuple):
    """What one layer computes from in one direction: x (S, in), and the states (N, H): h0, and c0 of an LSTM."""

    cell: str
    x: Array
    states: Sequence[Array]
    weights: Weights
    sizes: Sizes

    def wide(self) -> Inputs:
        """The same in the dtype that sums are formed in."""
        states, weights = [wide(s) for s in self.states], Weights(*map(wide, self.weights))
        return self._replace(x=wide(self.x), states=states, weights=weights)

    def check(self, cells: int | None = None) -> None:
        """Raise the error of an operation if shapes, dtypes or batch sizes do not fit together.

        ``cells`` is the size of c and of the gates; None: that of h.
        """
        x, weights, kind = self.x, self.weights, CELLS[self.cell]
        op, states = kind.op, dict(zip(("h0", "c0"), self.states, strict=False))
        biases = {"b_ih": weights.b_ih, "b_hh": weights.b_hh}
        operands(op, biases, x=x, **states, w_ih=weights.w_ih, w_hh=weights.w_hh)
        for name, array in {"x": x, **states}.items():
            check(array.ndim == 2, ShapeError, op, f"{name} must have 2 dimensions", shape=array.shape)
        given = [int(n) for n in self.sizes.batch_sizes]
        check(len(given) > 0, ShapeError, op, "there must be at least 1 step", steps=0)
        falling = all(a >= b for a, b in itertools.pairwise(given)) and given[-1] >= 0
        check(falling, ArgumentError, op, "batch_sizes must not grow from step to step", batch_sizes=given)
        fits = "batch_sizes must add up to the rows of x"
        check(sum(given) == len(x), ShapeError, op, fits, total=sum(given), rows=len(x))
        hidden = self.states[0].shape[1]
        cells = hidden if cells is None else cells
        for name, state in states.items():
            check_shape(op, name, state, (given[0], hidden if name == "h0" else cells))
        rows = kind.gates * cells
        check_shape(op, "w_ih", weights.w_ih, (rows, x.shape[1]))
        check_shape(op, "w_hh", weights.w_hh, (rows, hidden))
        for name, bias in biases.items():
            if bias is not None:
                check_shape(op, name, bias, (rows,))


class Cell(NamedTuple):
    """A kind of step: the function that has it, and how many gates."""

    op: str
    gates: int


CELLS = {
    "tanh": Cell("rnn", 1), "relu": Cell("rnn", 1), "lstm": Cell("lstm", 4), "gru": Cell("gru", 3),
    "gru before": Cell("gru", 3), "lstm projected": Cell("lstm", 4),
}  # fmt: skip
"""By name; ``"gru before"`` resets h before its product, as :mod:`gpunn.ops.recurrent.reset_before` does, and
``"lstm projected"`` is that of :mod:`gpunn.ops.recurrent.projected`."""


def before(states: Array, first: Array, sizes: Sizes) -> Array:
    """The state that each row of ``states`` (S, H) was computed from: ``first`` (N, H), or that of the step before.

    >>> before(np.array([[1.0], [2.0], [3.0]]), np.array([[0.0]]), Sizes([1, 1, 1])).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    xp = get_array_module(states, first)
    if sizes.of_one_length:
        inner = len(states) - len(first)
        parts = [states[len(first) :], first] if sizes.reverse else [first, states[:inner]]
        return xp.concatenate(parts)
    old, unused, h = xp.empty_like(states), xp.empty_like(first), first[:0]
    for rows, n in sizes.steps():
        h = meet(xp, h, n, first, unused)
        old[rows] = h
        h = states[rows]
    return old


def meet(xp: Any, state: Array, n: int, first: Array, last: Array) -> Array:
    """``state`` for a step of n rows: sequences that end go to ``last``, those that begin come from ``first``."""
    had = len(state)
    if n < had:
        last[n:had] = state[n:]
        return state[:n]
    return xp.concatenate([state, first[had:n]]) if n > had else state


def wide(a: Any) -> Any:
    return None if a is None else a.astype(accumulation_dtype(a.dtype), copy=False)
