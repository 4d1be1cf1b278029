"""The emulator: kernels with NVIDIA's own CUB, Thrust and libcu++, as CuPy brings them along."""

import importlib.util
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule
from gpunn.errors import CompileError

_cupy = importlib.util.find_spec("cupy")
CCCL = Path(_cupy.origin).parent / "_core/include/cupy/_cccl" if _cupy and _cupy.origin else Path("none")
OPTIONS = ("-std=c++17", *(f"-I{CCCL / part}" for part in ("cub", "thrust", "libcudacxx")))

pytestmark = pytest.mark.skipif(not CCCL.is_dir(), reason="CUB comes with CuPy, which is not installed")

CODE = r"""
#include <cub/block/block_discontinuity.cuh>
#include <cub/block/block_exchange.cuh>
#include <cub/block/block_histogram.cuh>
#include <cub/block/block_load.cuh>
#include <cub/block/block_merge_sort.cuh>
#include <cub/block/block_radix_sort.cuh>
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_scan.cuh>
#include <cub/block/block_shuffle.cuh>
#include <cub/block/block_store.cuh>
#include <cub/warp/warp_reduce.cuh>
#include <cub/warp/warp_scan.cuh>
#include <cuda/barrier>
#include <cuda/functional>
#include <thrust/pair.h>
#include <thrust/random.h>
#include <thrust/tuple.h>

extern "C" __global__ void warps(const int* x, int* sums, int* largest, int* scans, int count) {
  typedef cub::WarpReduce<int, 16> Halves;
  typedef cub::WarpReduce<int> Whole;
  typedef cub::WarpScan<int> Scan;
  __shared__ Halves::TempStorage halves[4];
  __shared__ Whole::TempStorage whole[2];
  __shared__ Scan::TempStorage scan[2];
  int t = threadIdx.x, v = x[t], all;
  int sum = Halves(halves[t / 16]).Sum(v);
  if (t % 16 == 0) sums[t / 16] = sum;
  int most = Whole(whole[t / 32]).Reduce(v, cuda::maximum<>{}, count);
  if (t % 32 == 0) largest[t / 32] = most;
  Scan(scan[t / 32]).ExclusiveSum(v, v, all);
  scans[t] = v + 1000 * all;
}

// Following one affine function by another is no commutative operation: it shows in which order items are taken.
struct Affine { unsigned times, plus; };
struct Then {
  __device__ Affine operator()(Affine a, Affine b) const { return {a.times * b.times, a.plus * b.times + b.plus}; }
};
template <cub::BlockReduceAlgorithm how> __global__ void reduce(const Affine* x, Affine* y, int count) {
  typedef cub::BlockReduce<Affine, 96, how> Reduce;
  __shared__ typename Reduce::TempStorage memory;
  Affine all = Reduce(memory).Reduce(x[threadIdx.x], Then(), count);
  if (threadIdx.x == 0) y[0] = all;
}

struct Running {
  int total;
  __device__ int operator()(int sum) { int before = total; total += sum; return before; }
};
template <cub::BlockLoadAlgorithm in, cub::BlockStoreAlgorithm out, cub::BlockScanAlgorithm how>
__global__ void scan(const int* x, int* y, int n) {
  typedef cub::BlockLoad<int, 64, 4, in> Load;
  typedef cub::BlockStore<int, 64, 4, out> Store;
  typedef cub::BlockScan<int, 64, how> Scan;
  __shared__ union {
    typename Load::TempStorage load;
    typename Store::TempStorage store;
    typename Scan::TempStorage scan;
  } memory;
  Running running = {0};
  for (int begin = 0; begin < n; begin += 256) {
    int items[4], left = n - begin < 256 ? n - begin : 256;
    Load(memory.load).Load(x + begin, items, left, 0);
    __syncthreads();
    Scan(memory.scan).InclusiveSum(items, items, running);
    __syncthreads();
    Store(memory.store).Store(y + begin, items, left);
    __syncthreads();
  }
}

template <class K> __global__ void radix_sort(K* keys, int* values, bool down) {
  typedef cub::BlockRadixSort<K, 64, 3, int> Sort;
  __shared__ typename Sort::TempStorage memory;
  K k[3];
  int v[3];
  for (int i = 0; i < 3; i++) k[i] = keys[threadIdx.x * 3 + i], v[i] = values[threadIdx.x * 3 + i];
  if (down) Sort(memory).SortDescending(k, v);
  else Sort(memory).Sort(k, v);
  for (int i = 0; i < 3; i++) keys[threadIdx.x * 3 + i] = k[i], values[threadIdx.x * 3 + i] = v[i];
}

struct Less { __device__ bool operator()(int a, int b) const { return a < b; } };
extern "C" __global__ void merge_sort(int* x) {
  typedef cub::BlockMergeSort<int, 64, 2> Sort;
  __shared__ Sort::TempStorage memory;
  int k[2] = {x[2 * threadIdx.x], x[2 * threadIdx.x + 1]};
  Sort(memory).Sort(k, Less());
  x[2 * threadIdx.x] = k[0], x[2 * threadIdx.x + 1] = k[1];
}

extern "C" __global__ void histogram(const unsigned char* x, unsigned* y) {
  typedef cub::BlockHistogram<unsigned char, 64, 4, 16, cub::BLOCK_HISTO_ATOMIC> Histogram;
  __shared__ typename Histogram::TempStorage memory;
  __shared__ unsigned bins[16];
  unsigned char items[4];
  for (int i = 0; i < 4; i++) items[i] = x[threadIdx.x * 4 + i];
  Histogram(memory).Histogram(items, bins);
  __syncthreads();
  if (threadIdx.x < 16) y[threadIdx.x] = bins[threadIdx.x];
}

struct Differ { __device__ bool operator()(int a, int b) const { return a != b; } };
extern "C" __global__ void neighbours(const int* x, int* heads, int* before, int* striped) {
  typedef cub::BlockDiscontinuity<int, 64> Heads;
  typedef cub::BlockShuffle<int, 64> Shuffle;
  typedef cub::BlockExchange<int, 64, 2> Exchange;
  __shared__ Heads::TempStorage a;
  __shared__ Shuffle::TempStorage b;
  __shared__ Exchange::TempStorage c;
  int items[2] = {x[2 * threadIdx.x], x[2 * threadIdx.x + 1]}, flags[2], up[2] = {-1, -1};
  Heads(a).FlagHeads(flags, items, Differ());
  Shuffle(b).Up(items, up);
  for (int i = 0; i < 2; i++) heads[2 * threadIdx.x + i] = flags[i], before[2 * threadIdx.x + i] = up[i];
  Exchange(c).BlockedToStriped(items, items);
  for (int i = 0; i < 2; i++) striped[2 * threadIdx.x + i] = items[i];
}

extern "C" __global__ void with_a_barrier(const int* x, int* y) {
  typedef cub::BlockReduce<int, 64> Reduce;
  __shared__ Reduce::TempStorage memory;
  __shared__ int held[64];
  __shared__ cuda::barrier<cuda::thread_scope_block> barrier;
  if (threadIdx.x == 0) init(&barrier, 64);
  __syncthreads();
  cuda::memcpy_async(&held[threadIdx.x], &x[threadIdx.x], sizeof(int), barrier);
  barrier.arrive_and_wait();
  int sum = Reduce(memory).Sum(threadIdx.x * held[63 - threadIdx.x]);
  if (threadIdx.x == 0) y[0] = sum;
}

extern "C" __global__ void thrust_types(int* y) {
  thrust::pair<int, int> p = thrust::make_pair((int)threadIdx.x, 4);
  thrust::tuple<int, int, int> t = thrust::make_tuple(p.second, p.first, 7);
  cuda::std::swap(thrust::get<0>(t), thrust::get<2>(t));
  y[threadIdx.x] = thrust::get<0>(t) + 10 * thrust::get<1>(t) + 1000 * thrust::get<2>(t);
}

template <class Engine> __device__ unsigned long long far(Engine engine, int steps) {
  engine.discard(steps);
  return engine();
}
extern "C" __global__ void engines(unsigned long long* y) {
  y[0] = far(thrust::minstd_rand(), 9999);
  y[1] = far(thrust::minstd_rand0(), 9999);
  y[2] = far(thrust::taus88(), 9999);
  y[3] = far(thrust::ranlux24(), 9999);
  y[4] = far(thrust::ranlux48(), 9999);
}
extern "C" __global__ void distributions(unsigned* raw, float* real, double* normal, int* whole) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  thrust::default_random_engine engine(i + 1), same = engine;
  thrust::uniform_real_distribution<float> uniform(-1.0f, 3.0f);
  thrust::normal_distribution<double> gauss(10.0, 2.0);
  thrust::uniform_int_distribution<int> die(1, 6);
  for (int k = 0; k < 3; k++) raw[3 * i + k] = same();
  real[i] = uniform(engine);
  normal[i] = gauss(engine);
  whole[i] = die(engine);
}
extern "C" __global__ void narrow_limits(float* y) {
  y[0] = (float)cuda::std::numeric_limits<__nv_fp8_e4m3>::max();
  y[1] = (float)cuda::std::numeric_limits<__nv_fp6_e3m2>::max();
  y[2] = (float)cuda::std::numeric_limits<__nv_fp4_e2m1>::max();
}
"""

REDUCES = [f"reduce<cub::BLOCK_REDUCE_{how}>" for how in ("RAKING", "WARP_REDUCTIONS")]
SCANS = [
    f"scan<cub::BLOCK_LOAD_{move}, cub::BLOCK_STORE_{move}, cub::BLOCK_SCAN_{how}>"
    for move, how in (("VECTORIZE", "RAKING"), ("WARP_TRANSPOSE", "WARP_SCANS"))
]


@pytest.fixture(scope="module", params=["forward", "reverse", 3, "check"])
def run(request):
    settings = {"check": True} if request.param == "check" else {"order": request.param}
    names = [*REDUCES, *SCANS, "radix_sort<float>"]
    module = RawModule(CODE, OPTIONS, names, filename="cub.cu", **settings)

    def run(name, *args, threads=64):
        module.get_function(name)((1,), (threads,), args)

    return run


@pytest.fixture
def numbers():
    return np.random.default_rng(0)


def test_warps_reduce_and_scan(run, numbers):
    x = numbers.integers(-9, 9, 64).astype(np.int32)
    sums, largest, scans = np.zeros(4, np.int32), np.zeros(2, np.int32), np.zeros(64, np.int32)
    run("warps", x, sums, largest, scans, np.int32(5))
    rows = x.reshape(2, 32)
    np.testing.assert_array_equal(sums, x.reshape(4, 16).sum(1))
    np.testing.assert_array_equal(largest, rows[:, :5].max(1))
    before = np.cumsum(rows, 1) - rows
    np.testing.assert_array_equal(scans.reshape(2, 32), before + 1000 * rows.sum(1, keepdims=True))


@pytest.mark.parametrize("name", REDUCES)
@pytest.mark.parametrize("count", [1, 40, 96])
def test_blocks_reduce_in_order(run, numbers, name, count):
    x, y = numbers.integers(0, 1 << 32, (96, 2), dtype=np.uint32), np.zeros(2, np.uint32)
    run(name, x, y, np.int32(count), threads=96)
    times, plus = 1, 0
    for a, b in x[:count].tolist():
        times, plus = times * a % 2**32, (plus * a + b) % 2**32
    assert y.tolist() == [times, plus]


@pytest.mark.parametrize("name", SCANS)
def test_blocks_load_scan_and_store(run, numbers, name):
    x = numbers.integers(-9, 9, 700).astype(np.int32)
    y = np.zeros(704, np.int32)
    run(name, x, y, np.int32(700))
    np.testing.assert_array_equal(y, [*np.cumsum(x), 0, 0, 0, 0])


@pytest.mark.parametrize("down", [False, True])
def test_blocks_sort_keys_with_values(run, numbers, down):
    keys = numbers.integers(-50, 50, 192).astype(np.float32)
    order = np.argsort(-keys if down else keys, kind="stable")
    moved, values = keys.copy(), np.arange(192, dtype=np.int32)
    run("radix_sort<float>", moved, values, np.bool_(down))
    np.testing.assert_array_equal(moved, keys[order])
    np.testing.assert_array_equal(values, order)


def test_blocks_sort_by_a_comparison(run, numbers):
    x = numbers.integers(0, 1000, 128).astype(np.int32)
    y = x.copy()
    run("merge_sort", y)
    np.testing.assert_array_equal(y, np.sort(x))


def test_blocks_count_items(run, numbers):
    x, y = numbers.integers(0, 16, 256).astype(np.uint8), np.zeros(16, np.uint32)
    run("histogram", x, y)
    np.testing.assert_array_equal(y, np.bincount(x, minlength=16))


def test_blocks_look_at_neighbours(run, numbers):
    x = numbers.integers(0, 3, 128).astype(np.int32)
    heads, before, striped = (np.zeros(128, np.int32) for _ in range(3))
    run("neighbours", x, heads, before, striped)
    np.testing.assert_array_equal(heads, [1, *(x[1:] != x[:-1])])
    np.testing.assert_array_equal(before, [-1, *x[:-1]])
    np.testing.assert_array_equal(striped.reshape(64, 2), x.reshape(2, 64).T)


def test_barriers_beside_libcudacxx(run, numbers):
    x, y = numbers.integers(0, 99, 64).astype(np.int32), np.zeros(1, np.int32)
    run("with_a_barrier", x, y)
    assert y[0] == (np.arange(64) * x[::-1]).sum()


def test_pairs_and_tuples_of_thrust(run):
    y = np.zeros(5, np.int32)
    run("thrust_types", y, threads=5)
    np.testing.assert_array_equal(y, 7 + 10 * np.arange(5) + 4000)


def test_engines_of_thrust(run):
    """The 10000th numbers: those of the C++ standard, but for the last three, which are of Thrust's documentation."""
    y = np.zeros(5, np.uint64)
    run("engines", y, threads=1)
    assert y.tolist() == [399268537, 1043618065, 3535848941, 9901578, 88229545517833]


def test_distributions_of_thrust(run):
    n, last = 64, 2**31 - 2
    raw, real, normal, whole = np.zeros((n, 3), np.uint32), np.zeros(n, np.float32), np.zeros(n), np.zeros(n, np.int32)
    run("distributions", raw, real, normal, whole)
    numbers = np.arange(1, n + 1)[:, None] * np.array([48271, 48271**2 % (last + 1), 48271**3 % (last + 1)])
    np.testing.assert_array_equal(raw, numbers % (last + 1))
    fractions = (raw - 1.0) / (last - 1)
    np.testing.assert_allclose(real, -1 + 4 * fractions[:, 0], atol=1e-6)
    inverse = [NormalDist(10, 2).inv_cdf(fraction) for fraction in fractions[:, 1] + 0.5 / (last - 1)]
    np.testing.assert_allclose(normal, inverse, atol=1e-6)
    np.testing.assert_array_equal(whole, 1 + np.floor(6 * fractions[:, 2]))


@pytest.mark.parametrize("check", [False, True])
def test_host_code_beside_thrust_is_left_out(check):
    code = """
    #include <iostream>
    #include <thrust/random.h>
    __global__ void draw(unsigned* x, unsigned seed) { x[0] = thrust::minstd_rand(seed)(); }
    int main() { unsigned* x; draw<<<1, 1>>>(x, 3); std::cout << 1 << std::endl; }
    """
    x = np.zeros(1, np.uint32)
    module = RawModule(code, OPTIONS, ["draw"], filename="cub.cu", check=check)
    module.get_function("draw")((1,), (1,), (x, np.uint32(3)))
    assert x[0] == 3 * 48271


def test_limits_of_narrow_floats(run):
    y = np.zeros(3, np.float32)
    run("narrow_limits", y, threads=1)
    assert y.tolist() == [448, 28, 6]


REUSED = r"""
#include <cub/block/block_scan.cuh>

extern "C" __global__ void twice(const int* x, int* y) {
  typedef cub::BlockScan<int, 64, cub::BLOCK_SCAN_WARP_SCANS> Scan;
  __shared__ Scan::TempStorage memory;
  int once, again;
  Scan(memory).InclusiveSum(x[threadIdx.x], once);
  Scan(memory).InclusiveSum(once, again);
  y[threadIdx.x] = again;
}
"""


def test_storage_that_is_used_again_without_a_barrier_is_a_race():
    x, y = np.ones(64, np.int32), np.zeros(64, np.int32)
    with pytest.raises(CheckError) as caught:
        RawKernel(REUSED, "twice", OPTIONS, filename="cub.cu", check=True)((1,), (64,), (x, y))
    report = caught.value.reports[0]
    assert report.kind == "race"
    assert "shared 'memory'" in report.message
    assert ("cub.cu", 9) in report.callers


@pytest.mark.parametrize("header", ["cub/device/device_reduce.cuh", "thrust/sort.h"])
def test_algorithms_of_the_host_are_refused(header):
    code = f'#include <cuda/functional>\n\n#include <{header}>\nextern "C" __global__ void k(int* x) {{ x[0] = 1; }}'
    with pytest.raises(CompileError, match=r"^cub.cu:3: algorithms of CUB and Thrust that the host starts are not"):
        RawKernel(code, "k", OPTIONS, filename="cub.cu")
