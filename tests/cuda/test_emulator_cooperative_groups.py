"""Cooperative groups, emulated: each kind of group against NumPy, and the mistakes that check mode tells."""

from pathlib import Path

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, CheckWarning, RawKernel, RawModule
from gpunn.errors import CompileError, LaunchError

i32, u32, u64, f32, f64 = np.int32, np.uint32, np.uint64, np.float32, np.float64

GROUPS = r"""
#include <cooperative_groups.h>
#include <cooperative_groups/memcpy_async.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda/barrier>  // for cuda::aligned_size_t
namespace cg = cooperative_groups;

// The sum over any group, in memory that it has for itself.
__device__ int sum_of(cg::thread_group group, int* memory, int value) {
  memory[group.thread_rank()] = value;
  for (int n = group.size(); n > 1;) {
    int half = (n + 1) / 2;
    group.sync();
    if (group.thread_rank() + half < n) memory[group.thread_rank()] += memory[group.thread_rank() + half];
    n = half;
  }
  group.sync();
  return memory[0];
}

extern "C" __global__ void erased(const int* x, int* y) {
  __shared__ int memory[64];
  cg::thread_block block = cg::this_thread_block();
  const int t = block.thread_rank(), n = block.size();
  cg::thread_group eight = cg::tiled_partition(block, 8), four = cg::tiled_partition(eight, 4);
  cg::thread_group one = cg::this_thread(), whole = block, two = cg::tiled_partition<2>(block);
  y[t] = sum_of(block, memory, x[t]);
  cg::sync(block);
  y[n + t] = sum_of(eight, memory + t / 8 * 8, x[t]);
  cg::sync(whole);
  y[2 * n + t] = sum_of(four, memory + t / 4 * 4, x[t]);
  whole.sync();
  y[3 * n + t] = sum_of(one, memory + t, x[t]);
  block.sync();
  y[4 * n + t] = sum_of(two, memory + t / 2 * 2, x[t]);
  y[5 * n + t] = 100 * eight.size() + cg::thread_rank(four) + 1000 * cg::group_size(block);
}

extern "C" __global__ void block_facts(unsigned* y) {
  __shared__ unsigned memory[48];
  auto block = cg::this_thread_block();
  memory[block.thread_rank()] = block.num_threads() + block.thread_rank();
  cg::thread_block::arrival_token token = block.barrier_arrive();
  unsigned before = block.dim_threads().x * 100 + block.group_dim().y * 10 + block.group_index().y;
  block.barrier_wait(static_cast<cg::thread_block::arrival_token&&>(token));
  unsigned* mine = y + 5 * cg::this_grid().thread_rank();
  mine[0] = memory[47 - block.thread_rank()];
  mine[1] = before;
  mine[2] = cg::thread_block::size() + block.thread_index().x * 100;
  mine[3] = cg::this_grid().thread_index().y + 100 * cg::this_grid().thread_index().x;
  mine[4] = cg::this_grid().dim_threads().y + 100 * cg::this_grid().dim_threads().x;
  cg::thread_block::sync();
}

// Lanes with x > 0 together, the others together.
extern "C" __global__ void coalesced(const int* x, int* y) {
  const int t = threadIdx.x, n = blockDim.x;
  int same;
  if (x[t] > 0) {
    cg::coalesced_group group = cg::coalesced_threads();
    y[t] = group.size() * 100 + group.thread_rank();
    y[n + t] = group.shfl(x[t], 1);
    y[2 * n + t] = group.shfl_up(x[t], 2);
    y[3 * n + t] = group.shfl_down(x[t], 2);
    y[4 * n + t] = group.ballot(x[t] > 2);
    y[5 * n + t] = group.any(x[t] > 3) + 2 * group.all(x[t] > 1) + 4 * group.all(x[t] > 0);
    y[6 * n + t] = group.match_any(x[t]);
    y[7 * n + t] = group.match_all(x[t], same);
    y[8 * n + t] = same;
    y[9 * n + t] = group.match_all(x[t] > 0 ? 1.0f : 0.0f, same);
    y[10 * n + t] = same + 10 * group.meta_group_rank() + 100 * group.meta_group_size();
    group.sync();
  } else {
    cg::coalesced_group group = cg::coalesced_threads();
    y[t] = group.size() * 100 + group.thread_rank();
    y[n + t] = group.shfl(x[t], 1);
  }
}

template <class Group> __device__ int facts_of(const Group& group) {
  return group.thread_rank() + 100 * group.size() + 10000 * group.meta_group_rank() + 1000000 * group.meta_group_size();
}

extern "C" __global__ void partitions(const int* x, int* y) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<16>(block);
  const int t = block.thread_rank(), n = block.size();
  y[t] = facts_of(cg::binary_partition(tile, x[t] > 2));
  y[n + t] = facts_of(cg::labeled_partition(tile, x[t]));
  y[2 * n + t] = facts_of(cg::labeled_partition(tile, x + x[t]));
  y[3 * n + t] = facts_of(cg::labeled_partition(tile, x[t] > 2));
  y[4 * n + t] = facts_of(cg::binary_partition(tile, tile.thread_rank() < 16));
  y[5 * n + t] = facts_of(cg::tiled_partition<4>(tile));
  cg::thread_block_tile<4> untyped = cg::tiled_partition<4>(tile);
  y[6 * n + t] = facts_of(untyped) + 100000000 * cg::tiled_partition<2>(untyped).meta_group_rank();
  y[7 * n + t] = facts_of(cg::this_thread());
  if (x[t] > 1) {
    auto group = cg::coalesced_threads();
    y[8 * n + t] = facts_of(cg::tiled_partition(group, 4));
    y[9 * n + t] = cg::tiled_partition(group, 4).shfl(t, 0);
    y[10 * n + t] = facts_of(cg::labeled_partition(group, (char)x[t]));
    y[11 * n + t] = facts_of(cg::tiled_partition(cg::binary_partition(group, x[t] == 2), 32));
  }
}

struct Three { int a; float b; int c; };
struct Wide { double a[4]; };

extern "C" __global__ void shuffles(const double* x, double* y) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<8>(block);
  const int t = block.thread_rank(), n = block.size();
  int same;
  Three three = tile.shfl(Three{t, (float)x[t], -t}, 9);
  y[t] = three.a + three.b + three.c;
  Wide wide = tile.shfl_xor(Wide{{x[t], t + 0.0, x[t], 1}}, 5);
  y[n + t] = wide.a[0] + wide.a[1] * wide.a[3];
  y[2 * n + t] = tile.shfl_up((char)t, 3);
  y[3 * n + t] = tile.shfl_down(x[t] > 0.5, 2);
  y[4 * n + t] = tile.shfl(x[t], -1);
  y[5 * n + t] = tile.match_all(t / 8, same);
  y[5 * n + t] += 1000 * same;
  y[6 * n + t] = tile.match_all(t / 4, same);
  y[6 * n + t] += 1000 * same;
  y[7 * n + t] = tile.match_any(t % 3 + 0.5);
  y[8 * n + t] = tile.any(t % 8 == 3 && t > 8) + 2 * tile.all(t != 9) + 4 * (int)tile.ballot(t % 3 == 0);
  y[9 * n + t] = cg::this_thread().shfl(x[t], 0);
}

template <class Tile> __device__ void all_of(const Tile& tile, const int* x, int* y, int t, int n) {
  y[t] = tile.shfl(x[t], 37);
  y[n + t] = tile.any(x[t] == 9) + 2 * tile.all(x[t] > -9);
  y[2 * n + t] = cg::reduce(tile, x[t], cg::plus<int>());
  y[3 * n + t] = cg::reduce(tile, x[t], cg::greater<int>());
  y[4 * n + t] = cg::inclusive_scan(tile, x[t]);
  y[5 * n + t] = cg::exclusive_scan(tile, x[t]);
  y[6 * n + t] = cg::inclusive_scan(tile, x[t], [](int a, int b) { return a > b ? a : b; });
  y[7 * n + t] = facts_of(tile);
  y[8 * n + t] = cg::invoke_one_broadcast(tile, [&] { return x[t] * 2; });
}

extern "C" __global__ void large(const int* x, int* y) {
  __shared__ cg::block_tile_memory<512> memory;
  __shared__ int exchanged[512];
  auto block = cg::this_thread_block(memory);
  const int t = block.thread_rank(), n = block.size();
  auto tile = cg::tiled_partition<128>(block);
  auto inner = cg::tiled_partition<64>(tile);
  cg::thread_block_tile<128> untyped = tile;
  all_of(tile, x, y, t, n);
  all_of(inner, x, y + 9 * n, t, n);
  y[18 * n + t] = facts_of(untyped);
  for (int i = 0; i < 3; i++) {
    exchanged[t] = x[t] + i;
    tile.sync();
    y[19 * n + t] = exchanged[t / 128 * 128 + 127 - t % 128] + exchanged[t / 128 * 128];
    cg::sync(untyped);
  }
  cg::tiled_partition<32>(inner).sync();
}

// Memory of a tile is read by all its warps, then written, again and again; tiles of two sizes order it.
extern "C" __global__ void large_orders(int* y) {
  __shared__ int s[8];
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<128>(block);
  auto inner = cg::tiled_partition<64>(tile);
  int *outer_sum = s + threadIdx.x / 128, *inner_sum = s + 2 + threadIdx.x / 64, sum = 0;
  for (int i = 1; i < 4; i++) {
    if (tile.thread_rank() == 40 * i) *outer_sum = i;
    if (inner.thread_rank() == 20 * i) *inner_sum = 10 * i;
    tile.sync();
    sum += *outer_sum + *inner_sum;
    inner.sync();
    if (inner.thread_rank() == 33) *inner_sum += 100;
    inner.sync();
    sum += *inner_sum;
    tile.sync();
  }
  y[threadIdx.x] = sum;
}

extern "C" __global__ void reductions(const int* x, int* y, float* f) {
  auto tile = cg::tiled_partition<16>(cg::this_thread_block());
  const int t = threadIdx.x, n = blockDim.x;
  y[t] = cg::reduce(tile, x[t], cg::plus<int>());
  y[n + t] = cg::reduce(tile, x[t], cg::less<int>());
  y[2 * n + t] = cg::reduce(tile, x[t], cg::bit_and<int>());
  y[3 * n + t] = cg::reduce(tile, x[t], cg::bit_or<int>());
  y[4 * n + t] = cg::reduce(tile, x[t], cg::bit_xor<int>());
  y[5 * n + t] = cg::reduce(tile, x[t], [](int a, int b) { return a * b % 1009; });
  cg::reduce_store_async(tile, &y[6 * n + t / 16], x[t], cg::greater<int>());
  f[t] = cg::reduce(tile, x[t] * 0.5f, cg::plus<float>());
  if (x[t] % 3) {
    auto group = cg::coalesced_threads();
    y[7 * n + t] = cg::reduce(group, x[t], cg::plus<int>());
    y[8 * n + t] = cg::reduce(group, (long long)x[t], cg::greater<long long>());
    y[9 * n + t] = cg::inclusive_scan(group, x[t]);
    y[10 * n + t] = cg::exclusive_scan(group, x[t], cg::bit_xor<int>());
  }
  y[11 * n + t] = cg::inclusive_scan(tile, x[t], cg::less<int>());
  y[12 * n + t] = cg::exclusive_scan(tile, x[t]);
  y[13 * n + t] = cg::reduce(cg::tiled_partition<1>(tile), x[t], cg::plus<int>());
}

__device__ void add(int* to, int value) { atomicAdd(to, value); }

extern "C" __global__ void by_one(int* y) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<16>(block);
  cg::invoke_one(block, add, &y[0], 1);
  cg::invoke_one(tile, add, &y[1], 1);
  if (threadIdx.x % 3 == 0) cg::invoke_one(cg::coalesced_threads(), [&] { add(&y[2], 1); });
  y[3 + threadIdx.x] = cg::invoke_one_broadcast(tile, [](int a) { return a / 16 * 10; }, (int)threadIdx.x);
}

extern "C" __global__ void copies(const float* x, float* y, int n) {
  __shared__ float whole[200], parts[128];
  __shared__ __align__(16) float aligned[48];
  __shared__ char odd[48];
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<32>(block);
  const int t = block.thread_rank();
  cg::memcpy_async(block, whole, 200, x, n);
  cg::wait(block);
  for (int i = t; i < n; i += block.size()) y[i] = whole[i];
  float* mine = parts + 32 * tile.meta_group_rank();
  cg::memcpy_async(tile, mine, x + 32 * tile.meta_group_rank(), sizeof(float) * 16);
  cg::memcpy_async(tile, mine + 16, x + 32 * tile.meta_group_rank() + 16, sizeof(float) * 16);
  cg::wait_prior<1>(tile);
  if (tile.thread_rank() < 16) y[n + 16 * tile.meta_group_rank() + tile.thread_rank()] = mine[tile.thread_rank()];
  cg::wait_prior<0>(tile);
  y[n + 64 + t] = mine[tile.thread_rank()];
  cg::memcpy_async(block, (void*)(odd + 1), (const void*)((const char*)x + 3), 37);
  cg::wait(block);
  for (int i = t; i < 37; i += block.size()) ((char*)(y + n + 192))[i] = odd[i + 1];
  if (t < 4) aligned[20 + t] = -1;
  block.sync();
  const int four = 4 * tile.meta_group_rank();
  cg::memcpy_async(tile, aligned + four, x + four, cuda::aligned_size_t<16>(16));
  cg::memcpy_async(block, (int4*)(aligned + 16), 2, (const int4*)x + 3, 1);
  cg::memcpy_async(block, (char*)(y + n + 202), (const char*)(whole + 5), 40);  // from shared memory to global
  cg::wait(block);
  if (t < 24) y[n + 212 + t] = aligned[t];
}

extern "C" __global__ void early(const float* x, float* y) {
  __shared__ float s[64];
  auto block = cg::this_thread_block();
  cg::memcpy_async(block, s, x, sizeof(float) * 64);
  block.sync();
  y[threadIdx.x] = s[threadIdx.x];
  block.sync();
  cg::wait(block);
}

// Every thread reads or writes one of eight cells in each step, or nothing; a barrier of some size ends it.
extern "C" __global__ void played(const int* acts, const int* barriers, int steps, int* y) {
  __shared__ int cells[8];
  auto block = cg::this_thread_block();
  auto of_128 = cg::tiled_partition<128>(block);
  auto of_64 = cg::tiled_partition<64>(block);
  auto of_32 = cg::tiled_partition<32>(block);
  auto of_8 = cg::tiled_partition<8>(block);
  const int t = threadIdx.x;
  if (t < 8) cells[t] = 0;
  block.sync();
  for (int i = 0; i < steps; i++) {
    int act = acts[i * 256 + t];
    if (act >= 8) cells[act - 8] = i * 256 + t + 1;
    else if (act >= 0) y[t] += cells[act];
    if (barriers[i] == 8) of_8.sync();
    if (barriers[i] == 32) of_32.sync();
    if (barriers[i] == 64) of_64.sync();
    if (barriers[i] == 128) of_128.sync();
    if (barriers[i] == 256) block.sync();
  }
}

// --- mistakes --------------------------------------------------------------------------------------------

extern "C" __global__ void lane_gone(int* y) {
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  if (tile.thread_rank() == 5) return;
  y[threadIdx.x] = tile.shfl(1, 0);
}

extern "C" __global__ void lane_elsewhere(int* y) {
  auto tile = cg::tiled_partition<8>(cg::this_thread_block());
  if (tile.thread_rank() == 5) {
    y[threadIdx.x] = tile.any(1);
  } else {
    y[threadIdx.x] = tile.shfl(1, 0);
  }
}

extern "C" __global__ void beyond_the_block(int* y) {
  auto tile = cg::tiled_partition<32>(cg::this_thread_block());
  y[threadIdx.x] = tile.all(1);
}

extern "C" __global__ void group_gone(int* y) {
  auto group = cg::coalesced_threads();
  if (group.thread_rank() == 7) return;
  y[threadIdx.x] = cg::reduce(group, 1, cg::plus<int>());
}

extern "C" __global__ void part_with_another(int* y) {
  auto tile = cg::tiled_partition<32>(cg::this_thread_block());
  auto part = cg::binary_partition(tile, threadIdx.x < 4);
  if (threadIdx.x < 3) y[threadIdx.x] = part.any(1);
  else cg::sync(cg::this_thread_block());
}

extern "C" __global__ void invoked_by_some(int* y) {
  auto tile = cg::tiled_partition<32>(cg::this_thread_block());
  if (threadIdx.x == 9) return;
  cg::invoke_one(tile, add, y, 1);
}

extern "C" __global__ void large_without_one(int* y) {
  auto tile = cg::tiled_partition<64>(cg::this_thread_block());
  if (threadIdx.x == 70) return;
  y[threadIdx.x] = tile.any(threadIdx.x == 3);
}

extern "C" __global__ void large_in_two_minds(int* y) {
  auto tile = cg::tiled_partition<64>(cg::this_thread_block());
  if (threadIdx.x == 7) tile.sync();
  else y[threadIdx.x] = tile.any(1);
}

extern "C" __global__ void tile_for_a_block(int* y) {
  __shared__ int s[64];
  s[threadIdx.x] = 0;
  cg::this_thread_block().sync();
  auto tile = cg::tiled_partition<32>(cg::this_thread_block());
  s[threadIdx.x] = threadIdx.x;
  tile.sync();
  y[threadIdx.x] = s[63 - threadIdx.x];
}

extern "C" __global__ void large_for_a_block(int* y) {
  __shared__ int s[128];
  s[threadIdx.x] = 0;
  cg::this_thread_block().sync();
  auto tile = cg::tiled_partition<64>(cg::this_thread_block());
  s[threadIdx.x] = threadIdx.x;
  tile.sync();
  y[threadIdx.x] = s[127 - threadIdx.x];
}

extern "C" __global__ void large_too_late(int* y) {
  __shared__ int s[128];
  auto tile = cg::tiled_partition<64>(cg::this_thread_block());
  s[threadIdx.x] = threadIdx.x;
  tile.sync();
  y[threadIdx.x] = s[threadIdx.x ^ 33] + s[threadIdx.x / 64 * 64];
  s[threadIdx.x] = 1;
}

extern "C" __global__ void large_and_the_next(int* y) {
  __shared__ int s[256];
  auto block = cg::this_thread_block();
  auto pair = cg::tiled_partition<128>(block);
  auto tile = cg::tiled_partition<64>(pair);
  s[threadIdx.x] = 0;
  pair.sync();
  y[threadIdx.x] = s[threadIdx.x / 128 * 128];
  tile.sync();
  if (threadIdx.x % 128 == 0) s[threadIdx.x] = 1;
}

extern "C" __global__ void misaligned(const float* x, float* y) {
  __shared__ float s[32];
  auto block = cg::this_thread_block();
  cg::memcpy_async(block, (float2*)(s + 1), (const float2*)x, 64);
  cg::wait(block);
  y[0] = s[1];
}

extern "C" __global__ void wrong_tile_size(int* y) { y[0] = cg::tiled_partition(cg::this_thread_block(), 6).size(); }
"""

MODES = [{"check": True}, {"check": True, "order": 3}, {}, {"order": "reverse"}, {"order": 1}]


@pytest.fixture(scope="module", params=MODES, ids=str)
def run(request):
    """Launches one block of a kernel, and returns its last argument."""
    module = RawModule(GROUPS, filename="groups.cu", **request.param)

    def launch(name, threads, *args, grid=(1,)):
        module.get_function(name)(grid, threads if isinstance(threads, tuple) else (threads,), args)
        return args[-1]

    return launch


def sums_of(x, size):
    return np.repeat(np.add.reduceat(x, np.arange(0, len(x), size)), size)[: len(x)]


def test_a_thread_group_stands_for_any_group(run, rng):
    x, t = rng.integers(-9, 9, 44).astype(i32), np.arange(44)
    y = run("erased", 44, x, np.zeros((6, 44), i32))
    expected = [sums_of(x, size) for size in (44, 8, 4, 1, 2)]
    expected.append(100 * np.minimum(8, 44 - t // 8 * 8) + t % 4 + 44000)
    np.testing.assert_array_equal(y, expected)


def test_what_a_block_and_the_grid_know(run):
    y = run("block_facts", (6, 8), np.zeros((3, 2, 48, 5), u32), grid=(2, 3))
    by, bx, t = np.indices((3, 2, 48))
    expected = [48 + 47 - t, 680 + by, 48 + t % 6 * 100, by * 8 + t // 6 + 100 * (bx * 6 + t % 6), 24 + 1200 + 0 * t]
    np.testing.assert_array_equal(y, np.stack(expected, -1))


def bits(condition):
    return int(np.dot(condition, 1 << np.arange(len(condition))))


def test_coalesced_groups(run, rng):
    x = rng.integers(-1, 5, 40).astype(i32)
    x[:3], x[32:] = (1, 2, 0), (0, 3, 3, -1, 0, 3, 3, -1)  # all positive ones are the same in the second warp
    y = run("coalesced", 40, x, np.full((11, 40), -1, i32))
    expected = np.full((11, 40), -1)
    for warp in (np.arange(32), np.arange(32, 40)):
        for positive in (True, False):
            lanes = warp[(x[warp] > 0) == positive]
            v, rank = x[lanes], np.arange(len(lanes))
            expected[0, lanes], expected[1, lanes] = 100 * len(lanes) + rank, v[1]
            if not positive:
                continue
            expected[2, lanes] = np.where(rank < 2, v, v[rank - 2])
            expected[3, lanes] = np.where(rank + 2 < len(v), v[(rank + 2) % len(v)], v)
            expected[4, lanes] = bits(v > 2)
            expected[5, lanes] = (v > 3).any() + 2 * (v > 1).all() + 4
            expected[6, lanes] = [bits(v == mine) for mine in v]
            same = (v == v[0]).all()
            expected[7, lanes], expected[8, lanes] = same * bits(v > 0), same
            expected[9, lanes] = bits(v > 0)
            expected[10, lanes] = 101
    np.testing.assert_array_equal(y.astype(u32), expected.astype(u32))


def facts(part):
    """For each thread of a list of parts (arrays of thread numbers): rank, size, number of the part, of parts."""
    found = {}
    for number, threads in enumerate(part):
        for rank, t in enumerate(threads):
            found[int(t)] = rank + 100 * len(threads) + 10000 * number + 1000000 * len(part)
    return found


def parts_by(threads, labels):
    _, first = np.unique(labels, return_index=True)
    return [threads[labels == labels[i]] for i in np.sort(first)]


def halves(threads, condition):
    both = [threads[~condition], threads[condition]]
    return [threads] if condition.all() or not condition.any() else both


def test_partitions(run, rng):
    x, t = rng.integers(0, 5, 64).astype(i32), np.arange(64)
    x[:16] = 3  # all say the same
    y = run("partitions", 64, x, np.full((12, 64), -1, i32))
    expected = np.full((12, 64), -1)
    for tile in t.reshape(4, 16):
        rows = [
            halves(tile, x[tile] > 2),
            parts_by(tile, x[tile]),
            parts_by(tile, x[tile]),
            halves(tile, x[tile] > 2),
            [tile],
            tile.reshape(4, 4),
        ]
        for row, parts in enumerate(rows):
            for thread, fact in facts(parts).items():
                expected[row, thread] = fact
    expected[6] = expected[5] + 100000000 * (t % 4 // 2)
    expected[7] = 100 + 1000000
    for warp in t.reshape(2, 32):
        lanes = warp[x[warp] > 1]
        fours = [lanes[i : i + 4] for i in range(0, len(lanes), 4)]
        for row, parts in [(8, fours), (10, parts_by(lanes, x[lanes])), (11, halves(lanes, x[lanes] == 2))]:
            for thread, fact in facts(parts).items():
                expected[row, thread] = fact
        for four in fours:
            expected[9, four] = four[0]
    np.testing.assert_array_equal(y, expected)


def test_shuffles_of_all_types(run, rng):
    x, t = rng.integers(0, 64, 64) / 64, np.arange(64)
    y = run("shuffles", 64, x, np.zeros((10, 64)))
    up, down = np.where(t % 8 < 3, t, t - 3), np.where(t % 8 > 5, t, t + 2)
    tiles, threes = t.reshape(8, 8), (t % 3).reshape(8, 8)
    expected = [
        x[t // 8 * 8 + 1],
        x[t ^ 5] + (t ^ 5),
        up,
        x[down] > 0.5,
        x[t // 8 * 8 + 7],
        np.full(64, 1255),
        np.zeros(64),
        [bits(row == mine) for row in threes for mine in row],
        np.repeat([(k > 0) + 2 * (9 not in tile) + 4 * bits(tile % 3 == 0) for k, tile in enumerate(tiles)], 8),
        x,
    ]
    np.testing.assert_array_equal(y, np.asarray(expected, f64))


def test_tiles_of_several_warps(run, rng):
    x, t = rng.integers(-9, 10, 512).astype(i32), np.arange(512)
    y = run("large", 512, x, np.zeros((20, 512), i32))
    expected = []
    for size, outer in ((128, 512), (64, 128)):
        v = x.reshape(-1, size)
        sums = v.cumsum(1)
        expected += [
            np.repeat(v[:, 37], size),
            np.repeat((v == 9).any(1) + 2 * (v > -9).all(1), size),
            np.repeat(v.sum(1), size),
            np.repeat(v.max(1), size),
            sums.ravel(),
            (sums - v).ravel(),
            np.maximum.accumulate(v, 1).ravel(),
            t % size + 100 * size + 10000 * (t % outer // size) + 1000000 * (outer // size),
            np.repeat(2 * v[:, 0], size),
        ]
    expected.append(t % 128 + 100 * 128 + 10000 * (t // 128) + 4000000)
    v = x.reshape(4, 128)
    expected.append((v[:, ::-1] + v[:, :1] + 4).ravel())
    np.testing.assert_array_equal(y, expected)


def test_barriers_of_tiles_order_what_their_warps_do(run):
    y = run("large_orders", 256, np.zeros(256, i32))
    np.testing.assert_array_equal(y, np.full(256, sum(i + 10 * i + 10 * i + 100 for i in (1, 2, 3))))


def test_reductions_and_scans(run, rng):
    x = rng.integers(1, 1000, 64).astype(i32)
    y, f = np.zeros((14, 64), i32), np.zeros(64, f32)
    run("reductions", 64, x, y, f)
    v = x.reshape(4, 16)
    rows = [v.sum(1), v.min(1), np.bitwise_and.reduce(v, 1), np.bitwise_or.reduce(v, 1), np.bitwise_xor.reduce(v, 1)]
    product = np.ones(4, int)
    for column in v.T:
        product = product * column % 1009
    for row, wanted in enumerate([*rows, product]):
        np.testing.assert_array_equal(y[row], np.repeat(wanted, 16), err_msg=str(row))
    np.testing.assert_array_equal(y[6, :4], v.max(1))
    np.testing.assert_array_equal(f, np.repeat(v.sum(1) / 2, 16))
    for warp in np.arange(64).reshape(2, 32):
        lanes = warp[x[warp] % 3 > 0]
        g = x[lanes]
        np.testing.assert_array_equal(y[7, lanes], g.sum())
        np.testing.assert_array_equal(y[8, lanes], g.max())
        np.testing.assert_array_equal(y[9, lanes], g.cumsum())
        np.testing.assert_array_equal(y[10, lanes], np.bitwise_xor.accumulate(np.append(0, g[:-1])))
    np.testing.assert_array_equal(y[11], np.minimum.accumulate(v, 1).ravel())
    np.testing.assert_array_equal(y[12], (v.cumsum(1) - v).ravel())
    np.testing.assert_array_equal(y[13], x)


def test_one_thread_is_invoked(run):
    y = run("by_one", 64, np.zeros(67, i32))
    assert y[:3].tolist() == [1, 4, 2]
    np.testing.assert_array_equal(y[3:], np.arange(64) // 16 * 10)


def test_copies_arrive(run, rng):
    x, n = rng.random(200).astype(f32), 150
    y = np.zeros(n + 64 + 128 + 10 + 10 + 24, f32)
    run("copies", 128, x, y, i32(n))
    np.testing.assert_array_equal(y[:n], x[:n])
    np.testing.assert_array_equal(y[n : n + 64], x[:128].reshape(4, 32)[:, :16].ravel())
    np.testing.assert_array_equal(y[n + 64 : n + 192], x[:128])
    np.testing.assert_array_equal(y[n + 192 :].view(np.uint8)[:37], x.view(np.uint8)[3:40])
    np.testing.assert_array_equal(y[n + 202 : n + 212], x[5:15])
    np.testing.assert_array_equal(y[n + 212 :], [*x[:4], *x[4:8], *x[8:12], *x[12:16], *x[12:16], *[-1] * 4])


def test_what_is_copied_is_not_there_before_the_wait():
    y = np.zeros(64, f32)
    RawModule(GROUPS, filename="groups.cu").get_function("early")((1,), (64,), (np.ones(64, f32), y))
    assert np.isnan(y).all()


def line_of(text):
    (number,) = [i for i, line in enumerate(GROUPS.split("\n"), 1) if text in line]
    return number


@pytest.mark.parametrize(
    ("kernel", "threads", "kind", "line"),
    [
        ("early", 64, "race", "y[threadIdx.x] = s[threadIdx.x];"),
        ("lane_gone", 32, "warp-mask", None),
        ("lane_elsewhere", 32, "warp-mask", None),
        ("beyond_the_block", 40, "warp-mask", "y[threadIdx.x] = tile.all(1);"),
        ("group_gone", 32, "warp-mask", "y[threadIdx.x] = cg::reduce(group, 1, cg::plus<int>());"),
        ("part_with_another", 32, "deadlock", "y[threadIdx.x] = part.any(1);"),
        ("invoked_by_some", 32, "warp-mask", "cg::invoke_one(tile, add, y, 1);"),
        ("large_without_one", 128, "deadlock", "y[threadIdx.x] = tile.any(threadIdx.x == 3);"),
        ("large_in_two_minds", 64, "warp-mask", None),
        ("tile_for_a_block", 64, "race", "s[63 - threadIdx.x]"),
        ("large_for_a_block", 128, "race", None),
        ("large_too_late", 64, "race", "  s[threadIdx.x] = 1;"),
        ("large_too_late", 128, "race", "  s[threadIdx.x] = 1;"),
        ("large_and_the_next", 256, "race", None),
        ("misaligned", 32, "misaligned", "cg::memcpy_async(block, (float2*)(s + 1), (const float2*)x, 64);"),
        ("wrong_tile_size", 32, "trap", "cg::tiled_partition(cg::this_thread_block(), 6)"),
    ],
)
def test_mistakes_are_told(kernel, threads, kind, line):
    args = (np.zeros(256, f32),) if kernel in ("early", "misaligned") else ()
    with pytest.raises(CheckError) as caught:
        RawModule(GROUPS, filename="groups.cu", check=True).get_function(kernel)(
            (1,), (threads,), (*args, np.zeros(256, f32 if args else i32))
        )
    assert {report.kind for report in caught.value.reports} == {kind}
    if line:
        assert line_of(line) in {report.line for report in caught.value.reports}


def races(acts, barriers):
    """Whether two accesses of a cell, one of them a write, have no barrier between, by the clocks of 256 threads."""
    clocks, done = np.eye(256, dtype=int), []
    for row, size in zip(acts, barriers, strict=True):
        for t in np.flatnonzero(row >= 0):
            for other, cell, write, time in done:
                if cell == row[t] % 8 and (write or row[t] >= 8) and other != t and clocks[t, other] < time:
                    return True
            done.append((t, row[t] % 8, row[t] >= 8, clocks[t, t]))
        if size:
            clocks = np.repeat(clocks.reshape(-1, size, 256).max(1), size, 0) + np.eye(256, dtype=int)
    return False


@pytest.mark.parametrize("order", ["forward", 5])
def test_races_are_those_that_barriers_of_tiles_leave(rng, order):
    played = RawModule(GROUPS, filename="groups.cu", check=True, order=order).get_function("played")
    found = []
    for _ in range(60):
        steps = rng.integers(2, 8)
        acts = np.full((steps, 256), -1, i32)
        barriers = rng.choice([0, 8, 32, 64, 128, 256], steps, p=[0.05, 0.1, 0.1, 0.25, 0.4, 0.1]).astype(i32)
        for row in acts:
            for cell in rng.integers(0, 3, rng.integers(0, 2)):
                size = rng.choice([1, 8, 32, 64, 128])
                start = rng.integers(0, 256 // size) * size
                row[start : start + size] = cell
                if rng.random() < 0.4:
                    row[start] = cell + 8
        found.append(races(acts, barriers))
        try:
            played((1,), (256,), (acts, barriers, i32(steps), np.zeros(256, i32)))
            told = False
        except (CheckError, CheckWarning):
            told = True
        assert told == found[-1], (acts.tolist(), barriers)
    assert 10 < sum(found) < 50, sum(found)


def test_a_large_tile_without_one_of_its_threads_does_not_hang():
    with pytest.raises(LaunchError, match="63 in an operation of a warp or a tile, 65 have returned"):
        RawModule(GROUPS, filename="groups.cu").get_function("large_without_one")((1,), (128,), (np.zeros(128, i32),))


def test_nvrtc_takes_the_same_kernels():
    core, cupy = pytest.importorskip("cuda.core"), pytest.importorskip("cupy")
    runtime = pytest.importorskip("nvidia.cuda_runtime")
    own = Path(next(iter(runtime.__path__))) / "include"
    libcudacxx = Path(cupy.__file__).parent / "_core/include/cupy/_cccl/libcudacxx"  # which CUDA's headers include
    options = core.ProgramOptions(arch="sm_90", std="c++17", include_path=[str(own), str(libcudacxx)])
    program = core.Program(GROUPS, "c++", options)
    try:
        assert program.compile("cubin").code
    finally:
        program.close()


KERNEL = """#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cooperative_groups/memcpy_async.h>
namespace cg = cooperative_groups;
struct Big { char bytes[33]; };
extern "C" __global__ void k(int* x) {
  auto block = cg::this_thread_block();
  auto tile = cg::tiled_partition<8>(block);
  %s
}"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("cg::thread_group all = cg::this_grid();", "a thread_group that stands for a grid is not emulated"),
        ("cg::reduce_update_async(tile, *x, 1, cg::plus<int>());", "reduce_update_async is not emulated: call reduce"),
        ("cg::inclusive_scan_update(tile, *x, 1);", "inclusive_scan_update is not emulated"),
        ("cg::exclusive_scan_update(tile, *x, 1, cg::plus<int>());", "exclusive_scan_update is not emulated"),
    ],
)
def test_what_is_refused_names_its_line(code, message):
    with pytest.raises(CompileError, match=f"^k.cu:10: .*{message}"):
        RawKernel(KERNEL % code, "k", filename="k.cu")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("cg::tiled_partition<8>(tile);", "a tile must be smaller than the one it is a part of"),
        ("cg::tiled_partition<4>(cg::coalesced_threads());", "takes a thread_block or a thread_block_tile; tiled"),
        ("cg::tiled_partition<24>(block);", "a tile has 1, 2, 4, ... or 1024 threads"),
        ("cg::reduce(block, 1, cg::plus<int>());", "it takes a thread_block_tile or a coalesced_group"),
        ("cg::reduce(tile, 1, cg::plus<float>());", "the operator must return the type of the value"),
        ("tile.shfl(Big(), 0);", "groups exchange values of up to 32 bytes"),
        ("cg::tiled_partition<64>(block).shfl(make_float4(1, 2, 3, 4), 0);", "exchange values of up to 8 bytes"),
        ("tile.match_any(make_float4(1, 2, 3, 4));", "groups match integers, float and double"),
        ("cg::labeled_partition(tile, 1.0f);", "labeled_partition takes an integer or a pointer"),
        ("cg::binary_partition(cg::tiled_partition<64>(block), true);", "binary_partition takes tiles of up to 32"),
        ("cg::memcpy_async(cg::this_grid(), x, x, 4);", "memcpy_async takes a thread_block, thread_block_tile or coal"),
        ("cg::invoke_one_broadcast(block, [] { return 1; });", "takes a thread_block_tile or a coalesced_group"),
        ("cg::thread_block another;", "private"),
        ("auto group = cg::coalesced_threads(); group = cg::tiled_partition(group, 4);", "deleted"),
    ],
)
def test_what_cuda_does_not_take_either(code, message):
    with pytest.raises(CompileError, match=f"^k.cu:10: .*{message}"):
        RawKernel(KERNEL % code, "k", filename="k.cu")
