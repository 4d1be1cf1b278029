"""The emulator: kernels with NVIDIA's own CUB, Thrust and libcu++, as CuPy brings them along."""

import importlib.util
from pathlib import Path

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
