"""kernels/ptx.cuh, emulated: each wrapper against NumPy, whole products built with them, and planted mistakes."""

import itertools
import re

import numpy as np
import pytest

from gpunn.cuda import compiler, source
from gpunn.cuda.emulator import CheckError, RawModule
from gpunn.errors import LaunchError

i32, u32, f32, f64 = np.int32, np.uint32, np.float32, np.float64

INCLUDE = (f"-I{source.kernels_folder()}",)
HEADER = str(source.kernels_folder() / "ptx.cuh")

WRAPPERS = r"""
#include "ptx.cuh"

template <int BYTES> __device__ void copy_row(const char* x, char* y, int source_bytes) {
    __shared__ __align__(16) char row[32 * BYTES];
    int at = threadIdx.x * BYTES;
    cp_async<BYTES>(row + at, x + at, source_bytes);
    cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < BYTES; i++) y[at + i] = row[at + i];
}
extern "C" __global__ void copy_4(const char* x, char* y, int source_bytes) { copy_row<4>(x, y, source_bytes); }
extern "C" __global__ void copy_8(const char* x, char* y, int source_bytes) { copy_row<8>(x, y, source_bytes); }
extern "C" __global__ void copy_16(const char* x, char* y, int source_bytes) { copy_row<16>(x, y, source_bytes); }

// Three groups, of one, two and no copies, and a copy in none; y[i] is what is there after each wait.
extern "C" __global__ void groups(const float* x, float* y) {
    __shared__ float s[4];
    cp_async<4>(s, x);
    cp_async_commit();
    cp_async<4>(s + 1, x + 1);
    cp_async<4>(s + 2, x + 2);
    cp_async_commit();
    cp_async_commit();
    cp_async<4>(s + 3, x + 3);
    cp_async_wait<3>();
    for (int i = 0; i < 4; i++) y[i] = s[i];
    cp_async_wait<2>();
    for (int i = 0; i < 4; i++) y[4 + i] = s[i];
    cp_async_wait<1>();
    for (int i = 0; i < 4; i++) y[8 + i] = s[i];
    cp_async_wait<0>();
    for (int i = 0; i < 4; i++) y[12 + i] = s[i];
}

extern "C" __global__ void round_tf32(const float* x, unsigned* y) {
    y[blockIdx.x * 32 + threadIdx.x] = to_tf32(x[blockIdx.x * 32 + threadIdx.x]);
}

extern "C" __global__ void round_16(const float* x, unsigned short* f16, unsigned short* bf16, float* back) {
    int i = blockIdx.x * 32 + threadIdx.x;
    f16[i] = to_f16(x[i]);
    bf16[i] = to_bf16(x[i]);
    back[i] = from_f16(f16[i]);
}

// Rows of 8 elements, some of them apart from one another.
template <int N, bool TRANSPOSED> __device__ void load(const unsigned short* x, unsigned* y) {
    __shared__ __align__(16) unsigned short s[64][16];
    int t = threadIdx.x;
    if (t < 8 * N) for (int i = 0; i < 8; i++) s[2 * t][i] = x[8 * t + i];
    __syncthreads();
    unsigned out[N];
    const void* row = t < 8 * N ? (const void*)s[2 * t] : (const void*)((const char*)s + 2);  // the others' is not used
    if (TRANSPOSED) ldmatrix_transposed(out, row); else ldmatrix(out, row);
    for (int m = 0; m < N; m++) y[m * 32 + t] = out[m];
}
extern "C" __global__ void load_1(const unsigned short* x, unsigned* y) { load<1, false>(x, y); }
extern "C" __global__ void load_2(const unsigned short* x, unsigned* y) { load<2, false>(x, y); }
extern "C" __global__ void load_4(const unsigned short* x, unsigned* y) { load<4, false>(x, y); }
extern "C" __global__ void load_1_transposed(const unsigned short* x, unsigned* y) { load<1, true>(x, y); }
extern "C" __global__ void load_2_transposed(const unsigned short* x, unsigned* y) { load<2, true>(x, y); }
extern "C" __global__ void load_4_transposed(const unsigned short* x, unsigned* y) { load<4, true>(x, y); }

#define MULTIPLY(NAME)                                                                              \
    extern "C" __global__ void use_##NAME(const unsigned* a, const unsigned* b, float* d) {         \
        unsigned ra[4], rb[2];                                                                      \
        float rd[4];                                                                                \
        for (int i = 0; i < 4; i++) ra[i] = a[4 * threadIdx.x + i], rd[i] = d[4 * threadIdx.x + i]; \
        for (int i = 0; i < 2; i++) rb[i] = b[2 * threadIdx.x + i];                                 \
        NAME(rd, ra, rb);                                                                           \
        for (int i = 0; i < 4; i++) d[4 * threadIdx.x + i] = rd[i];                                 \
    }
MULTIPLY(mma_m16n8k8_tf32)
MULTIPLY(mma_m16n8k16_f16)
MULTIPLY(mma_m16n8k16_bf16)
"""


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def wrappers(request):
    return RawModule(WRAPPERS, INCLUDE, filename="wrappers.cu", check=request.param)


def bfloat16_bits(x):
    """To nearest even; of finite numbers."""
    bits = x.astype(f32).view(u32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bits_of(x, kind):
    """x as the 16-bit elements of `kind`."""
    return x.astype(np.float16).view(np.uint16) if kind == "f16" else bfloat16_bits(x)


def values_of(bits, kind):
    """The numbers that the bits of `kind` stand for, as float64."""
    if kind == "f16":
        return bits.view(np.float16).astype(f64)
    return (bits.astype(u32) << 16).view(f32).astype(f64)


def cut_tf32(x):
    """x without the 13 bits that the tensor cores do not look at."""
    return (x.astype(f32).view(u32) & u32(0xFFFFE000)).view(f32)


# --- asynchronous copies ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("size", [4, 8, 16])
def test_a_copy_fills_with_zeros(wrappers, size, rng):
    x = rng.integers(1, 127, 32 * size).astype(np.int8)
    for source_bytes in {0, 1, 2, size // 2, size - 1, size}:
        y = np.full(32 * size, 99, np.int8)
        wrappers.get_function(f"copy_{size}")((1,), (32,), (x, y, i32(source_bytes)))
        expected = x.reshape(32, size).copy()
        expected[:, source_bytes:] = 0
        np.testing.assert_array_equal(y.reshape(32, size), expected)


def test_a_copy_arrives_at_the_wait_for_its_group():
    groups = RawModule(WRAPPERS, INCLUDE, filename="wrappers.cu").get_function("groups")
    x, y = np.float32([1, 2, 3, 4]), np.zeros(16, f32)
    groups((1,), (1,), (x, y))
    nan = np.nan
    np.testing.assert_array_equal(
        y.reshape(4, 4), [[nan, nan, nan, nan], [1, nan, nan, nan], [1, 2, 3, nan], [1, 2, 3, nan]]
    )


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("target", "origin", "message"),
    [
        ("s + 1", "x", "target of an asynchronous copy is not a multiple of 16"),
        ("s", "x + 1", "source of an asynchronous copy is not a multiple of 16"),
    ],
)
def test_a_misaligned_copy_stops_the_block(target, origin, message, check):
    code = f"""
#include "ptx.cuh"
extern "C" __global__ void bad(const float* x) {{
    __shared__ __align__(16) float s[8];
    cp_async<16>({target}, {origin});
    cp_async_commit();
}}"""
    bad = RawModule(code, INCLUDE, filename="bad.cu", check=check).get_function("bad")
    with pytest.raises(
        CheckError if check else LaunchError, match=rf"misaligned: .*ptx.cuh:\d+: .*{message}.*called from bad.cu:5"
    ):
        bad((1,), (1,), (np.zeros(8, f32),))


@pytest.mark.parametrize(
    ("target", "origin", "message"),
    [
        ("s", "x + 8", "read of 16 bytes at byte 32 of argument 0, which has 32 bytes"),
        ("s + 8", "x", "write of 16 bytes at shared .s. byte 32, beyond the end of a variable"),
        ("y", "x", "write of 16 bytes at .*, which is in no argument and no shared memory"),
        ("s", "s + 4", "goes from global to shared memory"),
        ("s", "x, 20", "an asynchronous copy of 16 bytes is asked to read 20"),
        ("s", "x, -1", "an asynchronous copy of 16 bytes is asked to read -1"),
    ],
)
def test_a_copy_outside_its_memory_is_reported(target, origin, message):
    code = f"""
#include "ptx.cuh"
extern "C" __global__ void bad(const float* x, float* y) {{
    __shared__ __align__(16) float s[8];
    for (int i = 0; i < 8; i++) s[i] = 0;
    cp_async<16>({target}, {origin});
}}"""
    bad = RawModule(code, INCLUDE, filename="bad.cu", check=True).get_function("bad")
    with pytest.raises(CheckError, match=message) as caught:
        bad((1,), (1,), (np.zeros(8, f32), np.zeros(8, f32)))
    assert [(r.kind, r.file, r.callers) for r in caught.value.reports] == [("out-of-bounds", HEADER, (("bad.cu", 6),))]


def test_a_copy_of_no_bytes_reads_nothing():
    code = """
#include "ptx.cuh"
extern "C" __global__ void zeros(const float* x, float* y) {
    __shared__ __align__(16) float s[4];
    cp_async<16>(s, x + 4096, 0);
    cp_async_commit();
    cp_async_wait<0>();
    for (int i = 0; i < 4; i++) y[i] = s[i];
}"""
    y = np.ones(4, f32)
    RawModule(code, INCLUDE, check=True).get_function("zeros")((1,), (1,), (np.ones(4, f32), y))
    np.testing.assert_array_equal(y, np.zeros(4))


# --- tensor cores -----------------------------------------------------------------------------------------------------


def test_tf32_rounds_to_nearest_with_ties_away(wrappers, rng):
    bits = rng.integers(0, 2**32, 32 * 64, dtype=u32)
    bits[:8] = [0x3F801000, 0xBF801000, 0x3F800FFF, 0x3F803000, 0x7F7FFFFF, 0x7F800000, 0xFF800000, 0x80000000]
    x = bits.view(f32)
    y = np.zeros(x.size, u32)
    wrappers.get_function("round_tf32")((64,), (32,), (x, y))
    finite = np.isfinite(x)
    # In units of the last place kept; floor(v + 1/2) of the magnitude takes ties away from zero.
    exponent = np.maximum(np.frexp(x[finite].astype(f64))[1], -125) - 11
    magnitude = np.abs(np.ldexp(x[finite].astype(f64), -exponent))
    expected = np.copysign(np.ldexp(np.floor(magnitude + 0.5), exponent), x[finite])
    with np.errstate(over="ignore"):
        expected = expected.astype(f32)
    np.testing.assert_array_equal(y[finite], expected.view(u32))
    np.testing.assert_array_equal(y[np.isinf(x)], bits[np.isinf(x)])
    np.testing.assert_array_equal(y[np.isnan(x)], 0x7FFFFFFF)
    assert y[:4].view(f32).tolist() == [1 + 2**-10, -1 - 2**-10, 1, 1 + 2**-9]


def test_f16_and_bf16_round_to_nearest_even(wrappers, rng):
    bits = rng.integers(0, 2**32, 32 * 64, dtype=u32)
    # Ties in both formats, what overflows to infinity, and float16's denormals.
    bits[:8] = [0x3F808000, 0x3F818000, 0x3F801000, 0x3F803000, 0x477FF000, 0x7F7FFFFF, 0x33800000, 0xB3000001]
    x = bits.view(f32)
    half, brain, back = np.zeros(x.size, np.uint16), np.zeros(x.size, np.uint16), np.zeros(x.size, f32)
    wrappers.get_function("round_16")((64,), (32,), (x, half, brain, back))
    number = ~np.isnan(x)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(half[number], expected.view(np.uint16)[number])
    np.testing.assert_array_equal(back[number], expected.astype(f32)[number])
    np.testing.assert_array_equal(brain[number], bfloat16_bits(x[number]))
    assert np.isnan(back[~number]).all()
    assert np.isnan(values_of(brain[~number], "bf16")).all()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("matrices", [1, 2, 4])
def test_ldmatrix(wrappers, matrices, transposed, rng):
    x = rng.integers(0, 2**16, (matrices, 8, 8)).astype(np.uint16)
    y = np.zeros((matrices, 32), u32)
    wrappers.get_function(f"load_{matrices}" + "_transposed" * transposed)((1,), (32,), (x, y))
    laid = x.swapaxes(1, 2) if transposed else x
    expected = np.ascontiguousarray(laid).reshape(matrices, 32, 2)  # lane 4g + t has elements 2t and 2t + 1 of row g
    np.testing.assert_array_equal(y.view(np.uint16).reshape(matrices, 32, 2), expected)


def fragments(a, b, d):
    """What the 32 lanes hold of A (16 x K), B (K x 8) and D (16 x 8), element by element as the PTX manual has it."""
    per_register, half = (1, 4) if a.shape[1] == 8 else (2, 8)
    ra = np.zeros((32, 4, per_register), a.dtype)
    rb = np.zeros((32, 2, per_register), b.dtype)
    rd = np.zeros((32, 4), f32)
    for lane, i in itertools.product(range(32), range(per_register)):
        g, k = lane // 4, lane % 4 * per_register + i
        ra[lane, :, i] = a[g, k], a[g + 8, k], a[g, k + half], a[g + 8, k + half]
        rb[lane, :, i] = b[k, g], b[k + half, g]
    for lane in range(32):
        g, n = lane // 4, lane % 4 * 2
        rd[lane] = d[g, n], d[g, n + 1], d[g + 8, n], d[g + 8, n + 1]
    return ra, rb, rd


@pytest.mark.parametrize("kind", ["tf32", "f16", "bf16"])
def test_mma(wrappers, kind, rng):
    depth = 8 if kind == "tf32" else 16
    a, b, d = (rng.standard_normal(shape).astype(f32) for shape in ((16, depth), (depth, 8), (16, 8)))
    if kind == "tf32":
        stored, exact = (a, b), (cut_tf32(a), cut_tf32(b))  # mma itself does not round its operands
    else:
        stored = bits_of(a, kind), bits_of(b, kind)
        exact = values_of(stored[0], kind), values_of(stored[1], kind)
    ra, rb, rd = fragments(*stored, d)
    name = f"use_mma_m16n8k{depth}_{kind}"
    wrappers.get_function(name)((1,), (32,), (ra.view(u32).reshape(32, 4), rb.view(u32).reshape(32, 2), rd))
    expected = exact[0].astype(f64) @ exact[1].astype(f64) + d
    np.testing.assert_allclose(rd, fragments(*stored, expected)[2], rtol=2**-23, atol=2**-24)


def test_fragments_agree_with_tensor_layouts():
    atoms = pytest.importorskip("tensor_layouts.atoms_nv")
    for name, depth in (("SM80_16x8x16_F32F16F16F32_TN", 16), ("SM80_16x8x8_F32TF32TF32F32_TN", 8)):
        atom = getattr(atoms, name)
        places = [np.arange(m * n).reshape(m, n) for m, n in ((16, depth), (depth, 8), (16, 8))]
        held = [each.reshape(32, -1) for each in fragments(*places)]
        for lane in range(32):
            # The package counts A along M, B along N and D along M first.
            a, b, d = (
                [layout(lane, value) for value in range(len(each[lane]))]
                for layout, each in zip((atom.a_layout, atom.b_layout, atom.c_layout), held, strict=True)
            )
            assert held[0][lane].tolist() == [p % 16 * depth + p // 16 for p in a]
            assert held[1][lane].tolist() == [p // 8 * 8 + p % 8 for p in b]
            assert held[2][lane].tolist() == [p % 16 * 8 + p // 16 for p in d]


def test_a_missing_lane_is_reported():
    code = """
#include "ptx.cuh"
extern "C" __global__ void bad(float* y) {
    unsigned a[4] = {}, b[2] = {};
    float d[4] = {};
    if (threadIdx.x < 31) mma_m16n8k16_f16(d, a, b);
    y[threadIdx.x] = d[0];
}"""
    with pytest.raises(
        CheckError,
        match=r"warp-mask: .*ptx.cuh:\d+: .*names lane 31, which returns without coming here, called from bad.cu:6",
    ):
        RawModule(code, INCLUDE, filename="bad.cu", check=True).get_function("bad")((1,), (32,), (np.zeros(32, f32),))


# --- a matrix product as a user would write it ------------------------------------------------------------------------

# C (M x N) = A (M x K) B (K x N), row-major; a row of A and of B must be a multiple of 16 bytes. A block of two warps
# owns 32 x 32 of C, a warp 16 x 32. STAGES pieces of A and B form a ring: one is multiplied while the next ones arrive.
PRODUCT = r"""
#include "ptx.cuh"
#define BLOCK 32
#define STEP 16
#define STAGES 3
#define SLOTS STAGES
#define CHUNK (16 / (int)sizeof(E))
#define PAD CHUNK
#ifdef TF32
typedef float E;
#else
typedef unsigned short E;
#endif

extern "C" __global__ void product(const E* a, const E* b, float* c, int M, int N, int K) {
    __shared__ __align__(16) E as[SLOTS][BLOCK][STEP + PAD], bs[SLOTS][STEP][BLOCK + PAD];
    const int m0 = blockIdx.y * BLOCK, n0 = blockIdx.x * BLOCK, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    auto fetch = [&](int stage, int k0) {
        for (int i = threadIdx.x * CHUNK; i < BLOCK * STEP; i += 64 * CHUNK) {
            int m = i / STEP, k = i % STEP, inside = m0 + m < M && k0 + k < K;
            cp_async<16>(&as[stage][m][k], a + (m0 + m) * K + k0 + k, inside * 16);
        }
        for (int i = threadIdx.x * CHUNK; i < BLOCK * STEP; i += 64 * CHUNK) {
            int k = i / BLOCK, n = i % BLOCK, inside = k0 + k < K && n0 + n < N;
            cp_async<16>(&bs[stage][k][n], b + (k0 + k) * N + n0 + n, inside * 16);
        }
        cp_async_commit();
    };
    float sum[4][4] = {};
    for (int s = 0; s < STAGES - 1; s++) fetch(s, s * STEP);
    for (int k0 = 0, step = 0; k0 < K; k0 += STEP, step++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        fetch((step + STAGES - 1) % SLOTS, k0 + (STAGES - 1) * STEP);
        const int stage = step % SLOTS;
#ifdef TF32
        const int g = lane / 4, t = lane % 4;
        for (int k = 0; k < STEP; k += 8) {
            const E(*rows)[STEP + PAD] = as[stage] + 16 * warp;
            unsigned fa[4] = {to_tf32(rows[g][k + t]), to_tf32(rows[g + 8][k + t]),
                              to_tf32(rows[g][k + t + 4]), to_tf32(rows[g + 8][k + t + 4])};
            for (int j = 0; j < 4; j++) {
                unsigned fb[2] = {to_tf32(bs[stage][k + t][8 * j + g]), to_tf32(bs[stage][k + t + 4][8 * j + g])};
                mma_m16n8k8_tf32(sum[j], fa, fb);
            }
        }
#else
        unsigned fa[4], fb[2];
        ldmatrix(fa, &as[stage][16 * warp + lane % 16][lane / 16 * 8]);
        for (int j = 0; j < 4; j++) {
            ldmatrix_transposed(fb, &bs[stage][lane % 16][8 * j]);
            MULTIPLY(sum[j], fa, fb);
        }
#endif
    }
    for (int j = 0; j < 4; j++)
        for (int i = 0; i < 4; i++) {
            int m = m0 + 16 * warp + lane / 4 + i / 2 * 8, n = n0 + 8 * j + lane % 4 * 2 + i % 2;
            if (m < M && n < N) c[m * N + n] = sum[j][i];
        }
}
"""
KINDS = {"tf32": ("-DTF32",), "f16": ("-DMULTIPLY=mma_m16n8k16_f16",), "bf16": ("-DMULTIPLY=mma_m16n8k16_bf16",)}
# The unit roundoff of the operands, 2**-11 or 2**-8, times what is lost at most when both are rounded: norms of random
# matrices stay well below it.
LIMITS = {"tf32": 1e-3, "f16": 1e-2, "bf16": 1e-2}


def product(kind, code=PRODUCT, shape=(45, 40, 56), **settings):
    """The product by the kernel, and in float64."""
    rng = np.random.default_rng(3)
    m, n, k = shape
    a, b = (rng.standard_normal(s).astype(f32) for s in ((m, k), (k, n)))
    c = np.full((m, n), np.nan, f32)
    kernel = RawModule(code, (*INCLUDE, *KINDS[kind]), filename="product.cu", **settings).get_function("product")
    stored = (a, b) if kind == "tf32" else (bits_of(a, kind), bits_of(b, kind))
    kernel((-(-n // 32), -(-m // 32)), (64,), (*stored, c, i32(m), i32(n), i32(k)))
    return c, a.astype(f64) @ b.astype(f64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_product_is_near_float64_in_every_order_of_threads(kind):
    c, expected = product(kind)
    error = np.linalg.norm(c - expected) / np.linalg.norm(expected)
    assert 0 < error <= LIMITS[kind]
    for order in ("reverse", 1, 2):
        np.testing.assert_array_equal(product(kind, order=order)[0], c)


@pytest.mark.parametrize("kind", ["tf32", "f16"])
def test_a_right_product_has_no_report(kind):
    np.testing.assert_array_equal(product(kind, check=True)[0], product(kind)[0])


def changed(old, new):
    assert PRODUCT.count(old) == 1, old
    return PRODUCT.replace(old, new)


WAIT, BARRIER = "cp_async_wait<STAGES - 2>();", "__syncthreads();"
MISTAKES = {
    "no wait": (changed(WAIT, ""), "race", "target of an asynchronous copy at .* by thread .* which has not waited"),
    "a wait for too little": (
        changed(WAIT, "cp_async_wait<STAGES - 1>();"),
        "race",
        "target of an asynchronous copy at .* by thread .* which has not waited",
    ),
    "wait after the barrier": (
        changed(f"{WAIT}\n        {BARRIER}", f"{BARRIER}\n        {WAIT}"),
        "race",
        "asynchronous copy|written by thread .* with no barrier between",
    ),
    "no barrier": (changed(BARRIER, ""), "race", "by thread"),
    "no commit": (changed("cp_async_commit();", ""), "race", "which has not waited"),
    "ring one too short": (
        changed("#define SLOTS STAGES", "#define SLOTS (STAGES - 1)"),
        "race",
        "asynchronous copy|written by thread .* with no barrier between",
    ),
    "misaligned row": (changed("#define PAD CHUNK", "#define PAD (CHUNK / 2)"), "misaligned", "not a multiple of 16"),
    "no zero fill": (changed("+ k, inside * 16", "+ k"), "out-of-bounds", "read of 16 bytes at byte .* of argument 0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tf32", "f16"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_reported(mistake, kind):
    code, report, message = MISTAKES[mistake]
    with pytest.raises(CheckError, match=message) as caught:
        product(kind, code, check=True)
    # Where threads run ahead of others, they may also find what no thread has written yet.
    assert {report} <= {r.kind for r in caught.value.reports} <= {report, "uninitialised"}
    assert {(r.callers[0][0] if r.file == HEADER else r.file) for r in caught.value.reports} == {"product.cu"}


def test_a_misaligned_ldmatrix_row_is_reported():
    code = changed("&as[stage][16 * warp + lane % 16][lane / 16 * 8]", "&as[stage][16 * warp + lane % 16][lane / 16]")
    with pytest.raises(CheckError, match="of a row of ldmatrix is not a multiple of 16") as caught:
        product("f16", code, check=True)
    assert caught.value.reports[0].callers == (("product.cu", 1 + code[: code.index("ldmatrix(fa")].count("\n")),)


@pytest.mark.parametrize("mistake", ["no wait", "ring one too short"])
def test_a_missing_wait_shows_in_fast_mode_too(mistake):
    assert np.isnan(product("tf32", MISTAKES[mistake][0])[0]).any()


# --- on hardware ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
def test_nvrtc_compiles_every_wrapper(arch, tmp_path, monkeypatch):
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    flat = source.flatten("ptx.cuh")
    for code, options in [(WRAPPERS, ()), *((PRODUCT, options) for options in KINDS.values())]:
        cubin = compiler.compile_cubin(code.replace('#include "ptx.cuh"', flat), "flat.cu", options, arch)
        assert all(used.spill_bytes == 0 for used in cubin.resources.values())


def test_inline_ptx_is_in_two_files_only():
    files = sorted(source.kernels_folder().glob("*.cu*"))
    assert [path.name for path in files if re.search(r"\basm\b", path.read_text())] == ["hopper.cuh", "ptx.cuh"]
