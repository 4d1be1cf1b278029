"""The emulator's fast mode: every feature of CUDA C++ that it covers, against NumPy."""

import ctypes
import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gpunn.cuda.emulator import RawKernel, RawModule, build
from gpunn.cuda.emulator.mode import Mode
from gpunn.errors import ArgumentError, CompileError, LaunchError

i32, f32 = np.int32, np.float32

# One source for most tests: compiling costs more than running.
FEATURES = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>

// --- indices and memory
extern "C" __global__ void where(unsigned* out) {
    unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    unsigned threads = blockDim.x * blockDim.y * blockDim.z;
    unsigned* mine = out + (block * threads + thread) * 7;
    mine[0] = threadIdx.x; mine[1] = threadIdx.y; mine[2] = threadIdx.z;
    mine[3] = blockIdx.x; mine[4] = blockIdx.y; mine[5] = blockIdx.z;
    mine[6] = warpSize;
}

struct Pair { float a; int b; };

__device__ float swap_in_device_function(float v) {
    __shared__ float other[64];
    other[threadIdx.x] = v;
    __syncthreads();
    return other[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void static_shared(const float* x, float* y) {
    __shared__ float array[64];
    __shared__ __align__(16) Pair pairs[64];
    __shared__ float total;
    int t = threadIdx.x;
    array[t] = x[t];
    pairs[t].a = 2 * x[t];
    pairs[t].b = t;
    if (t == 0) total = 100;
    __syncthreads();
    int o = 63 - t;
    y[t] = array[o] + pairs[o].a + pairs[o].b + total + swap_in_device_function(x[t]);
}

extern "C" __global__ void dynamic_floats(const float* x, float* y) {
    extern __shared__ float memory[];
    memory[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = memory[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void dynamic_structs(const float* x, float* y) {
    extern __shared__
        __align__(16) Pair memory[];  // another type under the same name
    memory[threadIdx.x].a = x[threadIdx.x];
    memory[threadIdx.x].b = threadIdx.x;
    __syncthreads();
    Pair p = memory[blockDim.x - 1 - threadIdx.x];
    y[threadIdx.x] = p.a + p.b;
}

extern __shared__ double at_file_scope[];

extern "C" __global__ void dynamic_at_file_scope(const float* x, float* y) {
    at_file_scope[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    float* halves = reinterpret_cast<float*>(at_file_scope) + 2 * blockDim.x;
    halves[threadIdx.x] = at_file_scope[blockDim.x - 1 - threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = halves[threadIdx.x];
}

extern "C" __global__ void never_written(float* y) {
    __shared__ float fixed[32];
    extern __shared__ float memory[];
    y[2 * threadIdx.x] = fixed[threadIdx.x];
    y[2 * threadIdx.x + 1] = memory[threadIdx.x];
}

__constant__ float table[4] = {1, 2, 4, 8};
__device__ unsigned calls = 0;
extern "C" __global__ void globals(float* y, unsigned* count) {
    y[threadIdx.x] = table[threadIdx.x];
    if (threadIdx.x == 0) *count = atomicAdd(&calls, 1u) + 1;
}

// --- barriers
extern "C" __global__ void votes_of_block(const int* x, int* y) {
    int p = x[threadIdx.x];
    int count = __syncthreads_count(p), all = __syncthreads_and(p), any = __syncthreads_or(p);
    y[threadIdx.x] = count * 4 + all * 2 + any;
}

extern "C" __global__ void early_return(const float* x, float* y, int n) {
    __shared__ float s[64];
    if (threadIdx.x >= n) return;
    s[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = s[n - 1 - threadIdx.x];
}

extern "C" __global__ void many_barriers(float* y, int n) {
    __shared__ float s[256];
    float v = threadIdx.x;
    for (int i = 0; i < n; i++) {
        s[threadIdx.x] = v;
        __syncthreads();
        v = s[(threadIdx.x + 1) % blockDim.x];
        __syncthreads();
    }
    y[threadIdx.x] = v;
}

// --- warps
template <class T> __global__ void shuffles(const T* x, T* y, int width) {
    int t = threadIdx.x, n = blockDim.x;
    y[t] = __shfl_sync(0xffffffffu, x[t], 5, width);
    y[n + t] = __shfl_up_sync(0xffffffffu, x[t], 3, width);
    y[2 * n + t] = __shfl_down_sync(0xffffffffu, x[t], 3, width);
    y[3 * n + t] = __shfl_xor_sync(0xffffffffu, x[t], 6, width);
}

extern "C" __global__ void votes_of_warp(const int* x, unsigned* y) {
    int t = threadIdx.x, n = blockDim.x;
    y[t] = __ballot_sync(0xffffffffu, x[t] > 2);
    y[n + t] = __any_sync(0xffffffffu, x[t] > 100);
    y[2 * n + t] = __all_sync(0xffffffffu, x[t] >= 0);
    y[3 * n + t] = __match_any_sync(0xffffffffu, x[t]);
    int same;
    y[4 * n + t] = __match_all_sync(0xffffffffu, t / 32, &same) + same;
    if (t % 32 < 12) y[5 * n + t] = __activemask();
    else y[5 * n + t] = __activemask();
    if (t % 2) y[6 * n + t] = __ballot_sync(0xaaaaaaaau, x[t] > 2);
    else y[6 * n + t] = __ballot_sync(0x55555555u, x[t] > 2);
}

extern "C" __global__ void reductions(const int* x, int* y) {
    int t = threadIdx.x, n = blockDim.x;
    y[t] = __reduce_add_sync(0xffffffffu, x[t]);
    y[n + t] = __reduce_min_sync(0xffffffffu, x[t]);
    y[2 * n + t] = __reduce_max_sync(0xffffffffu, x[t]);
    y[3 * n + t] = __reduce_and_sync(0xffffffffu, (unsigned)x[t]);
    y[4 * n + t] = __reduce_or_sync(0xffffffffu, (unsigned)x[t]);
    y[5 * n + t] = __reduce_xor_sync(0xffffffffu, (unsigned)x[t]);
}

extern "C" __global__ void warp_synchronous(const float* x, float* y) {
    __shared__ volatile float s[32];
    s[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    for (int half = 16; half; half /= 2) {
        float v = threadIdx.x < half ? s[threadIdx.x + half] : 0;
        __syncwarp();
        if (threadIdx.x < half) s[threadIdx.x] += v;
        __syncwarp();
    }
    y[threadIdx.x] = s[0];
}

// --- atomics
template <class T> __global__ void atomics(T* y, const T* x) {
    T v = x[blockIdx.x * blockDim.x + threadIdx.x];
    atomicAdd(&y[0], v); atomicSub(&y[1], v);
    atomicMin(&y[2], v); atomicMax(&y[3], v);
    atomicExch(&y[4], 7);
    T old = y[5], seen;
    do { seen = old; old = atomicCAS(&y[5], seen, seen + v); } while (old != seen);
}
template <class T> __global__ void float_atomics(T* y, const T* x) {
    T v = x[blockIdx.x * blockDim.x + threadIdx.x];
    atomicAdd(&y[0], v);
    atomicExch(&y[1], 7);
    atomicAdd(&y[2], 1);
}
extern "C" __global__ void bit_atomics(unsigned* y, const unsigned* x) {
    unsigned v = x[blockIdx.x * blockDim.x + threadIdx.x];
    atomicAnd(&y[0], v); atomicOr(&y[1], v); atomicXor(&y[2], v);
    atomicInc(&y[3], 9); atomicDec(&y[4], 9);
}

// --- loads, stores and vectors
extern "C" __global__ void hinted(const float* x, float* y) {
    int t = threadIdx.x;
    __stcs(&y[t], __ldg(&x[t]) + __ldcs(&x[t]) + __ldcg(&x[t]) + __ldca(&x[t]));
}
extern "C" __global__ void vectors(const float4* x, float4* y, const uchar4* b, int2* z, dim3 d) {
    float4 v = x[threadIdx.x];
    y[threadIdx.x] = make_float4(v.w, v.z, v.y, v.x);
    uchar4 c = b[threadIdx.x];
    z[threadIdx.x] = make_int2(c.x + c.y * d.x, c.z + c.w * d.y);
}

// --- numbers
extern "C" __global__ void float_math(const float* x, float* y, int n) {
    int t = threadIdx.x;
    float v = x[t], s, c;
    sincosf(v, &s, &c);
    int k = 0;
    y[n * k++ + t] = rsqrtf(v); y[n * k++ + t] = __expf(v); y[n * k++ + t] = __fdividef(v, 3);
    y[n * k++ + t] = s; y[n * k++ + t] = c; y[n * k++ + t] = fmaf(v, v, 1);
    y[n * k++ + t] = __saturatef(v - 1); y[n * k++ + t] = tanhf(v); y[n * k++ + t] = erff(v);
    y[n * k++ + t] = log1pf(v); y[n * k++ + t] = powf(v, 1.5f); y[n * k++ + t] = floorf(v);
    y[n * k++ + t] = copysignf(v, -1); y[n * k++ + t] = exp(v); y[n * k++ + t] = sqrt(v);
}
extern "C" __global__ void double_math(const double* x, double* y, int n) {
    int t = threadIdx.x;
    double v = x[t], s, c;
    sincos(v, &s, &c);
    int k = 0;
    y[n * k++ + t] = rsqrt(v); y[n * k++ + t] = exp(v); y[n * k++ + t] = log(v); y[n * k++ + t] = s;
    y[n * k++ + t] = c; y[n * k++ + t] = fma(v, v, 1.0); y[n * k++ + t] = pow(v, 0.3); y[n * k++ + t] = cbrt(v);
}
extern "C" __global__ void special(const float* a, const float* b, float* y, int n) {
    int t = threadIdx.x;
    y[t] = fmaxf(a[t], b[t]); y[n + t] = fminf(a[t], b[t]);
    y[2 * n + t] = max(a[t], b[t]); y[3 * n + t] = min(a[t], b[t]);
    y[4 * n + t] = isnan(a[t]); y[5 * n + t] = isinf(a[t]); y[6 * n + t] = isfinite(a[t]);
    y[7 * n + t] = a[t] * 0.5f;
    y[8 * n + t] = __float2int_rz(a[t]);
}
extern "C" __global__ void integers(const int* a, const int* b, int* y, int n) {
    int t = threadIdx.x, k = 0;
    unsigned u = a[t], v = b[t];
    y[n * k++ + t] = max(a[t], b[t]); y[n * k++ + t] = min(u, v); y[n * k++ + t] = __popc(u);
    y[n * k++ + t] = __clz(a[t]); y[n * k++ + t] = __ffs(a[t]); y[n * k++ + t] = __brev(u);
    y[n * k++ + t] = __umulhi(u, v); y[n * k++ + t] = __mulhi(a[t], b[t]);
    y[n * k++ + t] = __byte_perm(u, v, 0x5140); y[n * k++ + t] = __funnelshift_l(u, v, 5);
    y[n * k++ + t] = __funnelshift_r(u, v, 5); y[n * k++ + t] = (int)(__umul64hi((unsigned long long)u << 32, v) );
    y[n * k++ + t] = a[t] + b[t];
}
extern "C" __global__ void bit_casts(const float* x, int* y, float* z) {
    y[threadIdx.x] = __float_as_int(x[threadIdx.x]);
    z[threadIdx.x] = __uint_as_float(__float_as_uint(x[threadIdx.x])) + __int_as_float(0);
}
extern "C" __global__ void two_roundings(const float* x, float* y) {
    int t = threadIdx.x;
    float product = __fmul_rn(x[t], x[t]);
    y[t] = __fadd_rn(__fmul_rn(x[t], x[t]), -product);
}
extern "C" __global__ void halves(const __half* x, const __nv_bfloat16* b, __half* y, __nv_bfloat16* c, float* f) {
    int t = threadIdx.x;
    __half v = x[t];
    y[t] = v * v + __float2half(0.25f);
    c[t] = b[t] * b[t] + __nv_bfloat16(0.25f);
    __half2 pair = __floats2half2_rn(__half2float(v), 1.0f);
    f[t] = __low2float(pair) + __high2float(pair) + __bfloat162float(b[t]) + (float)__hfma(v, v, v);
}
extern "C" __global__ void round_halves(const float* x, __half* y, __nv_bfloat16* z) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = __float2half(x[i]);
    z[i] = __float2bfloat16(x[i]);
}

// --- names
#define BOUNDS(threads) __launch_bounds__((threads) * 2, (1))
#define FIRST(name) name##_first
extern "C" __global__ void BOUNDS(64)
    bounded(float* __restrict__ x) { x[threadIdx.x] += 1; }
extern "C" __global__ void FIRST(macro)(float* x) { x[threadIdx.x] += 2; }
extern "C" {
__forceinline__ __device__ float three() { return 3; }
__global__ __launch_bounds__(64) void in_braces(float* x) {
    #pragma unroll 4
    for (int i = 0; i < 1; i++) x[threadIdx.x] += three();
}
}
namespace inner { __global__ void hidden(float* x) { x[threadIdx.x] += 4; } }
#ifdef NOT_DEFINED
extern "C" __global__ void left_out(float* x) { this does not compile; }
#endif
extern "C" __global__ void many_kinds(char* a, bool b, short c, double d, const void* e, Pair f, long long g) {
    double* out = (double*)a;
    out[0] = b; out[1] = c; out[2] = d; out[3] = ((const int*)e)[0]; out[4] = f.a; out[5] = f.b; out[6] = (double)g;
}
extern "C" __global__ void says(int n) { printf("thread %d of %d\n", (int)threadIdx.x, n); }
extern "C" __global__ void waits_for_other(int* flag, int* y) {
    if (threadIdx.x == 0) { while (!*(volatile int*)flag) __nanosleep(100); y[0] = 1; }
    if (threadIdx.x == blockDim.x - 1) *flag = 1;
}
extern "C" __global__ void times(long long* y) { long long a = clock64(); y[0] = clock64() - a; }
"""

EXPRESSIONS = [
    *(f"shuffles<{t}>" for t in ("int", "float", "double", "long long", "__half")),
    *(f"atomics<{t}>" for t in ("int", "unsigned", "unsigned long long")),
    *(f"float_atomics<{t}>" for t in ("float", "double")),
    "inner::hidden",
]


@pytest.fixture(scope="module")
def features():
    return RawModule(FEATURES, name_expressions=EXPRESSIONS, filename="features.cu")


def uniform(*shape, low=0.1, high=3.0, dtype=f32):
    return np.random.default_rng(sum(shape)).uniform(low, high, shape).astype(dtype)


# --- indices and memory -----------------------------------------------------------------------------------------------


def test_every_thread_sees_its_own_indices(features):
    grid, block = (2, 3, 4), (3, 2, 5)
    out = np.zeros((4, 3, 2, 5, 2, 3, 7), np.uint32)
    features.get_function("where")(grid, block, (out,))
    bz, by, bx, tz, ty, tx = np.indices(out.shape[:-1])
    np.testing.assert_array_equal(out, np.stack([tx, ty, tz, bx, by, bz, np.full(tx.shape, 32)], -1))


def test_static_shared_memory(features):
    x, y = uniform(64), np.zeros(64, f32)
    features.get_function("static_shared")((1,), (64,), (x, y))
    other = x[::-1]
    np.testing.assert_allclose(y, other + 2 * other + np.arange(64)[::-1] + 100 + other, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "element", "extra"),
    [("dynamic_floats", 4, 0), ("dynamic_structs", 8, 1), ("dynamic_at_file_scope", 12, 0)],
)
def test_dynamic_shared_memory(features, name, element, extra):
    n = 70
    x, y = uniform(n), np.zeros(n, f32)
    features.get_function(name)((1,), (n,), (x, y), shared_mem=n * element)
    np.testing.assert_allclose(y, x[::-1] + extra * np.arange(n)[::-1], rtol=1e-6)


def test_unwritten_shared_memory_is_nan(features):
    y = np.zeros(64, f32)
    features.get_function("never_written")((1,), (32,), (y,), shared_mem=128)
    assert np.isnan(y).all()


def test_constants_and_device_variables(features):
    y, count = np.zeros(4, f32), np.zeros(1, np.uint32)
    for call in (1, 2):  # a __device__ variable keeps its value
        features.get_function("globals")((1,), (4,), (y, count))
        assert count[0] == call
    np.testing.assert_array_equal(y, [1, 2, 4, 8])


GLOBALS = """
static __constant__ float factor[2];
__device__ int count;
const __constant__ float table[2] = {1, 2};
namespace ns { __device__ double more[3]; }
extern "C" __global__ void use(float* x) {
    x[threadIdx.x] = factor[threadIdx.x] + table[threadIdx.x] + ns::more[1];
    atomicAdd(&count, 1);
}
"""


@pytest.mark.parametrize("check", [False, True])
def test_the_host_reads_and_writes_variables(check):
    module = RawModule(GLOBALS, check=check, filename="k.cu")
    np.ndarray(2, f32, module.get_global("factor"))[:] = 10, 20
    np.ndarray(3, np.float64, module.get_global("ns::more"))[:] = 100
    count, x = module.get_global("count").view(i32), np.zeros(2, f32)
    before = count[0]
    module.get_function("use")((1,), (2,), (x,))
    np.testing.assert_array_equal(x, [111, 122])
    assert count[0] == before + 2
    with pytest.raises(ValueError, match="read-only"):
        module.get_global("table")[0] = 1
    known = r"k.cu: no __device__ or __constant__ variable 'more'; found \['count', 'factor', 'ns::more', 'table'"
    with pytest.raises(CompileError, match=known):
        module.get_global("more")


# --- barriers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zeros", [0, 3, 70])
def test_barriers_that_count(features, zeros):
    x, y = np.ones(70, i32), np.zeros(70, i32)
    x[:zeros] = 0
    features.get_function("votes_of_block")((1,), (70,), (x, y))
    expected = (70 - zeros) * 4 + (zeros == 0) * 2 + (zeros < 70)
    np.testing.assert_array_equal(y, expected)


def test_barriers_do_not_wait_for_threads_that_returned(features):
    x, y = uniform(64), np.zeros(64, f32)
    features.get_function("early_return")((1,), (64,), (x, y, i32(40)))
    np.testing.assert_array_equal(y, [*x[39::-1], *np.zeros(24)])


def test_local_variables_survive_barriers(features):
    y = np.zeros(256, f32)
    features.get_function("many_barriers")((1,), (256,), (y, i32(300)))
    np.testing.assert_array_equal(y, (np.arange(256) + 300) % 256)


# --- warps ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 8, 32])
@pytest.mark.parametrize(
    ("name", "dtype"),
    [("int", i32), ("float", f32), ("double", np.float64), ("long long", np.int64), ("__half", np.float16)],
)
def test_shuffles(features, name, dtype, width):
    n = 64
    x, y = np.arange(n).astype(dtype), np.zeros((4, n), dtype)
    features.get_function(f"shuffles<{name}>")((1,), (n,), (x, y, i32(width)))
    lane = np.arange(n)
    start = lane // width * width
    up = np.where(lane - 3 >= start, lane - 3, lane)
    down = np.where(lane + 3 < start + width, lane + 3, lane)
    xor = lane ^ 6
    xor = np.where(xor >= start + width, lane, xor)
    np.testing.assert_array_equal(y, [x[start + 5 % width], x[up], x[down], x[xor]])


def test_votes_and_matches(features):
    n = 64
    x = np.random.default_rng(0).integers(0, 6, n).astype(i32)
    y = np.zeros((7, n), np.uint32)
    features.get_function("votes_of_warp")((1,), (n,), (x, y))

    def bits(flags):
        return [sum(1 << i for i in range(32) if warp[i]) for warp in np.asarray(flags).reshape(-1, 32)]

    lane = np.arange(n)
    ballot = np.repeat(bits(x > 2), 32)
    match = [bits(x.reshape(2, 32)[t // 32] == x[t])[0] for t in range(n)]
    np.testing.assert_array_equal(y[0], ballot)
    np.testing.assert_array_equal(y[1], 0)
    np.testing.assert_array_equal(y[2], 1)
    np.testing.assert_array_equal(y[3], match)
    np.testing.assert_array_equal(y[4], 0)  # 0xffffffff + 1
    np.testing.assert_array_equal(y[5], np.where(lane % 32 < 12, 0xFFF, 0xFFFFF000))
    np.testing.assert_array_equal(y[6], ballot & np.where(lane % 2, 0xAAAAAAAA, 0x55555555))


def test_reductions_of_a_warp(features):
    n = 64
    x, y = np.random.default_rng(1).integers(-1000, 1000, n).astype(i32), np.zeros((6, n), i32)
    features.get_function("reductions")((1,), (n,), (x, y))
    warps = x.reshape(2, 32)
    functions = np.add, np.minimum, np.maximum, np.bitwise_and, np.bitwise_or, np.bitwise_xor
    np.testing.assert_array_equal(y, [np.repeat(f.reduce(warps, axis=1), 32) for f in functions])


@pytest.mark.parametrize("order", ["forward", "reverse", 5])
def test_warp_synchronous_code(order):
    module = RawModule(FEATURES, name_expressions=EXPRESSIONS, filename="features.cu", order=order)
    x, y = uniform(32), np.zeros(32, f32)
    module.get_function("warp_synchronous")((1,), (32,), (x, y))
    np.testing.assert_allclose(y, x.sum(), rtol=1e-6)


# --- atomics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "dtype"), [("int", i32), ("unsigned", np.uint32), ("unsigned long long", np.uint64)])
def test_integer_atomics_between_many_blocks(features, name, dtype):
    x = np.random.default_rng(2).integers(0, 1000, 200 * 64).astype(dtype)
    y = np.array([5, 0, 500, 500, 0, 9], dtype)
    features.get_function(f"atomics<{name}>")((200,), (64,), (y, x))
    total = x.sum(dtype=dtype)
    expected = np.array([total + 5, dtype(0) - total if dtype == i32 else 2 ** (8 * x.itemsize) - int(total)], object)
    assert [int(y[0]), int(y[1])] == [int(expected[0]), int(expected[1])]
    assert [*y[2:]] == [x.min(), x.max(), 7, total + 9]


@pytest.mark.parametrize(("name", "dtype"), [("float", f32), ("double", np.float64)])
def test_float_atomics(features, name, dtype):
    x = np.random.default_rng(3).integers(0, 10, 100 * 64).astype(dtype)  # sums stay exact in any order
    y = np.array([1, 1, 0], dtype)
    features.get_function(f"float_atomics<{name}>")((100,), (64,), (y, x))
    np.testing.assert_array_equal(y, [x.sum() + 1, 7, x.size])


def test_bit_atomics(features):
    x = np.random.default_rng(4).integers(0, 2**32, 256, dtype=np.uint64).astype(np.uint32) | np.uint32(0x80000001)
    y = np.array([0xFFFFFFFF, 0, 0, 0, 0], np.uint32)
    features.get_function("bit_atomics")((4,), (64,), (y, x))
    # Inc counts 0 ... 9 and around, Dec 9 ... 0 and around, starting with 0.
    expected = [np.bitwise_and.reduce(x), np.bitwise_or.reduce(x), np.bitwise_xor.reduce(x), 256 % 10, -256 % 10]
    np.testing.assert_array_equal(y, np.array(expected, np.uint32))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_loads_and_stores_with_hints(features):
    x, y = uniform(32), np.zeros(32, f32)
    features.get_function("hinted")((1,), (32,), (x, y))
    np.testing.assert_array_equal(y, 4 * x)


def test_vector_types(features):
    x, y = uniform(8, 4), np.zeros((8, 4), f32)
    b, z = np.arange(32, dtype=np.uint8).reshape(8, 4), np.zeros((8, 2), i32)
    dim3 = np.array((10, 100, 1), np.dtype([("x", "u4"), ("y", "u4"), ("z", "u4")]))[()]
    features.get_function("vectors")((1,), (8,), (x, y, b, z, dim3))
    np.testing.assert_array_equal(y, x[:, ::-1])
    c = b.astype(i32)
    np.testing.assert_array_equal(z, np.stack([c[:, 0] + 10 * c[:, 1], c[:, 2] + 100 * c[:, 3]], 1))


def test_float_functions(features):
    n = 50
    x, y = uniform(n), np.zeros((15, n), f32)
    features.get_function("float_math")((1,), (n,), (x, y, i32(n)))
    v = x.astype(np.float64)
    erf = np.array([math.erf(e) for e in v])
    expected = [v**-0.5, np.exp(v), v / 3, np.sin(v), np.cos(v), v * v + 1, np.clip(v - 1, 0, 1), np.tanh(v), erf]
    expected += [np.log1p(v), v**1.5, np.floor(v), -v, np.exp(v), np.sqrt(v)]
    np.testing.assert_allclose(y, expected, rtol=4e-7, atol=2e-7)  # a few units in the last place of float32


def test_double_functions(features):
    n = 50
    x, y = uniform(n, dtype=np.float64), np.zeros((8, n))
    features.get_function("double_math")((1,), (n,), (x, y, i32(n)))
    expected = [x**-0.5, np.exp(x), np.log(x), np.sin(x), np.cos(x), x * x + 1, x**0.3, np.cbrt(x)]
    np.testing.assert_allclose(y, expected, rtol=1e-15, atol=1e-15)


def test_nan_infinity_and_denormals(features):
    nan, inf, tiny = np.nan, np.inf, 1e-40
    a = np.array([nan, 1, nan, inf, -inf, tiny, 3e9], f32)
    b = np.array([2, nan, nan, 1, 1, 0, 1], f32)
    n = a.size
    y = np.zeros((9, n), f32)
    features.get_function("special")((1,), (n,), (a, b, y, i32(n)))
    # np.fmax and np.fmin prefer a number to a NaN, as CUDA does.
    finite = np.isfinite(a)
    expected = [np.fmax(a, b), np.fmin(a, b)] * 2 + [np.isnan(a), np.isinf(a), finite, a * f32(0.5)]
    np.testing.assert_array_equal(y[:8], expected)
    assert y[7, 5] > 0
    np.testing.assert_array_equal(y[8], np.array([0, 1, 0, 2**31 - 1, -(2**31), 0, 2**31 - 1], f32))


def test_integer_intrinsics(features):
    rng = np.random.default_rng(5)
    a, b = (np.array([0, 1, -1, *rng.integers(-(2**31), 2**31, 60)], i32) for _ in range(2))
    n = a.size
    y = np.zeros((13, n), i32)
    features.get_function("integers")((1,), (n,), (a, b, y, i32(n)))
    expected = np.zeros((13, n), object)
    for t in range(n):
        s, r = int(a[t]), int(b[t])
        u, v = s % 2**32, r % 2**32
        both = v << 32 | u
        text = f"{u:032b}"
        perm = [u & 255, v & 255, u >> 8 & 255, v >> 8 & 255]  # the bytes 0, 4, 1 and 5 of v:u
        expected[:, t] = [
            max(s, r), min(u, v), text.count("1"), (text + "1").index("1"), 32 - text.rfind("1") if u else 0,
            int(text[::-1], 2), u * v >> 32, s * r >> 32, sum(p << 8 * i for i, p in enumerate(perm)),
            both << 5 >> 32, both >> 5, (u << 32) * v >> 64, s + r,
        ]  # fmt: skip
    np.testing.assert_array_equal(y.astype(np.int64) % 2**32, (expected % 2**32).astype(np.int64))


def test_bit_casts(features):
    x, y, z = uniform(32, low=-3), np.zeros(32, i32), np.zeros(32, f32)
    features.get_function("bit_casts")((1,), (32,), (x, y, z))
    np.testing.assert_array_equal(y, x.view(i32))
    np.testing.assert_array_equal(z, x)


def test_rounding_intrinsics_are_not_fused(features):
    x, y = uniform(32), np.ones(32, f32)
    features.get_function("two_roundings")((1,), (32,), (x, y))
    np.testing.assert_array_equal(y, 0)


def bfloat16_bits(x):
    """Rounds to nearest even."""
    bits = x.astype(f32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(f32)


def test_half_types(features):
    x, f = uniform(32, low=-2).astype(np.float16), np.zeros(32, f32)
    b, c = bfloat16_bits(uniform(32, low=-2)), np.zeros(32, np.uint16)
    y = np.zeros(32, np.float16)
    features.get_function("halves")((1,), (32,), (x, b, y, c, f))
    v = from_bfloat16(b)
    np.testing.assert_array_equal(y, x * x + np.float16(0.25))
    np.testing.assert_array_equal(c, bfloat16_bits(from_bfloat16(bfloat16_bits(v * v)) + f32(0.25)))
    fused = (x.astype(np.float64) ** 2 + x).astype(np.float16).astype(f32)
    np.testing.assert_allclose(f, x.astype(f32) + 1 + v + fused, rtol=1e-6)


HALF_EDGES = np.array(
    [0, -0.0, 65504, 65519.99, 65520, 1e9, -1e9, 6e-8, 2.9e-8, 3e-8, 6.1e-5, 6.0976e-5, 1 + 2**-11, 1 + 3 * 2**-11,
     np.inf, -np.inf, 1e-30, 2049, 2051, 3.4e38], f32
)  # fmt: skip


def all_roundings():
    bits = np.random.default_rng(6).integers(0, 2**32, 4096 - HALF_EDGES.size, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([HALF_EDGES, bits.view(f32)])
    return np.where(np.isnan(x), f32(1), x)


def check_roundings(module):
    x = all_roundings()
    y, z = np.zeros(x.size, np.float16), np.zeros(x.size, np.uint16)
    module.get_function("round_halves")((x.size // 64,), (64,), (x, y, z))
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(y.view(np.uint16), expected.view(np.uint16))
    np.testing.assert_array_equal(z, bfloat16_bits(x))


def test_conversions_to_half_round_to_nearest_even(features):
    check_roundings(features)


# --- names, arguments, output -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "added"), [("bounded", 1), ("macro_first", 2), ("in_braces", 3), ("inner::hidden", 4)]
)
def test_kernels_are_found_however_they_are_written(features, name, added):
    x = np.zeros(32, f32)
    features.get_function(name)((1,), (32,), (x,))
    np.testing.assert_array_equal(x, added)


def test_a_kernel_that_is_not_there_is_named(features):
    for name in ("left_out", "nothing", "hidden"):
        with pytest.raises(CompileError, match=rf"features.cu: no kernel '{name}': it must be extern \"C\""):
            features.get_function(name)


def test_arguments_of_every_kind(features):
    out, e = np.zeros(7), np.array([11], i32)
    pair = np.array((2.5, 7), np.dtype([("a", "f4"), ("b", "i4")]))[()]
    features.get_function("many_kinds")(1, 1, (out, True, np.int16(-3), 0.125, e, pair, -(2**40)))
    np.testing.assert_array_equal(out, [1, -3, 0.125, 11, 2.5, 7, -(2**40)])


def test_a_kernel_of_many_parameters():
    names = ", ".join(f"int q{i}" for i in range(800))
    code = f'extern "C" __global__ void f(int* x, {names}) {{ x[0] = q0; x[1] = q600; x[2] = q799; }}'
    x = np.zeros(3, np.int32)
    RawKernel(code, "f")((1,), (1,), (x, *map(np.int32, range(800))))
    assert x.tolist() == [0, 600, 799]


def test_printf(features, capfd):
    features.get_function("says")((1,), (3,), (i32(3),))
    assert capfd.readouterr().out == "thread 0 of 3\nthread 1 of 3\nthread 2 of 3\n"


def test_a_waiting_thread_lets_others_run(features):
    for threads in (2, 32, 96):
        flag, y = np.zeros(1, i32), np.zeros(1, i32)
        features.get_function("waits_for_other")((1,), (threads,), (flag, y))
        assert y[0] == 1


def test_clock_does_not_run_backwards(features):
    y = np.full(1, -1, np.int64)
    features.get_function("times")((1,), (1,), (y,))
    assert y[0] >= 0


# --- errors -----------------------------------------------------------------------------------------------------------

LAUNCHES = r"""
extern "C" __global__ void my_kernel(const float* x, float* y, int n) {
    if (threadIdx.x < n) y[threadIdx.x] = x[threadIdx.x];
}
extern "C" __global__ void dynamic(float* y) { extern __shared__ float s[]; s[0] = 1; y[0] = s[0]; }
#line 100 "faults.cuh"
extern "C" __global__ void asserts(int n) { assert(threadIdx.x + blockIdx.x < n); }
extern "C" __global__ void traps(int n) { if (threadIdx.x == n) __trap(); }
extern "C" __global__ void wild(float* x, long long n) { x[n] = 1; }
extern "C" __global__ void divides(int* x, int n) { x[0] = x[0] / n; }
extern "C" __global__ void hangs(int* x) { if (threadIdx.x < 16) x[0] = __ballot_sync(~0u, 1); else __syncthreads(); }
extern "C" __global__ void not_in_mask(float* x) { x[0] = __shfl_sync(2u, x[0], 0); }
extern "C" __global__ void overflows(int* x, int n);
__device__ int deep(volatile int* x, int n) {
    volatile int big[4096];
    big[n % 4096] = n;
    return n ? deep(x, n - 1) + big[n % 4096] : x[0];
}
extern "C" __global__ void overflows(int* x, int n) { x[0] = deep(x, n); }
extern "C" __global__ void plain(unsigned char* x) {}
extern "C" __global__ void mixed(const float* x, float* y, int n, unsigned u, double d, bool b) {}
"""


@pytest.fixture(scope="module")
def launches():
    return RawModule(LAUNCHES, filename="launches.cu")


GOOD = (np.zeros(4, f32), np.zeros(4, f32), i32(4))
FROZEN = np.zeros(4, f32)
FROZEN.flags.writeable = False
STRIDED = np.zeros((4, 4), f32)[:, ::2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (GOOD[:2], r"^my_kernel: takes 3 arguments, got 2$"),
        ((*GOOD[:2], np.float64(1)), r"^my_kernel: argument 2 must be a 4-byte integer, got float64$"),
        ((*GOOD[:2], f32(1)), r"^my_kernel: argument 2 must be a 4-byte integer, got float32$"),
        ((*GOOD[:2], 1 << 32), r"argument 2 must be a 4-byte integer, got a Python int, 4294967296"),
        ((*GOOD[:2], 4.0), r"argument 2 must be a 4-byte integer, got a Python float, which counts as float64"),
        ((4, *GOOD[1:]), r"argument 0 must be an array, got a Python int, 4"),
        ((*GOOD[:2], GOOD[0]), r"argument 2 must be a 4-byte integer, got an array of float32"),
        ((*GOOD[:2], "x"), r"argument 2 must be a 4-byte integer, got a Python str"),
        ((i32(1), *GOOD[1:]), r"^my_kernel: argument 0 must be an array, got int32$"),
        ((np.zeros(4), *GOOD[1:]), r"^my_kernel: argument 0 must be an array of 4-byte floating-point numbers, got"
         r" float64$"),
        ((np.zeros(4, i32), *GOOD[1:]), r"argument 0 must be an array of 4-byte floating-point numbers, got int32"),
        ((np.zeros(4, ">f4"), *GOOD[1:]), r"argument 0 must be an array of 4-byte floating-point numbers, got >f4"),
        ((STRIDED, *GOOD[1:]), r"^my_kernel: argument 0 must be C-contiguous, got strides \(16, 8\) for shape"
         r" \(4, 2\)$"),
        ((GOOD[0], FROZEN, i32(4)), r"^my_kernel: argument 1 must be writeable"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(launches, args, message):
    with pytest.raises(LaunchError, match=message):
        launches.get_function("my_kernel")((1,), (4,), args)


def test_arguments_that_are_nearly_right_are_taken(launches):
    launches.get_function("my_kernel")((1,), (4,), (FROZEN, np.ones(4, f32), np.uint32(4)))
    launches.get_function("plain")((1,), (1,), (np.zeros(4, bool),))
    launches.get_function("mixed")((1,), (1,), (None, None, np.uint32(2**32 - 1), i32(-1), 0.5, np.True_))


@pytest.mark.parametrize("numbers", [(4, 5, 6, 1), (-(2**31), 2**32 - 1, 2**63 - 1, 0), (2**32 - 1, -1, -1, 1)])
def test_python_ints_arrive_in_integers_of_every_size(numbers):
    kernel = RawKernel(
        """
        extern "C" __global__ void put(long long* y, int i, unsigned u, long long l, bool b, signed char c) {
          y[0] = i, y[1] = u, y[2] = l, y[3] = b, y[4] = c;
        }
        """,
        "put",
    )
    y = np.zeros(5, np.int64)
    kernel((1,), (1,), (y, *numbers, 200))
    first, second, third, fourth = numbers
    assert y.tolist() == [(first + 2**31) % 2**32 - 2**31, second % 2**32, third, fourth, 200 - 256]
    for wrong in ((2**32, 0, 0, 0, 0), (0, -(2**31) - 1, 0, 0, 0), (0, 0, 0, 2, 0), (0, 0, 0, 0, 256)):
        with pytest.raises(
            LaunchError, match=r"put: argument \d must be a \d-byte (integer|boolean), got a Python int, "
        ):
            kernel((1,), (1,), (y, *wrong))


@pytest.mark.parametrize(
    ("grid", "block", "message"),
    [
        ((0,), (4,), r"^my_kernel: grid must be 1 to 3 sizes from 1 to"),
        ((1, 65536), (4,), "my_kernel: grid must be"),
        ((1, 1, 65536), (4,), "my_kernel: grid must be"),
        ((1, 1, 1, 1), (4,), "my_kernel: grid must be"),
        ((1,), (1025,), "my_kernel: block must be"),
        ((1,), (1, 1, 65), "my_kernel: block must be"),
        ((1,), (), "my_kernel: block must be"),
        (1.5, (4,), r"my_kernel: grid must be 1 to 3 integers, got 1.5"),
        ((1,), (4, 2.0), r"my_kernel: block must be 1 to 3 integers, got \(4, 2.0\)"),
        ((1,), "4", "my_kernel: block must be 1 to 3 integers, got '4'"),
        ((1,), (64, 32), r"^my_kernel: a block may have at most 1024 threads, got \(64, 32, 1\)$"),
    ],
)
def test_wrong_sizes_are_refused(launches, grid, block, message):
    with pytest.raises(LaunchError, match=message):
        launches.get_function("my_kernel")(grid, block, GOOD)


def test_dynamic_shared_memory_has_the_limits_of_the_hardware(launches):
    kernel, y = launches.get_function("dynamic"), np.zeros(1, f32)
    kernel((1,), (1,), (y,), shared_mem=48 * 1024)
    with pytest.raises(LaunchError, match="got shared_mem=49153, max_dynamic_shared_size_bytes=49152"):
        kernel((1,), (1,), (y,), shared_mem=48 * 1024 + 1)
    with pytest.raises(LaunchError, match="got shared_mem=-1"):
        kernel((1,), (1,), (y,), shared_mem=-1)
    kernel.max_dynamic_shared_size_bytes = 227 * 1024
    kernel((1,), (1,), (y,), shared_mem=227 * 1024)
    with pytest.raises(LaunchError, match="must be from 0 to 232448, got 232449"):
        kernel.max_dynamic_shared_size_bytes = 227 * 1024 + 1


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("asserts", (i32(3),), r"asserts: assert: faults.cuh:100: block \(0,0,0\) thread \(3,0,0\): assertion failed: "
         r"threadIdx.x \+ blockIdx.x < n"),
        ("traps", (i32(2),), r"traps: trap: faults.cuh:101: block \(0,0,0\) thread \(2,0,0\): __trap"),
        ("wild", (np.zeros(1, f32), 2**40), r"wild: fault: faults.cuh:102: block .* invalid access at address"),
        ("divides", (np.zeros(1, i32), i32(0)), r"divides: division: faults.cuh:103: .*division by zero"),
        ("hangs", (np.zeros(1, i32),), r"hangs: deadlock: faults.cuh:104: .*: 16 wait at a block barrier, 16 in an"
         r" operation of a warp or a tile, 0 have returned"),
        ("not_in_mask", (np.zeros(1, f32),), r"not_in_mask: warp-mask: faults.cuh:105: .*lane 0 is not in its"),
        ("overflows", (np.zeros(1, i32), i32(1000)), r"overflows: fault: faults.cuh:1\d\d"),
    ],
)  # fmt: skip
def test_a_kernel_that_cannot_go_on_raises(launches, name, args, message):
    with pytest.raises(LaunchError, match=message):
        launches.get_function(name)((1,), (32,), args)


def test_a_failed_launch_does_not_spoil_the_next(launches):
    kernel, y = launches.get_function("my_kernel"), np.zeros(4, f32)
    with pytest.raises(LaunchError, match="wild"):
        launches.get_function("wild")((1,), (32,), (y, 2**40))
    kernel((1,), (4,), (np.ones(4, f32), y, i32(4)))
    np.testing.assert_array_equal(y, 1)


def test_a_fault_outside_kernels_still_ends_the_process(launches):
    launches.get_function("my_kernel")((1,), (4,), GOOD)  # handlers were there, and are gone
    code = "import ctypes; from gpunn.cuda.emulator import RawKernel\n"
    code += "RawKernel('extern \"C\" __global__ void k() {}', 'k')(1, 1, ())\nctypes.string_at(8)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=python_environment())
    assert done.returncode == -11


def python_environment(**more):
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, **more}


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ('extern "C" __global__ void k(float* x) {\n  x[0] = nonsense;\n}', r"^bad.cu:2: .*nonsense"),
        ('#line 50 "other.cuh"\nextern "C" __global__ void k(float* x) { x = 1; }', r"^other.cuh:50: "),
        ('#line 7 "other.cuh"\n#error missing T', r"^other.cuh:7: (#error )?missing T"),
        ('#include "not_there.cuh"\n', r"^bad.cu:1: '?not_there.cuh.* (No such file|not found)"),
        ('extern "C" __global__ void k(float* x) {\n  atomicAdd(x, x);\n}', r"^bad.cu:2: "),
        ('extern "C" __global__ void k() {\n  extern __shared__ float scalar;\n}', r"^bad.cu:2: extern __shared__"),
    ],
)  # fmt: skip
def test_compile_errors_begin_with_the_kernels_own_line(code, message):
    with pytest.raises(CompileError, match=message) as caught:
        RawKernel(code, "k", filename="bad.cu")
    text = str(caught.value)
    assert "gpunn_call_" not in text
    assert len(text.splitlines()) <= 22


def test_a_name_expression_without_a_kernel_is_named():
    with pytest.raises(CompileError, match=r"^bad.cu: a name expression does not name a kernel: .*missing"):
        RawModule("", name_expressions=["missing<int>"], filename="bad.cu")


def test_options_are_used_ignored_or_refused(tmp_path):
    (tmp_path / "value.cuh").write_text("#define VALUE 5\n")
    code = '#include "value.cuh"\n'
    code += 'extern "C" __global__ void k(int* y) { y[0] = VALUE * FACTOR; y[1] = __cplusplus / 100; }'
    ignored = (
        "--use_fast_math",
        "-lineinfo",
        "-default-device",
        "--gpu-architecture=sm_90",
        "-arch=sm_90",
        "--fmad=false",
    )
    y = np.zeros(2, i32)
    RawKernel(code, "k", (f"-I{tmp_path}", "-DFACTOR=3", "--std=c++14", *ignored))((1,), (1,), (y,))
    np.testing.assert_array_equal(y, [15, 2014])
    (tmp_path / "value.cuh").write_text("#define VALUE 6\n")  # the cache has to see that
    RawKernel(code, "k", ("-I", str(tmp_path), "-D", "FACTOR=3"))((1,), (1,), (y,))
    np.testing.assert_array_equal(y, [18, 2017])
    with pytest.raises(CompileError, match="unknown compiler option '--nonsense'"):
        RawKernel(code, "k", ("--nonsense",))


def test_fmad_false_rounds_twice():
    code = 'extern "C" __global__ void k(const float* x, float* y) { y[0] = x[0] * x[0] - x[1]; }'
    x = np.array([1 + 2**-12, 0], f32)
    x[1] = x[0] * x[0]
    y = np.ones(1, f32)
    RawKernel(code, "k", ("--fmad=false",))((1,), (1,), (x, y))
    assert y[0] == 0


def test_arch_is_what_the_kernel_sees():
    for arch in (750, 900):
        y = np.zeros(1, i32)
        module = RawModule('extern "C" __global__ void a(int* y) { y[0] = __CUDA_ARCH__; }', arch=arch)
        module.get_function("a")(1, 1, (y,))
        assert y[0] == arch


def test_a_wrong_order_is_refused():
    with pytest.raises(ArgumentError, match="order must be"):
        RawModule("", order="backwards")


def test_a_missing_compiler_says_how_to_mend_it(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompileError, match=r"\$CXX is 'no-such-compiler'.*\n.*install g\+\+.*dnf install gcc-c\+\+"):
        RawModule("")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CompileError, match=r"neither g\+\+ nor clang\+\+ is there"):
        RawModule("")


def test_another_system_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    build._find_compiler.cache_clear()
    with pytest.raises(CompileError, match="on Linux only, got win32"):
        RawModule("")
    build._find_compiler.cache_clear()


# --- the cache --------------------------------------------------------------------------------------------------------

SMALL = 'extern "C" __global__ void add_one(float* x) { x[threadIdx.x] += 1; }'


def run_small():
    x = np.zeros(4, f32)
    RawKernel(SMALL, "add_one")((1,), (4,), (x,))
    return x


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:100] + b"?" + b[101:]])
def test_a_damaged_cached_library_is_built_again(damage, tmp_path, monkeypatch):
    path = RawKernel(SMALL, "add_one")._library.path
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    for cached in path.parent.glob("runtime-*.so"):  # not what is tested, and slow to build
        (tmp_path / "emulator").mkdir(exist_ok=True)
        (tmp_path / "emulator" / cached.name).write_bytes(cached.read_bytes())
    here = tmp_path / "emulator" / path.name
    here.write_bytes(damage(path.read_bytes()))
    np.testing.assert_array_equal(run_small(), 1)
    assert here.read_bytes() == path.read_bytes() or len(here.read_bytes()) > 1000


@pytest.mark.slow
def test_two_processes_may_build_the_same_library(tmp_path):
    code = f"""
import numpy as np
from gpunn.cuda.emulator import RawKernel
x = np.zeros(4, np.float32)
RawKernel({SMALL!r}, "add_one")((1,), (4,), (x,))
assert (x == 1).all()
"""
    environment = python_environment(GPUNN_CACHE_DIR=str(tmp_path))
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert not [*tmp_path.rglob("*.part")]


# --- threads and processes --------------------------------------------------------------------------------------------


def test_launches_from_several_python_threads(features):
    kernel, x = features.get_function("many_barriers"), [np.zeros(256, f32) for _ in range(4)]
    workers = [threading.Thread(target=kernel, args=((1,), (256,), (y, i32(200)))) for y in x]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for y in x:
        np.testing.assert_array_equal(y, (np.arange(256) + 200) % 256)


def _child(connection):
    connection.send(bool((run_small() == 1).all()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_launches_after_a_fork(features):
    run_small()
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=_child, args=(theirs,))
    child.start()
    assert mine.poll(30)
    assert mine.recv() is True
    child.join()


# --- orders -----------------------------------------------------------------------------------------------------------

MATMUL = r"""
#define TILE 64
extern "C" __global__ void __launch_bounds__(256)
tile_matmul(const float* __restrict__ a, const float* __restrict__ b, float* __restrict__ c, int m, int n, int k) {
    __shared__ float as[16][TILE + 4], bs[16][TILE];
    int t = threadIdx.x, column = t % 16 * 4, row = t / 16 * 4, row0 = blockIdx.y * TILE, column0 = blockIdx.x * TILE;
    float sum[4][4] = {};
    for (int k0 = 0; k0 < k; k0 += 16) {
        for (int i = t; i < TILE * 16; i += 256) {
            int r = i / 16, s = i % 16;
            as[s][r] = row0 + r < m && k0 + s < k ? a[(row0 + r) * k + k0 + s] : 0;
        }
        for (int i = t; i < TILE * 16; i += 256) {
            int s = i / TILE, q = i % TILE;
            bs[s][q] = k0 + s < k && column0 + q < n ? b[(k0 + s) * n + column0 + q] : 0;
        }
        __syncthreads();
        #pragma unroll
        for (int s = 0; s < 16; s++)
            #pragma unroll
            for (int i = 0; i < 4; i++)
                #pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] = fmaf(as[s][row + i], bs[s][column + j], sum[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            if (row0 + row + i < m && column0 + column + j < n)
                c[(row0 + row + i) * n + column0 + column + j] = sum[i][j];
}
"""


def multiply(code, order, m=70, n=66, k=50):
    a, b, c = uniform(m, k), uniform(k, n), np.zeros((m, n), f32)
    grid = ((n + 63) // 64, (m + 63) // 64)
    RawKernel(code, "tile_matmul", order=order)(grid, (256,), (a, b, c, i32(m), i32(n), i32(k)))
    return c, a @ b


ORDERS = ["forward", "reverse", 1, 2, 3]


def test_a_right_kernel_gives_the_same_in_every_order():
    results = [multiply(MATMUL, order) for order in ORDERS]
    for c, expected in results:
        np.testing.assert_allclose(c, expected, rtol=1e-5)  # 50 terms of one sign
        np.testing.assert_array_equal(c, results[0][0])


@pytest.mark.parametrize("barrier", [0, 1])
def test_a_missing_barrier_shows_in_some_order(barrier):
    parts = MATMUL.split("__syncthreads();")
    parts[barrier : barrier + 2] = ["".join(parts[barrier : barrier + 2])]
    wrong = "__syncthreads();".join(parts)
    results = [multiply(wrong, order) for order in ORDERS]
    assert any(not np.allclose(c, expected, rtol=1e-5) for c, expected in results)


def test_blocks_take_turns_in_the_order_asked_for():
    code = 'extern "C" __global__ void turn(int* y, int* next) { y[blockIdx.x] = atomicAdd(next, 1); }'
    seen = {}
    for order in ("forward", "reverse", 1, 2):
        y = np.zeros(7, i32)
        RawKernel(code, "turn", order=order)((7,), (1,), (y, np.zeros(1, i32)))
        seen[order] = y.tolist()
    assert seen["forward"] == [0, 1, 2, 3, 4, 5, 6]
    assert seen["reverse"] == [6, 5, 4, 3, 2, 1, 0]
    assert sorted(seen[1]) == sorted(seen[2]) == seen["forward"]
    assert seen[1] != seen[2]


# --- speed ------------------------------------------------------------------------------------------------------------


def test_matmul_is_fast_enough():
    size = 512
    a, b, c = uniform(size, size), uniform(size, size), np.zeros((size, size), f32)
    kernel = RawKernel(MATMUL, "tile_matmul")
    best = math.inf
    for _ in range(20):
        # Processor time, of all threads: other tests may be using the second core.
        start = time.process_time()
        kernel((size // 64, size // 64), (256,), (a, b, c, i32(size), i32(size), i32(size)))
        best = min(best, time.process_time() - start)
    np.testing.assert_allclose(c, a @ b, rtol=1e-5)
    speed = 2 * (2 * size**3 / best) / 1e9  # of two cores
    assert speed >= 3, f"{speed:.1f} GFLOP/s"


def test_a_tiny_launch_is_cheap():
    kernel, x = RawKernel(SMALL, "add_one"), np.zeros(4, f32)
    best = math.inf
    for _ in range(200):
        start = time.perf_counter()
        kernel((1,), (4,), (x,))
        best = min(best, time.perf_counter() - start)
    assert best < 50e-6


# --- other compilers and machines -------------------------------------------------------------------------------------


def test_stacks_switch_without_assembly_too(monkeypatch):
    before = RawKernel(SMALL, "add_one")._library.runtime
    monkeypatch.setenv("GPUNN_EMULATOR_UCONTEXT", "1")
    assert RawKernel(SMALL, "add_one")._library.runtime is not before
    c, expected = multiply(MATMUL, 4)
    np.testing.assert_allclose(c, expected, rtol=1e-5)


@pytest.mark.skipif(not build.shutil.which("clang++"), reason="clang++ is not installed")
def test_clang(monkeypatch):
    monkeypatch.setenv("CXX", "clang++")
    module = RawModule(FEATURES, name_expressions=EXPRESSIONS, filename="features.cu")
    test_static_shared_memory(module)
    test_votes_and_matches(module)
    test_nan_infinity_and_denormals(module)
    test_rounding_intrinsics_are_not_fused(module)
    check_roundings(module)
    c, expected = multiply(MATMUL, 1)
    np.testing.assert_allclose(c, expected, rtol=1e-5)


def test_structures_shared_with_the_runtime_have_its_sizes():
    """The sizes that runtime/launch.h asserts: a field that one side misses would shift all others."""
    from gpunn.cuda.emulator import buffers, module, report, texture

    assert ctypes.sizeof(report.RawReport) == 392
    assert ctypes.sizeof(module._Request) == 120
    assert ctypes.sizeof(texture._Texture) == 112
    assert ctypes.sizeof(module._LibraryPlace) == 56
    assert ctypes.sizeof(buffers.RawBuffer) == 40


@pytest.mark.parametrize("standard", ["c++11", "c++14", "c++20"])
def test_other_standards_of_the_language(standard):
    code = 'extern "C" __global__ void add(double* y, const double* x, double a, int n) { if (n) y[0] = x[0] + a; }'
    y = np.zeros(1)
    RawKernel(code, "add", options=(f"-std={standard}",))((1,), (1,), (y, np.ones(1), 2.0, i32(1)))
    assert y[0] == 3


@pytest.mark.parametrize(
    ("source", "ahead"),
    [
        ('#include "known.h"\n\n#include "known_too.h"\n', "known known_too"),
        ('#define ONE 1\n#include "known.h"\n', "known"),
        ('#include "known.h"\n#include "other.h"\n#include "known_too.h"\n', "known"),
        ('#include "known.h"\n#include "nests.h"\n', "known"),
        ('#include "known.h"\nint first;\n#include "known_too.h"\n', "known"),
        ('#include "kernel.h"\n', ""),
        ("", ""),
    ],
)
def test_headers_that_change_seldom_are_compiled_ahead(tmp_path, monkeypatch, source, ahead):
    files = {
        "known/known.h": "__device__ int known() { return 1; }\n",
        "known/known_too.h": "__device__ int known_too() { return 2; }\n",
        "known/nests.h": '__device__ int nests() { return 3; }\n#include "other.h"\n',
        "known/kernel.h": 'extern "C" __global__ void k() {}\n',
        "others/other.h": "__device__ int other() { return 4; }\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    compiled = []
    compiled_ahead = build._compiled_ahead
    monkeypatch.setattr(build, "_compiled_ahead", lambda *given: compiled.append(given[1]) or compiled_ahead(*given))
    options = [f"-I{tmp_path}/{folder}" for folder in ("known", "others")]

    def library(body):
        code = source + f'__device__ int last() {{ return 0; }} extern "C" __global__ void f() {{ {body} }}'
        return build.compile_library(code, options, [], "k.cu", Mode.FAST, 900, known=(f"{tmp_path}/known/",))

    names = [Path(file).stem for file in files if f'"{Path(file).name}"' in source]
    calls = "".join(f"{name}();" for name in [*names, "last"] if name != "kernel")
    assert b"gpunn_call_0" in library(calls)
    if not build.host_compiler().is_clang:
        assert " ".join(name for name in ("known", "known_too", "nests") if f"int {name}()" in compiled[0]) == ahead
    with pytest.raises(CompileError, match=rf"k\.cu:{1 + source.count(chr(10))}: 'missing'|use of undeclared"):
        library("missing();")
