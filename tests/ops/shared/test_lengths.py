import math

import numpy as np
import pytest

from gpunn.ops.shared import lengths as ops


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 4)])
def test_the_norm_is_that_of_the_formula_whatever_the_size(run_xp, dtype, shape, rng):
    limits = np.finfo(dtype)
    for size in (1.0, float(limits.max) / 8, float(limits.tiny) * 8):
        x = np.asarray(rng.uniform(-1, 1, shape) * size, dtype)
        expected = math.hypot(*(float(number) for number in x.ravel()))
        y = run_xp(ops.norm, x)
        assert y.shape == ()
        assert y.dtype == (np.float32 if dtype == np.float16 else dtype)
        np.testing.assert_allclose(float(y), expected, rtol=100 * np.finfo(y.dtype).eps)


def test_the_largest_of_an_axis_and_what_is_divided_by(run_xp):
    x = np.float32([[1, -3, 2], [0, 0, 0], [np.nan, 1, 2], [np.inf, 1, 0]])
    top = run_xp(ops.largest, x, 1)
    np.testing.assert_array_equal(top, np.float32([[3], [0], [np.nan], [np.inf]]))
    np.testing.assert_array_equal(run_xp(ops.divisor, top), np.float32([[3], [1], [1], [1]]))


def test_nothing_has_length_0_and_what_is_not_finite_is_not_hidden(run_xp):
    assert run_xp(ops.norm, np.zeros((0, 3))) == 0
    assert run_xp(ops.norm, np.zeros(3)) == 0
    assert run_xp(ops.largest, np.zeros((2, 0)), 1).tolist() == [[0], [0]]
    with np.errstate(over="ignore"):
        assert run_xp(ops.norm, np.array([1e200, np.inf])) == np.inf
    assert math.isnan(run_xp(ops.norm, np.array([1.0, np.nan])))
