"""Differentiable maps of vectors: affine, bilinear, the cosine, rows of a table; see :mod:`gpunn.ops.linear`."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

from gpunn.backend import Array
from gpunn.casting import in_float32, in_half
from gpunn.errors import ArgumentError, check, check_number, fail
from gpunn.functional.record import Input, Y, alone, copied, differentiable, kept, lifted, mark_changed, raw
from gpunn.ops import linear as ops
from gpunn.ops.linear.affine import linear_backward_b
from gpunn.tensor import Tensor


@in_half
def linear(x: Input[Y], w: Input[Y], b: Input[Y] | None = None) -> Y:
    """``x W^T + b`` for x (..., in), W (out, in), b (out,).

    >>> import numpy as np
    >>> linear(np.ones((1, 2)), np.array([[2.0, 3.0]])).tolist()
    [[5.0]]
    """
    xd, wd, bd = kept(x, w, b)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.linear_backward_x(gy, wd) if needs[0] else None,
            ops.linear_backward_w(gy, xd) if needs[1] else None,
            ops.linear_backward_b(gy) if needs[2] else None,
        )

    return differentiable(ops.linear(xd, wd, bd), (x, w, b), backward)


@in_half
def bilinear(x1: Input[Y], x2: Input[Y], w: Input[Y], b: Input[Y] | None = None) -> Y:
    """``sum_ij x1[n, i] w[k, i, j] x2[n, j] + b[k]`` for x1 (..., I), x2 (..., J), w (K, I, J), b (K,).

    >>> import numpy as np
    >>> bilinear(np.array([[1.0, 2.0]]), np.array([[3.0]]), np.array([[[4.0], [5.0]]])).tolist()
    [[42.0]]
    """
    left, right, wd, bd = kept(x1, x2, w, b)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.bilinear_backward_x1(gy, right, wd) if needs[0] else None,
            ops.bilinear_backward_x1(gy, left, wd.transpose(0, 2, 1)) if needs[1] else None,
            ops.bilinear_backward_w(gy, left, right) if needs[2] else None,
            linear_backward_b(gy) if needs[3] else None,
        )

    return differentiable(ops.bilinear(left, right, wd, bd), (x1, x2, w, b), backward)


@in_float32
def cosine_similarity(x1: Input[Y], x2: Input[Y], axis: int = 1, eps: float = 1e-8) -> Y:
    """``(a . b) / (max(|a|, eps) max(|b|, eps))`` of the vectors of x1 and x2 along ``axis``; shapes broadcast.

    Two numbers without axes are vectors of one element.

    >>> import numpy as np
    >>> cosine_similarity(np.array([[3.0, 0.0]]), np.array([[5.0, 0.0]])).tolist()
    [1.0]
    """
    a, b = kept(x1, x2)
    if getattr(a, "ndim", 1) == getattr(b, "ndim", 1) == 0:
        return alone(cosine_similarity, x1, lifted(x2), axis, eps)

    def backward(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        return (
            ops.cosine_similarity_backward_x1(gy, a, b, axis, eps) if needs[0] else None,
            ops.cosine_similarity_backward_x1(gy, b, a, axis, eps) if needs[1] else None,
        )

    return differentiable(ops.cosine_similarity(a, b, axis, eps), (x1, x2), backward)


def embedding(
    indices: Any,
    weight: Input[Y],
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Y:
    """The rows of weight (V, D) that the integers ``indices`` name: one more axis than indices, of D.

    The row ``padding_idx`` (negative: counted from the end) gets no gradient. With ``max_norm`` those of the rows named
    that have a larger norm (of order ``norm_type``) are first scaled to it, **in weight itself**, as PyTorch does.
    ``scale_grad_by_freq`` divides the gradient of a row by how often it is named. Gradients are whole arrays:
    ``sparse=True`` is refused.

    >>> import numpy as np
    >>> embedding(np.array([2, 0]), np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])).tolist()
    [[4.0, 5.0], [0.0, 1.0]]
    """
    index, wd = copied(indices, weight), raw(weight)
    if type(norm_type) is not float:
        check_number("embedding", norm_type=norm_type)
    if sparse:
        fail(ArgumentError, "embedding", "gradients are whole arrays, so sparse must be False", sparse=sparse)
    if max_norm is not None and ops.embedding_renorm(raw(indices), wd, max_norm, norm_type):
        mark_changed(weight)
    y, rows = ops.embedding(raw(indices), wd), wd.shape[0]
    if padding_idx is not None:
        rule = f"padding_idx must lie in {-rows} to {rows - 1}"
        inside = isinstance(padding_idx, Integral) and -rows <= padding_idx < rows
        check(inside, ArgumentError, "embedding", rule, padding_idx=padding_idx)
        padding_idx %= rows
    settings = rows, padding_idx, scale_grad_by_freq
    result: Any = differentiable(y, (weight,), lambda gy, _: (ops.embedding_backward(gy, index, *settings),))
    # The next call may scale rows of weight before the gradient of this one is asked for.
    if max_norm is not None and isinstance(result, Tensor):
        result.needing_no_operands()
    return result
