"""The emulator: CUDA's headers that kernels include, against NumPy and ml_dtypes."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from gpunn.cuda.emulator import RawKernel, RawModule
from gpunn.errors import CompileError

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")

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

UNARY = ["exp", "exp2", "exp10", "log", "log2", "log10", "sqrt", "rsqrt", "rcp", "sin", "cos", "tanh", "tanh_approx"]
UNARY += ["floor", "ceil", "trunc", "rint"]
BINARY = ["__hadd", "__hsub", "__hmul", "__hmax", "__hmin", "__hmax_nan", "__hmin_nan", "__hadd_rn", "__hsub_sat"]
BINARY += ["__hmul_sat"]
COMPARISONS = [name + ending for name in ("eq", "ne", "lt", "le", "gt", "ge") for ending in ("", "u")]
INTEGERS = {
    "short": np.int16,
    "ushort": np.uint16,
    "int": np.int32,
    "uint": np.uint32,
    "ll": np.int64,
    "ull": np.uint64,
}
ROUNDINGS = ("rn", "rz", "rd", "ru")


def in_pairs(function):
    """The name of the function on pairs: __hmax2_nan of __hmax_nan."""
    name, _, ending = function[2:].partition("_")
    return f"__{name}2" + (f"_{ending}" if ending else "")


# `i` is the place of the next result, the first of a row of n.
HALVES = (
    r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>

#define EACH for (long long t = threadIdx.x, i = t; t < n; t += blockDim.x, i = t)
#define NEXT(value) y[i] = value, i += n

#define HALVES(T, T2, word)                                                                         \
  extern "C" __global__ void unary_##word(const T* x, T* y, int n) { EACH {                         \
      T a = x[t]; T2 b = __##word##2##word##2(a); UNARY                                             \
      NEXT(__habs(a)); NEXT(__hneg(a)); NEXT(__high2##word(__habs2(b))); NEXT((-b).y); NEXT(+a); } }\
  extern "C" __global__ void binary_##word(const T* x, T* y, int n) { EACH {                        \
      T a = x[t], b = x[n + t]; T2 c = make_##word##2(a, b), d = __halves2##word##2(b, a); BINARY   \
      NEXT(a + b); NEXT(a - b); NEXT(a * b); NEXT((c + d).y); NEXT((c - d).x); NEXT((c * d).y);     \
      T e = a; T2 f = c; e += b; f -= d; NEXT(e); NEXT(f.x); } }                                    \
  extern "C" __global__ void divisions_##word(const T* x, T* y, int n) { EACH {                     \
      T a = x[t], b = x[n + t]; T2 c = {a, b}, d = {b, a};                                          \
      NEXT(__hdiv(a, b)); NEXT(a / b); NEXT(__h2div(c, d).x); NEXT((c / d).x); } }                  \
  extern "C" __global__ void ternary_##word(const T* x, T* y, int n) { EACH {                       \
      T a = x[t], b = x[n + t], c = x[2 * n + t]; T2 d = {a, b}, e = {b, a}, f = {c, c};            \
      NEXT(__hfma(a, b, c)); NEXT(__hfma2(d, e, f).y); NEXT(__hfma_sat(a, b, c));                   \
      NEXT(__hfma2_sat(d, e, f).x); NEXT(__hfma_relu(a, b, c)); NEXT(__hfma2_relu(d, e, f).y);      \
      NEXT(__hcmadd(T2(a, c), T2(b, a), T2(c, b)).x); NEXT(__hcmadd(T2(a, c), T2(b, a), T2(c, b)).y); } } \
  extern "C" __global__ void compare_##word(const T* x, unsigned* y, int n) { EACH {                \
      T a = x[t], b = x[n + t]; T2 c = {a, b}, d = {b, a}; COMPARISONS                              \
      NEXT(a == b); NEXT(a != b); NEXT(a < b); NEXT(a <= b); NEXT(a > b); NEXT(a >= b);             \
      NEXT(__hisnan(a)); NEXT(__hisinf(a) + 1); NEXT((float)__hisnan2(c).y);                        \
      NEXT(c == T2(a, a)); NEXT(c != T2(a, b)); NEXT(c <= T2(b, b)); NEXT((bool)a); } }              \
  extern "C" __global__ void to_integers_##word(const T* x, long long* y, int n) { EACH {           \
      T a = x[t]; TO_##word NEXT(__##word##2char_rz(a)); NEXT(__##word##2uchar_rz(a));              \
      NEXT((int)a); NEXT((unsigned)a); NEXT((long long)a); NEXT((unsigned char)a); NEXT((short)a);  \
      NEXT(__##word##_as_short(a)); NEXT(__##word##_as_ushort(a)); } }                              \
  extern "C" __global__ void from_integers_##word(const long long* x, T* y, int n) { EACH {         \
      long long a = x[t]; FROM_##word NEXT((T)a); NEXT((T)(int)a); NEXT((T)(unsigned long)a); } }   \
  extern "C" __global__ void from_floats_##word(const float* x, const double* d, T* y, int n) { EACH { \
      float a = x[t]; NEXT(__float2##word##_rn(a)); NEXT(__float2##word##_rz(a));                   \
      NEXT(__float2##word##_rd(a)); NEXT(__float2##word##_ru(a)); NEXT(__float2##word(a));          \
      NEXT(T(a)); NEXT(__floats2##word##2_rn(1.0f, a).y); NEXT(__float22##word##2_rn({a, 0.0f}).x); \
      NEXT(__float2##word##2_rn(a).y); NEXT(__double2##word(d[t])); NEXT(T(d[t])); } }
"""
    + f"#define UNARY {' '.join(f'NEXT(h{f}(a)); NEXT(h2{f}(b).y);' for f in UNARY)}\n"
    + f"#define BINARY {' '.join(f'NEXT({f}(a, b)); NEXT({in_pairs(f)}(c, d).x);' for f in BINARY)}\n"
    + "#define COMPARISONS "
    + " ".join(
        f"NEXT(__h{c}(a, b)); NEXT((float)__h{c}2(c, d).x + 2 * (float)__h{c}2(c, d).y); NEXT(__h{c}2_mask(c, d));"
        f"NEXT(__hb{c}2(c, d));"
        for c in COMPARISONS
    )
    + "".join(
        f"\n#define TO_{word} {' '.join(f'NEXT((long long)__{word}2{i}_{r}(a));' for i in INTEGERS for r in ROUNDINGS)}"
        f"\n#define FROM_{word} {' '.join(f'NEXT(__{i}2{word}_{r}(a));' for i in INTEGERS for r in ROUNDINGS)}"
        for word in ("half", "bfloat16")
    )
    + """
HALVES(__half, __half2, half)
HALVES(__nv_bfloat16, __nv_bfloat162, bfloat16)
"""
)

MOVED = r"""
#include <cuda_bf16.h>

#define MOVED(T, T2, word)                                                                          \
  extern "C" __global__ void moved_##word(const T* x, T* y, T2* z, float* f, unsigned short* bits) { \
      int t = threadIdx.x;                                                                          \
      __shared__ T s[32]; __shared__ T2 p[32];                                                      \
      s[t] = x[t]; p[t] = {x[t], x[t ^ 1]};                                                         \
      __syncthreads();                                                                              \
      y[t] = s[31 - t]; y[32 + t] = __shfl_xor_sync(~0u, x[t], 3);                                  \
      y[64 + t] = __shfl_down_sync(~0u, p[t], 1).y; __stcg(&y[96 + t], __ldg(x + t));               \
      z[t] = __lowhigh2highlow(p[t]); z[32 + t] = __lows2##word##2(p[t], p[31 - t]);                \
      z[64 + t] = __highs2##word##2(p[t], p[31 - t]); z[96 + t] = __high2##word##2(p[t]);           \
      f[t] = __low2float(p[t]) + __high2float(p[t]) + __##word##22float2(p[t]).x;                   \
      T##_raw raw = s[t]; T2##_raw two = p[t]; T back = raw; T2 again = two; bits[t] = raw.x;                       \
      bits[32 + t] = two.y; bits[64 + t] = __##word##_as_ushort(back);                         \
      bits[96 + t] = __##word##_as_ushort(__low2##word(again)); T one = x[t]; one++; --one;          \
      bits[128 + t] = __##word##_as_ushort(one); }
MOVED(__half, __half2, half)
MOVED(__nv_bfloat16, __nv_bfloat162, bfloat16)

extern "C" __global__ void between(const __half* x, __nv_bfloat16* y, __half* z) {
  y[0] = __nv_bfloat16(x[0]);
  z[0] = __half(y[0]);
}
"""

EIGHTS = r"""
#include <cuda_fp8.h>

#define NARROWED(kind, INTERPRETATION)                                                              \
  extern "C" __global__ void narrowed_##kind(const float* x, const double* d, unsigned char* y, int n) { \
    for (int i = threadIdx.x; i < n; i += blockDim.x) {                                             \
      unsigned short two = __nv_cvt_float2_to_fp8x2(make_float2(x[i], -x[i]), __NV_SATFINITE, INTERPRETATION); \
      __nv_fp8x4_##kind four(make_float4(0.0f, 1.0f, x[i], 1.0f));                                  \
      y[i] = __nv_cvt_float_to_fp8(x[i], __NV_SATFINITE, INTERPRETATION);                           \
      y[n + i] = __nv_cvt_float_to_fp8(x[i], __NV_NOSAT, INTERPRETATION);                           \
      y[2 * n + i] = __nv_fp8_##kind(x[i]).__x;                                                     \
      y[3 * n + i] = two & 0xff;                                                                    \
      y[4 * n + i] = (two >> 8) ^ 0x80;                                                             \
      y[5 * n + i] = (four.__x >> 16) & 0xff;                                                       \
      y[6 * n + i] = __nv_fp8_##kind(d[i]).__x;                                                     \
      y[7 * n + i] = __nv_fp8_##kind(__float2half(x[i])).__x;                                       \
      y[8 * n + i] = __nv_fp8x2_##kind(__floats2bfloat162_rn(x[i], 0.0f)).__x & 0xff;               \
    }                                                                                               \
  }                                                                                                 \
  extern "C" __global__ void widened_##kind(const __nv_fp8_##kind* x, float* y, int* z) {           \
    int i = threadIdx.x;                                                                            \
    __nv_fp8x2_storage_t two = (__nv_fp8x2_storage_t)(x[i].__x << 8 | x[255 - i].__x);              \
    __nv_fp8x4_##kind four; four.__x = (unsigned)two << 16;                                         \
    y[i] = (float)x[i];                                                                             \
    y[256 + i] = __half2float((__half)x[i]);                                                        \
    y[512 + i] = (float)(double)x[i];                                                               \
    y[768 + i] = __high2float(__half2(__nv_cvt_fp8x2_to_halfraw2(two, INTERPRETATION)));            \
    y[1024 + i] = ((float4)four).w;                                                                 \
    y[1280 + i] = __bfloat162float((__nv_bfloat16)x[255 - i]);                                      \
    y[1536 + i] = ((float4)four).z;                                                                 \
    z[i] = (int)x[i]; z[256 + i] = (unsigned char)x[i]; z[512 + i] = (bool)x[i];                    \
    z[768 + i] = __nv_fp8_##kind(i - 128).__x; z[1024 + i] = sizeof four + sizeof x[0];             \
  }
NARROWED(e4m3, __NV_E4M3)
NARROWED(e5m2, __NV_E5M2)
"""

CODE = COMPLEX + MOVED + EIGHTS


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def module(request):
    return RawModule(CODE, filename="headers.cu", check=request.param)


@pytest.fixture(scope="module")
def halves():
    return RawModule(HALVES, filename="halves.cu")


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


# --- __half and __nv_bfloat16 ---------------------------------------------------------------------------------------

WORDS = ("half", "bfloat16")
EVERY = np.arange(1 << 16).astype(np.uint16)  # the bits of every number


def wide(bits, word):
    """The numbers that 16 bits each stand for."""
    if word == "half":
        return bits.view(np.float16).astype(np.float64)
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def rounded(x, word, rounding="rn"):
    """The bits of x, rounded: looked up among all numbers of the type."""
    x = np.asarray(x)
    table = wide(EVERY[: 0x7C01 if word == "half" else 0x7F81], word)
    past = 2 * table[-2] - table[-3]  # what would come after the largest number
    magnitude = np.minimum(abs(x), past)
    below = np.clip(np.searchsorted(table[:-1], magnitude, "right") - 1, 0, None)
    above = below + (table[below] != magnitude)
    middle = (table[below] + np.where(above == len(table) - 1, past, table[above])) / 2
    negative = np.signbit(x)
    up = {
        "rn": (magnitude > middle) | ((magnitude == middle) & (below % 2 == 1)),
        "rz": np.zeros(x.shape, bool),
        "rd": negative,
        "ru": ~negative,
    }[rounding]
    bits = np.where(np.isinf(x), len(table) - 1, np.where(up, above, below)) | np.where(negative, 0x8000, 0)
    return np.where(np.isnan(x), 0x7FFF, bits).astype(np.uint16)


def assert_same_bits(got, expected, word, **where):
    nan = np.isnan(wide(got, word)) & np.isnan(wide(expected, word))
    wrong = np.flatnonzero((got != expected) & ~nan)
    assert not wrong.size, (where, len(wrong), got.flat[wrong[:5]], expected.flat[wrong[:5]], wrong[:5])


def some(rng, *shape):
    """Numbers of all sizes, and often the same twice; the first hold every pair of special ones."""
    bits = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    bits[1, ::3] = bits[0, ::3] + rng.integers(-1, 2, bits[0, ::3].shape).astype(np.uint16)
    special = np.array(
        [0, 0x8000, 0x7C00, 0xFC00, 0x7F80, 0xFF80, 0x7FFF, 0xFFFF, 1, 0x8001, 0x3C00, 0x3F80], np.uint16
    )
    bits[:2, : special.size**2] = np.stack(np.meshgrid(special, special)).reshape(2, -1)
    return bits


def launch(halves, kernel, x, rows, dtype=np.uint16, *more):
    n = x.shape[-1]
    y = np.zeros((rows, n), dtype)
    halves.get_function(kernel)((1,), (128,), (x, *more, y, np.int32(n)))
    return y


@pytest.mark.parametrize("word", WORDS)
def test_the_lookup_rounds_as_numpy_and_ml_dtypes(word):
    dtype = np.float16 if word == "half" else pytest.importorskip("ml_dtypes").bfloat16
    x = np.random.default_rng(0).integers(0, 1 << 32, 100000).astype(np.uint32).view(np.float32)
    assert_same_bits(rounded(x, word), x.astype(dtype).view(np.uint16), word)


@pytest.mark.parametrize("word", WORDS)
def test_functions_of_every_number(halves, word):
    x = wide(EVERY, word)
    reference = {"exp10": lambda x: 10.0**x, "rsqrt": lambda x: 1 / np.sqrt(x), "rcp": lambda x: 1 / x}
    reference["tanh_approx"] = np.tanh
    expected = [(name, reference.get(name) or getattr(np, name)) for name in UNARY for _ in range(2)]
    expected += [("abs", abs), ("neg", np.negative), ("abs2", abs), ("-pair", np.negative), ("+", lambda x: x)]
    y = launch(halves, f"unary_{word}", EVERY, len(expected))
    for row, (name, function) in zip(y, expected, strict=True):
        assert_same_bits(row, rounded(function(x), word), word, function=name)


@pytest.mark.parametrize("word", WORDS)
def test_arithmetic(halves, rng, word):
    bits = some(rng, 2, 20000)
    a, b = wide(bits, word)
    zeros = (a == 0) & (b == 0)
    largest_zero = np.where(np.signbit(a) & np.signbit(b), -0.0, 0.0)
    smallest_zero = np.where(np.signbit(a) | np.signbit(b), -0.0, 0.0)
    added, subtracted, multiplied, quotient = a + b, a - b, a * b, rounded(a / b, word)
    results = {
        "__hadd": added,
        "__hsub": subtracted,
        "__hmul": multiplied,
        "__hmax": np.where(zeros, largest_zero, np.fmax(a, b)),
        "__hmin": np.where(zeros, smallest_zero, np.fmin(a, b)),
        "__hmax_nan": np.where(zeros, largest_zero, np.maximum(a, b)),
        "__hmin_nan": np.where(zeros, smallest_zero, np.minimum(a, b)),
        "__hadd_rn": added,
        "__hsub_sat": np.nan_to_num(np.clip(subtracted, 0, 1), nan=0.0) + 0.0,
        "__hmul_sat": np.nan_to_num(np.clip(multiplied, 0, 1), nan=0.0) + 0.0,
    }
    assert list(results) == BINARY
    expected = [results[name] for name in BINARY for _ in range(2)]
    expected += 2 * [added, subtracted, multiplied] + [added, subtracted]
    y = launch(halves, f"binary_{word}", bits, len(expected))
    for i, (row, wanted) in enumerate(zip(y, expected, strict=True)):
        assert_same_bits(row, rounded(wanted, word), word, row=i)
    for row in launch(halves, f"divisions_{word}", bits, 4):
        assert_same_bits(row, quotient, word)


def to_odd(exact):
    """The float64 of a Fraction, or where there is none the one beside it that ends in 1."""
    nearest = np.float64(float(exact))
    if Fraction(float(nearest)) == exact or nearest.view(np.int64) % 2:
        return nearest
    return np.nextafter(nearest, np.inf if exact > Fraction(float(nearest)) else -np.inf)


def fma(a, b, c):
    sums = a * b + c
    for i in np.flatnonzero(np.isfinite(sums) & (sums != 0)):
        sums[i] = to_odd(Fraction(a[i]) * Fraction(b[i]) + Fraction(c[i]))
    return sums


@pytest.mark.parametrize("word", WORDS)
def test_fused_products_are_rounded_once(halves, rng, word):
    bits = some(rng, 3, 6000)
    bits[2, ::2] &= 0x83FF  # a small third number only decides a tie
    a, b, c = wide(bits, word)
    once = fma(a, b, c)
    inner = [wide(rounded(x, word), word) for x in (once, fma(a, a, b))]
    saturated = np.nan_to_num(np.clip(once, 0, 1), nan=0.0) + 0.0
    positive = np.where(once <= 0, 0.0, once)
    expected = [once, once, saturated, saturated, positive, positive, fma(-c, a, inner[0]), fma(c, b, inner[1])]
    y = launch(halves, f"ternary_{word}", bits, len(expected))
    for i, (row, wanted) in enumerate(zip(y, expected, strict=True)):
        assert_same_bits(row, rounded(wanted, word), word, row=i)


@pytest.mark.parametrize("word", WORDS)
def test_comparisons(halves, rng, word):
    bits = some(rng, 2, 2000)
    a, b = wide(bits, word)
    nan = np.isnan(a) | np.isnan(b)
    expected = []
    for name in COMPARISONS:
        function = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater"}.get(name[:2])
        compare = getattr(np, function or "greater_equal")
        one, other = ((x | nan) if name.endswith("u") else (x & ~nan) for x in (compare(a, b), compare(b, a)))
        expected += [one, one + 2 * other, 0xFFFF * one + 0xFFFF0000 * other, one & other]
    expected += [a == b, a != b, a < b, a <= b, a > b, a >= b, np.isnan(a), np.where(np.isinf(a), np.sign(a), 0) + 1]
    expected += [np.isnan(b), a == b, np.isnan(a) & np.isnan(b), a <= b, a != 0]
    y = launch(halves, f"compare_{word}", bits, len(expected), np.uint32)
    np.testing.assert_array_equal(y, np.stack(expected).astype(np.uint32))


def clamped(x, dtype):
    """What the hardware makes of whole numbers x."""
    info = np.iinfo(dtype)
    fits = (x > info.min) & (x < float(info.max))
    values = np.where(fits, x, 0).astype(dtype)
    values = np.where(x >= float(info.max), dtype(info.max), np.where(x <= info.min, dtype(info.min), values))
    return np.where(np.isnan(x), dtype(1 << 63) if dtype == np.uint64 else info.min if info.bits == 64 else 0, values)


@pytest.mark.parametrize("word", WORDS)
def test_conversions_to_integers(halves, word):
    x = wide(EVERY, word)
    whole = dict(zip(ROUNDINGS, (np.rint, np.trunc, np.floor, np.ceil), strict=True))
    expected = [clamped(whole[r](x), dtype) for dtype in INTEGERS.values() for r in ROUNDINGS]
    cut = np.trunc(x)
    expected += [
        clamped(cut, dtype) for dtype in (np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint8, np.int16)
    ]
    expected += [EVERY.view(np.int16), EVERY]
    y = launch(halves, f"to_integers_{word}", EVERY, len(expected), np.int64)
    for i, (row, wanted) in enumerate(zip(y, expected, strict=True)):
        np.testing.assert_array_equal(row, wanted.astype(np.int64), err_msg=str(i))


@pytest.mark.parametrize("word", WORDS)
def test_conversions_from_integers(halves, rng, word):
    x = rng.integers(0, 1 << 64, 2000, dtype=np.uint64) >> rng.integers(0, 64, 2000).astype(np.uint64)
    ties = (2 * rng.integers(1 << 7, 1 << 11, 1000) + 1) << rng.integers(0, 51, 1000)
    x = np.concatenate([x.view(np.int64), ties, ties + 1, ties - 1, -ties, -ties - 1])

    def exact(dtype):
        return np.array([to_odd(Fraction(int(value))) for value in x.astype(dtype)])

    values = {dtype: exact(dtype) for dtype in INTEGERS.values()}
    expected = [rounded(values[dtype], word, r) for dtype in INTEGERS.values() for r in ROUNDINGS]
    expected += [rounded(values[dtype], word) for dtype in (np.int64, np.int32, np.uint64)]
    y = launch(halves, f"from_integers_{word}", x, len(expected))
    for i, (row, wanted) in enumerate(zip(y, expected, strict=True)):
        assert_same_bits(row, wanted, word, row=i)


@pytest.mark.parametrize("word", WORDS)
def test_conversions_from_floats(halves, rng, word):
    numbers = wide(EVERY[:0x7BFF] if word == "half" else EVERY[:0x7F7F], word)
    ties = ((numbers[1:] + numbers[:-1]) / 2).astype(np.float32)[:: 1 + len(numbers) // 10000]
    x = np.concatenate([rng.integers(0, 1 << 32, 5000).astype(np.uint32).view(np.float32), ties, -ties])
    x = np.concatenate([x, np.nextafter(ties, np.float32(np.inf)), np.nextafter(ties, np.float32(0))])
    d = x * (1 + rng.choice([-1, 0, 1], x.size) * 2.0**-45)  # a float rounds that to a tie again
    expected = [rounded(x, word, r) for r in ROUNDINGS] + 5 * [rounded(x, word)] + 2 * [rounded(d, word)]
    for row, wanted in zip(launch(halves, f"from_floats_{word}", x, 11, np.uint16, d), expected, strict=True):
        assert_same_bits(row, wanted, word)


@pytest.mark.parametrize("word", WORDS)
def test_halves_are_moved(module, word):
    x = rounded(np.arange(32) - 7.0, word)
    y, z, f, bits = (
        np.zeros(128, np.uint16),
        np.zeros((128, 2), np.uint16),
        np.zeros(32, np.float32),
        np.zeros(160, np.uint16),
    )
    module.get_function(f"moved_{word}")((1,), (32,), (x, y, z, f, bits))
    lanes = np.arange(32)
    other = x[lanes ^ 1]
    down = np.append(other[1:], other[31])
    np.testing.assert_array_equal(y, np.concatenate([x[::-1], x[lanes ^ 3], down, x]))
    low, high, zipped = np.stack([x, x[::-1]], 1), np.stack([other, other[::-1]], 1), np.stack([other, x], 1)
    np.testing.assert_array_equal(z, np.concatenate([zipped, low, high, np.stack([other, other], 1)]))
    np.testing.assert_array_equal(f, 2 * wide(x, word) + wide(other, word))
    np.testing.assert_array_equal(bits, np.concatenate([x, other, x, x, x]))


def test_from_one_half_type_to_the_other(module):
    x, y, z = np.array([1.2998], np.float16), np.zeros(1, np.uint16), np.zeros(1, np.uint16)
    module.get_function("between")((1,), (1,), (x, y, z))
    assert y.tolist() == [rounded(x, "bfloat16")[0]]
    assert z.tolist() == [rounded(wide(y, "bfloat16"), "half")[0]]


@pytest.mark.parametrize("check", [False, True])
def test_conversions_and_operators_can_be_left_out(check):
    code = """
    #define __CUDA_NO_HALF_CONVERSIONS__
    #define __CUDA_NO_HALF_OPERATORS__
    #define __CUDA_NO_HALF2_OPERATORS__
    #define __CUDA_NO_BFLOAT16_CONVERSIONS__
    #define __CUDA_NO_BFLOAT16_OPERATORS__
    #define __CUDA_NO_BFLOAT162_OPERATORS__
    #include <cuda_bf16.h>
    __device__ __half operator+(__half a, __half b) { return __hsub(a, b); }
    __device__ __nv_bfloat162 operator+(__nv_bfloat162 a, __nv_bfloat162 b) { return __hmul2(a, b); }
    extern "C" __global__ void k(__half* x) {
      __nv_bfloat162 b = __float2bfloat162_rn(3.0f);
      x[0] = x[1] + x[2];
      x[1] = __float2half(__low2float(b + b));
      x[2] = CUDART_INF_FP16;
    }
    """
    x = np.array([0, 5, 3], np.float16)
    RawKernel(code, "k", check=check)((1,), (1,), (x,))
    assert x.tolist() == [2, 9, np.inf]


# --- numbers of 8 bits -----------------------------------------------------------------------------------------------


def to_eight(x, kind, saturate=True):
    """The bits that ml_dtypes makes of x, with too large numbers as CUDA has them."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype, largest = {"e4m3": (ml_dtypes.float8_e4m3fn, 448.0), "e5m2": (ml_dtypes.float8_e5m2, 57344.0)}[kind]
    single = np.asarray(x, np.float32)  # rounded to odd, for ml_dtypes rounds a float64 twice
    between = (single != x) & (single.view(np.int32) % 2 == 0)
    single = np.where(between, np.nextafter(single, np.where(x > single, np.inf, -np.inf).astype(np.float32)), single)
    bits = (
        np.where(np.isnan(x), np.nan, np.clip(single, -largest, largest))
        .astype(np.float32)
        .astype(dtype)
        .view(np.uint8)
    )
    step = 2.0 ** (np.floor(np.log2(largest)) - (3 if kind == "e4m3" else 2))
    # A tie goes to the even one, which the largest of e4m3 is.
    past = abs(x) > largest + step / 2 if kind == "e4m3" else abs(x) >= largest + step / 2
    beyond = (0x7F if kind == "e4m3" else 0x7C) | np.where(np.signbit(x), 0x80, 0)
    return bits if saturate else np.where(past, beyond, bits).astype(np.uint8)


def wide_eight(bits, kind):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    return bits.view({"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}[kind]).astype(np.float32)


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_numbers_become_eight_bits(module, rng, kind):
    every = wide_eight(np.arange(256).astype(np.uint8), kind)
    ends = [np.inf, -np.inf, np.nan, 464, 465, -465, 61439, 61440, 1e30, -1e30, 1e-10, -1e-10]
    near = np.sort(every[np.isfinite(every)])
    ties = (near[1:] + near[:-1]) / 2
    x = np.concatenate([every, ties, np.nextafter(ties, np.float32(np.inf)), rng.standard_normal(300) * 200, ends])
    x = x.astype(np.float32)
    d = x * (1 + rng.choice([-1, 0, 1], x.size) * 2.0**-45)
    y = np.zeros((9, x.size), np.uint8)
    module.get_function(f"narrowed_{kind}")((1,), (32,), (x, d, y, np.int32(x.size)))
    single = to_eight(x, kind)
    half = to_eight(x.astype(np.float16).astype(np.float32), kind)
    bfloat = to_eight(wide(rounded(x, "bfloat16"), "bfloat16"), kind)
    expected = [single, to_eight(x, kind, saturate=False), *4 * [single], to_eight(d, kind), half, bfloat]
    for i, (row, wanted) in enumerate(zip(y, expected, strict=True)):
        number = ~np.isnan(wide_eight(wanted, kind))
        np.testing.assert_array_equal(row[number], wanted[number], err_msg=str(i))
        assert np.isnan(wide_eight(row[~number], kind)).all()


@pytest.mark.parametrize("kind", ["e4m3", "e5m2"])
def test_eight_bits_become_numbers(module, kind):
    every = np.arange(256).astype(np.uint8)
    x, y, z = wide_eight(every, kind), np.zeros((7, 256), np.float32), np.zeros((5, 256), np.int32)
    module.get_function(f"widened_{kind}")((1,), (256,), (every, y, z))
    np.testing.assert_array_equal(y, [*5 * [x], x[::-1], x[::-1]])
    number = ~np.isnan(y)
    np.testing.assert_array_equal(np.signbit(y)[number], np.signbit([*5 * [x], x[::-1], x[::-1]])[number])
    np.testing.assert_array_equal(z[0], clamped(np.trunc(x), np.int32))
    np.testing.assert_array_equal(z[1], clamped(np.trunc(x), np.uint8))
    np.testing.assert_array_equal(z[2], x != 0)
    np.testing.assert_array_equal(z[3], to_eight(np.arange(-128.0, 128), kind))
    assert (z[4] == 5).all()


# --- what else sources use -------------------------------------------------------------------------------------------

LITTLE = r"""
#include <device_functions.h>
#include <sm_30_intrinsics.h>
#include <vector_functions.h>
#include <vector_types.h>

typedef float (*Function)(float);
__device__ float twice(float x) { return 2 * x; }
__device__ float halved(float x) { return x / 2; }
__device__ Function functions[] = {twice, halved};
__managed__ int managed = 3;

extern "C" __global__ void little(float* y) {
  y[0] = functions[threadIdx.x](8) + functions[threadIdx.x + 1](8);
  y[1] = managed++;
  y[2] = __CUDACC_VER_MAJOR__ >= 11;
}
"""


@pytest.mark.parametrize("check", [False, True])
def test_function_pointers_and_managed_variables(check):
    module = RawModule(LITTLE, check=check)
    y = np.zeros(3, np.float32)
    module.get_function("little")((1,), (1,), (y,))
    assert y.tolist() == [20, 3, 1]
    assert module.get_global("managed").view(np.int32)[0] == 4


def test_warp_functions_without_a_mask_on_old_processors():
    code = """extern "C" __global__ void k(int* x) {
      int t = threadIdx.x;
      x[t] = __shfl(t, 3) + 100 * __shfl_xor(t, 1);
      if (t < 8) x[32 + t] = __ballot(t % 2) + 1000 * __any(t == 9) + 2000 * __all(t < 8);
    }"""
    x = np.zeros(40, np.int32)
    RawModule(code, arch=600).get_function("k")((1,), (32,), (x,))
    np.testing.assert_array_equal(x[:32], 3 + 100 * (np.arange(32) ^ 1))
    assert (x[32:] == 0b10101010 + 2000).all()


@pytest.mark.parametrize("call", ["__shfl(3, 0)", "__shfl_xor(3, 1, 16)", "__ballot(1)", "__any(1)", "__all(1)"])
def test_warp_functions_without_a_mask_are_refused(call):
    code = f'extern "C" __global__ void k(int* x) {{\n  x[0] = {call};\n}}'
    name = call.partition("(")[0]
    with pytest.raises(CompileError, match=f"^k.cu:2: .*{name} has no mask, .*: use {name}_sync"):
        RawKernel(code, "k", filename="k.cu")


def test_nvrtc_takes_the_same_source():
    core = pytest.importorskip("cuda.core")
    runtime = pytest.importorskip("nvidia.cuda_runtime")
    include = str(Path(next(iter(runtime.__path__))) / "include")
    program = core.Program(CODE + HALVES, "c++", core.ProgramOptions(arch="sm_90", std="c++17", include_path=[include]))
    try:
        assert program.compile("cubin").code
    finally:
        program.close()
