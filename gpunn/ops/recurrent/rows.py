"""How the rows of a batch of sequences lie, for :mod:`gpunn.ops.recurrent.sequence`.

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
from gpunn.ops.linear.affine import linear
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


class Weights(NamedTuple):
    """The parameters of a layer in one direction."""

    w_ih: Array
    w_hh: Array
    b_ih: Array | None = None
    b_hh: Array | None = None


def before(states: Array, first: Array, sizes: Sizes) -> Array:
    """The state that each row of ``states`` (S, H) was computed from: ``first`` (N, H), or that of the step before.

    >>> before(np.array([[1.0], [2.0], [3.0]]), np.array([[0.0]]), Sizes([1, 1, 1])).ravel().tolist()
    [0.0, 1.0, 2.0]
    """
    xp = get_array_module(states, first)
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


def input_gates(x: Array, w: Weights) -> Array:
    """What every step's gates have from x and from the biases."""
    both = w.b_ih if w.b_hh is None else w.b_hh if w.b_ih is None else w.b_ih + w.b_hh
    return linear(x, w.w_ih, both)


def check_sequence(op: str, gates: int, x: Array, weights: Weights, sizes: Sizes, **states: Array) -> tuple[Any, Any]:
    xp = operands(op, {"b_ih": weights.b_ih, "b_hh": weights.b_hh}, x=x, **states, w_ih=weights.w_ih, w_hh=weights.w_hh)
    for name, array in {"x": x, **states}.items():
        check(array.ndim == 2, ShapeError, op, f"{name} must have 2 dimensions", shape=array.shape)
    given = [int(n) for n in sizes.batch_sizes]
    check(len(given) > 0, ShapeError, op, "there must be at least 1 step", steps=0)
    falling = all(a >= b for a, b in itertools.pairwise(given)) and given[-1] >= 0
    check(falling, ArgumentError, op, "batch_sizes must not grow from step to step", batch_sizes=given)
    fits = "batch_sizes must add up to the rows of x"
    check(sum(given) == len(x), ShapeError, op, fits, total=sum(given), rows=len(x))
    hidden = next(iter(states.values())).shape[1]
    for name, state in states.items():
        check_shape(op, name, state, (given[0], hidden))
    check_shape(op, "w_ih", weights.w_ih, (gates * hidden, x.shape[1]))
    check_shape(op, "w_hh", weights.w_hh, (gates * hidden, hidden))
    for name, bias in (("b_ih", weights.b_ih), ("b_hh", weights.b_hh)):
        if bias is not None:
            check_shape(op, name, bias, (gates * hidden,))
    return xp, x.dtype
