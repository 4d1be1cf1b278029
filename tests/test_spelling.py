"""PyTorch's names of arguments, beside gpunn's."""

import inspect
import pickle

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.spelling import spelled

X = np.arange(6.0).reshape(2, 3)


def test_both_names_mean_the_same():
    w, b = np.ones((4, 3)), np.arange(4.0)
    np.testing.assert_array_equal(F.linear(input=X, weight=w, bias=b), F.linear(x=X, w=w, b=b))
    np.testing.assert_array_equal(F.softmax(X, dim=0), F.softmax(X, axis=0))
    np.testing.assert_array_equal(F.logsumexp(X, dim=0, keepdim=True), F.logsumexp(X, axis=0, keepdims=True))
    np.testing.assert_array_equal(F.maximum(input=X, other=2.0), F.maximum(a=X, b=2.0))
    np.testing.assert_array_equal(F.where(X > 1, input=X, other=0.0), F.where(X > 1, a=X, b=0.0))
    np.testing.assert_array_equal(F.stack(tensors=[X, X], dim=1), F.stack([X, X], 1))
    np.testing.assert_array_equal(F.pad(X, pad=(1, 0)), F.pad(X, (1, 0)))
    np.testing.assert_array_equal(F.embedding(input=np.array([1]), weight=X), X[1:])
    np.testing.assert_array_equal(nn.ReLU()(input=X), X)
    assert tensor(X).sum(dim=1, keepdim=True).shape == (2, 1)


def test_two_names_of_one_argument_are_refused():
    message = r"softmax\(\) got 'axis' and 'dim', which are two names of one argument"
    with pytest.raises(TypeError, match=message):
        F.softmax(X, axis=0, dim=1)
    with pytest.raises(TypeError, match=r"forward\(\) got 'x' and 'input', which are two names of one argument"):
        nn.ReLU()(x=X, input=X)
    with pytest.raises(TypeError, match=r"sum\(\) got 'dim' and 'axis', which are two names of one argument"):
        tensor(X).sum(dim=1, axis=1)
    with pytest.raises(TypeError, match="multiple values for argument 'axis'"):
        F.softmax(X, 0, dim=1)
    with pytest.raises(TypeError, match="unexpected keyword argument 'dims_'"):
        F.softmax(X, dims_=0)


def test_a_function_stays_what_it_was():
    for name in F.__all__:
        function = getattr(F, name)
        own = inspect.unwrap(function)
        assert (function.__name__, function.__doc__) == (name, own.__doc__)
        assert inspect.signature(function) == inspect.signature(own)
        assert pickle.loads(pickle.dumps(function)) is function


def test_names_that_a_function_has_itself_are_its_own():
    assert spelled(lambda input, x=0: input - x)(input=3, x=1) == 2
    assert spelled(lambda **given: given)(input=3, x=1) == {"input": 3, "x": 1}

    class Difference(nn.Module):
        def forward(self, input, x):
            return input - x

    assert Difference()(input=3, x=1) == 2
