"""Recurrent nets over padded sequences: those of :mod:`gpunn.interop.cudnn.recurrent` over their elements alone.

xs is (T, N, D), in which sequence n has ``lengths[n]`` steps, in any order of lengths; what is behind its end is not
read, and 0 in the outputs and gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, get_array_module, to_cpu
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.interop.cudnn.arrays import on_device
from gpunn.interop.cudnn.dropout import DropoutStates
from gpunn.interop.cudnn.recurrent import (
    ReserveSpace,
    rnn_backward_data,
    rnn_backward_weights,
    rnn_forward_inference,
    rnn_forward_training,
)


class _Packing:
    """Which sequences are longer, and where the elements of a batch of padded sequences lie step by step."""

    def __init__(self, op: str, xs: Array, lengths: Any) -> None:
        check(xs.ndim == 3, ShapeError, op, "xs must have the dimensions (T, N, D)", shape=xs.shape)
        steps, count = xs.shape[:2]
        each = [int(n) for n in to_cpu(np.asarray(lengths) if isinstance(lengths, list | tuple) else lengths)]
        fits = len(each) == count and all(1 <= n <= steps for n in each)
        check(fits, ArgumentError, op, f"lengths must be {count} numbers from 1 to {steps}", lengths=each)
        longest_first = np.argsort([-n for n in each], kind="stable")
        self.lengths = [sum(n > step for n in each) for step in range(max(each))]
        rows = [step * count + longest_first[:n] for step, n in enumerate(self.lengths)]
        xp = get_array_module(xs)
        self._order, self._back = xp.asarray(longest_first), xp.asarray(np.argsort(longest_first))
        self._rows, self._shape = xp.asarray(np.concatenate(rows)), (steps, count)

    def rows(self, padded: Array) -> Array:
        """The elements (S, D) of (T, N, D)."""
        return padded.reshape(-1, padded.shape[2])[self._rows]

    def padded(self, rows: Array) -> Array:
        """The other way, with zeros behind the ends."""
        steps, count = self._shape
        y = get_array_module(rows).zeros((steps * count, rows.shape[1]), rows.dtype)
        y[self._rows] = rows
        return y.reshape(steps, count, -1)

    def sorted(self, states: Array | None) -> Array | None:
        """States (L, N, H), those of longer sequences first."""
        return None if states is None else states[:, self._order]

    def unsorted(self, states: Array | None) -> Array | None:
        return None if states is None else states[:, self._back]


def rnn_forward_inference_ex(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    hx: Array, cx: Array | None, w: Array, xs: Array, lengths: Any,
) -> tuple[Any, Any, Array]:  # fmt: skip
    """:func:`rnn_forward_inference` of padded sequences xs (T, N, D): ``hy, cy``, and ys (T, N, H).

    >>> from gpunn.interop.cudnn.constants import CUDNN_RNN_RELU, CUDNN_UNIDIRECTIONAL
    >>> states, h, how = DropoutStates(None, 0), np.zeros((1, 2, 1)), (CUDNN_UNIDIRECTIONAL, CUDNN_RNN_RELU)
    >>> w, xs = np.array([1.0, 1.0, 0.0, 0.0]), np.ones((3, 2, 1))
    >>> hy, _, ys = rnn_forward_inference_ex(states, *how, h, None, w, xs, [1, 3])
    >>> hy.ravel().tolist(), ys[:, 0].ravel().tolist(), ys[:, 1].ravel().tolist()
    ([1.0, 3.0], [1.0, 0.0, 0.0], [1.0, 2.0, 3.0])
    """
    with on_device("cudnn.rnn_forward_inference_ex", xs=xs):
        pack = _Packing("cudnn.rnn_forward_inference_ex", xs, lengths)
        given = pack.sorted(hx), pack.sorted(cx), w, pack.rows(xs), pack.lengths
        hy, cy, ys = rnn_forward_inference(states, direction_mode, rnn_mode, *given)
        return pack.unsorted(hy), pack.unsorted(cy), pack.padded(ys)


def rnn_forward_training_ex(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    hx: Array, cx: Array | None, w: Array, xs: Array, lengths: Any,
) -> tuple[ReserveSpace, Any, Any, Array]:  # fmt: skip
    """:func:`rnn_forward_training` of padded sequences, as :func:`rnn_forward_inference_ex` takes and gives them."""
    with on_device("cudnn.rnn_forward_training_ex", xs=xs):
        pack = _Packing("cudnn.rnn_forward_training_ex", xs, lengths)
        given = pack.sorted(hx), pack.sorted(cx), w, pack.rows(xs), pack.lengths
        space, hy, cy, ys = rnn_forward_training(states, direction_mode, rnn_mode, *given)
        return space, pack.unsorted(hy), pack.unsorted(cy), pack.padded(ys)


def rnn_backward_data_ex(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    hx: Array, cx: Array | None, w: Array, xs: Array, ys: Array, reserve_space: ReserveSpace,
    dhy: Array, dcy: Array | None, dys: Array, lengths: Any,
) -> tuple[Any, Any, Array]:  # fmt: skip
    """:func:`rnn_backward_data` of padded sequences, as :func:`rnn_forward_training_ex` takes and gives them."""
    with on_device("cudnn.rnn_backward_data_ex", xs=xs):
        pack = _Packing("cudnn.rnn_backward_data_ex", xs, lengths)
        given = pack.sorted(hx), pack.sorted(cx), w, pack.rows(xs), pack.rows(ys), reserve_space
        gradients = pack.sorted(dhy), pack.sorted(dcy), pack.rows(dys)
        dhx, dcx, dxs = rnn_backward_data(states, direction_mode, rnn_mode, *given, *gradients, pack.lengths)
        return pack.unsorted(dhx), pack.unsorted(dcx), pack.padded(dxs)


def rnn_backward_weights_ex(
    states: DropoutStates, direction_mode: int, rnn_mode: int,
    xs: Array, hx: Array, ys: Array, w: Array, reserve_space: ReserveSpace, lengths: Any,
) -> Array:  # fmt: skip
    """:func:`rnn_backward_weights` of padded sequences, as :func:`rnn_forward_inference_ex` takes them."""
    return rnn_backward_weights(states, direction_mode, rnn_mode, xs, hx, ys, w, reserve_space, lengths)
