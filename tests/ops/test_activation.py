import math

import numpy as np
import oracles
import pytest

from gpunn.errors import DtypeError, ShapeError
from gpunn.ops import activation as ops

FUNCTIONS = {
    "relu": (ops.relu, ops.relu_backward, lambda v: max(v, 0.0)),
    "sigmoid": (ops.sigmoid, ops.sigmoid_backward, lambda v: 1 / (1 + math.exp(-v))),
    "tanh": (ops.tanh, ops.tanh_backward, math.tanh),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("forward", "backward", "scalar"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_forward_is_the_scalar_formula(run_xp, forward, backward, scalar, dtype, rng):
    for shape in ((), (0,), (1,), (7, 5), (2, 3, 4)):
        x = rng.uniform(-8, 8, shape).astype(dtype)
        y = run_xp(forward, x)
        assert y.dtype == dtype
        oracles.assert_close(np.asarray(y), np.vectorize(scalar, otypes=[float])(x.astype(np.float64)))


@pytest.mark.parametrize(("forward", "backward", "scalar"), FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_backward_is_the_directional_difference(run_xp, forward, backward, scalar, rng):
    for shape in ((7, 5), ()):
        x = np.asarray(rng.uniform(0.1, 3, shape) * rng.choice([-1, 1], shape))  # away from the corner of ReLU
        y = run_xp(forward, x)
        oracles.assert_gradient(lambda v: run_xp(forward, v), lambda gy, y=y: run_xp(backward, gy, y), x, rng)


def test_far_arguments_neither_overflow_nor_lose_nan(run_xp):
    far = np.array([-np.inf, -1e4, 1e4, np.inf, np.nan])
    np.testing.assert_array_equal(run_xp(ops.sigmoid, far), [0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(run_xp(ops.tanh, far), [-1, -1, 1, 1, np.nan])
    np.testing.assert_array_equal(run_xp(ops.relu, far), [0, 0, 1e4, np.inf, np.nan])


def test_relu_has_slope_zero_at_zero(run_xp):
    y = run_xp(ops.relu, np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(run_xp(ops.relu_backward, np.full(3, 5.0), y), [0, 0, 5])


@pytest.mark.parametrize("forward", [ops.relu, ops.sigmoid, ops.tanh])
def test_integers_are_refused(forward):
    with pytest.raises(DtypeError, match=f"{forward.__name__}: x must be a floating array, got dtype='int64'"):
        forward(np.arange(3))


@pytest.mark.parametrize("backward", [ops.relu_backward, ops.sigmoid_backward, ops.tanh_backward])
def test_a_gradient_of_another_shape_is_refused(backward):
    with pytest.raises(ShapeError, match=rf"{backward.__name__}: gy must have shape \(3,\), got shape=\(1,\)"):
        backward(np.ones(1), np.ones(3))
