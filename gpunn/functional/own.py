"""What an operation of a user's own is made of: ``gpunn.differentiable``, the one of :mod:`record` with checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backend import Array, is_array, is_floating
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check
from gpunn.functional import record
from gpunn.graph import is_recorded, raw
from gpunn.tensor import Backward, Tensor


def differentiable(y: Array, inputs: Sequence[Any], backward: Backward) -> Any:
    """``y`` itself if ``inputs`` are plain arrays, else a Tensor that remembers ``backward``.

    ``y`` is an array, computed from the arrays of ``inputs``, which may be None where they are left out.
    ``backward(gy, needs)`` is given the gradient of y, and for each of ``inputs`` whether it needs one; it returns a
    gradient for each, of its shape and dtype, or None. The values that it needs are those that :func:`kept` gives of
    the inputs: whoever calls may fill his arrays anew before the backward pass.

    >>> import gpunn, numpy as np
    >>> def cube(x):
    ...     (data,) = gpunn.kept(x)
    ...     return gpunn.differentiable(data**3, [x], lambda gy, needs: [3 * data**2 * gy])
    >>> cube(np.array([2.0]))
    array([8.])
    >>> x = gpunn.tensor([2.0], requires_grad=True)
    >>> cube(x).backward()
    >>> x.grad
    array([12.], dtype=float32)

    Raises ArgumentError if ``inputs`` is no list, or ``backward`` no function, DtypeError for inputs and a ``y`` that
    are no arrays, and for a ``y`` without a gradient, as it is of integers. When gradients are computed, ArgumentError
    if ``backward`` does not return as many as there are inputs, ShapeError and DtypeError if one has another shape or
    dtype than its input.
    """
    op = "differentiable"
    check(callable(backward), ArgumentError, op, "backward must be a function of gy and needs", backward=backward)
    rule = "inputs must be a list of arrays and Tensors, or None for what is left out"
    check(isinstance(inputs, list | tuple), ArgumentError, op, rule, type=type(inputs).__name__)
    for x in inputs:
        check(x is None or isinstance(x, Tensor) or _is_plain(x), DtypeError, op, rule, type=type(x).__name__)
    rule = "y must be an array, computed from those that gpunn.kept gives"
    check(_is_plain(y), DtypeError, op, rule, type=type(y).__name__)
    has_gradient = is_floating(y.dtype) or not is_recorded(*inputs)
    check(has_gradient, DtypeError, op, "y must be of floats, to have a gradient", dtype=str(y.dtype))
    kinds = [None if x is None else (raw(x).shape, raw(x).dtype) for x in inputs]
    op = f"differentiable: {getattr(backward, '__qualname__', type(backward).__name__)}"

    def checked(gy: Array, needs: tuple[bool, ...]) -> Sequence[Array | None]:
        gradients = backward(gy, needs)
        many = isinstance(gradients, Sequence)
        rule = "backward must return a list with a gradient, or None, for each input"
        check(many, ArgumentError, op, rule, inputs=len(kinds), type=type(gradients).__name__)
        check(len(gradients) == len(kinds), ArgumentError, op, rule, inputs=len(kinds), gradients=len(gradients))
        for number, (kind, needed, gradient) in enumerate(zip(kinds, needs, gradients, strict=True)):
            if kind is None or not needed or gradient is None:
                continue
            rule = f"the gradient of input {number} must"
            check(_is_plain(gradient), DtypeError, op, f"{rule} be an array", type=type(gradient).__name__)
            shape, dtype = gradient.shape, gradient.dtype
            check(shape == kind[0], ShapeError, op, f"{rule} have its shape", input=kind[0], gradient=shape)
            check(dtype == kind[1], DtypeError, op, f"{rule} have its dtype", input=str(kind[1]), gradient=str(dtype))
        return gradients

    return record.differentiable(y, inputs, checked)


def _is_plain(x: Any) -> bool:
    """Whether that is an array, or what NumPy makes of one without dimensions."""
    return is_array(x) or isinstance(x, np.generic)
