"""cuBLAS as CuPy's wheel calls it, against NumPy and SciPy: on a GPU, and on the emulated device."""

import ctypes
import textwrap
from itertools import product

import numpy as np
import pytest
from own_process import in_a_process

from gpunn.cuda import device
from gpunn.cuda.device import wheel

cupy = pytest.importorskip("cupy")
linalg = pytest.importorskip("scipy.linalg")

pytestmark = pytest.mark.gpu
emulated = pytest.mark.skipif(device.running() is None, reason="of the emulated device")

TYPES = {"s": np.float32, "d": np.float64, "c": np.complex64, "z": np.complex128}
REAL, COMPLEX = "sd", "cz"
N, T, C = 0, 1, 2  # cublasOperation_t
LOWER, UPPER = 0, 1
LEFT, RIGHT = 0, 1
INVALID_VALUE, NOT_SUPPORTED = 7, 15
SIZES = [(1, 1, 1), (2, 3, 5), (7, 13, 1), (1, 31, 17), (37, 1, 11), (64, 48, 32), (97, 101, 307), (33, 65, 600)]


class Blas:
    """Calls functions of the wheel's module with a handle of its own; arrays stand for their addresses."""

    def __init__(self):
        from cupy_backends.cuda.libs import cublas

        self.module = cublas
        self.handle = cublas.create()

    def __call__(self, name, *arguments):
        return getattr(self.module, name)(self.handle, *map(address, arguments))

    def status(self, name, *arguments):
        """The number of the error that the call ends with."""
        with pytest.raises(self.module.CUBLASError) as raised:
            self(name, *arguments)
        return raised.value.status


def address(x):
    if isinstance(x, cupy.ndarray):
        return x.data.ptr
    return x.ctypes.data if isinstance(x, np.ndarray) else x


@pytest.fixture
def blas():
    blas = Blas()
    yield blas
    blas.module.destroy(blas.handle)


def random(rng, shape, dtype):
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return np.asfortranarray(x.astype(dtype))


def up(x):
    """An array of the host or of the device on the device, by columns."""
    return cupy.asarray(x, order="F")


def one(value, letter):
    return np.array([value], TYPES[letter])


def op(a, how):
    return {N: a, T: a.T, C: a.conj().T}[how]


def factors(letter):
    """alpha and beta that matter in this type."""
    return (0.5 - 2j, -1.5 + 1j) if letter in COMPLEX else (0.5, -1.5)


def assert_close(got, want, length, size=None):
    """Equal but for the rounding of sums of ``length`` numbers; ``size`` is how large the sums of absolutes are."""
    got = cupy.asnumpy(got)
    dtype = got.dtype
    bound = np.finfo(dtype).eps * (length + 8) * (np.abs(want).max(initial=0) if size is None else size.max(initial=0))
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, rtol=0, atol=float(bound) + 1e-300)


# ---- products of matrices ----


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize(("how_a", "how_b"), list(product((N, T, C), repeat=2)))
def test_gemm_is_the_product_of_what_is_stored(blas, rng, letter, how_a, how_b):
    alpha, beta = factors(letter)
    for m, n, k in SIZES:
        a = random(rng, ((m, k) if how_a == N else (k, m)) + np.array([2, 0]), TYPES[letter])
        b = random(rng, ((k, n) if how_b == N else (n, k)) + np.array([3, 0]), TYPES[letter])
        c = random(rng, (m + 1, n), TYPES[letter])
        out = up(c)
        blas(
            f"{letter}gemm", how_a, how_b, m, n, k, one(alpha, letter), up(a), len(a), up(b), len(b),
            one(beta, letter), out, len(c),
        )  # fmt: skip
        left, right = op(a[:-2], how_a), op(b[:-3], how_b)
        want = c.astype(complex if letter in COMPLEX else float)
        want[:m] = alpha * (left @ right.astype(want.dtype)) + beta * want[:m]
        assert_close(out[:m], want[:m], k, abs(alpha) * (abs(left) @ abs(right)) + abs(beta * c[:m]))
        assert (cupy.asnumpy(out[m:]) == c[m:]).all()  # what lies between the columns is left alone


@pytest.mark.parametrize("letter", TYPES)
def test_gemm_reads_nothing_that_a_zero_makes_useless(blas, rng, letter):
    a, b = random(rng, (5, 4), TYPES[letter]), random(rng, (4, 3), TYPES[letter])
    nan = np.full((5, 3), np.nan, TYPES[letter], order="F")
    out = up(nan)
    blas(f"{letter}gemm", N, N, 5, 3, 4, one(1, letter), up(a), 5, up(b), 4, one(0, letter), out, 5)
    assert_close(out, a @ b, 4)
    c = random(rng, (5, 3), TYPES[letter])
    out = up(c)
    bad = up(np.full((5, 5), np.nan, TYPES[letter]))
    blas(f"{letter}gemm", N, N, 5, 3, 4, one(0, letter), bad, 5, bad, 5, one(2, letter), out, 5)
    assert (cupy.asnumpy(out) == 2 * c).all()
    out = up(nan)
    blas(f"{letter}gemm", N, N, 5, 3, 0, one(1, letter), bad, 5, bad, 5, one(0, letter), out, 5)
    assert (cupy.asnumpy(out) == 0).all()


def test_nan_in_a_factor_comes_through(blas):
    a = np.ones((4, 4), np.float32, order="F")
    a[2, 1] = np.nan
    out = up(np.zeros((4, 4), np.float32))
    blas("sgemm", N, N, 4, 4, 4, one(1, "s"), up(a), 4, up(np.ones((4, 4), np.float32)), 4, one(0, "s"), out, 4)
    assert (np.isnan(cupy.asnumpy(out)) == (np.arange(4) == 2)[:, None]).all()


@pytest.mark.parametrize("dtype", [np.float16, *TYPES.values()])
@pytest.mark.parametrize("layout", ["C", "F", "every second", "backwards", "transposed"])
def test_matmul_of_arrays_however_they_lie(rng, dtype, layout):
    lay = {
        "C": lambda x: cupy.asarray(x, order="C"),
        "F": up,
        "every second": lambda x: cupy.asarray(np.repeat(np.repeat(x, 2, 0), 2, 1))[::2, ::2],
        "backwards": lambda x: cupy.asarray(x[::-1, ::-1].copy())[::-1, ::-1],
        "transposed": lambda x: cupy.asarray(x.T.copy()).T,
    }[layout]
    for m, n, k in [*SIZES, (0, 3, 2), (3, 0, 2), (3, 2, 0)]:
        a, b = random(rng, (m, k), dtype), random(rng, (k, n), dtype)
        wide = np.promote_types(dtype, np.float64)
        want = a.astype(wide) @ b.astype(wide)
        assert_close(lay(a) @ lay(b), want, k, abs(a).astype(float) @ abs(b).astype(float))


@pytest.mark.parametrize("dtype", [np.float16, *TYPES.values()])
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 5, 7), (3, 7, 2)),
        ((4, 1, 3, 5), (2, 5, 6)),
        ((5, 7), (3, 7, 2)),
        ((0, 3, 2), (0, 2, 4)),
        ((6, 1, 1), (1, 1)),
    ],
)
def test_matmul_of_batches(rng, dtype, left, right):
    a, b = random(rng, left, dtype), random(rng, right, dtype)
    wide = np.promote_types(dtype, np.float64)
    size = abs(a).astype(float) @ abs(b).astype(float)
    assert_close(cupy.asarray(a) @ cupy.asarray(b), a.astype(wide) @ b.astype(wide), left[-1], size)


@pytest.mark.parametrize("letter", TYPES)
def test_batches_by_stride_and_by_list(blas, rng, letter):
    alpha, beta = factors(letter)
    m, n, k, count = 5, 7, 3, 4
    # By columns each: the first axis is the number of the matrix, the last one runs down a column.
    a, b = random(rng, (count, m, k), TYPES[letter]), random(rng, (1, k, n), TYPES[letter])
    c = random(rng, (count, n, m), TYPES[letter])
    a, b, c = (np.ascontiguousarray(x) for x in (a, b, c))
    want = alpha * (a @ b.transpose(0, 2, 1).swapaxes(1, 2)).transpose(0, 2, 1) + beta * c
    left, right, out = cupy.asarray(a), cupy.asarray(b), cupy.asarray(c)
    scalars = one(alpha, letter), one(beta, letter)
    # The left factor lies by rows, so it is transposed; the right one has stride 0: it is one for all.
    blas(
        f"{letter}gemmStridedBatched", T, T, m, n, k, scalars[0], left, k, m * k, right, n, 0, scalars[1], out, m,
        m * n, count,
    )  # fmt: skip
    assert_close(out, want, k, abs(alpha) * 3 * k + abs(want))
    out = cupy.asarray(c)
    places = [
        cupy.asarray([x.data.ptr + i * step * x.itemsize for i in range(count)], np.uintp)
        for x, step in ((left, m * k), (right, 0), (out, m * n))
    ]
    blas(
        f"{letter}gemmBatched", T, T, m, n, k, scalars[0], places[0], k, places[1], n, scalars[1], places[2], m, count
    )  # fmt: skip
    assert_close(out, want, k, abs(alpha) * 3 * k + abs(want))


# cudaDataType_t and cublasComputeType_t
NUMBER = {"f": 0, "d": 1, "e": 2, "b": 3, "F": 4, "D": 5, "i": 10, "bf16": 14}
F16, F32, F64, I32, FAST_TF32 = 64, 68, 70, 72, 77


def bfloat16(x):
    """The bits of the nearest bfloat16, ties to even."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def stored(x, kind):
    """An array as one of a type of cuBLAS, and the values that it has then."""
    if kind == "bf16":
        bits = bfloat16(x.real)
        return np.asfortranarray(bits), (bits.astype(np.uint32) << 16).view(np.float32).astype(float)
    if kind == "b":
        x = np.round(x.real * 40)
    x = np.asfortranarray((x if kind in "FD" else x.real).astype(kind))
    return x, x.astype(complex if kind in "FD" else float)


def values(x, kind):
    return (x.astype(np.uint32) << 16).view(np.float32) if kind == "bf16" else x


EX = [
    ("e", "e", F16, "e"), ("e", "e", F32, "f"), ("e", "f", F32, "f"), ("bf16", "bf16", F32, "f"),
    ("bf16", "f", F32, "f"), ("f", "f", F32, "f"), ("f", "f", FAST_TF32, "f"), ("F", "F", F32, "F"),
    ("d", "d", F64, "d"), ("D", "D", F64, "D"), ("b", "i", I32, "i"), ("b", "f", F32, "f"),
]  # fmt: skip


@pytest.mark.parametrize(("factor", "result", "compute", "scalar"), EX)
@pytest.mark.parametrize("batched", [False, True])
def test_products_of_mixed_types(blas, rng, factor, result, compute, scalar, batched):
    count, m, n, k = 3 if batched else 1, 8, 12, 300 if factor != "e" or compute != F16 else 20
    a, a_values = zip(*(stored(random(rng, (m, k), complex), factor) for _ in range(count)), strict=True)
    b, b_values = zip(*(stored(random(rng, (k, n), complex), factor) for _ in range(count)), strict=True)
    c, c_values = zip(*(stored(random(rng, (m, n), complex), result) for _ in range(count)), strict=True)
    left, right, out = (cupy.asarray(np.stack([x.T for x in group])) for group in (a, b, c))
    alpha, beta = np.array([2], scalar), np.array([3], scalar)
    types = NUMBER[factor], NUMBER[result]
    if batched:
        blas(
            "gemmStridedBatchedEx", N, N, m, n, k, alpha, left, types[0], m, m * k, right, types[0], k, k * n, beta,
            out, types[1], m, m * n, count, compute, -1,
        )  # fmt: skip
    else:
        blas(
            "gemmEx", N, N, m, n, k, alpha, left, types[0], m, right, types[0], k, beta, out, types[1], m, compute, -1
        )  # fmt: skip
    got = values(cupy.asnumpy(out), result)
    eps = {"bf16": 2.0**-8, "i": 0}.get(result) if result in ("bf16", "i") else np.finfo(result).eps
    sums = 2e-3 if compute in (F16, FAST_TF32) else 1e-5 if scalar in "fF" else 1e-13
    for i in range(count):
        want = 2 * a_values[i] @ b_values[i] + 3 * c_values[i]
        size = 2 * (abs(a_values[i]) @ abs(b_values[i])) + 3 * abs(c_values[i])
        exact = factor == "b" and result == "i"
        assert (abs(got[i].T - want) <= (0 if exact else eps * abs(want) + sums * size)).all()


def test_sums_of_halves_are_wider_than_halves(blas):
    k = 4096  # 1 + 1 + ... stops at 2048 in float16
    a, b, out = cupy.ones((1, k), np.float16), cupy.ones((k, 1), np.float16), cupy.zeros((1, 1), np.float32)
    scalars = np.ones(1, np.float32), np.zeros(1, np.float32)
    blas("sgemmEx", N, N, 1, 1, k, scalars[0], a, 2, 1, b, 2, k, scalars[1], out, 0, 1)
    assert float(out[0, 0]) == k


@pytest.mark.parametrize(
    ("factors", "result", "compute"),
    [("ef", "f", F32), ("ee", "d", F64), ("ff", "e", F32), ("dd", "d", F32), ("ee", "e", FAST_TF32), ("bb", "b", I32)],
)
def test_types_that_do_not_go_together_are_refused(blas, factors, result, compute):
    a, scalar = cupy.zeros((4, 4), np.complex128), np.zeros(1, np.complex128)
    left, right = (NUMBER[x] for x in factors)
    status = blas.status(
        "gemmEx", N, N, 4, 4, 4, scalar, a, left, 4, a, right, 4, scalar, a, NUMBER[result], 4, compute, -1
    )  # fmt: skip
    assert status == NOT_SUPPORTED


def test_bytes_are_summed_where_they_lie_in_fours(blas):
    a, out, one = cupy.ones((8, 8), np.int8), cupy.zeros((8, 8), np.int32), np.ones(1, np.int32)
    rest = one, out, NUMBER["i"], 4, I32, -1
    blas("gemmEx", N, N, 4, 4, 4, one, a, NUMBER["b"], 8, a, NUMBER["b"], 4, *rest)
    assert (out.ravel()[:16] == 4).all()
    assert blas.status("gemmEx", N, N, 4, 4, 4, one, a, NUMBER["b"], 7, a, NUMBER["b"], 4, *rest) == NOT_SUPPORTED
    assert blas.status("gemmEx", N, N, 4, 4, 4, one, a.data.ptr + 1, 3, 4, a, 3, 4, *rest) == NOT_SUPPORTED


def test_equal_bits_whenever_it_is_asked(blas, rng):
    a, b = (up(random(rng, (211, 211), np.float32)) for _ in range(2))
    first, second = a @ b, a @ b
    assert (first == second).all()


# ---- vectors ----


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("n", [0, 1, 2, 3, 97, 1000, 1031])
def test_sums_over_vectors(blas, rng, letter, n):
    wide = complex if letter in COMPLEX else float
    real = {"c": "s", "z": "d"}.get(letter, letter)
    x, y = (random(rng, 3 * n, TYPES[letter]) for _ in range(2))
    on_x, on_y = cupy.asarray(x), cupy.asarray(y)
    results = {}
    dots = [f"{letter}dotu", f"{letter}dotc"] if letter in COMPLEX else [f"{letter}dot"]
    for name in dots:
        results[name] = np.full(1, np.nan, TYPES[letter])
        blas(name, n, on_x, 3, on_y, 2, results[name])
    prefix = {"c": "sc", "z": "dz"}.get(letter, letter)
    for name in ("asum", "nrm2"):
        results[name] = np.full(1, np.nan, TYPES[real])
        blas(prefix + name, n, on_x, 3, results[name])
    left, right = x[::3].astype(wide)[:n], y[::2].astype(wide)[:n]
    size = np.array([abs(left) @ abs(right)])
    assert_close(results[dots[0]], np.array([left @ right]), n, size)
    if letter in COMPLEX:
        assert_close(results[dots[1]], np.array([left.conj() @ right]), n, size)
    assert_close(results["asum"], np.array([(abs(left.real) + abs(left.imag)).sum()]), n)
    assert_close(results["nrm2"], np.array([np.sqrt((abs(left) ** 2).sum())]), n)


@pytest.mark.parametrize("letter", TYPES)
def test_norms_of_what_has_no_square(blas, letter):
    real = TYPES[{"c": "s", "z": "d"}.get(letter, letter)]
    for scale in (np.finfo(real).max / 4, np.finfo(real).tiny * 4):
        result = np.zeros(1, real)
        x = cupy.full(5, scale, TYPES[letter])
        blas({"c": "sc", "z": "dz"}.get(letter, letter) + "nrm2", 5, x, 1, result)
        np.testing.assert_allclose(result[0], scale * np.sqrt(5), rtol=1e-5)
    x = cupy.full(1, np.finfo(real).max * (0.6 + 0.6j if letter in COMPLEX else 1), TYPES[letter])
    blas({"c": "sc", "z": "dz"}.get(letter, letter) + "nrm2", 1, x, 1, result)
    np.testing.assert_allclose(result[0], abs(x.get()[0] / 2) * 2, rtol=1e-5)


@pytest.mark.parametrize("letter", TYPES)
def test_the_first_of_the_largest_and_smallest(blas, letter):
    x = np.array([3, -7, 1, 7, -1, 2], TYPES[letter])
    if letter in COMPLEX:
        x = np.array([3, -4 + 3j, 1, 7, -1, 5.5j], TYPES[letter])  # |re| + |im|: 3, 7, 1, 7, 1, 5.5
    spread = cupy.asarray(np.repeat(x, 2))
    found = np.full(1, -1, np.int32)
    for name, step, n, want in (("amax", 2, 6, 2), ("amin", 2, 6, 3), ("amax", 2, 1, 1), ("amax", 2, 0, 0)):
        blas(f"i{letter}{name}", n, spread, step, found)
        assert found[0] == want


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("on_device", [False, True])
def test_vectors_are_scaled_and_added(blas, rng, letter, on_device):
    alpha = factors(letter)[0]
    x, y = (random(rng, 60, TYPES[letter]) for _ in range(2))
    scalar = one(alpha, letter)
    if on_device:
        blas("setPointerMode", 1)
        scalar = cupy.asarray(scalar)
    to = cupy.asarray(y)
    blas(f"{letter}axpy", 20, scalar, cupy.asarray(x), 2, to, 3)
    want = y.copy()
    want[::3] += TYPES[letter](alpha) * x[:40:2]
    assert_close(to, want, 1)
    to = cupy.asarray(y)
    blas(f"{letter}axpy", 20, scalar, cupy.asarray(x), -1, to, 1)
    want = y.copy()
    want[:20] += TYPES[letter](alpha) * x[:20][::-1]
    assert_close(to, want, 1)
    to = cupy.asarray(y)
    blas(f"{letter}scal", 20, scalar, to, 3)
    want = y.copy()
    want[::3] *= TYPES[letter](alpha)
    assert_close(to, want, 1)


@pytest.mark.parametrize(("name", "letter"), [("csscal", "c"), ("zdscal", "z")])
def test_complex_vectors_are_scaled_by_real_numbers(blas, rng, name, letter):
    x = random(rng, 10, TYPES[letter])
    to = cupy.asarray(x)
    blas(name, 10, np.array([3], TYPES[letter]().real.dtype), to, 1)
    assert_close(to, 3 * x, 1)


# ---- a matrix and vectors ----


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("how", [N, T, C])
@pytest.mark.parametrize("steps", [(1, 1), (2, 3), (-1, -2)])
def test_gemv(blas, rng, letter, how, steps):
    alpha, beta = factors(letter)
    for m, n in ((1, 1), (1, 19), (23, 1), (7, 5), (211, 307)):
        a = random(rng, (m + 2, n), TYPES[letter])
        columns, rows = (n, m) if how == N else (m, n)
        x, y = random(rng, columns * abs(steps[0]), TYPES[letter]), random(rng, rows * abs(steps[1]), TYPES[letter])
        out = cupy.asarray(y)
        blas(
            f"{letter}gemv", how, m, n, one(alpha, letter), up(a), m + 2, cupy.asarray(x), steps[0],
            one(beta, letter), out, steps[1],
        )  # fmt: skip
        wide = complex if letter in COMPLEX else float
        seen = [v[:: abs(s)][:: 1 if s > 0 else -1].astype(wide) for v, s in zip((x, y), steps, strict=True)]
        left = op(a[:m], how).astype(wide)
        got = cupy.asnumpy(out)[:: abs(steps[1])][:: 1 if steps[1] > 0 else -1]
        size = abs(alpha) * (abs(left) @ abs(seen[0])) + abs(beta * seen[1])
        assert_close(got, alpha * (left @ seen[0]) + beta * seen[1], columns, size)


@pytest.mark.parametrize("letter", TYPES)
def test_gemv_does_not_read_what_it_need_not(blas, letter):
    nan, out = cupy.full((4, 4), np.nan, TYPES[letter]), cupy.full(4, np.nan, TYPES[letter])
    ones = cupy.ones((4, 4), TYPES[letter])
    blas(f"{letter}gemv", N, 4, 4, one(1, letter), ones, 4, ones, 1, one(0, letter), out, 1)
    assert (out == 4).all()
    blas(f"{letter}gemv", N, 4, 4, one(0, letter), nan, 4, nan, 1, one(2, letter), out, 1)
    assert (out == 8).all()


@pytest.mark.parametrize("name", ["sger", "dger", "cgeru", "cgerc", "zgeru", "zgerc"])
def test_outer_products_are_added(blas, rng, name):
    letter = name[0]
    alpha = TYPES[letter](factors(letter)[0])
    for m, n in ((1, 1), (5, 3), (31, 37)):
        x, y, a = (random(rng, shape, TYPES[letter]) for shape in (2 * m, n, (m + 1, n)))
        out = up(a)
        blas(name, m, n, one(alpha, letter), cupy.asarray(x), 2, cupy.asarray(y), -1, out, m + 1)
        right = y[::-1].conj() if name.endswith("c") else y[::-1]
        want = a.copy()
        want[:m] += alpha * np.outer(x[::2], right)
        assert_close(out, want, 2)


@pytest.mark.parametrize("letter", REAL)
@pytest.mark.parametrize("triangle", [LOWER, UPPER])
@pytest.mark.parametrize(("n", "k"), [(1, 0), (5, 2), (7, 11), (40, 3)])
def test_banded_symmetric_matrices(blas, rng, letter, triangle, n, k):
    full = random(rng, (n, n), TYPES[letter])
    full = np.where(abs(np.subtract.outer(range(n), range(n))) <= k, full + full.T, 0)
    band = np.full((k + 2, n), np.nan, TYPES[letter], order="F")
    for i, j in product(range(n), repeat=2):
        if abs(i - j) <= k and (i >= j if triangle == LOWER else i <= j):
            band[i - j if triangle == LOWER else k + i - j, j] = full[i, j]
    x, y = random(rng, n, TYPES[letter]), random(rng, 2 * n, TYPES[letter])
    out = cupy.asarray(y)
    blas(
        f"{letter}sbmv", triangle, n, k, one(2, letter), up(band), k + 2, cupy.asarray(x), 1, one(3, letter), out, 2
    )  # fmt: skip
    assert_close(out[::2], 2 * full @ x + 3 * y[::2], n, 2 * abs(full) @ abs(x) + 3 * abs(y[::2]))
    assert (cupy.asnumpy(out)[1::2] == y[1::2]).all()


# ---- matrices ----


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize(("how_a", "how_b"), list(product((N, T, C), repeat=2)))
def test_matrices_are_added(blas, rng, letter, how_a, how_b):
    alpha, beta = (TYPES[letter](x) for x in factors(letter))
    m, n = 5, 7
    a = random(rng, (m, n) if how_a == N else (n, m), TYPES[letter])
    b = random(rng, (m, n) if how_b == N else (n, m), TYPES[letter])
    nan, out = cupy.full((m, n), np.nan, TYPES[letter]), up(np.zeros((m, n), TYPES[letter]))
    ld = len(a), len(b)
    blas(
        f"{letter}geam", how_a, how_b, m, n, one(alpha, letter), up(a), ld[0], one(beta, letter), up(b), ld[1], out, m
    )  # fmt: skip
    assert_close(out, alpha * op(a, how_a) + beta * op(b, how_b), 4)
    blas(f"{letter}geam", how_a, N, m, n, one(alpha, letter), up(a), ld[0], one(0, letter), nan, m, out, m)
    assert_close(out, alpha * op(a, how_a), 4)
    blas(f"{letter}geam", N, how_b, m, n, one(0, letter), nan, m, one(beta, letter), up(b), ld[1], out, m)
    assert_close(out, beta * op(b, how_b), 4)


def test_geam_works_in_place_only_where_nothing_moves(blas):
    a = up(np.arange(16, dtype=np.float32).reshape(4, 4))
    b = up(np.ones((4, 4), np.float32))
    blas("sgeam", N, T, 4, 4, one(2, "s"), a, 4, one(1, "s"), b, 4, a, 4)
    assert (cupy.asnumpy(a) == 2 * np.arange(16).reshape(4, 4) + 1).all()
    assert blas.status("sgeam", T, N, 4, 4, one(2, "s"), a, 4, one(1, "s"), b, 4, a, 4) == INVALID_VALUE


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("side", [LEFT, RIGHT])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_products_with_a_diagonal(blas, rng, letter, side, step):
    m, n = 5, 3
    a, x = random(rng, (m + 1, n), TYPES[letter]), random(rng, (m if side == LEFT else n) * abs(step), TYPES[letter])
    out = up(np.zeros((m, n), TYPES[letter]))
    blas(f"{letter}dgmm", side, m, n, up(a), m + 1, cupy.asarray(x), step, out, m)
    diagonal = x[:: abs(step)][:: 1 if step > 0 else -1]
    assert_close(out, a[:m] * (diagonal[:, None] if side == LEFT else diagonal), 2)


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("triangle", [LOWER, UPPER])
@pytest.mark.parametrize("how", [N, T])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 3), (33, 7), (131, 70), (4, 0)])
def test_syrk_writes_one_triangle(blas, rng, letter, triangle, how, n, k):
    alpha, beta = factors(letter)
    a = random(rng, (n, k) if how == N else (k, n), TYPES[letter])
    c = random(rng, (n, n), TYPES[letter])
    out = up(c)
    ld = max(1, len(a))
    blas(f"{letter}syrk", triangle, how, n, k, one(alpha, letter), up(a), ld, one(beta, letter), out, n)
    wide = op(a, how).astype(complex if letter in COMPLEX else float)
    part = np.tril(np.ones((n, n), bool)) if triangle == LOWER else np.triu(np.ones((n, n), bool))
    want = np.where(part, alpha * wide @ wide.T + beta * c, c)
    assert_close(out, want, k, abs(alpha) * abs(wide) @ abs(wide.T) + abs(beta * c) + abs(c))
    out = up(np.full((n, n), np.nan, TYPES[letter]))
    blas(f"{letter}syrk", triangle, how, n, k, one(1, letter), up(a), ld, one(0, letter), out, n)
    assert (np.isnan(cupy.asnumpy(out)) == ~part).all()


def triangular(rng, n, letter, triangle, unit):
    """A triangle that is far from singular, with NaN where nobody may look."""
    a = random(rng, (n, n), TYPES[letter]) / max(1, n) + 2 * np.eye(n)
    a = np.tril(a) if triangle == LOWER else np.triu(a)
    seen = a.copy()
    if unit:
        np.fill_diagonal(seen, 1)
        np.fill_diagonal(a, np.nan)
    hidden = np.triu(np.ones((n, n), bool), 1) if triangle == LOWER else np.tril(np.ones((n, n), bool), -1)
    a[hidden] = np.nan
    return np.asfortranarray(a.astype(TYPES[letter])), seen.astype(TYPES[letter])


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize(("side", "triangle", "how", "unit"), list(product((0, 1), (0, 1), (N, T, C), (0, 1))))
def test_triangles_are_solved(blas, rng, letter, side, triangle, how, unit):
    alpha = factors(letter)[0]
    for m, n in ((1, 1), (5, 3), (3, 5), (40, 67)):
        order = m if side == LEFT else n
        a, seen = triangular(rng, order, letter, triangle, unit)
        b = random(rng, (m, n), TYPES[letter])
        out = up(b)
        blas(f"{letter}trsm", side, triangle, how, unit, m, n, one(alpha, letter), up(a), order, out, m)
        got = cupy.asnumpy(out)
        left = op(seen, how)
        assert_close(left @ got if side == LEFT else got @ left, alpha * b, 4 * order)


def test_triangles_of_zero_are_not_read(blas):
    out, nan = cupy.full((3, 3), np.nan, np.float32), cupy.full((3, 3), np.nan, np.float32)
    blas("strsm", LEFT, LOWER, N, 0, 3, 3, one(0, "s"), nan, 3, out, 3)
    assert (out == 0).all()


def list_of(batch):
    return cupy.asarray([x.data.ptr for x in batch], np.uintp)


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("side", [LEFT, RIGHT])
def test_batches_of_triangles(blas, rng, letter, side):
    m, n, count = 6, 4, 3
    order = m if side == LEFT else n
    triangles = [triangular(rng, order, letter, UPPER, 0) for _ in range(count)]
    b = [random(rng, (m, n), TYPES[letter]) for _ in range(count)]
    a, out = [up(x) for x, _ in triangles], [up(x) for x in b]
    blas(
        f"{letter}trsmBatched", side, UPPER, N, 0, m, n, one(1, letter), list_of(a), order, list_of(out), m, count
    )  # fmt: skip
    for i in range(count):
        got, seen = cupy.asnumpy(out[i]), triangles[i][1]
        assert_close(seen @ got if side == LEFT else got @ seen, b[i], 4 * order)


# ---- factors ----


def unpack(factors, pivots):
    """What the factors are those of."""
    n = len(factors)
    product = (np.tril(factors, -1) + np.eye(n)) @ np.triu(factors)
    for i in reversed(range(n)):
        product[[i, pivots[i] - 1]] = product[[pivots[i] - 1, i]]
    return product


@pytest.mark.parametrize("letter", TYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 37, 70])
@pytest.mark.parametrize("pivoted", [True, False])
def test_factors_solutions_and_inverses(blas, rng, letter, n, pivoted):
    count, columns, wide = 3, 4, complex if letter in COMPLEX else float
    a = [random(rng, (n, n), TYPES[letter]) for _ in range(count)]
    if not pivoted:
        a = [np.asfortranarray(x + 2 * n * np.eye(n, dtype=x.dtype)) for x in a]
    held, ld = [up(x) for x in a], n
    pivots = cupy.zeros((count, n), np.int32) if pivoted else 0
    info = cupy.full(count, -1, np.int32)
    blas(f"{letter}getrfBatched", n, list_of(held), ld, pivots, info, count)
    assert (info == 0).all()
    rows = cupy.asnumpy(pivots) if pivoted else np.tile(np.arange(1, n + 1), (count, 1))
    eps = np.finfo(TYPES[letter]).eps
    for i in range(count):
        got = cupy.asnumpy(held[i]).astype(wide)
        np.testing.assert_allclose(unpack(got, rows[i]), a[i], rtol=0, atol=20 * n * eps * abs(a[i]).max())
        if pivoted:
            assert abs(np.tril(got, -1)).max() <= np.sqrt(2) * 1.001  # |re| + |im| chooses the pivot
    condition = max(np.linalg.cond(x) for x in a)
    for how in (N, T, C):
        b = [random(rng, (n, columns), TYPES[letter]) for _ in range(count)]
        out = [up(x) for x in b]
        told = np.full(1, -1, np.int32)
        blas(f"{letter}getrsBatched", how, n, columns, list_of(held), ld, pivots, list_of(out), n, told, count)
        assert told[0] == 0
        for i in range(count):
            want = np.linalg.solve(op(a[i].astype(wide), how), b[i])
            atol = 20 * n * eps * condition * abs(want).max()
            np.testing.assert_allclose(cupy.asnumpy(out[i]), want, rtol=0, atol=atol)
    inverses = [up(np.zeros((n, n), TYPES[letter])) for _ in range(count)]
    info = cupy.full(count, -1, np.int32)
    blas(f"{letter}getriBatched", n, list_of(held), ld, pivots, list_of(inverses), n, info, count)
    assert (info == 0).all()
    for i in range(count):
        want = np.linalg.inv(a[i].astype(wide))
        atol = 20 * n * eps * condition * abs(want).max()
        np.testing.assert_allclose(cupy.asnumpy(inverses[i]), want, rtol=0, atol=atol)


def test_the_factors_are_those_of_lapack(blas, rng):
    a = random(rng, (9, 9), np.float64)
    held, pivots, info = up(a), cupy.zeros((1, 9), np.int32), cupy.zeros(1, np.int32)
    blas("dgetrfBatched", 9, list_of([held]), 9, pivots, info, 1)
    want, rows = linalg.lu_factor(a)
    assert (cupy.asnumpy(pivots)[0] == rows + 1).all()
    np.testing.assert_allclose(cupy.asnumpy(held), want, rtol=0, atol=1e-13)


def test_a_singular_matrix_is_told(blas):
    a = np.asfortranarray([[1.0, 2, 3], [2, 4, 6], [1, 1, 1]])
    regular = np.asfortranarray(np.eye(3))
    held = [up(a), up(regular)]
    pivots, info = cupy.zeros((2, 3), np.int32), cupy.full(2, -1, np.int32)
    blas("dgetrfBatched", 3, list_of(held), 3, pivots, info, 2)
    assert info.tolist() == [3, 0]
    inverses = [up(np.zeros((3, 3))) for _ in range(2)]
    blas("dgetriBatched", 3, list_of(held), 3, pivots, list_of(inverses), 3, info, 2)
    assert info.tolist() == [3, 0]
    assert (cupy.asnumpy(inverses[1]) == regular).all()


# ---- packed triangles ----


@pytest.mark.parametrize("letter", REAL)
@pytest.mark.parametrize("triangle", [LOWER, UPPER])
@pytest.mark.parametrize("n", [1, 2, 13])
def test_triangles_are_packed_and_unpacked(blas, rng, letter, triangle, n):
    a = random(rng, (n + 1, n), TYPES[letter])
    packed = cupy.zeros(n * (n + 1) // 2, TYPES[letter])
    blas(f"{letter}trttp", triangle, n, up(a), n + 1, packed)
    part = np.tril_indices(n) if triangle == LOWER else np.triu_indices(n)
    order = np.lexsort(part)  # by columns
    assert (cupy.asnumpy(packed) == a[:n][part][order]).all()
    out = up(np.zeros((n + 1, n), TYPES[letter]))
    blas(f"{letter}tpttr", triangle, n, packed, out, n + 1)
    want = np.zeros_like(a)
    want[:n][part] = a[:n][part]
    assert (cupy.asnumpy(out) == want).all()


# ---- handles ----


def test_a_handle_keeps_what_it_is_told(blas):
    assert blas("getPointerMode") == 0
    blas("setPointerMode", 1)
    assert blas("getPointerMode") == 1
    blas("setMathMode", 3)
    assert blas("getMathMode") == 3
    stream = cupy.cuda.Stream(non_blocking=True)
    blas("setStream", stream.ptr)
    assert blas("getStream") == stream.ptr
    assert blas("getVersion") >= 12000


GOOD = np.ones(1, np.float32)
BAD = {
    "gemm: rows": ("sgemm", N, N, -1, 4, 4, GOOD, None, 4, None, 4, GOOD, None, 4),
    "gemm: operation": ("sgemm", 7, N, 4, 4, 4, GOOD, None, 4, None, 4, GOOD, None, 4),
    "gemm: lda": ("sgemm", N, N, 4, 4, 4, GOOD, None, 3, None, 4, GOOD, None, 4),
    "gemm: lda of a transposed matrix": ("sgemm", T, N, 4, 4, 5, GOOD, None, 4, None, 5, GOOD, None, 4),
    "gemm: ldb": ("sgemm", N, N, 4, 4, 5, GOOD, None, 4, None, 4, GOOD, None, 4),
    "gemm: ldc": ("sgemm", N, N, 4, 4, 4, GOOD, None, 4, None, 4, GOOD, None, 3),
    "gemm: ld of none": ("sgemm", N, N, 0, 4, 4, GOOD, None, 0, None, 4, GOOD, None, 1),
    "gemm: no alpha": ("sgemm", N, N, 4, 4, 4, 0, None, 4, None, 4, GOOD, None, 4),
    "gemm: count": ("sgemmBatched", N, N, 4, 4, 4, GOOD, None, 4, None, 4, GOOD, None, 4, -1),
    "gemv: columns": ("sgemv", N, 4, -4, GOOD, None, 4, None, 1, GOOD, None, 1),
    "gemv: step": ("sgemv", N, 4, 4, GOOD, None, 4, None, 0, GOOD, None, 1),
    "gemv: lda": ("sgemv", T, 4, 3, GOOD, None, 3, None, 1, GOOD, None, 1),
    "ger: step": ("sger", 4, 4, GOOD, None, 1, None, 0, None, 4),
    "sbmv: lda": ("ssbmv", LOWER, 4, 2, GOOD, None, 2, None, 1, GOOD, None, 1),
    "dgmm: ldc": ("sdgmm", LEFT, 4, 4, None, 4, None, 1, None, 3),
    "syrk: lda": ("ssyrk", LOWER, T, 2, 4, GOOD, None, 2, GOOD, None, 4),
    "syrk of complex numbers: operation": ("csyrk", LOWER, C, 2, 2, GOOD, None, 2, GOOD, None, 2),
    "trsm: ldb": ("strsm", RIGHT, LOWER, N, 0, 4, 2, GOOD, None, 2, None, 3),
    "getrf: lda": ("sgetrfBatched", 4, None, 3, None, None, 1),
    "tpttr: lda": ("stpttr", LOWER, 4, None, None, 3),
}  # fmt: skip


@pytest.mark.parametrize("call", list(BAD.values()), ids=list(BAD))
def test_bad_arguments_are_invalid_values(blas, call):
    memory = cupy.zeros(64, np.complex128)
    assert blas.status(*(memory if x is None else x for x in call)) == INVALID_VALUE


# ---- streams ----


class Raw:
    """Calls the library itself: CuPy's module wants no capture."""

    def __init__(self, blas):
        self.library = ctypes.CDLL(f"libcublas.so.{wheel.installed().cuda}")
        self.handle = blas.handle

    def __call__(self, name, *arguments):
        """The status that the function returns; addresses are those of arrays."""
        plain = [x if isinstance(x, int) else ctypes.c_void_p(address(x)) for x in arguments]
        return getattr(self.library, f"cublas{name}")(ctypes.c_void_p(self.handle), *plain)


@emulated
def test_a_captured_product_is_computed_anew(blas, rng):
    a, b = random(rng, (5, 5), np.float32), random(rng, (5, 5), np.float32)
    x, right, out = up(a), up(b), up(np.zeros((5, 5), np.float32))
    alpha, beta = cupy.ones(1, np.float32), cupy.zeros(1, np.float32)
    raw = Raw(blas)
    cupy.cuda.Device().synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    blas("setStream", stream.ptr)
    blas("setPointerMode", 1)
    with stream:
        stream.begin_capture()
        assert raw("Sgemm_v2", N, N, 5, 5, 5, alpha, x, 5, right, 5, beta, out, 5) == 0
        graph = stream.end_capture()
        stream.synchronize()
        assert (out.get(stream=stream) == 0).all()
        x[:] = 2 * x
        alpha.fill(3)  # read each time the graph runs
        graph.launch()
        stream.synchronize()
    assert_close(out, 6 * a @ b, 5, 6 * abs(a) @ abs(b))


@emulated
def test_a_result_for_the_host_cannot_be_captured(blas):
    x, result = cupy.ones(4, np.float32), np.zeros(1, np.float32)
    stream = cupy.cuda.Stream(non_blocking=True)
    blas("setStream", stream.ptr)
    with stream:
        stream.begin_capture()
        assert Raw(blas)("Sdot_v2", 4, x, 1, x, 1, result) != 0
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="Invalidated"):
            stream.end_capture()
    assert result[0] == 0


@emulated
def test_a_handle_that_was_destroyed_is_none(blas):
    raw = Raw(Blas())
    blas.module.destroy(raw.handle)
    assert raw("SetMathMode", 0) == 1  # not initialized
    assert raw("Destroy_v2") == 1


HEAD = """
from cupy_backends.cuda.libs import cublas
handle = cupy.cuda.device.get_cublas_handle()
"""


def printed_by(code, **settings):
    return in_a_process(HEAD + textwrap.dedent(code), **settings)


@emulated
def test_a_late_stream_computes_when_somebody_waits():
    printed = printed_by(
        """
        a, out = cupy.full((8, 8), 2, np.float32), cupy.zeros((8, 8), np.float32)
        host = cupy.cuda.alloc_pinned_memory(4)
        seen = np.frombuffer(host, np.float32, 1)
        alpha = np.ones(1, np.float32)
        zero = np.zeros(1, np.float32)
        cupy.cuda.Device().synchronize()
        stream, other = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
        with stream:
            cublas.sgemm(handle, 0, 0, 8, 8, 8, alpha.ctypes.data, a.data.ptr, 8, a.data.ptr, 8, zero.ctypes.data,
                         out.data.ptr, 8)
        alpha[0] = 5  # was read when the product was asked for
        def look():
            with other:
                cupy.cuda.runtime.memcpyAsync(seen.ctypes.data, out.data.ptr, 4, 2, other.ptr)
            other.synchronize()
            return int(seen[0])
        print(look())
        stream.synchronize()
        print(look())
        """,
        late=True,
    )
    assert printed == ["0", "32"]


@emulated
def test_late_scalars_of_the_device_are_read_and_written_in_order():
    printed = printed_by(
        """
        x, scalar, result = cupy.ones(4, np.float32), cupy.ones(1, np.float32), cupy.zeros(1, np.float32)
        host = np.zeros(1, np.float32)
        cupy.cuda.Device().synchronize()
        stream = cupy.cuda.Stream(non_blocking=True)
        with stream:
            cublas.setPointerMode(handle, 1)
            scalar.fill(3)
            cublas.sscal(handle, 4, scalar.data.ptr, x.data.ptr, 1)
            scalar.fill(7)
            cublas.sasum(handle, 4, x.data.ptr, 1, result.data.ptr)
            cublas.setPointerMode(handle, 0)
            cublas.sdot(handle, 4, x.data.ptr, 1, x.data.ptr, 1, host.ctypes.data)  # waits for the stream
        print(int(host[0]), int(result.get(stream=stream)[0]))
        """,
        late=True,
    )
    assert printed == ["36", "12"]


UNREACHABLE = {
    "of the host": "np.ones((4, 4), np.float32).ctypes.data",
    "too short": "cupy.cuda.runtime.malloc(15 * 4)",
    "of another device": "on_device(1)",
}


@emulated
@pytest.mark.parametrize("memory", list(UNREACHABLE.values()), ids=list(UNREACHABLE))
@pytest.mark.parametrize("place", range(3))
def test_memory_out_of_reach_breaks_the_device(memory, place):
    late = place == 1
    printed = printed_by(
        f"""
        import os
        def on_device(number):
            with cupy.cuda.Device(number):
                return cupy.cuda.runtime.malloc(64)
        one = np.ones(1, np.float32)
        places = [cupy.cuda.runtime.malloc(64) for _ in range(3)]
        places[{place}] = {memory}
        a, b, c = places
        try:
            cublas.sgemm(handle, 0, 0, 4, 4, 4, one.ctypes.data, a, 4, b, 4, one.ctypes.data, c, 4)
            cupy.cuda.Device().synchronize()
        except (cublas.CUBLASError, cupy.cuda.runtime.CUDARuntimeError) as error:
            print(error.status, flush=True)
        os._exit(0)
        """,
        late=late,
        devices=2,
    )
    assert printed == ["700" if late else "13"]


@emulated
def test_memory_of_a_peer_is_within_reach():
    printed = printed_by(
        """
        with cupy.cuda.Device(1):
            a = cupy.ones((4, 4), np.float32)
            cupy.cuda.Device().synchronize()
        out = cupy.zeros((4, 4), np.float32)
        cupy.cuda.runtime.deviceEnablePeerAccess(1)
        one = np.ones(1, np.float32)
        cublas.sgemm(handle, 0, 0, 4, 4, 4, one.ctypes.data, a.data.ptr, 4, a.data.ptr, 4, one.ctypes.data,
                     out.data.ptr, 4)
        print(out.sum())
        """,
        devices=2,
    )
    assert printed == ["64.0"]
