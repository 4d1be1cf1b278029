"""``gpunn.differentiable``: an operation of a user's own, whose mistakes are named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError


def own(gradients: Any) -> gpunn.Tensor:
    """The sum of x (4,) and w (1,), of which the second, None, is left out; ``gradients`` is what backward returns."""
    x, w = (tensor(np.ones(n, np.float32), requires_grad=True) for n in (4, 1))

    def backward(gy, needs):
        assert needs == (True, False, True)
        return gradients

    return gpunn.differentiable(x.data + w.data, [x, None, w], backward)


X, W = np.ones(4, np.float32), np.ones(1, np.float32)


@pytest.mark.parametrize(
    ("gradients", "error", "said"),
    [
        (X, ArgumentError, "backward must return a list with a gradient, or None, for each input, got inputs=3, type="),
        ([X, W], ArgumentError, "for each input, got inputs=3, gradients=2"),
        ([X, None, X], ShapeError, r"the gradient of input 2 must have its shape, got input=\(1,\), gradient=\(4,\)"),
        ([X.sum(), None, W], ShapeError, r"input 0 must have its shape, got input=\(4,\), gradient=\(\)"),
        ([1.0, None, W], DtypeError, "the gradient of input 0 must be an array, got type='float'"),
        ([tensor(X), None, W], DtypeError, "input 0 must be an array, got type='Tensor'"),
        ([X, None, W.astype(float)], DtypeError, "must have its dtype, got input='float32', gradient='float64'"),
    ],
)  # fmt: skip
def test_a_wrong_gradient_is_named(gradients: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=rf"^differentiable: own.<locals>.backward: .*{said}"):
        own(gradients).sum().backward()


@pytest.mark.parametrize("gradients", [[X, None, W], (X, "ignored", None)], ids=str)
def test_right_gradients(gradients: Any) -> None:
    own(gradients).sum().backward()


def test_a_number_without_dimensions_may_be_numpys() -> None:
    x = tensor(np.float32(3), requires_grad=True)
    gpunn.differentiable(x.data * 2, [x], lambda gy, needs: [np.full(3, gy).sum()]).backward()
    assert x.grad is not None
    assert (x.grad.shape, x.grad.item()) == ((), 3)


T = tensor(X, requires_grad=True)


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((X, T, min), ArgumentError, "inputs must be a list of arrays and Tensors, or None .*, got type='Tensor'"),
        ((X, [T, 2.0], min), DtypeError, "inputs must be a list of arrays and Tensors, or None .*, got type='float'"),
        ((T, [T], min), DtypeError, "y must be an array, computed from those that gpunn.kept gives, got type='Tensor'"),
        ((2.0, [T], min), DtypeError, "y must be an array, .*, got type='float'"),
        ((X.astype(int), [T], min), DtypeError, "y must be of floats, to have a gradient, got dtype='int64'"),
        ((X, [T], None), ArgumentError, "backward must be a function of gy and needs, got backward=None"),
    ],
)
def test_what_is_no_operation_is_named(arguments: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=rf"^differentiable: {said}"):
        gpunn.differentiable(*arguments)


def test_integers_without_a_gradient() -> None:
    assert gpunn.differentiable(X.astype(int), [X], min).dtype == int
    with gpunn.no_grad():
        assert gpunn.differentiable(X.astype(int), [T], min).dtype == int
