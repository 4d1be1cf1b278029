"""The emulator: CUDA's headers that kernels include, against NumPy and ml_dtypes."""

from pathlib import Path

import numpy as np
import pytest

from gpunn.cuda.emulator import RawModule

COMPLEX = r"""
#include <cuComplex.h>

#define COMPLEX(type, f)                                                                 \
  extern "C" __global__ void complex_##type(const type* x, const type* y, type* z) {     \
    int t = threadIdx.x, n = blockDim.x, k = 0;                                          \
    z[n * k++ + t] = cuCadd##f(x[t], y[t]);                                              \
    z[n * k++ + t] = cuCsub##f(x[t], y[t]);                                              \
    z[n * k++ + t] = cuCmul##f(x[t], y[t]);                                              \
    z[n * k++ + t] = cuCdiv##f(x[t], y[t]);                                              \
    z[n * k++ + t] = cuCfma##f(x[t], y[t], x[t]);                                        \
    z[n * k++ + t] = cuConj##f(x[t]);                                                    \
    z[n * k++ + t] = make_##type(cuCabs##f(x[t]), cuCimag##f(y[t]) - cuCreal##f(y[t]));  \
  }
COMPLEX(cuFloatComplex, f)
COMPLEX(cuDoubleComplex, )

extern "C" __global__ void complex_conversions(const cuComplex* x, cuDoubleComplex* y, cuComplex* z) {
  y[0] = cuComplexFloatToDouble(x[0]);
  z[0] = cuComplexDoubleToFloat(make_cuDoubleComplex(0.1, -0.2));
  z[1] = cuCdivf(make_cuComplex(3e30f, 4e30f), make_cuComplex(1e30f, 1e30f));
}
"""

CODE = COMPLEX


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def module(request):
    return RawModule(CODE, filename="headers.cu", check=request.param)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers(module, rng, dtype):
    x, y = (rng.standard_normal((2, 32)) + 1j * rng.standard_normal((2, 32))).astype(dtype)
    z = np.zeros((7, 32), dtype)
    parts = [a.view(a.real.dtype) for a in (x, y, z)]
    module.get_function("complex_cuFloatComplex" if dtype == np.complex64 else "complex_cuDoubleComplex")(
        (1,), (32,), parts
    )
    expected = [x + y, x - y, x * y, x / y, x * y + x, x.conj(), abs(x) + 1j * (y.imag - y.real)]
    np.testing.assert_allclose(z, expected, rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps)
    np.testing.assert_array_equal(z[[0, 1, 5]], [x + y, x - y, x.conj()])


def test_conversions_of_complex_numbers(module):
    x, y, z = np.array([0.1, -3], np.float32), np.zeros(2), np.zeros(4, np.float32)
    module.get_function("complex_conversions")((1,), (1,), (x, y, z))
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z[:2], np.float32([0.1, -0.2]))
    np.testing.assert_allclose(z[2:], [3.5, 0.5], rtol=1e-6)  # the square of the divisor overflows


def test_nvrtc_takes_the_same_source():
    core = pytest.importorskip("cuda.core")
    runtime = pytest.importorskip("nvidia.cuda_runtime")
    include = str(Path(next(iter(runtime.__path__))) / "include")
    program = core.Program(CODE, "c++", core.ProgramOptions(arch="sm_90", std="c++17", include_path=[include]))
    try:
        assert program.compile("cubin").code
    finally:
        program.close()
