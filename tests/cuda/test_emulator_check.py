"""The emulator's check mode: right kernels give no report, planted mistakes give the right one."""

import pickle
import warnings
from shutil import which

import numpy as np
import pytest

from gpunn.cuda.emulator import (
    CheckError,
    CheckWarning,
    RawKernel,
    RawModule,
    Report,
    build,
    empty,
    reachable,
    report,
    symbols,
)
from gpunn.errors import ArgumentError, KernelError

i32, f32 = np.int32, np.float32

TILE_MATMUL = """\
#define TILE 8
extern "C" __global__ void tile_matmul(const float* a, const float* b, float* c, int n) {
    __shared__ float as[TILE][TILE], bs[TILE][TILE];
    int x = threadIdx.x, y = threadIdx.y, column = blockIdx.x * TILE + x, row = blockIdx.y * TILE + y;
    float sum = 0;
    for (int k0 = 0; k0 < n; k0 += TILE) {
        as[y][x] = row < n && k0 + x < n ? a[row * n + k0 + x] : 0;
        bs[y][x] = column < n && k0 + y < n ? b[(k0 + y) * n + column] : 0;
        __syncthreads();
        for (int k = 0; k < TILE; k++)
            sum += as[y][k] * bs[k][x];
        __syncthreads();
    }
    if (row < n && column < n) c[row * n + column] = sum;
}
"""
READ, FIRST_BARRIER, LAST_BARRIER, WRITE_A, WRITE_B, STORE = 11, 9, 12, 7, 8, 14  # lines of it


def changed(old, new, source=TILE_MATMUL, count=1):
    assert source.count(old) >= count
    return source.replace(old, new, count)


CLANG = "clang" in build.host_compiler().version
BEYOND_CLANG = {"misaligned vector": "clang says nothing of the alignment of a struct that is copied"}


def multiply(code, n=13, order="forward"):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n)).astype(f32) for _ in range(2))
    c = np.zeros((n, n), f32)
    tiles = (n + 7) // 8
    kernel = RawKernel(code, "tile_matmul", filename="tile_matmul.cu", check=True, order=order)
    kernel((tiles, tiles), (8, 8), (a, b, c, i32(n)))
    return c, a @ b


def mistakes(call, *args, **kwargs) -> list[Report]:
    with pytest.raises(CheckError) as caught:
        call(*args, **kwargs)
    return caught.value.reports


def only(reports, kind):
    assert {r.kind for r in reports} == {kind}, reports
    return reports


def places(reports):
    return {(r.kind, r.line) for r in reports}


# --- a tiled matrix product, right and wrong --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["forward", "reverse", 3])
def test_the_right_kernel_is_clean_and_right(order):
    c, expected = multiply(TILE_MATMUL, order=order)
    np.testing.assert_allclose(c, expected, rtol=1e-5, atol=1e-5)


def test_a_missing_last_barrier_is_a_race():
    lines = TILE_MATMUL.splitlines(keepends=True)
    del lines[LAST_BARRIER - 1]
    reports = only(mistakes(multiply, "".join(lines)), "race")
    assert {r.line for r in reports} >= {WRITE_A, WRITE_B}
    first = next(r for r in reports if r.line == WRITE_A)
    assert (first.file, first.block, first.kernel) == ("tile_matmul.cu", (0, 0, 0), "tile_matmul")
    # Thread (1,0) goes on to the next tile and writes as[0][1], which thread (0,0) has read.
    assert (first.thread, first.other_thread, first.byte) == ((1, 0, 0), (0, 0, 0), 4)
    assert str(first) == (
        "tile_matmul: race: tile_matmul.cu:7: block (0,0,0) thread (1,0,0): "
        "write of shared 'as' byte 4 read at line 11 by thread (0,0,0) with no barrier between"
    )
    assert (first.other_line, first.harmless) == (READ, False)


def test_a_missing_first_barrier_is_a_race_and_an_uninitialised_read():
    lines = TILE_MATMUL.splitlines(keepends=True)
    lines[FIRST_BARRIER - 1] = "\n"
    reports = mistakes(multiply, "".join(lines))
    assert {("race", READ), ("uninitialised", READ)} <= places(reports)
    race = next(r for r in reports if (r.kind, r.line) == ("race", READ))
    assert (race.block, race.thread, race.other_thread) == ((0, 0, 0), (1, 0, 0), (0, 0, 0))
    assert "read of shared 'as' byte 0 written at line 7 by thread (0,0,0) with no barrier" in race.message


def test_an_index_one_past_the_end_is_out_of_bounds():
    reports = mistakes(multiply, changed("if (row < n && column < n)", "if (row < n)"))
    wrong = [r for r in reports if r.kind == "out-of-bounds"]
    # Row 12, column 13 of 13 by 13: the first element that does not exist.
    assert [(r.line, r.block, r.thread, r.argument, r.byte) for r in wrong] == [
        (STORE, (1, 1, 0), (5, 4, 0), 2, 13 * 13 * 4)
    ]
    assert wrong[0].message == "write of 4 bytes at byte 676 of argument 2, which has 676 bytes"


def test_a_read_before_an_argument_is_out_of_bounds():
    (found,) = only(mistakes(multiply, changed("a[row * n + k0 + x]", "a[row * n + k0 + x - 1]")), "out-of-bounds")
    assert (found.line, found.thread, found.argument, found.byte) == (WRITE_A, (0, 0, 0), 0, None)
    assert "read of 4 bytes at byte -4 of argument 0" in found.message


def test_an_index_past_a_shared_array_is_found():
    (found,) = only(mistakes(multiply, changed("k < TILE; k++", "k <= TILE; k++")), "bounds")
    assert (found.file, found.line, found.block, found.thread) == ("tile_matmul.cu", READ, (0, 0, 0), (0, 0, 0))
    assert found.message.replace(" [", "[") == "index 8 is outside 'float[8]'"


def test_an_unwritten_shared_element_is_uninitialised():
    code = changed("        as[y][x] =", "        if (x != 3) as[y][x] =")
    (found,) = only(mistakes(multiply, code), "uninitialised")
    assert (found.file, found.line, found.block, found.thread) == ("tile_matmul.cu", READ, (0, 0, 0), (0, 0, 0))
    assert found.message == "read of shared 'as' byte 12, which no thread has written"
    assert found.byte == 12


def test_a_shared_variable_of_a_template_in_a_namespace_has_its_own_name():
    code = """namespace tiles {
template <class T> __device__ T first(const T* unused) {
    __shared__ T inner[4];
    return inner[2];
}
}
extern "C" __global__ void k(float* y) {
    __shared__ float inner[8];
    if (threadIdx.x) inner[threadIdx.x] = 1;
    y[threadIdx.x] = tiles::first<float>(y) + inner[0];
}"""
    found = mistakes(RawKernel(code, "k", check=True), (1,), (1,), (np.zeros(1, f32),))
    assert {(r.message, r.byte) for r in only(found, "uninitialised")} == {
        ("read of shared 'inner' byte 8, which no thread has written", 8),
        ("read of shared 'inner' byte 0, which no thread has written", 0),
    }


def test_padding_of_a_shared_struct_may_be_left_and_a_part_of_a_vector_may_not():
    code = """struct Best { double value; int place; };
extern "C" __global__ void parts(float4* y, int n) {
    __shared__ Best best[2];
    __shared__ float4 v[2];
    best[0].value = 1, best[0].place = n;
    best[1] = best[0];
    v[0].x = 1, v[0].y = 2, v[0].z = best[1].place;
    y[0] = v[0];
}"""
    found = mistakes(RawKernel(code, "parts", check=True), (1,), (1,), (np.zeros(4, f32), np.int32(1)))
    assert [(r.line, r.byte) for r in only(found, "uninitialised")] == [(8, 12)]


def test_what_an_earlier_block_read_in_shared_memory_is_no_race():
    code = """extern "C" __global__ void again(float* y) {
    __shared__ float sum;
    y[blockIdx.x] = sum;
    if (blockIdx.x) sum = 1;
}"""
    only(mistakes(RawKernel(code, "again", check=True), (3,), (1,), (np.zeros(3, f32),)), "uninitialised")


CLASSES = """\
#include <cuda_bf16.h>
#include <cuda_fp16.h>
template <class T> struct Pair {
    T a, b;
    Pair() = default;
    __device__ Pair(T a, T b) : a(a), b(b) {}
};
__shared__ half outside[4];
template <class T> __device__ T* tile() { __shared__ T own[4]; return own; }
extern "C" __global__ void reversed(float* x) {
    __shared__ __nv_bfloat162 twins[4];
    __shared__ Pair<half> pairs[4];
    const int t = threadIdx.x;
    outside[t] = tile<half>()[t] = x[t];
    twins[t] = {x[t], 0.5f};
    pairs[t] = {x[t], 1};
    __syncthreads();
    x[t] = float(outside[3 - t]) + float(tile<half>()[3 - t]) + float(twins[3 - t].x) + float(pairs[3 - t].a);
}
"""


@pytest.mark.parametrize("standard", [11, 14, 17, 20])
def test_shared_arrays_of_classes_have_nothing_but_their_elements(standard):
    """What the compiler keeps beside them, to know whether they are constructed, is no memory of the kernel's."""
    options, x = (f"-std=c++{standard}",), np.arange(4, dtype=f32)
    RawKernel(CLASSES, "reversed", options, check=True)((1,), (4,), (x,))
    assert x.tolist() == [12, 8, 4, 0]
    forgotten = RawKernel(changed("twins[t] =", "if (t < 3) twins[t] =", CLASSES), "reversed", options, check=True)
    (found,) = only(mistakes(forgotten, (1,), (4,), (x,)), "uninitialised")
    assert (found.line, found.byte) == (18, 12)
    assert "read of shared 'twins' byte 12" in found.message


def test_without_nm_a_shared_variable_has_no_name(monkeypatch):
    code = """extern "C" __global__ void no_names(float* y) {
    __shared__ float sums[4];
    y[0] = sums[1];
}"""
    kernel = RawKernel(code, "no_names", check=True)
    monkeypatch.setattr(symbols.shutil, "which", lambda name: None if name == "nm" else which(name))
    (found,) = only(mistakes(kernel, (1,), (1,), (np.zeros(1, f32),)), "uninitialised")
    symbols.variables.cache_clear()
    assert found.line == 3
    assert "read of static shared memory byte " in found.message


@pytest.mark.parametrize(
    "barrier",
    [
        "if (y < 4) __syncthreads(); else __syncthreads();",  # two barriers on one line
        "if (y < 4) { __syncthreads(); sum += 1; } else { sum += 2; __syncthreads(); }",
    ],
)
def test_a_barrier_in_a_branch_is_divergent(barrier):
    (found,) = only(mistakes(multiply, changed("__syncthreads();", barrier)), "divergent-barrier")
    assert (found.file, found.line, found.block) == ("tile_matmul.cu", FIRST_BARRIER, (0, 0, 0))
    assert (found.thread, found.other_thread) == ((0, 4, 0), (0, 0, 0))


def test_a_barrier_in_one_branch_only_is_divergent():
    # The others meet the last barrier while these wait at the first.
    reports = mistakes(multiply, changed("__syncthreads();", "if (y < 4) __syncthreads();"))
    (found,) = [r for r in reports if r.kind == "divergent-barrier"]
    assert (found.line, found.thread, found.other_thread) == (LAST_BARRIER, (0, 4, 0), (0, 0, 0))


def test_every_report_is_in_the_error():
    lines = TILE_MATMUL.splitlines(keepends=True)
    lines[FIRST_BARRIER - 1] = lines[LAST_BARRIER - 1] = "\n"
    code = "".join(lines).replace("if (row < n && column < n)", "")
    with pytest.raises(CheckError, match=r"^tile_matmul: \w+: tile_matmul.cu:\d+: block \(0,0,0\)") as caught:
        multiply(code)
    error = caught.value
    assert isinstance(error, KernelError)
    assert len(places(error.reports)) == len(error.reports) >= 5  # no kind and place twice
    assert str(error).splitlines()[0] == str(error.reports[0])
    copied = pickle.loads(pickle.dumps(error))
    assert (str(copied), copied.reports) == (str(error), error.reports)


# --- planted mistakes -------------------------------------------------------------------------------------------------

# Each kernel is right; each mutant below changes one thing.
KERNELS = r"""
#include <cuda_fp16.h>
#define FULL 0xffffffffu
extern "C" __global__ void row_sum(const float* x, float* y, int n) {
    __shared__ float part[32];
    float s = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) s += x[blockIdx.x * n + i];
    for (int o = 16; o; o /= 2) s += __shfl_down_sync(FULL, s, o);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = s;
    __syncthreads();
    if (threadIdx.x < 32) {
        s = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
        for (int o = 16; o; o /= 2) s += __shfl_xor_sync(FULL, s, o);
        if (threadIdx.x == 0) y[blockIdx.x] = s;
    }
}
extern "C" __global__ void scatter(const float* x, const int* where, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) atomicAdd(&y[where[i]], x[i]);
}
extern "C" __global__ void warp_tree(const float* x, float* y) {
    __shared__ float s[64];
    int t = threadIdx.x, warp = t / 32 * 32, lane = t % 32;
    s[t] = x[t];
    __syncwarp();
    for (int half = 16; half; half /= 2) {
        if (lane < half) s[warp + lane] += s[warp + lane + half];
        __syncwarp();
    }
    if (lane == 0) y[t / 32] = s[t];
}
extern "C" __global__ void dynamic_reverse(const float4* x, float4* y) {
    extern __shared__ float4 memory[];
    memory[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = memory[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void number_of_block(float* y) {
    y[0] = 1 + blockIdx.x;
}
extern "C" __global__ void halves_of_warp(const float* x, float* y) {
    __shared__ float s[32];
    int t = threadIdx.x;
    unsigned mask = t < 16 ? 0x0000ffffu : 0xffff0000u;
    for (int i = 0; i < 3; i++) {
        s[t] = x[t] + i;
        __syncwarp(mask);
        float v = s[t ^ 1];
        __syncwarp(mask);
        y[t] = v;
    }
    if (t == 31) y[0] = 1;
}
__device__ unsigned finished = 0;
extern "C" __global__ void last_block_sums(const float* x, float* parts, float* y, int n) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        float s = 0;
        for (int i = blockIdx.x; i < n; i += gridDim.x) s += x[i];
        parts[blockIdx.x] = s;
        __threadfence();
        last = atomicInc(&finished, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 0) {
        float s = 0;
        for (int i = 0; i < gridDim.x; i++) s += parts[i];
        y[0] = s;
    }
}
extern "C" __global__ void locked(int* lock, float* y) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            y[0] += 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}
extern "C" __global__ void stencil(const float* x, float* y, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
        y[i] = x[i] + (i + 1 < n ? x[i + 1] : 0);
}
extern "C" __global__ void whole_numbers(const int* a, const int* b, int* y, int n) {
    int i = threadIdx.x;
    if (i < n) y[i] = a[i] / b[i] + (a[i] << b[i]) + a[i] * 2;
}
extern "C" __global__ void early(float* x, int n) {
    __shared__ float s[64];
    if (threadIdx.x >= n) return;
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = s[n - 1 - threadIdx.x];
}
__device__ float meet(float v) { __shared__ float s; if (threadIdx.x == 0) s = v; __syncthreads(); return s; }
extern "C" __global__ void meets(float* x) {
    float v = meet(x[threadIdx.x]);
    __syncthreads();
    if (threadIdx.x < 40) v += 1;
    __syncthreads();
    if (threadIdx.x < 40) v *= 2;
    x[threadIdx.x] = v;
}
__device__ __noinline__ void together() { __syncthreads(); }
__device__ __noinline__ void step(int* x) { *x += 1; }
extern "C" __global__ void branches(int* x, int n) {
    int t = threadIdx.x, *own = x + t;
    if (t < 40) *own += 1;
    together();
    if (t < 40) *own -= 1;
    for (;;) {
        if (t < 40) { if (*own == n) break; step(own); } else { step(own); if (*own == n + 1) break; }
        together();
    }
}
struct Odd { char a; int b; };
extern "C" __global__ void structs(const Odd* x, Odd* y) {
    __shared__ Odd s[8];
    __shared__ Odd copy[8];
    s[threadIdx.x].a = x[threadIdx.x].a;
    s[threadIdx.x].b = x[threadIdx.x].b;
    __syncthreads();
    copy[threadIdx.x] = s[7 - threadIdx.x];
    y[threadIdx.x] = copy[threadIdx.x];
}
extern "C" __global__ void fills(float* x, const float* y, __half* h) {
    if (threadIdx.x == 0) memset(x, 0, 32);
    if (threadIdx.x == 1) memcpy(x + 8, y, 32);
    h[threadIdx.x] += h[threadIdx.x] + __half(1.0f);
}
"""


def data(*shape):
    return np.random.default_rng(1).standard_normal(shape).astype(f32)


def launch_row_sum(module, threads=64):
    x, y = data(3, 100), np.zeros(3, f32)
    module.get_function("row_sum")((3,), (threads,), (x, y, i32(100)))
    np.testing.assert_allclose(y, x.sum(1), atol=1e-5)


def launch_scatter(module):
    x, y, where = data(100), np.zeros(5, f32), np.arange(100, dtype=i32) % 5
    module.get_function("scatter")((2,), (64,), (x, where, y, i32(100)))
    np.testing.assert_allclose(y, x.reshape(20, 5).sum(0), atol=1e-5)


def launch_warp_tree(module):
    x, y = data(64), np.zeros(2, f32)
    module.get_function("warp_tree")((1,), (64,), (x, y))
    np.testing.assert_allclose(y, x.reshape(2, 32).sum(1), atol=1e-5)


def launch_dynamic_reverse(module, shared_mem=32 * 16, x=None, blocks=1):
    x, y = data(32, 4) if x is None else x, np.zeros((32, 4), f32)
    module.get_function("dynamic_reverse")((blocks,), (32,), (x, y), shared_mem=shared_mem)
    np.testing.assert_array_equal(y, x[::-1])


def launch_halves_of_warp(module):
    module.get_function("halves_of_warp")((1,), (32,), (data(32), np.zeros(32, f32)))


def launch_last_block_sums(module):
    x, parts, y = data(50), np.zeros(4, f32), np.zeros(1, f32)
    module.get_function("last_block_sums")((4,), (32,), (x, parts, y, i32(50)))
    np.testing.assert_allclose(y, x.sum(), atol=1e-5)


def launch_locked(module):
    y = np.zeros(1, f32)
    module.get_function("locked")((3,), (8,), (np.zeros(1, i32), y))
    assert y[0] == 24


def launch_stencil(module, in_place=False):
    x, y = data(100), np.zeros(100, f32)
    module.get_function("stencil")((2,), (32,), (x, x if in_place else y, i32(100)))


def launch_whole_numbers(module, a=(7, 8, 9), b=(1, 2, 3), n=3):
    y = np.zeros(3, i32)
    module.get_function("whole_numbers")((1,), (8,), (np.array(a, i32), np.array(b, i32), y, i32(n)))


def launch_early(module):
    x = np.arange(64, dtype=f32)
    module.get_function("early")((1,), (64,), (x, i32(40)))
    np.testing.assert_array_equal(x, [*range(39, -1, -1), *range(40, 64)])


def launch_meets(module):
    x = np.arange(64, dtype=f32) + 1
    module.get_function("meets")((1,), (64,), (x,))
    np.testing.assert_array_equal(x, [4] * 40 + [1] * 24)


def launch_branches(module):
    x = np.zeros(64, np.int32)
    module.get_function("branches")((1,), (64,), (x, i32(4)))
    np.testing.assert_array_equal(x, [4] * 40 + [5] * 24)


def launch_structs(module):
    kind = np.dtype([("a", "i1"), ("b", "i4")], align=True)
    x, y = np.zeros(8, kind), np.zeros(8, kind)
    x["a"], x["b"] = np.arange(8), np.arange(8) * 1000
    module.get_function("structs")((1,), (8,), (x, y))
    np.testing.assert_array_equal(y["b"], x["b"][::-1])


def launch_fills(module):
    x, y, h = np.ones(16, f32), data(8), np.ones(4, np.float16)
    module.get_function("fills")((1,), (4,), (x, y, h))
    np.testing.assert_array_equal(x, [*np.zeros(8), *y])
    np.testing.assert_array_equal(h, 3)


CLEAN = [
    launch_row_sum, launch_scatter, launch_warp_tree, launch_dynamic_reverse, launch_last_block_sums,
    launch_locked, launch_stencil, launch_whole_numbers, launch_meets, launch_structs,
    launch_fills, launch_branches,
]  # fmt: skip


@pytest.fixture(scope="module", params=["forward", "reverse", 7])
def right(request):
    return RawModule(KERNELS, filename="kernels.cu", check=True, order=request.param)


@pytest.mark.parametrize("launch", CLEAN)
def test_right_kernels_are_clean_in_every_order(right, launch):
    launch(right)


def line_of(text):
    (line,) = [i for i, each in enumerate(KERNELS.splitlines(), 1) if text in each]
    return line


# what is changed, into what, the launch, the kind of report, and text of the line it names
MUTANTS = {
    "no barrier before the sum of sums": (
        "= s;\n    __syncthreads();", "= s;\n", launch_row_sum, "uninitialised", "? part[threadIdx.x] : 0"),
    "reads all of a partly written array": (
        "threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;", "part[threadIdx.x];", launch_row_sum,
        "uninitialised", "s = threadIdx.x < blockDim.x / 32"),
    "full mask in half a warp": (
        "if (threadIdx.x < 32) {\n        s =", "if (threadIdx.x < 16) {\n        s =", launch_row_sum, "warp-mask",
        "s += __shfl_xor_sync"),
    "mask without the caller": ("s += __shfl_xor_sync(FULL", "s += __shfl_xor_sync(2u", launch_row_sum, "warp-mask",
        "s += __shfl_xor_sync"),
    "different operations": (
        "s += __shfl_down_sync(FULL, s, o);",
        "if (threadIdx.x % 2) s += __shfl_down_sync(FULL, s, o); else s += __ballot_sync(FULL, o);",
        launch_row_sum, "warp-mask", "s += __shfl_down_sync"),
    "one more element of a row": ("i < n; i += blockDim.x)", "i <= n; i += blockDim.x)", launch_row_sum,
        "out-of-bounds", "i < n; i += blockDim.x)"),
    "plain sum for an atomic one": ("atomicAdd(&y[where[i]], x[i])", "y[where[i]] += x[i]", launch_scatter, "race",
        "atomicAdd(&y[where[i]], x[i])"),
    "no test of the last thread": ("if (i < n) atomicAdd", "atomicAdd", launch_scatter, "out-of-bounds",
        "atomicAdd(&y[where[i]], x[i])"),
    "atomic past the end": ("atomicAdd(&y[where[i]]", "atomicAdd(&y[where[i] + 1]", launch_scatter, "out-of-bounds",
        "atomicAdd(&y[where[i]], x[i])"),
    "write through const": ("if (i < n) atomicAdd", "((float*)x)[i] = 1; if (i < n) atomicAdd", launch_scatter,
        "read-only-write", "atomicAdd(&y[where[i]], x[i])"),
    "no __syncwarp in the tree": ("[warp + lane + half];\n        __syncwarp();", "[warp + lane + half];\n",
        launch_warp_tree, "race", "s[warp + lane] +="),
    "no __syncwarp before the tree": ("s[t] = x[t];\n    __syncwarp();", "s[t] = x[t];\n", launch_warp_tree, "race",
        "    s[t] = x[t];"),
    "no __syncthreads over dynamic memory": ("memory[threadIdx.x] = x[threadIdx.x];\n    __syncthreads();",
        "memory[threadIdx.x] = x[threadIdx.x];\n", launch_dynamic_reverse, "uninitialised", "y[threadIdx.x] = memory"),
    "misaligned vector": ("y[threadIdx.x] = memory[", "y[threadIdx.x] = *(float4*)((float*)memory + 1), memory[",
        launch_dynamic_reverse, "misaligned", "y[threadIdx.x] = memory"),
    "no fence before the ticket": ("parts[blockIdx.x] = s;\n        __threadfence();", "parts[blockIdx.x] = s;\n",
        launch_last_block_sums, "race", "s += parts[i]"),
    "no lock": ("if (atomicCAS(lock, 0, 1) == 0) {", "{", launch_locked, "race", "y[0] += 1"),
    "too many threads stop early": ("s[n - 1 - threadIdx.x]", "s[n - threadIdx.x]", launch_early, "uninitialised",
        "x[threadIdx.x] = s[n - 1"),
    "barrier in a device function called in both branches": (
        "float v = meet(x[threadIdx.x]);",
        "float v; if (threadIdx.x < 40) v = meet(x[threadIdx.x]); else v = meet(x[threadIdx.x] + 1);",
        launch_meets, "divergent-barrier", None),
    "half a block waits for a shuffle that the others never reach": (
        "__syncthreads();\n    if (threadIdx.x < 40) v += 1;",
        "if (threadIdx.x < 16) v = __shfl_sync(FULL, v, 0); else __syncthreads();\n    if (threadIdx.x < 40) v += 1;",
        launch_meets, "deadlock", None),
    "memset past the end": ("memset(x, 0, 32)", "memset(x, 0, 68)", launch_fills, "out-of-bounds", "memset(x, 0, 32)"),
    "memcpy from past the end": ("y, 32)", "y + 1, 32)", launch_fills, "out-of-bounds", "memcpy(x + 8"),
    "half past the end": ("+= h[threadIdx.x] +", "+= h[threadIdx.x + 1] +", launch_fills, "out-of-bounds",
        "+= h[threadIdx.x] +"),
    "failed assertion": ("s[t] = x[t];\n    __syncwarp();", "s[t] = x[t]; assert(t < 5);\n    __syncwarp();",
        launch_warp_tree, "assert", None),
    "trap": ("if (i < n) atomicAdd", "if (i == 70) __trap(); if (i < n) atomicAdd", launch_scatter, "trap",
        "atomicAdd(&y[where[i]], x[i])"),
}  # fmt: skip


@pytest.mark.parametrize("title", MUTANTS)
def test_planted_mistakes_are_found(title):
    if CLANG and title in BEYOND_CLANG:
        pytest.skip(BEYOND_CLANG[title])
    old, new, launch, kind, place = MUTANTS[title]
    # Only the kernel at hand, on its own lines: less to compile.
    name = launch.__name__.removeprefix("launch_")
    module = RawModule(one_kernel(changed(old, new, KERNELS), name), filename="kernels.cu", check=True)
    reports = mistakes(launch, module)
    found = [r for r in reports if r.kind == kind]
    assert found, reports
    assert all(r.file == "kernels.cu" and r.kernel == name for r in reports)
    if place:
        assert line_of(place) in {r.line for r in found}, reports


def one_kernel(source, name):
    """The source with all other kernels and what they alone need blanked out."""
    lines = source.split("\n")
    starts = [i for i, line in enumerate(lines) if line.startswith(('extern "C"', "__device__", "struct"))]
    ends = [*starts[1:], len(lines)]
    helpers = {"last_block_sums": "finished", "meets": "meet(", "structs": "struct Odd"}
    for start, end in zip(starts, ends, strict=True):
        line = lines[start]
        if f"void {name}(" not in line and helpers.get(name, "\0") not in line:
            lines[start:end] = [""] * (end - start)
    return "\n".join(lines)


def test_threads_that_returned_before_a_barrier_are_a_warning(right):
    with pytest.warns(
        CheckWarning, match="24 threads of the block have returned before this barrier; harmless"
    ) as caught:
        launch_early(right)
    assert f"kernels.cu:{line_of('s[threadIdx.x] = x[threadIdx.x];') + 1}: block (0,0,0)" in str(caught[0].message)


LANES = """
extern "C" __global__ void from_lane(int* y, int lane) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffu, (int)threadIdx.x, lane);
}
extern "C" __global__ void crossed(int* y, int lane) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_xor_sync(0xffffu, (int)threadIdx.x, lane);
}
extern "C" __global__ void down(int* y, int lane) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_down_sync(0xffffu, (int)threadIdx.x, lane);
}
extern "C" __global__ void counts(int* y, int set) {
    __shared__ int n;
    if (set && threadIdx.x == 0) n = 0;
    __syncthreads();
    atomicAdd(&n, 1);
    __syncthreads();
    y[threadIdx.x] = n;
}
extern "C" __global__ void exchanges(int* y, int set) {
    __shared__ int n;
    if (threadIdx.x == 0) atomicExch(&n, set);
    __syncthreads();
    y[threadIdx.x] = n;
}
"""


@pytest.fixture(scope="module")
def lanes():
    return RawModule(LANES, filename="k.cu", check=True)


def test_a_value_from_a_lane_beyond_the_mask_is_told(lanes):
    y = np.zeros(32, i32)
    for name in ("from_lane", "crossed"):
        lanes.get_function(name)((1,), (32,), (y, i32(3)))
        (found,) = mistakes(lanes.get_function(name), (1,), (32,), (y, i32(16)))
        assert (found.kind, found.line) == ("warp-mask", 3 if name == "from_lane" else 6)
        assert found.message == "lane 0 takes a value from lane 16, which is not in the mask 0x0000ffff"
    with pytest.warns(CheckWarning, match=r"thread \(12,0,0\): lane 12 takes .* lane 16.*; harmless if nobody uses"):
        lanes.get_function("down")((1,), (32,), (y, i32(4)))
    np.testing.assert_array_equal(y[:16], [*range(4, 16), *[-1] * 4])


def test_an_atomic_operation_on_what_nobody_set_is_uninitialised(lanes):
    y = np.zeros(32, i32)
    lanes.get_function("counts")((1,), (32,), (y, i32(1)))
    np.testing.assert_array_equal(y, 32)
    (found,) = mistakes(lanes.get_function("counts"), (1,), (32,), (y, i32(0)))
    assert (found.kind, found.line) == ("uninitialised", 15)
    assert found.message == "read of shared 'n' byte 0, which no thread has written"
    lanes.get_function("exchanges")((1,), (32,), (y, i32(5)))
    np.testing.assert_array_equal(y, 5)


BEYOND = """
template <class T> __device__ {kind} T get(T* x, int i) {{ return x[i]; }}
extern "C" __global__ void shared_pair(float* y, int i) {{
    __shared__ float a[32], b[32];
    a[threadIdx.x] = b[threadIdx.x] = 1;
    y[threadIdx.x] = get(a, i) + get(b, 0);
}}
extern "C" __global__ void local_pair(float* y, int i) {{
    float a[4] = {{1, 2, 3, 4}}, b[4] = {{5, 6, 7, 8}};
    y[threadIdx.x] = get(a, i) + get(b, 1);
}}
"""


@pytest.mark.parametrize("kind", ["__noinline__", "", "__forceinline__"])
@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_a_pointer_that_passes_the_end_of_a_shared_array_does_not_meet_the_next(kind, order):
    kernel = RawModule(BEYOND.format(kind=kind), filename="k.cu", check=True, order=order).get_function("shared_pair")
    y = np.zeros(1, f32)
    kernel((1,), (1,), (y, i32(0)))
    assert y[0] == 2
    (found,) = mistakes(kernel, (1,), (1,), (y, i32(32)))
    assert (found.file, found.line, found.callers) == ("k.cu", 2, (("k.cu", 6),))
    if found.kind == "out-of-bounds":
        assert found.message == "read of 4 bytes at shared 'a' byte 128, beyond the end of a variable"
    else:
        assert (found.kind, found.message) == ("bounds", "an access to 'float' outside the variable that it is for")


@pytest.mark.skipif(CLANG, reason="clang knows no variable behind a pointer")
@pytest.mark.parametrize("kind", ["", "__forceinline__"])
def test_a_pointer_that_passes_the_end_of_a_local_array_is_out_of_its_bounds(kind):
    kernel = RawModule(BEYOND.format(kind=kind), filename="k.cu", check=True).get_function("local_pair")
    y = np.zeros(1, f32)
    kernel((1,), (1,), (y, i32(3)))
    assert y[0] == 10
    (found,) = mistakes(kernel, (1,), (1,), (y, i32(4)))
    assert (found.kind, found.line, found.callers) == ("bounds", 2, (("k.cu", 10),))


UNSET = """
extern "C" __global__ void sums(float* y, int n) {
    float sum;
    for (int i = 0; i < n; i++) sum += i;
    y[threadIdx.x] = sum;
}
extern "C" __global__ void part(int* y, int n) {
    int part[4];
    for (int i = 0; i < n; i++) part[i] = i;
    y[threadIdx.x] = part[threadIdx.x];
}
extern "C" __global__ void moves(unsigned* y, const unsigned* x) { y[threadIdx.x] = x[threadIdx.x]; }
"""


def test_the_value_of_a_variable_that_nobody_set_is_uninitialised():
    module = RawModule(UNSET, filename="k.cu", check=True)
    y = np.zeros(4, i32)
    module.get_function("part")((1,), (4,), (y, i32(4)))
    np.testing.assert_array_equal(y, [0, 1, 2, 3])
    told = r"uninitialised: k.cu:{}: block \(0,0,0\) thread \({},0,0\): it writes .* nobody has set; harmless"
    with pytest.warns(CheckWarning, match=told.format(10, 2)) as warned:
        module.get_function("part")((1,), (4,), (y, i32(2)))
    assert warned[0].filename == __file__
    for unset in (0xFEFEFEFE, 0xAAAAAAAA):  # such a number may be data
        module.get_function("moves")((1,), (4,), (y.view(np.uint32), np.full(4, unset, np.uint32)))
        np.testing.assert_array_equal(y.view(np.uint32), unset)
    if not CLANG:
        with pytest.warns(CheckWarning, match=told.format(5, 0)):
            module.get_function("sums")((1,), (3,), (np.zeros(3, f32), i32(5)))


LAST_BLOCK = """
extern "C" __global__ void last_block(float* parts, int* done, float* y) {{
    __shared__ int last;
    {0}
    parts[blockIdx.x * 32 + threadIdx.x] = 1;
    {1}
    __syncthreads();
    {2}
    if (threadIdx.x == 0) last = atomicAdd(done, 1) == gridDim.x - 1;
    __syncthreads();
    if (last) {{
        float sum = 0;
        for (int i = threadIdx.x; i < 32 * gridDim.x; i += 32) sum += parts[i];
        y[threadIdx.x] = sum;
    }}
}}
"""


@pytest.mark.parametrize("order", ["forward", 3])
@pytest.mark.parametrize(
    ("fences", "right"),
    [
        (("", "__threadfence();", ""), True),
        (("", "", "__threadfence();"), True),
        (("", "", "if (threadIdx.x == 0) __threadfence();"), True),
        (("", "", ""), False),
        (("__threadfence();", "", ""), False),
        (("", "if (threadIdx.x == 0) __threadfence();", ""), False),
        (("", "", "if (threadIdx.x == 1) __threadfence();"), False),
    ],
)
def test_a_fence_shows_what_was_written_before_it(fences, right, order):
    kernel = RawKernel(LAST_BLOCK.format(*fences), "last_block", filename="k.cu", check=True, order=order)
    y = np.zeros(32, f32)
    arguments = (np.zeros(96, f32), np.zeros(1, i32), y)
    if right:
        kernel((3,), (32,), arguments)
        np.testing.assert_array_equal(y, 3)
        return
    (found,) = only(mistakes(kernel, (3,), (32,), arguments), "race")
    assert (found.line, found.other_line) == (13, 5)
    assert "read of argument 0 byte" in found.message


def test_an_in_place_stencil_races(right):
    reports = only(mistakes(launch_stencil, right, in_place=True), "race")
    assert {r.line for r in reports} == {line_of("y[i] = x[i] + (i + 1 < n")}


@pytest.mark.parametrize(("arguments", "kind"), [({"b": (1, 0, 3)}, "division"), ({"n": 4}, "out-of-bounds")])
def test_whole_numbers_that_go_wrong(right, arguments, kind):
    reports = mistakes(launch_whole_numbers, right, **arguments)
    assert (kind, line_of("a[i] / b[i]")) in places(reports)


@pytest.mark.parametrize(("arguments", "kind"), [({"b": (1, 33, 3)}, "shift"), ({"a": (7, 2**31 - 1, 9)}, "integer-o")])
def test_whole_numbers_that_only_a_gpu_defines(right, arguments, kind):
    line = line_of("a[i] / b[i]")
    with pytest.warns(CheckWarning, match=rf"whole_numbers: {kind}.*: kernels.cu:{line}: .*; harmless: a GPU"):
        launch_whole_numbers(right, **arguments)


def test_too_little_dynamic_shared_memory(right):
    reports = mistakes(launch_dynamic_reverse, right, shared_mem=31 * 16)
    (found,) = [r for r in reports if r.kind == "out-of-bounds"]
    assert found.line == line_of("memory[threadIdx.x] = x[threadIdx.x]")
    assert found.message == "write of 16 bytes at byte 496 of the dynamic shared memory, which has 496 bytes"


@pytest.mark.skipif(CLANG, reason="clang says nothing of the alignment of a struct that is copied")
def test_a_view_that_a_gpu_could_not_load_as_vectors(right):
    x = data(33 * 4)[1:129].reshape(32, 4)
    found = mistakes(launch_dynamic_reverse, right, x=x)
    assert {r.kind for r in found} == {"misaligned"}


def test_sub_warp_barriers_order_only_their_own_lanes(right):
    # All is right but the last line, where lane 31 writes what lane 0 wrote, or the other way round.
    reports = only(mistakes(launch_halves_of_warp, right), "race")
    assert all("argument 1 byte 0" in r.message for r in reports)
    assert {r.line for r in reports} <= {line_of("        y[t] = v;"), line_of("if (t == 31) y[0] = 1;")}


def test_two_blocks_that_write_the_same_element_race(right):
    with pytest.warns(CheckWarning, match=r"write of argument 1 byte \d+ written at line") as caught:
        launch_dynamic_reverse(right, blocks=2)
    assert f"kernels.cu:{line_of('y[threadIdx.x] = memory[')}:" in str(caught[0].message)
    (found,) = only(mistakes(right.get_function("number_of_block"), (2,), (1,), (np.zeros(1, f32),)), "race")
    assert found.line == found.other_line == line_of("y[0] = 1 + blockIdx.x;")
    assert found.message.startswith("write of argument 0 byte 0 written at line ")
    assert found.message.endswith(", and nothing orders two blocks")


# --- races that change nothing ----------------------------------------------------------------------------------------

RACES = r"""
extern "C" __global__ void found(const int* x, int* flag) {
    if (x[threadIdx.x] > 40) *flag = 1;
}
extern "C" __global__ void largest(const float* x, float* y) {
    int* bits = (int*)y;
    int old = *bits, seen, i = blockIdx.x * blockDim.x + threadIdx.x;
    do {
        seen = old;
        old = atomicCAS(bits, seen, __float_as_int(fmaxf(x[i], __int_as_float(seen))));
    } while (old != seen);
}
extern "C" __global__ void sum(const double* x, double* y) {
    unsigned long long *bits = (unsigned long long*)y, old = *bits, seen;
    do {
        seen = old;
        double more = x[threadIdx.x] + __longlong_as_double(seen);
        old = atomicCAS(bits, seen, (unsigned long long)__double_as_longlong(more));
    } while (old != seen);
}
extern "C" __global__ void largest_if_larger(const int* x, int* y) {
    int old = *y;
    while (x[threadIdx.x] > old) {
        int seen = old;
        old = atomicCAS(y, seen, x[threadIdx.x]);
        if (old == seen) break;
    }
}
extern "C" __global__ void shared_flag(const int* x, int* y) {
    __shared__ int any;
    if (threadIdx.x == 0) any = 0;
    __syncthreads();
    if (x[threadIdx.x] > 40) any = 1;
    __syncthreads();
    y[threadIdx.x] = any;
}
extern "C" __global__ void looks_then_counts(int* count, int* y) {
    y[threadIdx.x] = *count;
    atomicAdd(count, 1);
}
extern "C" __global__ void looks_beside_cas(int* count, int* y) {
    y[threadIdx.x] = *count;
    atomicCAS(count, -1, 0);
    atomicAdd(count, 1);
}
extern "C" __global__ void last_wins(const int* x, int* y) {
    if (x[threadIdx.x] > 40) *y = x[threadIdx.x];
}
extern "C" __global__ void same_but_one(const int* x, int* y) {
    if (x[threadIdx.x] > 40) *y = x[threadIdx.x] == 63 ? 2 : 1;
}
extern "C" __global__ void set_and_seen(const int* x, int* y) {
    if (x[threadIdx.x] > 40) *y = 1;
    else y[1] = *y;
}
"""


@pytest.mark.parametrize("order", ["forward", "reverse", 5])
@pytest.mark.parametrize(
    ("name", "dtype", "blocks", "why"),
    [
        ("found", i32, 1, report.HARMLESS[0]),
        ("found", i32, 2, report.HARMLESS[0]),
        ("shared_flag", i32, 1, report.HARMLESS[0]),
        ("largest", f32, 2, report.HARMLESS[1]),
        ("sum", np.float64, 1, report.HARMLESS[1]),
        ("largest_if_larger", i32, 1, report.HARMLESS[1]),
    ],
)
def test_races_that_change_nothing_are_a_warning(name, dtype, blocks, why, order):
    kernel = RawModule(RACES, check=True, order=order).get_function(name)
    x, y = np.arange(64 * blocks).astype(dtype), np.zeros(64 if name == "shared_flag" else 1, dtype)
    with pytest.warns(CheckWarning, match=why) as caught:
        kernel((blocks,), (64,), (x, y))
    assert y[0] == {"largest": 127, "sum": 2016, "largest_if_larger": 63}.get(name, 1)
    assert all(why in str(each.message) for each in caught)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckWarning, match=why):
            kernel((blocks,), (64,), (x, np.zeros_like(y)))


@pytest.mark.parametrize("order", ["forward", "reverse", 5])
@pytest.mark.parametrize("name", ["looks_then_counts", "looks_beside_cas", "last_wins", "same_but_one", "set_and_seen"])
def test_races_that_look_like_those_are_mistakes(name, order):
    kernel = RawModule(RACES, check=True, order=order).get_function(name)
    looks = name.startswith("looks")
    arrays = (np.zeros(1, i32), np.zeros(64, i32)) if looks else (np.arange(64, dtype=i32), np.zeros(2, i32))
    reports = only(mistakes(kernel, (1,), (64,), arrays), "race")
    assert any(not each.harmless for each in reports)


ROWS = """
struct Rows { float* row[2]; };
extern "C" __global__ void of_array(float** rows, int n) {
    if (threadIdx.x < n) rows[blockIdx.x][threadIdx.x] += 1;
}
extern "C" __global__ void of_struct(Rows rows, int n) {
    if (threadIdx.x < n) rows.row[blockIdx.x][threadIdx.x] += 1;
}
extern "C" __global__ void of_array_and_row(float** rows, float* row) {
    rows[0][threadIdx.x] = row[threadIdx.x] + 1;
}
"""


@pytest.mark.parametrize("name", ["of_array", "of_struct"])
def test_arrays_behind_pointers_are_watched_where_they_are_named(name):
    kernel = RawModule(ROWS, check=True, filename="k.cu").get_function(name)
    x, y = np.zeros(4, f32), np.ones(4, f32)
    rows = np.array([x.ctypes.data, y.ctypes.data], np.uint64)
    given = rows if name == "of_array" else rows.view("V16")[0]
    with reachable(x), reachable(y):
        kernel((2,), (8,), (given, i32(4)))
        (found,) = mistakes(kernel, (1,), (8,), (given, i32(5)))
    np.testing.assert_array_equal([x, y], [[2] * 4, [2] * 4])
    assert "e of 4 bytes at byte 16 of an allocation, which has 16 bytes; mem" in found.message.replace("read", "write")
    y.flags.writeable = False
    with reachable(x, y):
        assert {each.kind for each in mistakes(kernel, (2,), (4,), (given, i32(4)))} == {"read-only-write"}
    (found,) = mistakes(kernel, (1,), (4,), (given, i32(4)))
    assert (found.kind, found.message.endswith("see emulator.reachable")) == ("out-of-bounds", True)


def test_an_array_may_be_an_argument_and_behind_a_pointer():
    kernel = RawModule(ROWS, check=True).get_function("of_array_and_row")
    x = np.arange(4, dtype=f32)
    with reachable(x):
        kernel((1,), (4,), (np.array([x.ctypes.data], np.uint64), x))
    np.testing.assert_array_equal(x, [1, 2, 3, 4])


SCRATCH = """
extern "C" __global__ void add_to(float* sums, const float* x) {
    sums[threadIdx.x] += x[threadIdx.x];
}
extern "C" __global__ void fill(float* x) { x[threadIdx.x] = threadIdx.x; }
extern "C" __global__ void first_of(float** rows, float* y) { y[threadIdx.x] = rows[0][threadIdx.x]; }
extern "C" __global__ void pairs(double* x, unsigned char* y) { y[threadIdx.x] = x[threadIdx.x] > 0; }
"""


def test_memory_that_nobody_has_written_is_uninitialised():
    module = RawModule(SCRATCH, filename="k.cu", check=True)
    add_to, fill = module.get_function("add_to"), module.get_function("fill")
    sums, x = empty(8), empty(8)
    assert np.isnan(sums).all()
    fill((1,), (8,), (x,))
    (found,) = mistakes(add_to, (1,), (8,), (sums, x))
    assert (found.kind, found.line, found.argument, found.byte) == ("uninitialised", 3, 0, 0)
    assert found.message == "read of argument 0 byte 0, which nobody has written"
    sums = empty(8)
    sums[:5] = 0  # the host does
    sums[5] = np.nan
    (found,) = mistakes(add_to, (1,), (8,), (sums, x))
    assert (found.thread, found.byte) == ((6, 0, 0), 24)
    add_to((1,), (6,), (sums, x))
    np.testing.assert_array_equal(sums[:5], 2 * np.arange(5))  # both launches added
    sums = empty((2, 8))
    fill((1,), (8,), (sums[1],))
    add_to((1,), (8,), (sums[1], x))
    assert len(mistakes(add_to, (1,), (8,), (sums[0], x))) == 1
    with reachable(x):
        first = np.array([x.ctypes.data], np.uint64), np.zeros(8, f32)
        module.get_function("first_of")((1,), (8,), first)
    row = empty(8)
    with reachable(row):
        first = np.array([row.ctypes.data], np.uint64), np.zeros(8, f32)
        (found,) = mistakes(module.get_function("first_of"), (1,), (8,), first)
    assert found.message == "read of byte 0 of an allocation of 32, which nobody has written"
    doubles, bytes_ = empty(3, np.float64), empty(3, np.uint8)
    doubles[:2] = -1
    (found,) = mistakes(module.get_function("pairs"), (1,), (3,), (doubles, bytes_))
    assert (found.kind, found.thread) == ("uninitialised", (2, 0, 0))
    assert empty((0, 3)).shape == (0, 3)


def test_what_is_reachable_is_an_array():
    with pytest.raises(ArgumentError, match=r"reachable: each must be a C-contiguous array, got got=\(8,\)"):
        reachable(np.zeros((4, 2), f32)[:, 0]).__enter__()


CALLS = """\
{kind} void put(float* x, int i) {{
    x[i] = 1;
}}
{kind} void put_two(float* x, int i) {{
    put(x, i);
    put(x, i + 32);
}}
extern "C" __global__ void k(float* x) {{
    put_two(x, threadIdx.x);
}}
"""


@pytest.mark.parametrize("kind", ["__device__", "__device__ __noinline__", "static __device__ __forceinline__"])
def test_a_mistake_in_a_function_names_who_called_it(kind):
    kernel = RawKernel(CALLS.format(kind=kind), "k", filename="k.cu", check=True)
    (found,) = mistakes(kernel, (1,), (32,), (np.zeros(32, f32),))
    assert (found.file, found.line, found.callers) == ("k.cu", 2, (("k.cu", 6), ("k.cu", 9)))
    assert str(found).endswith(", called from k.cu:6, called from k.cu:9")


# --- what comes back --------------------------------------------------------------------------------------------------


def test_results_come_back_with_the_reports():
    code = 'extern "C" __global__ void k(float* x, int n) { x[threadIdx.x] = 5; if (threadIdx.x == 3) x[n] = 1; }'
    x = np.zeros(4, f32)
    only(mistakes(RawKernel(code, "k", check=True), (1,), (4,), (x, i32(4))), "out-of-bounds")
    np.testing.assert_array_equal(x, 5)


def test_arrays_that_overlap_stay_together():
    code = 'extern "C" __global__ void k(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x] + 1; }'
    x = np.arange(8, dtype=f32)
    RawKernel(code, "k", check=True)((1,), (4,), (x[:4], x[:4]))
    RawKernel(code, "k", check=True)((1,), (2,), (x[4:], x[5:7][:0].base[6:]))
    np.testing.assert_array_equal(x, [1, 2, 3, 4, 4, 5, 5, 6])


def test_neighbouring_slices_stay_apart():
    code = 'extern "C" __global__ void k(float* x, float* y) { x[threadIdx.x] = 1; if (threadIdx.x == 0) y[0] = 2; }'
    x = np.zeros(8, f32)
    only(mistakes(RawKernel(code, "k", check=True), (1,), (5,), (x[:4], x[4:])), "out-of-bounds")
    np.testing.assert_array_equal(x[:4], 1)


def test_null_and_local_pointers():
    code = """extern "C" __global__ void k(const float* null, float* y, int use) {
    float local[4] = {1, 2, 3, 4};
    volatile float* p = local;
    y[threadIdx.x] = p[threadIdx.x];
    if (use) y[0] = null[0];
}"""
    y = np.zeros(4, f32)
    kernel = RawKernel(code, "k", check=True)
    kernel((1,), (4,), (None, y, i32(0)))
    np.testing.assert_array_equal(y, [1, 2, 3, 4])
    (found,) = only(mistakes(kernel, (1,), (4,), (None, y, i32(1))), "out-of-bounds")
    assert (found.line, found.argument) == (5, None)
    assert "in no argument and no shared memory" in found.message


def test_line_directives_name_the_file(tmp_path):
    code = '#line 40 "helpers.cuh"\n__device__ void put(float* x, int i) {\n    x[i] = 1;\n}\n#line 7 "main.cu"\n'
    code += 'extern "C" __global__ void k(float* x) { put(x, threadIdx.x); }\n'
    (found,) = only(mistakes(RawKernel(code, "k", check=True), (1,), (5,), (np.zeros(4, f32),)), "out-of-bounds")
    assert (found.file, found.line, found.thread) == ("helpers.cuh", 41, (4, 0, 0))


def test_without_addr2line_a_report_has_an_address(monkeypatch):
    code = 'extern "C" __global__ void no_lines(float* x) { x[threadIdx.x] = 1; }'
    kernel = RawKernel(code, "no_lines", check=True)
    monkeypatch.setattr(symbols.shutil, "which", lambda _: None)
    symbols.lines_of.cache_clear()
    (found,) = mistakes(kernel, (1,), (5,), (np.zeros(4, f32),))
    symbols.lines_of.cache_clear()
    assert (found.kind, found.file, found.line) == ("out-of-bounds", None, None)
    assert "(at 0x" in found.message


def test_the_lists_of_kinds_agree():
    header = (report.Path(report.__file__).parent / "runtime" / "launch.h").read_text()
    body = header[header.index("enum class Kind") :].split("{")[1].split("}")[0]
    names = [name.strip().replace("_", "-") for name in body.split(",") if name.strip()]
    assert [name.replace("assertion", "assert") for name in names] == [*report.KINDS]
