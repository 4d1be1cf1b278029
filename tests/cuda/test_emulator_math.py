"""The functions of CUDA's mathematical library that the host's does not have, against SciPy's."""

import numpy as np
import pytest
import scipy.special

from gpunn.cuda.emulator import RawModule

CODE = """
#define OF(name) \\
    extern "C" __global__ void name##_64(const double* x, double* y, int n) { \\
        for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = name(x[i]); \\
    } \\
    extern "C" __global__ void name##_32(const float* x, float* y, int n) { \\
        for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = name##f(x[i]); \\
    }
OF(erfcx) OF(erfinv) OF(erfcinv) OF(normcdf) OF(normcdfinv) OF(cyl_bessel_i0) OF(cyl_bessel_i1) OF(j0) OF(j1) OF(y0)
OF(y1) OF(sinpi) OF(cospi) OF(rcbrt) OF(exp10)

extern "C" __global__ void norms(const double* x, double* y) {
    const float floats[] = {(float)x[0], (float)x[1], (float)x[2], (float)x[3]};
    y[0] = norm3d(x[0], x[1], x[2]);
    y[1] = norm4d(x[0], x[1], x[2], x[3]);
    y[2] = norm(4, x);
    y[3] = rnorm3d(x[0], x[1], x[2]) * y[0];
    y[4] = rhypot(x[0], x[1]) * hypot(x[0], x[1]);
    y[5] = normf(4, floats) == norm4df(floats[0], floats[1], floats[2], floats[3]);
}
"""

WIDE = np.concatenate([np.linspace(-30, 30, 1001), [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-300, -1e-20, 500.0, 709.0]])
PROBABILITY = np.concatenate([np.linspace(0, 1, 1001), np.logspace(-300, -1, 100), 1 - np.logspace(-16, -1, 50)])
POSITIVE = np.linspace(0.01, 60, 1001)


CASES = {
    "erfcx": (scipy.special.erfcx, WIDE),
    "erfinv": (scipy.special.erfinv, np.concatenate([2 * PROBABILITY - 1, PROBABILITY, [1.5, np.nan]])),
    "erfcinv": (scipy.special.erfcinv, np.concatenate([2 * PROBABILITY, [-1, np.nan]])),
    "normcdf": (scipy.special.ndtr, WIDE),
    "normcdfinv": (scipy.special.ndtri, PROBABILITY),
    "cyl_bessel_i0": (scipy.special.i0, WIDE[~np.isinf(WIDE)]),
    "cyl_bessel_i1": (scipy.special.i1, WIDE[~np.isinf(WIDE)]),
    "j0": (scipy.special.j0, POSITIVE),
    "j1": (scipy.special.j1, POSITIVE),
    "y0": (scipy.special.y0, POSITIVE),
    "y1": (scipy.special.y1, POSITIVE),
    "sinpi": (lambda x: np.sin(np.pi * np.longdouble(x)).astype(float), np.linspace(-3, 3, 1000)),
    "cospi": (lambda x: np.cos(np.pi * np.longdouble(x)).astype(float), np.linspace(-3, 3, 1000)),
    "rcbrt": (lambda x: 1 / np.cbrt(x), POSITIVE),
    "exp10": (lambda x: 10.0**x, np.linspace(-30, 30, 100)),
}


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE)


@pytest.mark.parametrize("name", CASES)
def test_special_functions(module, name):
    function, x = CASES[name]
    near_zero = 1e-14 if name in ("j0", "j1", "y0", "y1", "sinpi", "cospi") else 0  # where a sine crosses zero
    for dtype, rtol, atol in [(np.float64, 2e-13, near_zero), (np.float32, 2e-6, 2e-6 if near_zero else 1e-37)]:
        given, got = x.astype(dtype), np.zeros(x.size, dtype)
        module.get_function(f"{name}_{8 * got.itemsize}")((1,), (32,), (given, got, np.int32(x.size)))
        with np.errstate(all="ignore"):
            expected = function(given.astype(np.float64)).astype(dtype)
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=f"{name} {dtype.__name__}")


def test_half_turns_are_exact(module):
    x = np.array([-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 1e15, 2.0**60, np.inf])
    sine, cosine = np.empty_like(x), np.empty_like(x)
    module.get_function("sinpi_64")((1,), (32,), (x, sine, np.int32(x.size)))
    module.get_function("cospi_64")((1,), (32,), (x, cosine, np.int32(x.size)))
    np.testing.assert_array_equal(sine, [0, 1, 0, -1, 0, 1, 0, -1, 0, 0, np.nan])
    np.testing.assert_array_equal(cosine, [1, 0, -1, 0, 1, 0, -1, 0, 1, 1, np.nan])


def test_bessel_functions_end_in_infinity(module):
    for name, expected in {"cyl_bessel_i0": [np.inf, np.inf], "cyl_bessel_i1": [-np.inf, np.inf]}.items():
        got = np.zeros(2)
        module.get_function(f"{name}_64")((1,), (32,), (np.array([-np.inf, np.inf]), got, np.int32(2)))
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("scale", [1e-200, 1.0, 1e200])
def test_norms_neither_overflow_nor_vanish(module, scale):
    x, y = scale * np.array([3.0, 4.0, 12.0, 84.0]), np.zeros(6)
    module.get_function("norms")((1,), (1,), (x, y))
    np.testing.assert_allclose(y, [13 * scale, 85 * scale, 85 * scale, 1, 1, 1], rtol=1e-14)
