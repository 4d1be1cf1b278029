"""The functions of CUDA's mathematical library that the host's does not have, against SciPy's."""

from fractions import Fraction

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


# --- roundings --------------------------------------------------------------------------------------------------------

OPERATIONS = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
}
FROM = {"int": np.int32, "uint": np.uint32, "ll": np.int64, "ull": np.uint64}


def rounding_code(mode):
    lines = []
    for prefix, t in (("f", "float"), ("d", "double")):
        fma = f"__fma{'f' if t == 'float' else ''}_{mode}(x[t], z[t], w[t])"
        calls = [f"__{prefix}{name}_{mode}(x[t], z[t])" for name in OPERATIONS]
        calls += [f"__{prefix}rcp_{mode}(x[t])", f"__{prefix}sqrt_{mode}(fabs(x[t]))", fma]
        stores = " ".join(f"y[{i} * n + t] = {call};" for i, call in enumerate(calls))
        lines.append(f"""extern "C" __global__ void {t}_{mode}({t}* y, const {t}* x, const {t}* z, const {t}* w) {{
            int t = threadIdx.x, n = blockDim.x; {stores} }}""")
    for name in [*FROM, "double"]:
        for t in ("float", "double"):
            if name not in ("int", "uint", "double") or t == "float":
                source = {"int": "int", "uint": "unsigned", "ll": "long long", "ull": "unsigned long long"}.get(
                    name, name
                )
                lines.append(f"""extern "C" __global__ void {name}_{t}_{mode}({t}* y, const {source}* x) {{
                    y[threadIdx.x] = __{name}2{t}_{mode}(x[threadIdx.x]); }}""")
    return "\n".join(lines)


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def rounding(request):
    return RawModule("\n".join(map(rounding_code, ("rd", "ru", "rz"))), check=request.param)


def rounded(exact, dtype, mode):
    near = dtype(float(exact))  # perhaps rounded twice, but then next to it
    down, up = np.nextafter(near, dtype(-np.inf)), np.nextafter(near, dtype(np.inf))
    below = max(v for v in (down, near, up) if Fraction(float(v)) <= exact)
    above = min(v for v in (down, near, up) if Fraction(float(v)) >= exact)
    return below if mode == "rd" or (mode == "rz" and exact > 0) else above


@pytest.mark.parametrize("mode", ["rd", "ru", "rz"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arithmetic_in_other_roundings(rounding, dtype, mode):
    x, z, w = np.random.default_rng(1).standard_normal((3, 64)).astype(dtype)
    x[:4], z[:4] = [1, 3, -1, 0.5], [3, 1.5, 3, 0.25]
    y = np.zeros((7, 64), dtype)
    name = "float" if dtype is np.float32 else "double"
    rounding.get_function(f"{name}_{mode}")((1,), (64,), (y, x, z, w))
    a, b, c = ([Fraction(float(v)) for v in each] for each in (x, z, w))
    for row, function in zip(y, OPERATIONS.values(), strict=False):
        assert row.tolist() == [float(rounded(function(p, q), dtype, mode)) for p, q in zip(a, b, strict=True)]
    assert y[4].tolist() == [float(rounded(1 / p, dtype, mode)) for p in a]
    for root, p in zip(y[5], a, strict=True):
        beside = np.nextafter(root, dtype(np.inf if mode != "ru" else 0))
        first, second = Fraction(float(root)) ** 2, Fraction(float(beside)) ** 2
        assert first <= abs(p) < second if mode != "ru" else second < abs(p) <= first
    assert y[6].tolist() == [float(rounded(p * q + r, dtype, mode)) for p, q, r in zip(a, b, c, strict=True)]


@pytest.mark.parametrize("mode", ["rd", "ru", "rz"])
@pytest.mark.parametrize(
    ("source", "name"), [(s, "float") for s in (*FROM, "double")] + [("ll", "double"), ("ull", "double")]
)
def test_conversions_in_other_roundings(rounding, source, name, mode):
    dtype = {"float": np.float32, "double": np.float64}[name]
    if source == "double":
        x = np.random.default_rng(2).standard_normal(40) * 10.0 ** np.arange(-20, 20)
    else:
        edges = np.iinfo(FROM[source])
        x = np.random.default_rng(2).integers(edges.min, edges.max, 40, FROM[source], endpoint=True)
        x[:6] = 1, (1 << 24) + 1, (1 << 24) - 1, edges.max, edges.max - 64, edges.min
    y = np.zeros(40, dtype)
    rounding.get_function(f"{source}_{name}_{mode}")((1,), (40,), (y, x))
    assert y.tolist() == [float(rounded(Fraction(v), dtype, mode)) for v in x.tolist()]


def test_products_of_halves_and_bytes_and_where_addresses_lie():
    code = """extern "C" __global__ void k(int* y, int a, int b, unsigned c, unsigned d) {
        y[0] = __dp2a_lo(a, b, 5); y[1] = __dp2a_hi(a, b, 5); y[2] = __dp2a_lo(c, d, 5u); y[3] = __dp2a_hi(c, d, 5u);
        y[4] = __dp2a_hi(make_short2(-3, 4), make_char4(1, 2, -5, 6), 7);
        y[5] = __dp4a(make_uchar4(1, 2, 3, 255), make_uchar4(9, 8, 7, 255), 1u);
        __shared__ int s;
        int here = 0;
        y[6] = __isShared(&s) + 2 * __isShared(y) + 4 * __isLocal(&here) + 8 * __isLocal(&s) + 16 * __isGlobal(y);
        y[7] = ullmax(3, ~0ull) == ~0ull && ullmin(3, ~0ull) == 3;
        int warpSize = 5;
        y[8] = warpSize + __shfl_sync(1, true, 0) + __shfl_sync(1, (signed char)-3, 0);
    }"""
    y = np.zeros(9, np.int32)
    words = np.array([0xFFFD0004, 0xFB020180], np.uint32)
    args = (*words.view(np.int32), *words)
    RawModule(code).get_function("k")((1,), (1,), (y, *args))
    assert y.tolist() == [
        *(5 + 4 * -128 + -3 * 1, 5 + 4 * 2 + -3 * -5, 5 + 4 * 128 + 0xFFFD * 1, 5 + 4 * 2 + 0xFFFD * 0xFB),
        *(7 + -3 * -5 + 4 * 6, 1 + 9 + 16 + 21 + 255 * 255, 1 + 4 + 16, 1, 5 + 1 - 3),
    ]
