import math

import numpy as np
import pytest

from gpunn.backend import get_array_module
from gpunn.ops.activation.normal import tail


def below(u):
    exponential, r = tail(get_array_module(u), u)
    return exponential * r


@pytest.mark.parametrize(("dtype", "furthest"), [(np.float32, 12.5), (np.float64, 37)])
def test_the_tail_keeps_its_digits(run_xp, rng, dtype, furthest):
    u = np.concatenate([np.linspace(0, furthest, 4001), rng.uniform(0, 3, 2000), [0.0, 1e-30, 1e-9]]).astype(dtype)
    exact = np.array([0.5 * math.erfc(float(v) / math.sqrt(2)) for v in u])
    # The exponential of -u^2 / 2 multiplies the rounding of u^2, here and in the C library, by its size.
    assert (abs(run_xp(below, u) / exact - 1) <= 2 * np.finfo(dtype).eps * (4 + u * u)).all()


def test_far_arguments(run_xp):
    np.testing.assert_array_equal(run_xp(below, np.array([1000.0, np.nan])), [0, np.nan])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(run_xp, dtype):
    assert run_xp(below, np.linspace(0, 3, 13, dtype=dtype)).dtype == dtype
