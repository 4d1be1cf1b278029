"""Batches of sequences of different lengths: padded to one length, or packed without the padding.

Packed, the rows of a step lie together: step 0 of every sequence, then step 1 of those that have one, and so on, the
sequences going from the longest to the shortest. Recurrent layers take that as it is and compute nothing for padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn.backend import check_array, to_cpu
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check
from gpunn.functional.packed import pick, place
from gpunn.functional.record import raw

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
