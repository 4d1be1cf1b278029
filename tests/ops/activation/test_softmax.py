import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ShapeError
from gpunn.ops import activation as ops

SHAPES = [((1,), 0), ((7,), -1), ((3, 5), 1), ((3, 5), 0), ((2, 3, 4), -2), ((0, 4), 1)]


def naive(x, axis):
    y = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        line = [float(v) for v in x[tuple(slice(None) if a == axis % x.ndim else i for a, i in enumerate(index))]]
        y[index] = math.exp(x[index]) / sum(map(math.exp, line))
    return y


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_forward_is_the_naive_loop(run_xp, shape, axis, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    expected = naive(x.astype(np.float64), axis)
    for function, wanted in ((ops.softmax, expected), (ops.log_softmax, np.log(expected))):
        y = run_xp(function, x, axis)
        assert y.dtype == dtype
        oracles.assert_close(y, wanted, x.shape[axis])


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_backward_is_the_directional_difference(run_xp, name, shape, axis, rng):
    x, forward, backward = rng.standard_normal(shape), getattr(ops, name), getattr(ops, f"{name}_backward")
    y = run_xp(forward, x, axis)
    oracles.assert_gradient(lambda v: run_xp(forward, v, axis), lambda gy: run_xp(backward, gy, y, axis), x, rng)


def test_worked_numbers_of_softmax(run_xp):
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(run_xp(ops.softmax, x), [0.0900, 0.2447, 0.6652], atol=5e-5)


def test_large_logits_do_not_overflow(run_xp):
    np.testing.assert_array_equal(run_xp(ops.softmax, np.array([1e4, 0.0])), [1, 0])
    np.testing.assert_array_equal(run_xp(ops.log_softmax, np.array([1e4, 0.0])), [0, -1e4])


def test_errors_name_rule_and_values():
    with pytest.raises(ShapeError, match=r"softmax: axis must be one of x's, got axis=2, shape=\(3, 4\)"):
        ops.softmax(np.ones((3, 4)), 2)
    assert ops.log_softmax(np.ones((3, 0)), 1).shape == ops.softmax(np.ones((0, 3)), 0).shape[::-1] == (3, 0)
    for backward in (ops.softmax_backward, ops.log_softmax_backward):
        with pytest.raises(ShapeError, match=rf"{backward.__name__}: gy must have shape \(3, 4\), got shape=\(4, 4\)"):
            backward(np.ones((4, 4), np.float32), np.ones((3, 4), np.float32))


@pytest.mark.peer("softmax", "log_softmax")
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, rng.choice([1, 30]), rng.integers(1, 6, rng.integers(1, 4)))
        axis = int(rng.integers(-x.ndim, x.ndim))
        ours = lambda v, a=axis: getattr(F, name)(v, a)  # noqa: E731
        theirs = lambda v, a=axis: getattr(torch.nn.functional, name)(v, a)  # noqa: E731
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x], where=f"{seed=} {x.shape} {axis=}")
