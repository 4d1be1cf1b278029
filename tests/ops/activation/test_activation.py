import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import DtypeError, ShapeError
from gpunn.ops import activation as ops

FUNCTIONS = {
    "relu": (ops.relu, ops.relu_backward, lambda v: max(v, 0.0)),
    "sigmoid": (ops.sigmoid, ops.sigmoid_backward, lambda v: 1 / (1 + math.exp(-v))),
    "tanh": (ops.tanh, ops.tanh_backward, math.tanh),
    "hardsigmoid": (ops.hardsigmoid, ops.hardsigmoid_backward, lambda v: min(max(v / 6 + 0.5, 0.0), 1.0)),
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
        x = np.asarray(rng.uniform(0.1, 2.9, shape) * rng.choice([-1, 1], shape))  # away from corners
        y = run_xp(forward, x)
        oracles.assert_gradient(lambda v: run_xp(forward, v), lambda gy, y=y: run_xp(backward, gy, y), x, rng)


def test_far_arguments_neither_overflow_nor_lose_nan(run_xp):
    far = np.array([-np.inf, -1e4, 1e4, np.inf, np.nan])
    np.testing.assert_array_equal(run_xp(ops.sigmoid, far), [0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(run_xp(ops.tanh, far), [-1, -1, 1, 1, np.nan])
    np.testing.assert_array_equal(run_xp(ops.relu, far), [0, 0, 1e4, np.inf, np.nan])
    np.testing.assert_array_equal(run_xp(ops.hardsigmoid, far), [0, 0, 1, 1, np.nan])
    np.testing.assert_array_equal(run_xp(ops.leaky_relu, far, 0.5), [-np.inf, -5e3, 1e4, np.inf, np.nan])
    np.testing.assert_array_equal(run_xp(ops.leaky_relu, far[1:], 0.0), [0, 1e4, np.inf, np.nan])


def test_worked_numbers_of_the_activations(run_xp):
    np.testing.assert_allclose(run_xp(ops.sigmoid, np.array([2.0])), [0.8808], atol=5e-5)
    np.testing.assert_array_equal(run_xp(ops.relu, np.array([-1.0])), [0.0])


def test_sigmoid_keeps_its_digits_where_it_is_nearly_0(run_xp):
    x = np.array([-1.0, -20.0, -40.0, -700.0])
    np.testing.assert_allclose(run_xp(ops.sigmoid, x), [1 / (1 + math.exp(-v)) for v in x], rtol=1e-14)
    np.testing.assert_allclose(run_xp(ops.sigmoid, np.float32([-40])), [math.exp(-40)], rtol=1e-5)


@pytest.mark.parametrize("slope", [0.01, 0.0, -0.5, 2.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_leaky_relu_both_ways(run_xp, slope, dtype, rng):
    for shape in ((), (0,), (1,), (7, 5)):
        x, gy = (np.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
        y, gx = run_xp(ops.leaky_relu, x, np.float64(slope)), run_xp(ops.leaky_relu_backward, gy, x, np.float64(slope))
        assert y.dtype == gx.dtype == dtype
        factor = np.where(x.astype(float) > 0, 1, slope)
        oracles.assert_close(y, x.astype(float) * factor)
        oracles.assert_close(gx, gy.astype(float) * factor)


def test_hardsigmoid_has_slope_zero_outside(run_xp):
    y = run_xp(ops.hardsigmoid, np.array([-4.0, -3.0, 0.0, 3.0, 4.0]))
    np.testing.assert_array_equal(run_xp(ops.hardsigmoid_backward, np.full(5, 6.0), y), [0, 0, 1, 0, 0])


def test_relu_has_slope_zero_at_zero(run_xp):
    y = run_xp(ops.relu, np.array([-1.0, 0.0, 1.0]))
    np.testing.assert_array_equal(run_xp(ops.relu_backward, np.full(3, 5.0), y), [0, 0, 5])


@pytest.mark.parametrize("forward", [ops.relu, ops.sigmoid, ops.tanh, ops.leaky_relu, ops.hardsigmoid])
def test_integers_are_refused(forward):
    with pytest.raises(DtypeError, match=f"{forward.__name__}: x must be a floating array, got dtype='int64'"):
        forward(np.arange(3))


@pytest.mark.parametrize("backward", [ops.relu_backward, ops.sigmoid_backward, ops.leaky_relu_backward])
def test_a_gradient_of_another_shape_is_refused(backward):
    with pytest.raises(ShapeError, match=rf"{backward.__name__}: gy must have shape \(3,\), got shape=\(1,\)"):
        backward(np.ones(1), np.ones(3))


@pytest.mark.peer("relu", "sigmoid", "tanh", "leaky_relu", "hardsigmoid")
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "leaky_relu", "hardsigmoid"])
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    tolerance = 1e-7 if name == "hardsigmoid" else 1e-11  # PyTorch's slope is 1/6 in float32, for float64 too
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, rng.choice([0.1, 1, 10]), rng.integers(0, 6, rng.integers(0, 4)))
        settings = {"negative_slope": float(rng.uniform(-1, 2))} if name == "leaky_relu" else {}
        ours = lambda v, s=settings: getattr(F, name)(v, **s)  # noqa: E731
        theirs = lambda v, s=settings: getattr(torch.nn.functional, name)(v, **s)  # noqa: E731
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x], where=f"{seed=} {settings}", tolerance=tolerance)
