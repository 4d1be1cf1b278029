"""The emulator: floats of 6 and 4 bits and powers of two as scales, of cuda_fp6.h, cuda_fp4.h and cuda_fp8.h."""

import re

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule
from gpunn.errors import LaunchError

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")

# What the kernels of all four kinds have in common. `word` holds codes of BITS bits each, of which USED are used.
CODE = r"""
#include <cuda_fp4.h>

#define PUT(code) y[n * row++ + i] = (unsigned char)(code)
#define PUT_ALL(word, count, bits) put_all(word, count, bits, y, n, row, i)

__device__ __noinline__ void put_all(unsigned word, int count, int bits, unsigned char* y, int n, int& row, int i) {
  for (int k = 0; k < count; k++) PUT(word >> bits * k & (1 << bits) - 1);
}

#define CLASSES(number, pair, quad, bits)                                                                             \
  extern "C" __global__ void classes_##number(const float* x, const double* d, unsigned char* y, int n) {             \
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;                                                           \
    if (i >= n) return;                                                                                               \
    float f = x[i], g = x[n - 1 - i];                                                                                 \
    __half h = __float2half(f), k = __float2half(g);                                                                  \
    __nv_bfloat16 b = __float2bfloat16(f), c = __float2bfloat16(g);                                                   \
    PUT(number(f).__x);                                                                                               \
    PUT(number(d[i]).__x);                                                                                            \
    PUT(number(h).__x);                                                                                               \
    PUT(number(b).__x);                                                                                               \
    PUT_ALL(pair(make_float2(f, g)).__x, 2, bits);                                                                    \
    PUT_ALL(pair(make_double2(d[i], g)).__x, 2, bits);                                                                \
    PUT_ALL(pair(__half2(h, k)).__x, 2, bits);                                                                        \
    PUT_ALL(pair(__nv_bfloat162(b, c)).__x, 2, bits);                                                                 \
    PUT_ALL(quad(make_float4(f, g, 1.0f, f)).__x, 4, bits);                                                           \
    PUT_ALL(quad(make_double4(g, d[i], 1.0, g)).__x, 4, bits);                                                        \
    PUT_ALL(quad(__half2(h, k), __half2(k, k)).__x, 4, bits);                                                         \
    PUT_ALL(quad(__nv_bfloat162(b, c), __nv_bfloat162(c, b)).__x, 4, bits);                                           \
  }                                                                                                                   \
  extern "C" __global__ void from_integers_##number(const long long* x, unsigned char* y, int n) {                    \
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;                                                           \
    if (i >= n) return;                                                                                               \
    PUT(number((short)x[i]).__x);                                                                                     \
    PUT(number((unsigned short)x[i]).__x);                                                                            \
    PUT(number((int)x[i]).__x);                                                                                       \
    PUT(number((unsigned)x[i]).__x);                                                                                  \
    PUT(number((long)x[i]).__x);                                                                                      \
    PUT(number((unsigned long)x[i]).__x);                                                                             \
    PUT(number(x[i]).__x);                                                                                            \
    PUT(number((unsigned long long)x[i]).__x);                                                                        \
  }                                                                                                                   \
  extern "C" __global__ void widened_##number(const number* x, const pair* two, const quad* four, double* y,          \
                                              long long* z, int n) {                                                  \
    int i = threadIdx.x, row = 0;                                                                                     \
    y[n * row++ + i] = (float)x[i];                                                                                   \
    y[n * row++ + i] = (double)x[i];                                                                                  \
    y[n * row++ + i] = __half2float((__half)x[i]);                                                                    \
    y[n * row++ + i] = __bfloat162float((__nv_bfloat16)x[i]);                                                         \
    y[n * row++ + i] = ((float2)two[i]).x;                                                                            \
    y[n * row++ + i] = ((float2)two[i]).y;                                                                            \
    y[n * row++ + i] = __low2float((__half2)two[i]);                                                                  \
    y[n * row++ + i] = __high2float((__half2)two[i]);                                                                 \
    y[n * row++ + i] = ((float4)four[i]).x;                                                                           \
    y[n * row++ + i] = ((float4)four[i]).y;                                                                           \
    y[n * row++ + i] = ((float4)four[i]).z;                                                                           \
    y[n * row++ + i] = ((float4)four[i]).w;                                                                           \
    row = 0;                                                                                                          \
    z[n * row++ + i] = (signed char)x[i];                                                                             \
    z[n * row++ + i] = (char)x[i];                                                                                    \
    z[n * row++ + i] = (unsigned char)x[i];                                                                           \
    z[n * row++ + i] = (short)x[i];                                                                                   \
    z[n * row++ + i] = (unsigned short)x[i];                                                                          \
    z[n * row++ + i] = (int)x[i];                                                                                     \
    z[n * row++ + i] = (unsigned)x[i];                                                                                \
    z[n * row++ + i] = (long)x[i];                                                                                    \
    z[n * row++ + i] = (unsigned long)x[i];                                                                           \
    z[n * row++ + i] = (long long)x[i];                                                                               \
    z[n * row++ + i] = (unsigned long long)x[i];                                                                      \
    z[n * row++ + i] = (bool)x[i];                                                                                    \
    z[n * row++ + i] = sizeof x[0] + 16 * sizeof two[0] + 256 * sizeof four[0];                                       \
    z[n * row++ + i] = alignof(number) + 16 * alignof(pair) + 256 * alignof(quad);                                    \
  }

#define FUNCTIONS(fp, number, INTERPRETATION, bits)                                                                   \
  extern "C" __global__ void functions_##number(const float* x, const double* d, unsigned char* y, int n, int zero) { \
    int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;                                                           \
    if (i >= n) return;                                                                                               \
    cudaRoundMode mode = zero ? cudaRoundZero : cudaRoundNearest;                                                     \
    float f = x[i], g = x[n - 1 - i];                                                                                 \
    __half_raw h = __float2half(f), k = __float2half(g);                                                              \
    __nv_bfloat16_raw b = __float2bfloat16(f), c = __float2bfloat16(g);                                               \
    PUT(__nv_cvt_float_to_##fp(f, INTERPRETATION, mode));                                                             \
    PUT(__nv_cvt_double_to_##fp(d[i], INTERPRETATION, mode));                                                         \
    PUT(__nv_cvt_halfraw_to_##fp(h, INTERPRETATION, mode));                                                           \
    PUT(__nv_cvt_bfloat16raw_to_##fp(b, INTERPRETATION, mode));                                                       \
    PUT_ALL(__nv_cvt_float2_to_##fp##x2(make_float2(f, g), INTERPRETATION, mode), 2, bits);                           \
    PUT_ALL(__nv_cvt_double2_to_##fp##x2(make_double2(d[i], g), INTERPRETATION, mode), 2, bits);                      \
    PUT_ALL(__nv_cvt_halfraw2_to_##fp##x2(__half2(h, k), INTERPRETATION, mode), 2, bits);                             \
    PUT_ALL(__nv_cvt_bfloat16raw2_to_##fp##x2(__nv_bfloat162(b, c), INTERPRETATION, mode), 2, bits);                  \
  }                                                                                                                   \
  extern "C" __global__ void to_halves_##number(const unsigned char* x, const __nv_##fp##x2_storage_t* two, __half* y, \
                                                int n) {                                                              \
    int i = threadIdx.x;                                                                                              \
    __half2 pair = __nv_cvt_##fp##x2_to_halfraw2(two[i], INTERPRETATION);                                             \
    y[i] = __nv_cvt_##fp##_to_halfraw(x[i], INTERPRETATION);                                                          \
    y[n + i] = pair.x;                                                                                                \
    y[2 * n + i] = pair.y;                                                                                            \
  }

CLASSES(__nv_fp6_e2m3, __nv_fp6x2_e2m3, __nv_fp6x4_e2m3, 8)
CLASSES(__nv_fp6_e3m2, __nv_fp6x2_e3m2, __nv_fp6x4_e3m2, 8)
CLASSES(__nv_fp4_e2m1, __nv_fp4x2_e2m1, __nv_fp4x4_e2m1, 4)
CLASSES(__nv_fp8_e8m0, __nv_fp8x2_e8m0, __nv_fp8x4_e8m0, 8)
FUNCTIONS(fp6, __nv_fp6_e2m3, __NV_E2M3, 8)
FUNCTIONS(fp6, __nv_fp6_e3m2, __NV_E3M2, 8)
FUNCTIONS(fp4, __nv_fp4_e2m1, __NV_E2M1, 4)

extern "C" __global__ void scales(const float* x, const double* d, unsigned char* y, int n, int zero, int finite) {
  int i = blockIdx.x * blockDim.x + threadIdx.x, row = 0;
  if (i >= n) return;
  cudaRoundMode mode = zero ? cudaRoundZero : cudaRoundPosInf;
  __nv_saturation_t saturate = finite ? __NV_SATFINITE : __NV_NOSAT;
  float f = x[i], g = x[n - 1 - i];
  __nv_bfloat16_raw b = __float2bfloat16(f), c = __float2bfloat16(g);
  PUT(__nv_cvt_float_to_e8m0(f, saturate, mode));
  PUT(__nv_cvt_double_to_e8m0(d[i], saturate, mode));
  PUT(__nv_cvt_bfloat16raw_to_e8m0(b, saturate, mode));
  PUT_ALL(__nv_cvt_float2_to_e8m0x2(make_float2(f, g), saturate, mode), 2, 8);
  PUT_ALL(__nv_cvt_double2_to_e8m0x2(make_double2(d[i], g), saturate, mode), 2, 8);
  PUT_ALL(__nv_cvt_bfloat162raw_to_e8m0x2(__nv_bfloat162(b, c), saturate, mode), 2, 8);
}
extern "C" __global__ void of_scales(const unsigned char* x, __nv_bfloat16* y) {
  int i = threadIdx.x;
  __nv_fp8x2_e8m0 two;
  two.__x = (__nv_fp8x2_storage_t)(x[i] | x[255 - i] << 8);
  __nv_bfloat162 pair = __nv_cvt_e8m0x2_to_bf162raw(two.__x), same = (__nv_bfloat162)two;
  y[i] = __nv_cvt_e8m0_to_bf16raw(x[i]);
  y[256 + i] = pair.x;
  y[512 + i] = pair.y;
  y[768 + i] = same.x;
  y[1024 + i] = same.y;
}
"""

KINDS = {"__nv_fp6_e2m3": (2, 3), "__nv_fp6_e3m2": (3, 2), "__nv_fp4_e2m1": (2, 1)}
"""How many bits of exponent and of digits behind the point they have."""
ALL = (*KINDS, "__nv_fp8_e8m0")


@pytest.fixture(scope="module", params=[{}, {"check": True}], ids=["fast", "check"])
def module(request):
    return RawModule(code=CODE, options=("-std=c++11",), filename="narrow.cu", **request.param)


def values(kind):
    """What every code stands for, by the definition of the format."""
    if kind not in KINDS:
        return np.append(2.0 ** np.arange(-127, 128), np.nan)
    exponents, digits = KINDS[kind]
    code = np.arange(2 ** (exponents + digits))
    exponent, fraction = code >> digits, (code & 2**digits - 1) / 2**digits
    magnitude = np.where(exponent > 0, 1 + fraction, fraction) * 2.0 ** (
        np.maximum(exponent, 1) - 2 ** (exponents - 1) + 1
    )
    return np.concatenate([magnitude, -magnitude])


def codes(x, kind, toward_zero=False, saturate=True):
    """The code that x becomes: of its two neighbours the nearest one, or the even one, or by the mode of rounding."""
    x = np.asarray(x, np.float64)
    if kind not in KINDS:
        table = np.append(values(kind)[:-1], 2.0**128)
        a = np.clip(abs(np.where(np.isnan(x), 1, x)), table[0], table[-1])
        code = np.searchsorted(table, a, side="right") - 1 if toward_zero else np.searchsorted(table, a, side="left")
        code = np.minimum(code, 254) if saturate else np.minimum(code, 255)
        return np.where(np.isnan(x), 255, code)
    table = values(kind)[: values(kind).size // 2]
    last = table.size - 1
    a = np.minimum(abs(np.where(np.isnan(x), np.inf, x)), table[last])
    below = np.searchsorted(table, a, side="right") - 1
    above = np.minimum(below + 1, last)
    up = (a - table[below] > table[above] - a) | ((a - table[below] == table[above] - a) & (below % 2 == 1))
    code = np.where(up & (not toward_zero), above, below)
    return code + np.where(np.signbit(x) & ~np.isnan(x), last + 1, 0)


def as_half(x):
    return x.astype(np.float16).astype(np.float32)


def as_bfloat16(x):
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = (((bits + 0x7FFF + (bits >> 16 & 1)) >> 16) << 16).astype(np.uint32).view(np.float32)
    return np.where(np.isnan(x), np.float32(np.nan), rounded)


def grid(kind):
    """Every value, every tie and what lies beside them, a dense row of numbers, and what is not finite or far away."""
    every = values(kind)
    every = np.unique(every[np.isfinite(every)]).astype(np.float32)
    ties = (every[1:] + every[:-1]) / np.float32(2)
    near = np.concatenate([every, ties])
    beside = [np.nextafter(near, np.float32(side)) for side in (np.inf, -np.inf)]
    row = np.linspace(-9, 9, 1153) if kind in KINDS else 2.0 ** np.linspace(-149, 127.999, 1001)
    ends = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 3e38, -3e38, 1e-45, -1e-45, 2.0**-127, 1.5 * 2.0**-127]
    x = np.concatenate([near, *beside, row.astype(np.float32), -row.astype(np.float32), np.float32(ends)])
    d = x.astype(np.float64) * (1 + np.tile([-1, 0, 1], x.size)[: x.size] * 2.0**-50)  # rounds to x as a float
    d[:6] = [1e300, -1e300, 1e-300, -1e-300, 2.0**128, 5e-324]
    return x, d


def run(module, name, n, *arguments):
    module.get_function(name)((-(-n // 64),), (64,), arguments)


@pytest.mark.parametrize("kind", ALL)
def test_classes_round_and_saturate(module, kind):
    x, d = grid(kind)
    y = np.zeros((28, x.size), np.uint8)
    run(module, f"classes_{kind}", x.size, x, d, y, np.int32(x.size))
    single, double, ones = codes(x, kind), codes(d, kind), codes(np.ones(x.size), kind)
    half, bfloat = codes(as_half(x), kind), codes(as_bfloat16(x), kind)
    other, other_half, other_bfloat = single[::-1], half[::-1], bfloat[::-1]
    expected = [single, double, half, bfloat, single, other, double, other, half, other_half, bfloat, other_bfloat]
    expected += [single, other, ones, single, other, double, ones, other, half, other_half, other_half, other_half]
    expected += [bfloat, other_bfloat, other_bfloat, bfloat]
    for row, (found, right) in enumerate(zip(y, expected, strict=True)):
        np.testing.assert_array_equal(found, right, err_msg=str(row))


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_functions_round_and_saturate(module, kind, zero):
    x, d = grid(kind)
    y = np.zeros((12, x.size), np.uint8)
    run(module, f"functions_{kind}", x.size, x, d, y, np.int32(x.size), np.int32(zero))
    single, double, half, bfloat = (codes(each, kind, bool(zero)) for each in (x, d, as_half(x), as_bfloat16(x)))
    expected = [single, double, half, bfloat, single, single[::-1], double, single[::-1], half, half[::-1]]
    expected += [bfloat, bfloat[::-1]]
    for row, (found, right) in enumerate(zip(y, expected, strict=True)):
        np.testing.assert_array_equal(found, right, err_msg=str(row))


@pytest.mark.parametrize("zero", [0, 1])
@pytest.mark.parametrize("finite", [0, 1])
def test_scales_round_and_saturate(module, zero, finite):
    x, d = grid("__nv_fp8_e8m0")
    y = np.zeros((9, x.size), np.uint8)
    run(module, "scales", x.size, x, d, y, np.int32(x.size), np.int32(zero), np.int32(finite))
    largest = np.float64(np.finfo(np.float32).max)
    d_as_float = np.where(np.isfinite(d), np.clip(d, -largest, largest), d)  # so CUDA's function takes it
    single, double, bfloat = (codes(each, "e8m0", bool(zero), bool(finite)) for each in (x, d_as_float, as_bfloat16(x)))
    expected = [single, double, bfloat, single, single[::-1], double, single[::-1], bfloat, bfloat[::-1]]
    for row, (found, right) in enumerate(zip(y, expected, strict=True)):
        np.testing.assert_array_equal(found, right, err_msg=str(row))


@pytest.mark.parametrize("kind", ALL)
def test_integers_are_rounded_once(module, kind):
    powers = 2 ** np.arange(63, dtype=np.int64)
    x = np.concatenate([np.arange(-70, 70), powers, powers - 1, powers + 1, -powers - 1, 1 - powers, [-(2**63)]])
    y = np.zeros((8, x.size), np.uint8)
    run(module, f"from_integers_{kind}", x.size, x, y, np.int32(x.size))
    dtypes = (np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.int64, np.uint64)
    for row, dtype in zip(y, dtypes, strict=True):
        whole = [int(number) for number in x.astype(dtype)]
        # float64 has no room for all of them: what it leaves out goes into its last bit.
        odd = [
            number if abs(number) < 2**53 else (abs(number) >> 12 | bool(abs(number) & 0xFFF)) * 2.0**12
            for number in whole
        ]
        right = codes(np.copysign(odd, whole), kind)
        np.testing.assert_array_equal(row, right, err_msg=str(dtype))


@pytest.mark.parametrize("kind", ALL)
def test_every_code_becomes_what_it_stands_for(module, kind, rng):
    every = values(kind)
    n, bits = every.size, 4 if "fp4" in kind else 8
    x = np.arange(n)
    second, third, fourth = (rng.permutation(n) for _ in range(3))
    two = (x | second << bits).astype(np.uint8 if bits == 4 else np.uint16)
    four = (x | second << bits | third << 2 * bits | fourth << 3 * bits).astype(np.uint16 if bits == 4 else np.uint32)
    y, z = np.zeros((12, n)), np.zeros((14, n), np.int64)
    module.get_function(f"widened_{kind}")((1,), (n,), (x.astype(np.uint8), two, four, y, z, np.int32(n)))
    low, high = every, every[second]
    expected = [low, low, low.astype(np.float16), low, low, high, low.astype(np.float16), high.astype(np.float16)]
    expected += [low, high, every[third], every[fourth]]
    for row, (found, right) in enumerate(zip(y, expected, strict=True)):
        np.testing.assert_array_equal(found, right, err_msg=str(row))
        np.testing.assert_array_equal(np.signbit(found), np.signbit(right) & ~np.isnan(right), err_msg=str(row))
    dtypes = (np.int8, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, *2 * [np.int64, np.uint64])
    whole = [0 if np.isnan(number) else int(number) for number in every]
    for row, dtype in zip(z, dtypes, strict=False):
        limits = np.iinfo(dtype)
        right = np.array([min(max(number, int(limits.min)), int(limits.max)) for number in whole], dtype)
        right[np.isnan(every)] = np.array([2**63], np.uint64).astype(dtype)[0]  # 0 but in 64 bits
        np.testing.assert_array_equal(row, right.astype(np.int64), err_msg=str(dtype))
    np.testing.assert_array_equal(z[11], every != 0)
    size = 1 + 16 * two.itemsize + 256 * four.itemsize
    assert (z[12:] == size).all()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_become_halves(module, kind):
    every = values(kind)
    x = np.arange(every.size)
    bits = 4 if "fp4" in kind else 8
    two = (x[::-1] | x << bits).astype(np.uint8 if bits == 4 else np.uint16)
    y = np.zeros((3, x.size), np.float16)
    module.get_function(f"to_halves_{kind}")((1,), (x.size,), (x.astype(np.uint8), two, y, np.int32(x.size)))
    np.testing.assert_array_equal(y, [every, every[::-1], every])
    np.testing.assert_array_equal(np.signbit(y), np.signbit([every, every[::-1], every]))


def test_scales_become_bfloat16(module):
    every = values("__nv_fp8_e8m0")
    y = np.zeros((5, 256), np.uint16)
    module.get_function("of_scales")((1,), (256,), (np.arange(256, dtype=np.uint8), y))
    wide = (y.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(wide, [every, every, every[::-1], every, every[::-1]])


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("call", "file"),
    [("__nv_cvt_float_to_fp4(x[0], __NV_E2M1, cudaRoundPosInf)", "narrow_floats.h"),
     ("__nv_cvt_float_to_e8m0(x[0], __NV_NOSAT, cudaRoundNearest)", "cuda_fp8.h")],
)  # fmt: skip
def test_a_rounding_that_there_is_not_is_told(call, file, check):
    code = f'#include <cuda_fp4.h>\nextern "C" __global__ void k(const float* x, int* y) {{ y[0] = {call}; }}'
    kernel = RawKernel(code, "k", check=check)
    with pytest.raises(
        CheckError if check else LaunchError, match=f"{re.escape(file)}.*assertion failed: rounding == "
    ):
        kernel((1,), (1,), (np.ones(1, np.float32), np.zeros(1, np.int32)))
