import math

import numpy as np
import pytest

from gpunn.backend import get_array_module
from gpunn.ops.activation.normal import normal_cdf


def phi(x):
    return normal_cdf(get_array_module(x), x)


def test_both_tails_keep_their_digits(run_xp, rng):
    x = np.concatenate([np.linspace(-37, 9, 4001), rng.uniform(-3, 3, 2000), [0.0, -1e-300, 1e-9]])
    exact = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])
    # The exponential of -x^2 / 2 multiplies the rounding of x^2, here and in the C library, by its size.
    assert (abs(run_xp(phi, x) / exact - 1) <= 4e-16 * (4 + x * x)).all()


def test_far_arguments(run_xp):
    np.testing.assert_array_equal(run_xp(phi, np.array([-1000.0, 1000.0, np.nan])), [0, 1, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(run_xp, dtype):
    y = run_xp(phi, np.linspace(-3, 3, 13, dtype=dtype))
    assert y.dtype == dtype
    np.testing.assert_allclose(y + y[::-1], 1, rtol=4 * np.finfo(dtype).eps)
