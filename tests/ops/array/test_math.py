import math

import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import DtypeError


def draw(rng):
    return [array_case.distinct(rng, array_case.shape(rng))], {}


def draw_positive(rng):
    (x,), _ = draw(rng)
    return [abs(x) + 0.1], {}


def each(function):
    def loop(x):
        y = np.empty(x.shape)
        for place in np.ndindex(x.shape):
            y[place] = function(float(x[place]))
        return y

    return loop


CASES = {
    "exp": Case(draw, F.exp, each(math.exp), lambda t, x: t.exp(x)),
    "log": Case(draw_positive, F.log, each(math.log), lambda t, x: t.log(x)),
    "sqrt": Case(draw_positive, F.sqrt, each(math.sqrt), lambda t, x: t.sqrt(x)),
    "abs": Case(draw, F.abs, each(math.fabs), lambda t, x: t.abs(x)),
    "abs as a builtin": Case(draw, abs, each(math.fabs), lambda t, x: t.abs(x)),
    "negative": Case(draw, lambda x: -x, each(lambda v: -v), lambda t, x: -x),
}
(
    test_forward_is_the_naive_loop,
    test_backward_is_the_directional_difference,
    test_gradients_keep_the_dtype,
    test_matches_pytorch,
) = array_case.tests_of(CASES)


def test_the_gradient_of_the_absolute_value_at_0_is_0():
    x = tensor([-2.0, 0.0, 3.0], requires_grad=True)
    F.abs(x).sum().backward()
    assert x.grad.tolist() == [-1, 0, 1]


def test_the_gradient_of_a_root_at_0_is_infinite():
    x = tensor([0.0], requires_grad=True)
    with np.errstate(divide="ignore"):
        F.sqrt(x).sum().backward()
    assert x.grad.tolist() == [np.inf]


@pytest.mark.parametrize("function", [F.exp, F.log, F.sqrt])
def test_integers_are_refused(function):
    with pytest.raises(DtypeError, match="x must be a floating array, got dtype='int64'"):
        function(np.array([1, 2]))
    assert F.abs(np.array([-1, 2])).tolist() == [1, 2]
