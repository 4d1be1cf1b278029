"""Differentiable bags of rows; see :mod:`gpunn.ops.linear.bag`."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from gpunn.backend import Array, operands
from gpunn.casting import in_widest
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.functional.linear import embedding
from gpunn.functional.record import Input, Y, differentiable, kept, raw
from gpunn.ops.linear import bag as ops
from gpunn.ops.shared.checks import check_shape


@in_widest
def embedding_bag(
    indices: Any,
    weight: Input[Y],
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: ops.Mode = "mean",
    sparse: bool = False,
    per_sample_weights: Input[Y] | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Y:
    """The mean, sum or maximum (``mode``) of the rows of weight (V, D) that each bag of indices names: (B, D).

    A bag is a row of indices (B, L); or of indices (n,) a run that begins at one of ``offsets`` (B,), of which with
    ``include_last_offset`` the last is n and begins none. ``per_sample_weights``, of the shape of indices, multiply the
    rows in a sum. Indices ``padding_idx`` (negative: counted from the end) do not count. An empty bag gives 0. The
    other settings are those of :func:`embedding`.

    >>> import numpy as np
    >>> w = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    >>> embedding_bag(np.array([2, 0, 1]), w, np.array([0, 2])).tolist()
    [[2.0, 3.0], [2.0, 3.0]]
    """
    op, index, wd = "embedding_bag", raw(indices), raw(weight)
    operands(op, {"per_sample_weights": raw(per_sample_weights)}, weight=wd)
    check(wd.ndim == 2, ShapeError, op, "weight must have the 2 dimensions (V, D)", shape=wd.shape)
    check_number(op, norm_type=norm_type)
    if padding_idx is not None:
        rule = f"padding_idx must lie in {-len(wd)} to {len(wd) - 1}"
        inside = isinstance(padding_idx, Integral) and -len(wd) <= padding_idx < len(wd)
        check(inside, ArgumentError, op, rule, padding_idx=padding_idx)
        padding_idx %= len(wd)
    each = ops.bags(index, raw(offsets), include_last_offset, padding_idx)
    if per_sample_weights is not None:
        check_shape(op, "per_sample_weights", raw(per_sample_weights), index.shape)
    rows = embedding(index.reshape(-1), weight, None, max_norm, norm_type, scale_grad_by_freq, sparse)
    rd, pd = kept(rows, per_sample_weights)
    y = ops.embedding_bag(rd, pd, each, mode)

    def backward(gy: Array, _: tuple[bool, ...]) -> Sequence[Array | None]:
        return ops.embedding_bag_backward(gy, rd, pd, each, mode)

    return differentiable(y, (rows, per_sample_weights), backward)
