"""kernels/hopper.cuh, emulated: mbarriers, bulk copies, tensor maps and wgmma against NumPy, and planted mistakes."""

import copy
import itertools
import re

import numpy as np
import pytest

from gpunn.cuda import compiler, source
from gpunn.cuda.emulator import CheckError, RawModule, tensor_map
from gpunn.cuda.emulator.module import _order_code
from gpunn.errors import ArgumentError, LaunchError

u16, i32, u32, f32, f64 = np.uint16, np.int32, np.uint32, np.float32, np.float64

INCLUDE = (f"-I{source.kernels_folder()}",)

MBARRIERS = r"""
#include "hopper.cuh"
typedef unsigned long long u64;

// Each thread writes and arrives; each reads what the others wrote, over several phases.
extern "C" __global__ void all_arrive(unsigned* y, int rounds) {
    __shared__ u64 full, empty;
    __shared__ int s[64];
    const int t = threadIdx.x, n = blockDim.x;
    if (t == 0) mbarrier_init(&full, n), mbarrier_init(&empty, n);
    __syncthreads();
    unsigned sum = 0;
    for (int round = 0; round < rounds; round++) {
        s[t] = t + round;
        const u64 state = mbarrier_arrive(&full);
        if (round % 2) while (!mbarrier_try_wait(&full, state)) {}
        else while (!mbarrier_test_wait_parity(&full, round & 1)) {}
        for (int i = 0; i < n; i++) sum = sum * 3 + s[i];
        mbarrier_arrive(&empty);
        mbarrier_wait_parity(&empty, round & 1);
    }
    y[t] = sum;
}

// One warp makes, another one uses: a ring of two places. Lane 0 alone tells that the warp is done.
extern "C" __global__ void ring(const int* x, int* y, int steps) {
    __shared__ u64 full[2], empty[2];
    __shared__ int s[2][32];
    const int lane = threadIdx.x % 32;
    if (threadIdx.x == 0)
        for (int i = 0; i < 2; i++) mbarrier_init(&full[i], 32), mbarrier_init(&empty[i], 1);
    __syncthreads();
    for (int step = 0; step < steps; step++) {
        const int place = step % 2, parity = step / 2 & 1;
        if (threadIdx.x < 32) {
            mbarrier_wait_parity(&empty[place], parity ^ 1);
            s[place][lane] = x[step * 32 + lane];
            mbarrier_arrive(&full[place]);
        } else {
            mbarrier_wait_parity(&full[place], parity);
            y[step * 32 + lane] = s[place][31 - lane];
            __syncwarp();
            if (lane == 0) mbarrier_arrive(&empty[place]);
        }
    }
}

// What the counts do: y gets whether phases are complete after each operation.
extern "C" __global__ void counts(int* y) {
    __shared__ u64 b;
    mbarrier_init(&b, 3);
    u64 state = mbarrier_arrive(&b, 2);
    y[0] = mbarrier_test_wait(&b, state);
    mbarrier_expect_tx(&b, 48);
    mbarrier_arrive(&b);
    y[1] = mbarrier_test_wait(&b, state);
    mbarrier_complete_tx(&b, 32);
    y[2] = mbarrier_test_wait(&b, state);
    mbarrier_complete_tx(&b, 16);
    y[3] = mbarrier_test_wait(&b, state);
    y[4] = mbarrier_test_wait_parity(&b, 0);  // the phase before this one
    y[5] = mbarrier_test_wait_parity(&b, 1);  // this one
    mbarrier_arrive_drop(&b, 2);
    mbarrier_arrive_expect_tx(&b, 0);
    y[6] = mbarrier_test_wait_parity(&b, 1);
    state = mbarrier_arrive(&b);  // the only one left
    y[7] = mbarrier_test_wait(&b, state);
    mbarrier_inval(&b);
    mbarrier_init(&b, 1);
    y[8] = mbarrier_test_wait_parity(&b, 0);
    mbarrier_complete_tx(&b, 16);  // before it is expected
    mbarrier_arrive_expect_tx(&b, 16);
    y[9] = mbarrier_test_wait_parity(&b, 0);
}

// The window of shared memory: 32-bit addresses, which keep what they are modulo 1024, and the way back.
extern "C" __global__ void window(int* y) {
    __shared__ __align__(1024) char s[2048];
    extern __shared__ __align__(1024) char dynamic[];
    const unsigned a = (unsigned)__cvta_generic_to_shared(s + 5), b = (unsigned)__cvta_generic_to_shared(dynamic + 7);
    y[0] = a % 1024 == 5 && b % 1024 == 7 && a < 1 << 18 && b < 1 << 18 && (a < b ? b - a : a - b) >= 2048;
    y[1] = __cvta_shared_to_generic(a) == s + 5 && __cvta_shared_to_generic(b) == dynamic + 7;
    y[2] = wgmma_matrix(dynamic, 32, 48, 64, 3) ==
           ((b - 7) >> 4 | 2ull << 16 | 3ull << 32 | 3ull << 49 | 2ull << 62);
}

// Another thread waits by __nanosleep for what the one that polls does between its questions.
extern "C" __global__ void polls(volatile int* y) {
    __shared__ u64 b;
    __shared__ volatile int flag;
    if (threadIdx.x == 0) mbarrier_init(&b, 1), flag = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        while (!mbarrier_try_wait_parity(&b, 0)) atomicExch((int*)&flag, 1);
        y[0] = 7;
    } else {
        while (!atomicAdd((int*)&flag, 0)) __nanosleep(20);
        mbarrier_arrive(&b);
    }
}
"""

ORDERS = ["forward", "reverse", *range(18)]


@pytest.fixture(scope="module", params=[0, 1], ids=["check", "fast"])
def mbarriers(request):
    """The module in check mode, or in all orders."""
    return modules(MBARRIERS, checked=not request.param)


def modules(code, checked=False):
    """The module in check mode, or once for each order."""
    module = RawModule(code, INCLUDE, filename="m.cu", check=checked)
    if checked:
        return [module]
    each = [copy.copy(module) for _ in ORDERS]
    for one, order in zip(each, ORDERS, strict=True):
        one._order = _order_code(order)
    return each


def launch(module, name, grid, block, *args, shared=0):
    kernel = module.get_function(name)
    kernel.max_dynamic_shared_size_bytes = max(shared, 48 << 10)
    kernel((grid,), (block,), args, shared_mem=shared)


def test_phases_order_what_threads_write(mbarriers):
    expected = 0
    for round_ in range(5):
        for i in range(40):
            expected = (expected * 3 + i + round_) & 0xFFFFFFFF
    for module in mbarriers:
        y = np.zeros(40, u32)
        launch(module, "all_arrive", 1, 40, y, i32(5))
        np.testing.assert_array_equal(y, expected)


def test_a_ring_of_two_places(mbarriers):
    x = np.arange(7 * 32, dtype=i32)
    for module in mbarriers:
        y = np.zeros_like(x)
        launch(module, "ring", 1, 64, x, y, i32(7))
        np.testing.assert_array_equal(y.reshape(7, 32), x.reshape(7, 32)[:, ::-1])


def test_counts_of_arrivals_and_bytes(mbarriers):
    for module in mbarriers:
        y = np.full(10, -1, i32)
        launch(module, "counts", 1, 1, y)
        assert y.tolist() == [0, 0, 0, 1, 1, 0, 1, 1, 0, 1]


def test_the_window_of_shared_memory(mbarriers):
    for module in mbarriers[:1]:
        y = np.zeros(3, i32)
        launch(module, "window", 1, 1, y, shared=1024)
        assert y.tolist() == [1, 1, 1]


def test_a_poll_lets_others_run_that_sleep(mbarriers):
    for module in mbarriers:
        y = np.zeros(1, i32)
        launch(module, "polls", 1, 2, y)
        assert y[0] == 7


# --- bulk copies ------------------------------------------------------------------------------------------------------

COPIES = r"""
#include "hopper.cuh"
typedef unsigned long long u64;

// Two copies complete one phase; what the target holds before the wait goes to y as well.
extern "C" __global__ void load_two(const unsigned* x, unsigned* y, unsigned* before, int bytes) {
    __shared__ u64 b;
    extern __shared__ __align__(128) unsigned s[];
    const int t = threadIdx.x, n = bytes / 4;
    if (t == 0) {
        mbarrier_init(&b, 1);
        fence_mbarrier_init();
    }
    __syncthreads();
    if (t == 0) {
        mbarrier_arrive_expect_tx(&b, 2 * bytes);
        bulk_load(s, x, bytes, &b);
        bulk_load(s + n, x + n, bytes, &b);
    }
    if (before) before[t] = s[t];
    mbarrier_wait_parity(&b, 0);
    for (int i = t; i < 2 * n; i += blockDim.x) y[i] = s[i];
}

// x to shared memory by plain stores, from there to y in two groups.
extern "C" __global__ void store_two(const unsigned* x, unsigned* y, int bytes) {
    extern __shared__ __align__(128) unsigned s[];
    const int t = threadIdx.x, n = bytes / 4;
    for (int i = t; i < 2 * n; i += blockDim.x) s[i] = x[i];
    fence_proxy_async();
    __syncthreads();
    if (t == 0) {
        bulk_store(y, s, bytes);
        bulk_commit();
        bulk_store(y + n, s + n, bytes);
        bulk_commit();
        bulk_wait_read<1>();
        for (int i = 0; i < n; i++) s[i] = 0;  // the first group has been read
        bulk_wait<0>();
    }
}

// A box to shared memory, and its bytes to y as they lie there.
template <int RANK> __device__ void load_box(const CUtensorMap& map, const int* at, unsigned* y, int bytes) {
    __shared__ u64 b;
    extern __shared__ __align__(1024) unsigned s[];
    if (threadIdx.x == 0) {
        mbarrier_init(&b, 1);
        fence_mbarrier_init();
        int place[RANK];
        for (int i = 0; i < RANK; i++) place[i] = at[i];
        tensor_prefetch(&map);
        mbarrier_arrive_expect_tx(&b, bytes);
        tensor_load(s, &map, place, &b);
    }
    __syncthreads();
    mbarrier_wait_parity(&b, 0);
    for (int i = threadIdx.x; i < bytes / 4; i += blockDim.x) y[i] = s[i];
}

// y, as it is to lie in shared memory, to the box of the tensor.
template <int RANK> __device__ void store_box(const CUtensorMap& map, const int* at, const unsigned* y, int bytes) {
    extern __shared__ __align__(1024) unsigned s[];
    for (int i = threadIdx.x; i < bytes / 4; i += blockDim.x) s[i] = y[i];
    fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        int place[RANK];
        for (int i = 0; i < RANK; i++) place[i] = at[i];
        tensor_store(&map, place, s);
        bulk_commit();
        bulk_wait_read<0>();
    }
}

#define BOXES(RANK)                                                                                                \
    extern "C" __global__ void load_##RANK(const __grid_constant__ CUtensorMap map, const int* at, unsigned* y,   \
                                           int bytes) { load_box<RANK>(map, at, y, bytes); }                      \
    extern "C" __global__ void store_##RANK(const __grid_constant__ CUtensorMap map, const int* at,               \
                                            const unsigned* y, int bytes) { store_box<RANK>(map, at, y, bytes); }
BOXES(1)
BOXES(2)
BOXES(3)
BOXES(4)
BOXES(5)
"""


@pytest.fixture(scope="module", params=[0, 1], ids=["check", "fast"])
def copies(request):
    return modules(COPIES, checked=not request.param)


def test_bulk_loads_arrive_at_the_wait(copies, rng):
    x = rng.integers(0, 2**32, 96, dtype=u32)
    for module in copies:
        y, before = np.zeros(96, u32), np.zeros(32, u32)
        checked = module._source.mode.checks
        launch(module, "load_two", 1, 32, x, y, None if checked else before, i32(192), shared=384)
        np.testing.assert_array_equal(y, x)
        if not checked:
            assert before[0] == 0xFFFFFFFF  # of the thread that has started the copies and not waited yet


def test_bulk_stores(copies, rng):
    x = rng.integers(0, 2**32, 96, dtype=u32)
    for module in copies:
        y = np.zeros(96, u32)
        launch(module, "store_two", 1, 32, x, y, i32(192), shared=384)
        np.testing.assert_array_equal(y, x)


def expected_box(x, box, at, steps, fill):
    """The box at `at` (NumPy's order), element by element."""
    counts = [-(-n // s) for n, s in zip(box, steps, strict=True)]
    counts[-1] = box[-1]
    out = np.full(counts, fill, x.dtype)
    for index in np.ndindex(*counts):
        place = tuple(a + i * s for a, i, s in zip(at, index, (*steps[:-1], 1), strict=True))
        if all(0 <= p < n for p, n in zip(place, x.shape, strict=True)):
            out[index] = x[place]
    return out


def swizzle_rows(rows, width):
    """Rows of `width` bytes as they lie: 16-byte pieces of a row change places, row by row as PTX's tables have it."""
    if not width:
        return rows
    pieces = rows.reshape(-1, width // 16, 16)
    out = np.empty_like(pieces)
    for row in range(len(pieces)):
        turn = row // (128 // width) % (width // 16)
        for piece in range(width // 16):
            out[row, piece ^ turn] = pieces[row, piece]
    return out.reshape(rows.shape)


BOXES = {
    "1-D": ((40,), (16,), (32,), None, 0, f32),
    "1-D before": ((40,), (16,), (-4,), None, 0, f32),
    "2-D bytes": ((20, 48), (9, 32), (13, 20), None, 0, np.uint8),
    "2-D 32 B": ((20, 48), (17, 16), (-3, 5), None, 32, np.float16),
    "2-D 64 B": ((20, 48), (19, 32), (1, -7), None, 64, np.float16),
    "2-D 128 B": ((20, 72), (20, 64), (-1, 11), None, 128, np.float16),
    "2-D 128 B doubles": ((20, 18), (16, 16), (5, 3), None, 128, f64),
    "3-D": ((4, 5, 12), (2, 3, 8), (3, 3, 6), None, 0, f32),
    "3-D strides": ((9, 10, 12), (5, 6, 8), (2, -2, 6), (2, 3, 5), 32, f32),
    "4-D": ((3, 4, 5, 8), (2, 3, 2, 4), (-1, 2, 4, 5), None, 0, i32),
    "5-D": ((2, 3, 2, 4, 8), (2, 2, 2, 3, 8), (1, -1, 0, 2, 4), None, 32, f32),
    "5-D far": ((2, 3, 2, 4, 8), (2, 2, 2, 3, 8), (0, 0, 0, 0, -100), None, 32, f32),
}


@pytest.mark.parametrize("case", BOXES)
def test_boxes_of_tensors(copies, case, rng):
    shape, box, at, steps, swizzle, dtype = BOXES[case]
    x = rng.integers(1, 100, shape).astype(dtype)
    steps = steps or (1,) * len(shape)
    fill = "nan" if np.dtype(dtype).kind == "f" else "zeros"
    value = np.nan if fill == "nan" else 0
    if swizzle:
        assert box[-1] * x.itemsize == swizzle
    expected = expected_box(x, box, at, steps, value)
    laid = swizzle_rows(expected.reshape(-1, expected.shape[-1]).view(np.uint8), swizzle)
    # Padding of rows, so that they lie apart.
    wide = np.zeros((*shape[:-1], -(-shape[-1] * x.itemsize // 16) * 16 // x.itemsize + 16), dtype)
    wide[..., : shape[-1]] = x
    strided = wide[..., : shape[-1]] if len(shape) > 1 else x
    place = np.array(at[::-1], i32)
    for module in copies[:6]:
        y = np.zeros(laid.size // 4, u32)
        mapped = tensor_map(strided, box, swizzle=swizzle, element_strides=steps, fill=fill)
        launch(module, f"load_{len(shape)}", 1, 32, mapped, place, y, i32(laid.size), shared=laid.size)
        found = swizzle_rows(y.view(np.uint8).reshape(laid.shape), swizzle).reshape(-1).view(dtype)
        np.testing.assert_array_equal(found, expected.reshape(-1))

        # The same box back, into a tensor of nothing: what lies outside is dropped.
        target = np.zeros_like(wide)
        view = target[..., : shape[-1]] if len(shape) > 1 else np.zeros_like(x)
        mapped = tensor_map(view, box, swizzle=swizzle, element_strides=steps)
        launch(module, f"store_{len(shape)}", 1, 32, mapped, place, y, i32(laid.size), shared=laid.size)
        inside = np.zeros(shape, bool)
        counts = [-(-n // s) for n, s in zip(box, steps, strict=True)][:-1]
        for index in np.ndindex(*counts, box[-1]):
            spot = tuple(a + i * s for a, i, s in zip(at, index, (*steps[:-1], 1), strict=True))
            if all(0 <= p < n for p, n in zip(spot, shape, strict=True)):
                inside[spot] = True
        np.testing.assert_array_equal(view, np.where(inside, x, 0))


# --- products of warpgroups -------------------------------------------------------------------------------------------

PRODUCTS = r"""
#include "hopper.cuh"

// The image goes to shared memory, and each of `steps` products begins so many bytes after the one before.
#define IN_SHARED                                                         \
    extern __shared__ __align__(1024) unsigned s[];                       \
    for (int i = threadIdx.x; i < bytes / 4; i += 128) s[i] = image[i];   \
    fence_proxy_async();                                                  \
    __syncthreads();                                                      \
    const char* memory = (const char*)s;                                  \
    const auto b = wgmma_matrix(memory + at[4], at[5], at[6], at[7], at[8]);

#define SUMS(N)                                                           \
    float d[N / 2];                                                       \
    for (int i = 0; i < N / 2; i++) d[i] = y[threadIdx.x * (N / 2) + i];  \
    wgmma_fence();

#define RESULT(N)                                                         \
    wgmma_commit();                                                       \
    wgmma_wait<0>();                                                      \
    for (int i = 0; i < N / 2; i++) y[threadIdx.x * (N / 2) + i] = d[i];

#define BY_MATRIX(NAME, N, PRODUCT, ...)                                                                          \
    extern "C" __global__ void __launch_bounds__(128)                                                             \
    NAME(const unsigned* image, const int* at, float* y, int bytes, int steps, int step_a, int step_b, int keep) { \
        IN_SHARED                                                                                                 \
        const auto a = wgmma_matrix(memory + at[0], at[1], at[2], at[3], at[8]);                                  \
        SUMS(N)                                                                                                   \
        for (int k = 0; k < steps; k++)                                                                           \
            PRODUCT<__VA_ARGS__>(d, a + k * (step_a >> 4), b + k * (step_b >> 4), k || keep);                     \
        RESULT(N)                                                                                                 \
    }
#define BY_REGISTERS(NAME, N, PRODUCT, ...)                                                                       \
    extern "C" __global__ void __launch_bounds__(128)                                                             \
    NAME(const unsigned* image, const int* at, float* y, int bytes, const unsigned* in) {                         \
        setmaxnreg_inc<128>();                                                                                    \
        IN_SHARED                                                                                                 \
        unsigned a[4];                                                                                            \
        for (int i = 0; i < 4; i++) a[i] = in[threadIdx.x * 4 + i];                                               \
        SUMS(N)                                                                                                   \
        PRODUCT<__VA_ARGS__>(d, a, b);                                                                            \
        RESULT(N)                                                                                                 \
    }

BY_MATRIX(bf16_8, 8, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_16, 16, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_32, 32, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_64, 64, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_96, 96, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_128, 128, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_192, 192, wgmma_bf16, 1, 1)
BY_MATRIX(bf16_256, 256, wgmma_bf16, 1, 1)
BY_MATRIX(f16_00, 64, wgmma_f16, 1, -1, 0, 0)
BY_MATRIX(f16_01, 64, wgmma_f16, -1, 1, 0, 1)
BY_MATRIX(f16_10, 64, wgmma_f16, 1, 1, 1, 0)
BY_MATRIX(f16_11, 64, wgmma_f16, -1, -1, 1, 1)
BY_MATRIX(tf32_32, 32, wgmma_tf32, -1, 1)
BY_REGISTERS(bf16_registers, 32, wgmma_bf16, -1, 1, 1)
BY_REGISTERS(f16_registers, 32, wgmma_f16, 1, 1)
BY_REGISTERS(tf32_registers, 16, wgmma_tf32, 1, -1)
"""


@pytest.fixture(scope="module", params=[0, 1], ids=["check", "fast"])
def products(request):
    return modules(PRODUCTS, checked=not request.param)


def layout_offset(coordinates, shape, strides):
    """Of a layout as CuTe writes it: the digits of each coordinate, the fastest first, times their strides."""
    offset = 0
    for coordinate, sizes, steps in zip(coordinates, shape, strides, strict=True):
        for size, step in zip(sizes, steps, strict=True):
            offset += coordinate % size * step
            coordinate //= size
    return offset


def lay_out(image, matrix, start, swizzle, leading, stride, transposed, base=0):
    """Put a matrix (M or N x K, its elements' bits) into the image by the canonical layouts of the PTX manual."""
    item = matrix.itemsize
    t, wide, big = 16 // item, max(swizzle // 16, 1), 1 << 10
    lbo, sbo = leading // item, stride // item
    if transposed and not swizzle:
        shape, strides = ((t, 1, big), (8, big)), ((1, t, sbo), (t, lbo))
    elif transposed:
        shape, strides = ((t, wide, big), (8, big)), ((1, t, lbo), (wide * t, sbo))
    elif not swizzle:
        shape, strides = ((8, big), (t, big)), ((t, sbo), (1, lbo))
    else:
        shape, strides = ((8, big), (t, big)), ((wide * t, sbo), (1, t))
    for index in np.ndindex(*matrix.shape):
        byte = layout_offset(index, shape, strides) * item
        if swizzle:  # the address relative to where the pattern began
            piece, within = divmod(byte, 16)
            byte = (piece ^ (piece // 8 % wide)) * 16 + within
        spot = image[start + byte : start + byte + item]
        assert (spot == 0xEE).all(), "two elements at one place"
        spot[:] = np.frombuffer(matrix[index].tobytes(), np.uint8)


def bits_of(x, kind):
    """Of numbers that every kind holds exactly."""
    if kind == "f16":
        return x.astype(np.float16).view(u16)
    return x.astype(f32).view(u32) if kind == "tf32" else (x.astype(f32).view(u32) >> 16).astype(u16)


def fragment(d):
    """What the 128 threads hold of D (64 x N)."""
    n = d.shape[1]
    held = np.empty((128, n // 2), d.dtype)
    for thread, j, h, i in itertools.product(range(128), range(n // 8), range(2), range(2)):
        warp, g, t = thread // 32, thread % 32 // 4, thread % 4
        held[thread, 4 * j + 2 * h + i] = d[16 * warp + g + 8 * h, 8 * j + 2 * t + i]
    return held


def small_numbers(rng, *shape):
    return rng.integers(-8, 9, shape).astype(f32)


def strides_of(swizzle, transposed, rows, depth, item):
    """Leading and stride offsets of dense layouts, with a gap that tells them apart."""
    if not swizzle:  # pieces of 8 x 16 bytes; the first of the two runs fastest
        return (128 + 16, 2 * (128 + 16)) if not transposed else ((rows * item // 16) * 144, 144)
    if not transposed:
        return 0, 8 * swizzle
    blocks = -(-rows * item // swizzle)
    return 8 * swizzle, 8 * swizzle * blocks


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
@pytest.mark.parametrize(("name", "n", "transposed", "signs"), [
    ("f16_00", 64, (0, 0), -1), ("f16_01", 64, (0, 1), -1), ("f16_10", 64, (1, 0), 1), ("f16_11", 64, (1, 1), 1),
    ("tf32_32", 32, (0, 0), -1), ("bf16_32", 32, (0, 0), 1),
])  # fmt: skip
def test_wgmma_of_each_layout(products, name, n, transposed, signs, swizzle, rng):
    kind = name.split("_")[0]
    depth = 8 if kind == "tf32" else 16
    item = 4 if kind == "tf32" else 2
    a, b, d = small_numbers(rng, 64, depth), small_numbers(rng, n, depth), small_numbers(rng, 64, n)
    strides = [strides_of(swizzle, tr, rows, depth, item) for tr, rows in zip(transposed, (64, n), strict=True)]
    image = np.full(48 << 10, 0xEE, np.uint8)
    b_start = 24 << 10
    lay_out(image, bits_of(a, kind), 0, swizzle, *strides[0], transposed[0])
    lay_out(image, bits_of(b, kind), b_start, swizzle, *strides[1], transposed[1])
    at = np.array([0, *strides[0], swizzle, b_start, *strides[1], swizzle, 0], i32)
    for keep in (0, 1):
        expected = fragment(signs * (a @ b.T) + keep * d)
        for module in products[:: 1 if keep and not swizzle else 7]:
            y = fragment(d)
            args = (image.view(u32), at, y, i32(image.size), i32(1), i32(0), i32(0), i32(keep))
            launch(module, name, 1, 128, *args, shared=image.size)
            np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("n", [8, 16, 32, 64, 96, 128, 192, 256])
@pytest.mark.parametrize("base", [0, 3])
def test_wgmma_of_each_width_over_64_terms(products, n, base, rng):
    """Rows of 128 bytes, swizzled, of which each product takes the next 32; the pattern may begin anywhere."""
    a, b = small_numbers(rng, 64, 64), small_numbers(rng, n, 64)
    image = np.full(48 << 10, 0xEE, np.uint8)
    begin, b_start = base * 128, (8 << 10) + 1024 + base * 128
    lay_out(image, bits_of(a, "bf16"), begin, 128, 0, 1024, False)
    lay_out(image, bits_of(b, "bf16"), b_start, 128, 0, 1024, False)
    at = np.array([begin, 0, 1024, 128, b_start, 0, 1024, 128, base], i32)
    y = np.full((128, n // 2), np.nan, f32)
    args = (image.view(u32), at, y, i32(image.size), i32(4), i32(32), i32(32), i32(0))
    launch(products[-1], f"bf16_{n}", 1, 128, *args, shared=image.size)
    np.testing.assert_array_equal(y, fragment(a @ b.T))


@pytest.mark.parametrize(("name", "n", "transposed", "sign"), [
    ("bf16_registers", 32, 1, -1), ("f16_registers", 32, 0, 1), ("tf32_registers", 16, 0, -1),
])  # fmt: skip
def test_wgmma_with_a_in_registers(products, name, n, transposed, sign, rng):
    kind = name.split("_")[0]
    depth, item, each = (8, 4, 1) if kind == "tf32" else (16, 2, 2)
    a, b, d = small_numbers(rng, 64, depth), small_numbers(rng, n, depth), small_numbers(rng, 64, n)
    image = np.full(8 << 10, 0xEE, np.uint8)
    leading, stride = strides_of(64, transposed, n, depth, item)
    lay_out(image, bits_of(b, kind), 0, 64, leading, stride, transposed)
    held = np.zeros((128, 4, each), bits_of(a, kind).dtype)
    for thread, r, i in itertools.product(range(128), range(4), range(each)):
        warp, g, t = thread // 32, thread % 32 // 4, thread % 4
        held[thread, r, i] = bits_of(a, kind)[16 * warp + g + r % 2 * 8, each * t + i + r // 2 * depth // 2]
    at = np.array([0, 0, 0, 0, 0, leading, stride, 64, 0], i32)
    for module in products:
        y = fragment(d)
        args = (image.view(u32), at, y, i32(image.size), held.reshape(128, -1).view(u32))
        launch(module, name, 1, 128, *args, shared=image.size)
        np.testing.assert_array_equal(y, fragment(sign * (a @ b.T) + d))


# --- a convolution: tensor maps, a ring of mbarriers and wgmma together -----------------------------------------------

CONV = "#define DTYPE float\n#define FILTERS 64\n#define STAGES 3\n#define THREADS 288\n"
CONV += (source.kernels_folder() / "conv_hopper.cu").read_text()
CONV_SHARED = 3 * (8 * 16 + 64) * 128


def bfloat16(x):
    """The bits of x rounded to nearest even."""
    bits = x.astype(f32).view(u32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(u16)


def convolution(module, x, w, b, stride, padding):
    """y by the kernel, from NHWC and KRSC, of which the channels are a multiple of 8."""
    (n, h, wide, c), (k, kh, kw, _) = x.shape, w.shape
    (sh, sw), (ph, pw) = stride, padding
    oh, ow = (h + 2 * ph - kh) // sh + 1, (wide + 2 * pw - kw) // sw + 1
    y = np.full((n, k, oh, ow), np.nan, f32)
    pixels = tensor_map(bfloat16(x), (1, 8 * sh, 16 * sw, 64), swizzle=128, element_strides=(1, sh, sw, 1))
    filters = tensor_map(bfloat16(w).reshape(k, kh * kw, c), (64, 1, 64), swizzle=128)
    kernel = module.get_function("conv_hopper_forward")
    kernel.max_dynamic_shared_size_bytes = CONV_SHARED
    grid = (n * -(-oh // 8) * -(-ow // 16), -(-k // 64))
    numbers = map(i32, (True, False, c, k, kh, kw, oh, ow, sh, sw, ph, pw))
    kernel(grid, (288,), (pixels, filters, b, y, *numbers), shared_mem=CONV_SHARED)
    return y.transpose(0, 2, 3, 1)


def exact_convolution(x, w, b, stride, padding):
    (sh, sw), (ph, pw) = stride, padding
    padded = np.pad(x.astype(f64), ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    kh, kw = w.shape[1:3]
    oh, ow = (padded.shape[1] - kh) // sh + 1, (padded.shape[2] - kw) // sw + 1
    y = np.zeros((len(x), oh, ow, len(w))) + b
    for r, s in itertools.product(range(kh), range(kw)):
        part = padded[:, r : r + sh * (oh - 1) + 1 : sh, s : s + sw * (ow - 1) + 1 : sw]
        y += part @ w[:, r, s].astype(f64).T
    return y


@pytest.fixture(scope="module", params=[0, 1], ids=["check", "fast"])
def conv(request):
    return modules(CONV, checked=not request.param)


CONVOLUTIONS = [
    ((2, 9, 7, 8), (5, 3, 3), (1, 1), (1, 1)),
    ((1, 13, 19, 72), (70, 3, 2), (2, 1), (1, 0)),
    ((1, 11, 11, 16), (3, 5, 5), (2, 3), (2, 2)),
]


def random_convolution(rng):
    window = tuple(map(int, rng.integers(1, 6, 2)))
    stride, padding = tuple(map(int, rng.integers(1, 4, 2))), tuple(map(int, rng.integers(0, 3, 2)))
    size = (int(rng.integers(max(1, k - 2 * p), k + 20)) for k, p in zip(window, padding, strict=True))
    n, channels, filters = map(int, rng.integers((1, 1, 1), (3, 20, 150)))
    return (n, *size, 8 * channels), (filters, *window), stride, padding


@pytest.fixture(scope="module")
def fast_conv():
    return [RawModule(CONV, INCLUDE, filename="m.cu")]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_fifty_convolutions(fast_conv, seed):
    rng = np.random.default_rng(seed)
    check_convolution(fast_conv, *random_convolution(rng), rng)


@pytest.mark.parametrize(("image", "window", "stride", "padding"), CONVOLUTIONS)
def test_a_convolution(conv, image, window, stride, padding, rng):
    check_convolution(conv if image[-1] == 8 else [conv[0], *conv[-3:]], image, window, stride, padding, rng)


def check_convolution(modules, image, window, stride, padding, rng):
    x = rng.standard_normal(image).astype(f32)
    w = rng.standard_normal((*window, image[-1])).astype(f32)
    b = rng.standard_normal(window[0]).astype(f32)
    exact = exact_convolution(x, w, b, stride, padding)
    first = convolution(modules[0], x, w, b, stride, padding)
    # Both operands are rounded to 8 bits, so a product errs by 2**-8 of itself at most.
    scale = exact_convolution(np.abs(x), np.abs(w), np.abs(b), stride, padding)
    assert (np.abs(first - exact) <= 2**-8 * scale * 1.01).all()
    for module in modules[1:]:
        np.testing.assert_array_equal(convolution(module, x, w, b, stride, padding), first)


def changed(code, old, new):
    assert code.count(old) == 1, (old, code.count(old))
    return code.replace(old, new)


FREE = "if (step && threadIdx.x % 128 == 0) mbarrier_arrive(&empty[(step - 1) % STAGES])"
# What is changed, the lines that are told of (the text that they begin with), and how.
MISTAKES = {
    "no wait for full": (
        ("mbarrier_wait_parity(&full[place], step / STAGES & 1);", ""),
        ("race", "for (int i = 0; i < DEPTH", "target of an asynchronous copy at line .* which has not waited for it"),
    ),
    "wrong parity of full": (
        ("&full[place], step / STAGES & 1)", "&full[place], (step / STAGES & 1) ^ 1)"),
        ("race", "for (int i = 0; i < DEPTH", "the target of an asynchronous copy"),
    ),
    "wrong parity of empty": (
        ("(step / STAGES & 1) ^ 1)", "step / STAGES & 1)"),
        (
            "deadlock",
            "mbarrier_wait_parity(&empty",
            "of an mbarrier, of parity 0, which lacks 2 arrivals of 2 and 0 bytes",
        ),
    ),
    "no wait for empty": (
        ("mbarrier_wait_parity(&empty[place], (step / STAGES & 1) ^ 1);", ""),
        ("misuse", "mbarrier_arrive_expect_tx", "1 arrive at an mbarrier whose phase lacks 0 arrivals"),
    ),
    "too many bytes": (
        ("PLACE_BYTES);\n      const", "PLACE_BYTES + 8192);\n      const"),
        ("deadlock", "mbarrier_wait_parity(&full", "lacks 0 arrivals of 1 and 8192 bytes"),
    ),
    "too few bytes": (
        ("PLACE_BYTES);\n      const", "PIXELS_BYTES);\n      const"),
        ("race", "for (int i = 0; i < DEPTH", "the target of an asynchronous copy"),
    ),
    "no fence of the mbarriers": (
        ("    fence_mbarrier_init();", ""),
        ("race", "tensor_load(box, &x", "with no fence.mbarrier_init"),
    ),
    "no block barrier": (
        ("  __syncthreads();", ""),
        ("race", "mbarrier_wait_parity(&empty", "written at line .* with no barrier between"),
    ),
    "no fence of the registers": (
        ("  wgmma_fence();", ""),
        ("race", "for (int i = 0; i < DEPTH", "no wgmma.fence between"),
    ),
    "no last wait": (
        ("  wgmma_wait<0>();", ""),
        ("race", "for (int i = 0; i < DEPTH", "returns while wgmma is under way"),
    ),
    "no commit": (
        ("    wgmma_commit();", ""),
        ("race", "for (int i = 0; i < DEPTH", "returns while wgmma is under way"),
    ),
    "freed too early": (
        (FREE, "if (threadIdx.x % 128 == 0) mbarrier_arrive(&empty[place])"),
        ("race", "tensor_load(box, &x", "read at line .* by wgmma, for which nobody has waited in between"),
    ),
    "never freed": (
        (FREE, ""),
        ("deadlock", "mbarrier_wait_parity(&empty", "phase 0 of an mbarrier, of parity 0, which lacks 2 arrivals of 2"),
    ),
    "a wait for too little": (
        ("wgmma_wait<1>", "wgmma_wait<2>"),
        ("race", "tensor_load(box, &x", "by wgmma, for which nobody has waited"),
    ),
    "a warp too few": (
        ("  if (warp == WARPS) {", "  if (warp == 3) return;\n  if (warp == WARPS) {"),
        ("deadlock", "mbarrier_wait_parity(&empty", "it waits for ever"),
    ),
    "a misaligned box": (
        ("tensor_load(box, &x", "tensor_load(box + 64, &x"),
        ("misaligned", "tensor_load(box + 64, &x", "of a box in shared memory is not a multiple of 128"),
    ),
}


def faulty(mistake, **mode):
    rng = np.random.default_rng(5)
    old, new = MISTAKES[mistake][0]
    code = changed(CONV, old, new)
    x, w = rng.standard_normal((1, 5, 6, 72)).astype(f32), rng.standard_normal((5, 3, 2, 72)).astype(f32)
    module = RawModule(code, INCLUDE, filename="conv.cu", **mode)
    return code, lambda: convolution(module, x, w, np.zeros(5, f32), (1, 1), (1, 0))


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_is_reported(mistake):
    code, run = faulty(mistake, check=True)
    kind, begin, message = MISTAKES[mistake][1]
    with pytest.raises(CheckError) as caught:
        run()
    found = [r for r in caught.value.reports if r.kind == kind and re.search(message, r.message)]
    assert {line for r in found for line in lines_of(r)} >= {line_of(code, begin)}, caught.value.reports


def lines_of(report):
    """Where the mistake is, and who called that."""
    return {report.line, *(line for _, line in report.callers)}


def line_of(code, begin):
    (line,) = [i for i, line in enumerate(code.splitlines(), 1) if line.strip().startswith(begin)]
    return line


def test_a_missing_wait_shows_in_fast_mode_too():
    assert np.isnan(faulty("no last wait")[1]()).any()


@pytest.mark.parametrize("mistake", ["too many bytes", "too few bytes", "wrong parity of empty"])
def test_a_wait_for_ever_ends_in_fast_mode_too(mistake):
    with pytest.raises(LaunchError, match=r"deadlock: .*waits for ever.*, called from conv.cu:\d+"):
        faulty(mistake)[1]()


# --- what is wrong by itself ------------------------------------------------------------------------------------------

# Each is the body of a kernel of 128 threads: what it does wrong, in which mode that is told, of which kind, and how.
WRONG = {
    "not initialised": (
        "mbarrier_arrive(&b);",
        "both",
        "uninitialised",
        "arrive of an mbarrier that is not initialised",
    ),
    "wait not initialised": (
        "mbarrier_test_wait_parity(&b, 1);",
        "both",
        "uninitialised",
        "a wait of an mbarrier that is",
    ),
    "invalidated": ("INIT(1) mbarrier_inval(&b); mbarrier_arrive(&b);", "both", "uninitialised", "not initialised"),
    "overwritten": ("INIT(1) b = 5; mbarrier_arrive(&b);", "both", "misuse", "written by something else"),
    "no count": ("INIT(0)", "both", "misuse", "from 1 to 1048575 arrivals, not 0"),
    "count": ("INIT(1 << 20)", "both", "misuse", "from 1 to 1048575 arrivals, not 1048576"),
    "too many arrive": (
        "INIT(2) mbarrier_arrive(&b, 3);",
        "both",
        "misuse",
        "3 arrive at an mbarrier whose phase lacks 2",
    ),
    "bytes": (
        "INIT(1) mbarrier_expect_tx(&b, 1 << 20);",
        "both",
        "misuse",
        "counts 1048575 bytes at most, not 1048576",
    ),
    "in global memory": ("mbarrier_init((u64*)x, 1);", "both", "misuse", "must lie in shared memory"),
    "misaligned": ("mbarrier_init((u64*)(s + 4), 1);", "both", "misaligned", "of an mbarrier is not a multiple of 8"),
    "bulk bytes": ("INIT(1) bulk_load(s, x, 24, &b);", "both", "misuse", "24 bytes, which is no multiple of 16"),
    "no bulk bytes": ("INIT(1) bulk_load(s, x, 0, &b);", "both", "misuse", "0 bytes, which is no multiple of 16"),
    "bulk target": (
        "INIT(1) bulk_load(s + 8, x, 16, &b);",
        "both",
        "misaligned",
        "shared memory of a bulk copy is not",
    ),
    "bulk source": (
        "INIT(1) bulk_load(s, x + 1, 16, &b);",
        "both",
        "misaligned",
        "global memory of a bulk copy is not",
    ),
    "bulk to global": ("INIT(1) bulk_load(x, x, 16, &b);", "both", "out-of-bounds", "is not all shared memory"),
    "bulk too far": (
        "INIT(1) bulk_load(s, x, 8192, &b);",
        "check",
        "out-of-bounds",
        "argument 0, which has 4096 bytes",
    ),
    "bulk without mbarrier": ("bulk_load(s, x, 16, &b);", "both", "uninitialised", "a copy of an mbarrier that is not"),
    "store not fenced": (
        "s[0] = 1; for (int i = 1; i < 16; i++) s[i] = 1; bulk_store(x, s, 16); bulk_commit(); bulk_wait<0>();",
        "check",
        "race",
        "no fence.proxy.async between",
    ),
    "store not waited": (
        "ZERO fence_proxy_async(); bulk_store(x, s, 16); bulk_commit();",
        "check",
        "race",
        "returns while this bulk copy may still read",
    ),
    "store spoilt": (
        "ZERO fence_proxy_async(); bulk_store(x, s, 16); bulk_commit(); s[3] = 2; bulk_wait<0>();",
        "check",
        "race",
        "read at .*hopper.cuh:.* by a bulk copy, for which nobody has waited",
    ),
    "no map": ("INIT(1) tensor_load(s, (const CUtensorMap*)x, {0}, &b);", "both", "misuse", "no tensor map"),
    "rank": ("INIT(1) tensor_load(s, &map, {0}, &b);", "both", "misuse", "1 dimensions by a tensor map that has 2"),
    "box beyond": (
        "INIT(1) tensor_load(s + 7 * 1024, &map, {0, 0}, &b);",
        "both",
        "out-of-bounds",
        "not all shared memory",
    ),
}
# The same of whole warpgroups, after shared memory was set to zero and fenced.
WRONG_PRODUCTS = {
    "96 threads": ("wgmma_f16(d, m, m);", "both", "misuse", "wgmma in a warpgroup of 96 threads"),
    "different": (
        "wgmma_f16(d, m + (t < 32), m);",
        "both",
        "misuse",
        "threads 0 and 32 of a block meet in different wgmma",
    ),
    "outside": (
        "wgmma_f16((float(&)[8])d, m, wgmma_matrix(s + 7 * 1024, 16, 2048, 128));",
        "both",
        "out-of-bounds",
        "no shared memory is",
    ),
    "tf32": ("wgmma_tf32_transposed(d, m);", "both", "misuse", "wgmma of tf32 cannot transpose"),
    "written": (
        "wgmma_f16(d, m, m); d[3] = 0; wgmma_f16(d, m, m); wgmma_commit(); wgmma_wait<0>();",
        "check",
        "race",
        "an accumulator was written while wgmma is under way",
    ),
    "fenced once": (
        "wgmma_f16(d, m, m); wgmma_commit(); wgmma_wait<0>(); d[3] = 5; wgmma_f16(d, m, m); wgmma_commit();"
        " wgmma_wait<0>();",
        "check",
        "race",
        "touched with no wgmma.fence between",
    ),
    "other width": (
        "wgmma_f16(d, m, m); wgmma_f16((float(&)[8])d, m, m);",
        "both",
        "misuse",
        "n = 16 of accumulators that one with n = 8 has not finished",
    ),
    "shared not fenced": (
        "s[t * 16] = 1; __syncthreads(); wgmma_f16(d, m, m); wgmma_commit(); wgmma_wait<0>();",
        "check",
        "race",
        "with no fence.proxy.async between",
    ),
}


def wrong_code():
    one = "".join(
        f'extern "C" __global__ void wrong_{i}(char* x, const __grid_constant__ CUtensorMap map) {{ SHARED'
        f" if (threadIdx.x == 0) {{\n{body}\n}} }}\n"
        for i, (body, *_) in enumerate(WRONG.values())
    )
    groups = "".join(
        f'extern "C" __global__ void product_{i}(float* x) {{ SHARED PRODUCT\n{body}\n'
        " for (int i = 0; i < 4; i++) x[t * 4 + i] = d[i]; }\n"
        for i, (body, *_) in enumerate(WRONG_PRODUCTS.values())
    )
    return (
        """#include "hopper.cuh"
typedef unsigned long long u64;
#define SHARED \\
    extern __shared__ __align__(1024) char s[]; __shared__ u64 b; const int t = threadIdx.x; (void)t, (void)s, (void)b;
#define INIT(count) mbarrier_init(&b, count); fence_mbarrier_init();
#define ZERO for (int i = 0; i < 64; i++) s[i] = 0;
#define PRODUCT for (int i = t; i < 8192; i += blockDim.x) s[i] = 0; fence_proxy_async(); __syncthreads(); \\
    float d[8] = {1, 2, 3, 4}; const u64 m = wgmma_matrix(s, 16, 1024, 128); wgmma_fence();
"""
        + one
        + groups.replace("wgmma_f16(d,", "wgmma_f16((float(&)[4])d,").replace(
            "wgmma_tf32_transposed(d, m);",
            "float* all[4] = {d, d + 1, d + 2, d + 3}; gpunn_emulator::WarpgroupProduct p{"
            "gpunn_emulator::WarpgroupProduct::tf32, 8, all}; p.transpose_b = true; "
            "gpunn_emulator::warpgroup_product(p);",
        )
    )


@pytest.fixture(scope="module", params=[True, False], ids=["check", "fast"])
def wrong(request):
    return request.param, RawModule(wrong_code(), INCLUDE, filename="wrong.cu", check=request.param)


@pytest.mark.parametrize("case", [*WRONG, *WRONG_PRODUCTS])
def test_what_is_wrong_is_reported(wrong, case):
    checked, module = wrong
    code = wrong_code()
    if case in WRONG:
        name, (_, modes, kind, message) = f"wrong_{[*WRONG].index(case)}", WRONG[case]
        memory = np.ones(4096 + 512, np.int8)
        x = memory[:4096] if checked else memory[-memory.ctypes.data % 512 :][:4096]  # where CuPy would allocate it
        args = (x, tensor_map(np.zeros((64, 64), np.float16), (64, 64), swizzle=128))
    else:
        name, (_, modes, kind, message) = f"product_{[*WRONG_PRODUCTS].index(case)}", WRONG_PRODUCTS[case]
        args = (np.zeros(512, f32),)
    threads = 96 if case == "96 threads" else 128
    if modes == "check" and not checked:
        launch(module, name, 1, threads, *args, shared=8192)
        return
    with pytest.raises(CheckError if checked else LaunchError) as caught:
        launch(module, name, 1, threads, *args, shared=8192)
    line = 2 + code[: code.index(f"void {name}(")].count("\n")
    told = [str(caught.value)]
    if checked:
        told = [f"{r.kind}: {r.message}" for r in caught.value.reports if line in lines_of(r)]
    assert any(re.search(f"{kind}: .*{message}", each) for each in told), (told, str(caught.value))


def test_right_products_and_stores_have_no_report():
    head = wrong_code().split('extern "C"', 1)[0]
    code = """
extern "C" __global__ void store(char* x) { SHARED
    if (threadIdx.x == 0) {
        ZERO fence_proxy_async(); bulk_store(x, s, 16); bulk_commit(); bulk_wait<0>(); s[3] = 2;
    } }
extern "C" __global__ void product(float* x) { SHARED PRODUCT
    for (int k = 0; k < 3; k++) {  // nothing touches d in between
        for (int i = 0; i < 2; i++) wgmma_f16((float(&)[4])d, m, m);
        wgmma_commit();
        wgmma_wait<0>();
    }
    for (int i = 0; i < 4; i++) x[t * 4 + i] = d[i];
    for (int i = 0; i < 4; i++) d[i] = 2;
    wgmma_fence();
    wgmma_f16((float(&)[4])d, m, m);
    wgmma_commit();
    wgmma_wait<0>();
    __syncthreads();
    s[t] = 1;
    for (int i = 0; i < 4; i++) x[t * 4 + i] += d[i];
}"""
    module = RawModule(head + code, INCLUDE, check=True)
    launch(module, "store", 1, 32, np.ones(16, np.int8), shared=64)
    x = np.zeros((128, 4), f32)
    launch(module, "product", 1, 128, x, shared=8192)
    np.testing.assert_array_equal(x, np.tile(f32([3, 4, 5, 6]), (128, 1)))


@pytest.mark.parametrize(("array", "box", "settings", "message"), [
    (np.float32(1), (1,), {}, "takes an array"),
    (np.zeros((1,) * 6, f32), (4,) * 6, {}, "1 to 5 dimensions"),
    (np.zeros(8, bool), (4,), {}, "the dtype must be one of"),
    (np.zeros(0, f32), (4,), {}, "each size must be from 1"),
    (np.zeros((4, 8), f32)[:, ::2], (4, 4), {}, "the last dimension must be dense"),
    (np.zeros((4, 6), f32), (4, 4), {}, "multiple of 16 bytes below"),
    (np.zeros((4, 8), f32)[::-1], (4, 4), {}, "positive multiple of 16 bytes below"),
    (np.zeros(64, f32)[1:], (4,), {}, "the array must lie at a multiple of 16 bytes"),
    (np.zeros((4, 8), f32), (4,), {}, "a size from 1 to 256 for each dimension"),
    (np.zeros((4, 8), f32), (0, 4), {}, "a size from 1 to 256"),
    (np.zeros((4, 8), f32), (257, 4), {}, "a size from 1 to 256"),
    (np.zeros((4, 8), f32), (4, 3), {}, "a row of the box must be a multiple of 16 bytes"),
    (np.zeros((4, 8), f32), (4, 4), {"swizzle": 16}, "the swizzle must be 0, 32, 64 or 128"),
    (np.zeros((4, 8), f32), (4, 16), {"swizzle": 32}, "as many bytes as the swizzle"),
    (np.zeros((4, 8), f32), (4, 4), {"element_strides": (9, 1)}, "from 1 to 8"),
    (np.zeros((4, 8), f32), (4, 4), {"fill": "ones"}, "must be"),
    (np.zeros((4, 8), i32), (4, 4), {"fill": "nan"}, "only floating-point numbers"),
])  # fmt: skip
def test_a_wrong_tensor_map_is_refused(array, box, settings, message):
    with pytest.raises(ArgumentError, match=f"tensor_map: .*{message}"):
        tensor_map(array, box, **settings)


def test_a_tensor_map_is_no_other_argument():
    kernel = RawModule('extern "C" __global__ void k(int x) {}').get_function("k")
    with pytest.raises(LaunchError, match="argument 0 must be a 4-byte integer, got a Python TensorMap"):
        kernel((1,), (1,), (tensor_map(np.zeros(8, f32), (4,)),))


# --- against another's layouts ----------------------------------------------------------------------------------------


def test_fragments_agree_with_tensor_layouts():
    """What the tests take for the fragments of wgmma and for the swizzles, against the package."""
    atoms = pytest.importorskip("tensor_layouts.atoms_nv")
    layouts = pytest.importorskip("tensor_layouts")
    for n in (8, 64, 96, 256):
        layout = atoms.make_gmma_atom_ss(n, d_type="F32", ab_type="F16").c_layout
        held = fragment(np.arange(64 * n).reshape(64, n))
        for thread, value in itertools.product(range(128), range(n // 2)):
            place = layout(thread, value)  # column-major in M x N
            assert held[thread, value] == place % 64 * n + place // 64
    for width in (32, 64, 128):
        swizzle = layouts.Swizzle(width.bit_length() - 5, 4, 3)
        rows = np.arange(2048, dtype=u16).view(np.uint8).reshape(-1, width)
        laid = swizzle_rows(rows, width).reshape(-1)
        np.testing.assert_array_equal(laid[[swizzle(i) for i in range(4096)]], rows.reshape(-1))


# --- on hardware ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("code", [MBARRIERS, COPIES, PRODUCTS, CONV], ids=["mbarriers", "copies", "products", "conv"])
def test_nvrtc_compiles_every_wrapper(code, tmp_path, monkeypatch):
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    for name in ("element.cuh", "hopper.cuh"):
        code = code.replace(f'#include "{name}"', source.flatten(name))
    cubin = compiler.compile_cubin(code, "flat.cu", (), "sm_90a")
    assert cubin.resources
    assert all(used.spill_bytes == 0 for used in cubin.resources.values())
