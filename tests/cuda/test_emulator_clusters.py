"""The emulator: clusters of blocks, their barrier, and the shared memory of other blocks of a cluster."""

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule, __main__, tensor_map
from gpunn.errors import CompileError, KernelError, LaunchError

f32, i32, u32 = np.float32, np.int32, np.uint32

CODE = r"""
#include <cooperative_groups.h>
namespace cg = cooperative_groups;
typedef unsigned u32;
typedef unsigned long long u64;
struct alignas(64) CUtensorMap { u64 opaque[16]; };

// Each block has the bins of its rank, and all blocks of a cluster add to them.
extern "C" __global__ void __cluster_dims__(4, 1, 1) histogram(const int* x, int n, int* bins) {
  __shared__ int mine[8];
  auto cluster = cg::this_cluster();
  if (threadIdx.x < 8) mine[threadIdx.x] = 0;
  cluster.sync();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(cluster.map_shared_rank(mine, x[i] / 8) + x[i] % 8, 1);
  cluster.sync();
  if (threadIdx.x < 8) atomicAdd(bins + 8 * cluster.block_rank() + threadIdx.x, mine[threadIdx.x]);
}
// In each round a block passes what it holds to the next one, in static and dynamic memory in turn.
template <class T> __global__ void ring(T* y, int rounds) {
  __shared__ T here[32];
  extern __shared__ char there[];
  auto cluster = cg::this_cluster();
  u32 t = threadIdx.x, next = (cluster.block_rank() + 1) % cluster.num_blocks();
  T* at[2] = {here, (T*)there};
  here[t] = T(100 * blockIdx.x + t);
  cluster.sync();
  for (int r = 0; r < rounds; r++) {
    cluster.map_shared_rank(at[(r + 1) % 2], next)[t] = at[r % 2][t];
    cluster.barrier_wait(cluster.barrier_arrive());
  }
  y[32 * blockIdx.x + t] = at[rounds % 2][t];
}
extern "C" __global__ void facts(u32* y) {
  __shared__ int mine, other;
  auto cluster = cg::this_cluster();
  auto grid = cg::this_grid();
  dim3 block = cluster.block_index(), thread = cluster.thread_index(), blocks = cluster.dim_blocks(),
       threads = cluster.dim_threads(), id = __clusterIdx(), ids = __clusterGridDimInClusters();
  u32 last = cluster.num_blocks() - 1, rank = cluster.block_rank(), special[16], explicitly;
  asm("mov.u32 %0, %%cluster_ctaid.x; mov.u32 %1, %%cluster_ctaid.y; mov.u32 %2, %%cluster_nctaid.x;"
      "mov.u32 %3, %%cluster_nctaid.y; mov.u32 %4, %%cluster_ctarank; mov.u32 %5, %%cluster_nctarank;"
      "mov.u32 %6, %%clusterid.x; mov.u32 %7, %%clusterid.y; mov.u32 %8, %%nclusterid.x; mov.u32 %9, %%nclusterid.y;"
      : "=r"(special[0]), "=r"(special[1]), "=r"(special[2]), "=r"(special[3]), "=r"(special[4]), "=r"(special[5]),
        "=r"(special[6]), "=r"(special[7]), "=r"(special[8]), "=r"(special[9]));
  asm("{ .reg .pred p; mov.pred p, %%is_explicit_cluster; selp.u32 %0, 1, 0, p; }" : "=r"(explicitly));
  bool same = special[0] == block.x && special[1] == block.y && special[2] == blocks.x && special[3] == blocks.y &&
              special[4] == rank && special[5] == last + 1 && special[6] == id.x && special[7] == id.y &&
              special[8] == ids.x && special[9] == ids.y && explicitly == __clusterDimIsSpecified();
  int* far = cluster.map_shared_rank(&other, last);
  u32 values[] = {block.x, block.y, rank, thread.x, thread.y, cluster.thread_rank(), blocks.x, blocks.y, last + 1,
    threads.x, threads.y, cluster.size(), id.x, id.y, ids.x, ids.y, (u32)grid.cluster_rank(), (u32)grid.num_clusters(),
    same, explicitly, cluster.query_shared_rank(far), cluster.map_shared_rank(&mine, rank) == &mine,
    cluster.map_shared_rank(far, rank) == &other, __isShared(far) != 0, __isClusterShared(far) != 0, __isGlobal(far)};
  u32 i = (blockIdx.y * gridDim.x + blockIdx.x) * blockDim.x + threadIdx.x;
  for (int k = 0; k < 26; k++) y[26 * i + k] = values[k];
}
// Addresses of 32 bits: a block's own ones are those of its window, and they go from block to block.
extern "C" __global__ void __cluster_dims__(2) addresses(u32* y) {
  __shared__ u32 mine[2], letter;
  u32 own = (u32)__cvta_generic_to_shared(mine), rank = __clusterRelativeBlockRank(), same, other, back, who, got;
  mine[0] = 10 + rank;
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(same) : "r"(own), "r"(rank));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(other) : "r"(own), "r"(rank ^ 1));
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(back) : "r"(other), "r"(rank));
  asm("getctarank.shared::cluster.u32 %0, %1;" : "=r"(who) : "r"(other));
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(got) : "r"(other) : "memory");
  asm volatile("st.shared::cluster.u32 [%0 + 4], %1;" :: "r"(other), "r"(100 + rank) : "memory");
  // The address of the other's letter box, by which it finds its own memory.
  u32 box;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(box) : "r"((u32)__cvta_generic_to_shared(&letter)), "r"(rank ^ 1));
  asm volatile("st.relaxed.cluster.shared::cluster.u32 [%0], %1;" :: "r"(box), "r"(other) : "memory");
  u64 generic, far, outside;
  asm("mapa.u64 %0, %1, %2;" : "=l"(generic) : "l"(mine), "r"(rank ^ 1));
  asm("cvta.shared::cluster.u64 %0, %1;" : "=l"(far) : "l"((u64)other));
  asm("cvta.to.shared::cluster.u64 %0, %1;" : "=l"(outside) : "l"(generic));
  u32 rank_of, is_cta, is_cluster;
  asm("getctarank.u64 %0, %1;" : "=r"(rank_of) : "l"(generic));
  asm("{ .reg .pred p, q; isspacep.shared::cta p, %2; isspacep.shared::cluster q, %2;"
      "selp.u32 %0, 1, 0, p; selp.u32 %1, 1, 0, q; }" : "=r"(is_cta), "=r"(is_cluster) : "l"(generic));
  asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory");
  u32 added, through;
  asm volatile("atom.shared::cluster.add.u32 %0, [%1], 5;" : "=r"(added) : "r"(other) : "memory");
  asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], 1;" :: "r"(other) : "memory");
  asm volatile("barrier.cluster.arrive; barrier.cluster.wait;" ::: "memory");
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(through) : "r"(letter) : "memory");
  u32 values[] = {same == own, other != own, back == own, who, got, mine[1], generic == far, outside == other, rank_of,
                  is_cta, is_cluster, added, mine[0], through};
  for (int k = 0; k < 14; k++) y[14 * rank + k] = values[k];
}

__device__ u32 address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ u32 in_block(u32 address, u32 rank) {
  u32 there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}
__device__ void init(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(count) : "memory");
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ void expect(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory");
}
__device__ void arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" :: "r"(barrier) : "memory");
}
__device__ void wait(u32 barrier, u32 parity) {
  u32 done = 0;
  while (!done)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;"
                 "selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
}
__device__ void meet() {
  asm volatile("barrier.cluster.arrive.relaxed; barrier.cluster.wait;" ::: "memory");
}

// Block 0 is asked by the others, through its mbarrier, and answers through theirs; no barrier between.
extern "C" __global__ void messages(u32* y, int rounds) {
  __shared__ u32 asked[8], answer;
  __shared__ u64 full, empty;
  auto cluster = cg::this_cluster();
  u32 rank = cluster.block_rank(), others = cluster.num_blocks() - 1, t = threadIdx.x;
  if (t == 0) {
    init(address(&full), rank ? 1 : others);
    init(address(&empty), 1);
  }
  meet();
  u32 sum = 0;
  for (int r = 0; r < rounds; r++) {
    if (rank && t == 0) {
      *cluster.map_shared_rank(&asked[rank], 0) = 10 * rank + r;
      arrive(in_block(address(&full), 0));
      wait(address(&full), r & 1);
      sum += answer;
    } else if (!rank && t <= others) {
      wait(address(&full), r & 1);
      if (t) {
        *cluster.map_shared_rank(&answer, t) = 2 * asked[t];
        arrive(in_block(address(&full), t));
      }
      __syncwarp((1u << (others + 1)) - 1);
    }
  }
  cluster.sync();
  if (t == 0) y[blockIdx.x] = sum;
}
// Every block loads its part of a row, and each part goes to all blocks.
extern "C" __global__ void multicast(const float* x, float* y, int rounds) {
  extern __shared__ __align__(1024) float row[];
  __shared__ u64 full, empty;
  u32 blocks = __clusterSizeInBlocks(), rank = __clusterRelativeBlockRank(), t = threadIdx.x;
  if (t == 0) {
    init(address(&full), 1);
    init(address(&empty), blocks);
  }
  meet();
  float sum = 0;
  for (int r = 0; r < rounds; r++) {
    if (t == 0) {
      if (r) wait(address(&empty), (r - 1) & 1);  // all blocks have read the last row
      expect(address(&full), blocks * 128);
      const float* from = x + 32 * (rank + blocks * (r + rounds * (blockIdx.x / blocks)));
      asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
                   " [%0], [%1], %2, [%3], %4;" :: "r"(address(row + 32 * rank)), "l"(from), "r"(128),
                   "r"(address(&full)), "h"((unsigned short)((1u << blocks) - 1)) : "memory");
    }
    wait(address(&full), r & 1);
    for (u32 i = t; i < 32 * blocks; i += 32) sum += (r + 1) * row[i];
    __syncwarp();
    if (t < blocks) arrive(in_block(address(&empty), t));
  }
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
  y[32 * blockIdx.x + t] = sum;
}
extern "C" __global__ void __cluster_dims__(2) tensor(const __grid_constant__ CUtensorMap map, float* y) {
  __shared__ __align__(1024) float tile[2][4][8];
  __shared__ u64 full;
  u32 rank = __clusterRelativeBlockRank();
  if (threadIdx.x == 0) init(address(&full), 1);
  meet();
  if (threadIdx.x == 0) {
    expect(address(&full), sizeof tile);
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
                 " [%0], [%1, {%2, %3}], [%4], %5;" :: "r"(address(tile[rank])), "l"(&map), "r"(0), "r"(4 * rank),
                 "r"(address(&full)), "h"((unsigned short)3) : "memory");
  }
  wait(address(&full), 0);
  for (int i = threadIdx.x; i < 64; i += 32) y[64 * blockIdx.x + i] = (&tile[0][0][0])[i];
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}
// By st.async and by a copy from shared memory to the other block's.
extern "C" __global__ void __cluster_dims__(2) sends(float* y) {
  __shared__ __align__(128) float mine[32], stored[32], copied[32];
  __shared__ u64 full;
  u32 rank = __clusterRelativeBlockRank(), t = threadIdx.x;
  mine[t] = 100 * blockIdx.x + t;
  if (t == 0) init(address(&full), 1);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
  if (t == 0) expect(address(&full), 2 * sizeof mine);
  u32 to = in_block(address(&full), rank ^ 1);
  if (t < 16)
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];"
                 :: "r"(in_block(address(stored + t), rank ^ 1)), "f"(-mine[t]), "r"(to) : "memory");
  else if (t % 4 == 0)
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %1, %1, %1}, [%2];"
                 :: "r"(in_block(address(stored + t), rank ^ 1)), "f"(-mine[t]), "r"(to) : "memory");
  if (t == 0)
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                 :: "r"(in_block(address(copied), rank ^ 1)), "r"(address(mine)), "r"((u32)sizeof mine), "r"(to)
                 : "memory");
  wait(address(&full), 0);
  y[64 * blockIdx.x + t] = stored[t];
  y[64 * blockIdx.x + 32 + t] = copied[t];
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}
// A thread of each block waits in a loop for what another block puts there.
extern "C" __global__ void __cluster_dims__(4) flags(int* y) {
  __shared__ int flag;
  auto cluster = cg::this_cluster();
  if (threadIdx.x == 0) flag = 0;
  cluster.sync();
  u32 rank = cluster.block_rank();
  if (threadIdx.x == 0) {
    if (rank) while (!atomicAdd(&flag, 0)) {}
    int next = rank ? atomicAdd(&flag, 0) + 1 : 1;
    __threadfence();
    if (rank < 3) atomicExch(cluster.map_shared_rank(&flag, rank + 1), next);
    y[blockIdx.x] = next;
  }
  cluster.sync();
}
// Threads that have returned are not waited for.
// Pointers behind the last element, of both kinds of shared memory; here the dynamic one has no bytes.
extern "C" __global__ void __cluster_dims__(2) ends(int* y) {
  __shared__ int mine[4];
  extern __shared__ int none[];
  auto cluster = cg::this_cluster();
  if (threadIdx.x < 4) mine[threadIdx.x] = blockIdx.x + threadIdx.x;
  cluster.sync();
  const int *at = cluster.map_shared_rank(mine, cluster.block_rank() ^ 1),
            *end = cluster.map_shared_rank(mine + 4, cluster.block_rank() ^ 1);
  if (threadIdx.x == 0)
    for (; at < end; at++) y[blockIdx.x] += *at;
  if (cluster.query_shared_rank(none) != cluster.block_rank() || !cluster.map_shared_rank(none, 0)) y[blockIdx.x] = -1;
  cluster.sync();
}
extern "C" __global__ void __cluster_dims__(2) returning(int* y) {
  auto cluster = cg::this_cluster();
  if (cluster.block_rank() && threadIdx.x >= 16) return;
  cluster.sync();
  y[32 * blockIdx.x + threadIdx.x] = 1;
}
// Threads arrive on their own, and wait later.
extern "C" __global__ void __cluster_dims__(2) warps(int* y) {
  __shared__ int mine[2];
  auto cluster = cg::this_cluster();
  u32 warp = threadIdx.x / 32;
  if (threadIdx.x % 32 == 0) mine[warp] = 1 + cluster.block_rank() + warp;
  if (warp) __cluster_barrier_arrive();
  __syncthreads();
  if (!warp) __cluster_barrier_arrive();
  __cluster_barrier_wait();
  int* its = cluster.map_shared_rank(mine, cluster.block_rank() ^ 1);
  if (threadIdx.x < 2) y[2 * blockIdx.x + threadIdx.x] = its[threadIdx.x];
  cluster.sync();
}
"""

MODES = [{}, {"order": "reverse"}, {"order": 3}, {"check": True}, {"check": True, "order": "reverse"},
         {"check": True, "order": 5}, {"count": True}]  # fmt: skip


@pytest.fixture(scope="module", params=MODES, ids=str)
def module(request):
    return RawModule(CODE, name_expressions=["ring<int>", "ring<double>"], filename="clusters.cu", **request.param)


def test_a_histogram_over_the_shared_memory_of_a_cluster(module):
    x, bins = np.random.default_rng(0).integers(0, 32, 3000).astype(i32), np.zeros(32, i32)
    module.get_function("histogram")((12,), (96,), (x, x.size, bins))
    np.testing.assert_array_equal(bins, np.bincount(x, minlength=32))


@pytest.mark.parametrize(("dtype", "name"), [(i32, "ring<int>"), (np.float64, "ring<double>")])
@pytest.mark.parametrize("cluster", [1, 2, 8])
def test_blocks_pass_what_they_hold_to_the_next(module, dtype, name, cluster):
    y, rounds = np.zeros((16, 32), dtype), 3
    module.get_function(name)((16,), (32,), (y, rounds), shared_mem=32 * y.itemsize, cluster=cluster)
    source = np.arange(16) // cluster * cluster + (np.arange(16) - rounds) % cluster
    np.testing.assert_array_equal(y, 100 * source[:, None] + np.arange(32))


@pytest.mark.parametrize("cluster", [(2, 2), None])
def test_what_a_block_knows_of_its_cluster(module, cluster):
    y = np.zeros((4, 6, 3, 26), u32)  # rows and columns of blocks, threads
    module.get_function("facts")((6, 4), (3,), (y,), cluster=cluster)
    by, bx, t = np.indices((4, 6, 3))
    cx, cy = cluster or (1, 1)
    rank = by % cy * cx + bx % cx
    zero = 0 * rank
    number = by // cy * (6 // cx) + bx // cx
    several = cluster is not None
    right = [bx % cx, by % cy, rank, bx % cx * 3 + t, by % cy, 3 * rank + t, zero + cx, zero + cy, zero + cx * cy,
             zero + 3 * cx, zero + cy, zero + 3 * cx * cy, bx // cx, by // cy, zero + 6 // cx, zero + 4 // cy, number,
             zero + 24 // (cx * cy), zero + 1, zero + several, zero + cx * cy - 1, zero + 1, zero + 1,
             (rank == cx * cy - 1) + 0, zero + 1, zero]  # fmt: skip
    np.testing.assert_array_equal(y, np.stack(right, -1))


def test_addresses_of_shared_memory_of_the_cluster(module):
    y = np.zeros((2, 14), u32)
    module.get_function("addresses")((2,), (1,), (y,))
    for rank in (0, 1):
        expected = [1, 1, 1, 1 - rank, 11 - rank, 101 - rank, 1, 1, 1 - rank, 0, 1, 11 - rank, 16 + rank, 16 + rank]
        np.testing.assert_array_equal(y[rank], expected)


@pytest.mark.parametrize("cluster", [2, 5])
def test_messages_by_mbarriers_of_other_blocks(module, cluster):
    y = np.zeros(2 * cluster, u32)
    module.get_function("messages")((2 * cluster,), (32,), (y, 4), cluster=cluster)
    rank = np.arange(2 * cluster) % cluster
    np.testing.assert_array_equal(y, np.where(rank, 2 * (40 * rank + 6), 0))


@pytest.mark.parametrize("cluster", [2, 4])
def test_copies_to_all_blocks_of_a_cluster(module, cluster):
    rounds = 3
    x = np.random.default_rng(1).integers(-9, 9, (2, rounds, cluster, 32)).astype(f32)
    y = np.zeros((2, cluster, 32), f32)
    module.get_function("multicast")((2 * cluster,), (32,), (x, y, rounds), shared_mem=128 * cluster, cluster=cluster)
    right = (x * np.arange(1, rounds + 1)[:, None, None]).sum((1, 2))
    np.testing.assert_array_equal(y, np.broadcast_to(right[:, None], y.shape))


def test_boxes_of_a_tensor_to_both_blocks(module):
    x, y = np.arange(64, dtype=f32).reshape(8, 8), np.zeros((2, 8, 8), f32)
    module.get_function("tensor")((2,), (32,), (tensor_map(x, (4, 8)), y))
    np.testing.assert_array_equal(y, np.stack([x, x]))


def test_asynchronous_stores_and_copies_to_another_block(module):
    y = np.zeros((4, 2, 32), f32)
    module.get_function("sends")((4,), (32,), (y,))
    source = 100 * (np.arange(4) ^ 1)[:, None] + np.arange(32)
    np.testing.assert_array_equal(y[:, 1], source)
    np.testing.assert_array_equal(y[:, 0, :16], -source[:, :16])
    np.testing.assert_array_equal(y[:, 0, 16:], -np.repeat(source[:, 16::4], 4, 1))


def test_threads_that_wait_in_a_loop_for_another_block(module):
    y = np.zeros(8, i32)
    module.get_function("flags")((8,), (2,), (y,))
    np.testing.assert_array_equal(y, [1, 2, 3, 4] * 2)


def test_threads_arrive_at_the_barrier_on_their_own(module):
    y = np.zeros((2, 2), i32)
    module.get_function("warps")((2,), (64,), (y,))
    np.testing.assert_array_equal(y, [[2, 3], [1, 2]])


def test_threads_that_have_returned_are_not_waited_for(module):
    y = np.zeros((4, 32), i32)
    module.get_function("returning")((4,), (32,), (y,))
    np.testing.assert_array_equal(y.sum(1), [32, 16, 32, 16])


def test_pointers_behind_shared_memory_may_be_mapped(module):
    y = np.zeros(2, i32)
    module.get_function("ends")((2,), (4,), (y,))
    assert y.tolist() == [1 + 2 + 3 + 4, 0 + 1 + 2 + 3]


# --- what is counted --------------------------------------------------------------------------------------------------


def test_accesses_to_other_blocks_count_as_shared_memory():
    code = """extern "C" __global__ void __cluster_dims__(2) k(float* y) {
      __shared__ float mine[64];
      mine[threadIdx.x] = threadIdx.x;
      mine[32 + threadIdx.x] = 32 + threadIdx.x;
      __cluster_barrier_arrive();
      __cluster_barrier_wait();
      float* its = (float*)__cluster_map_shared_rank(mine, __clusterRelativeBlockRank() ^ 1);
      y[32 * blockIdx.x + threadIdx.x] = its[2 * threadIdx.x % 64];
      __cluster_barrier_arrive();
      __cluster_barrier_wait();
    }"""
    kernel, y = RawKernel(code, "k", count=True), np.zeros(64, f32)
    kernel((2,), (32,), (y,))
    lines = {each.line: each for each in kernel.counts.kernel("k").lines}
    here, far = lines[3], lines[8]  # of two blocks: to every second word of the other one's memory
    assert (here.shared_stores, here.wavefronts, here.loads) == (2, 2, 0)
    assert (far.shared_loads, far.wavefronts, far.least_wavefronts, far.loads, far.stores) == (2, 4, 2, 0, 2)
    assert lines[6].block_barriers == 2
    np.testing.assert_array_equal(y, np.tile(2 * np.arange(32) % 64, 2))


# --- what is refused --------------------------------------------------------------------------------------------------

PLAIN = 'extern "C" __global__ void k(int* y) { y[0] = 1; }'
OF_TWO = PLAIN.replace("void k", "void __cluster_dims__(2) k")


def launched(code, grid, cluster=None, allowed=False, **more):
    kernel = RawModule(code, **more).get_function("k")
    kernel.non_portable_cluster_size_allowed = allowed
    kernel(grid, (1,), (np.zeros(1, i32),), cluster=cluster)


def test_sizes_of_clusters_that_are_refused():
    with pytest.raises(
        LaunchError, match=r"k: the grid must be a multiple of the cluster \(2, 1, 1\), got \(3, 1, 1\)"
    ):
        launched(OF_TWO, (3,))
    with pytest.raises(
        LaunchError, match=r"at most 8 blocks, or 16 with non_portable_cluster_size_allowed = True, got"
    ):
        launched(PLAIN, (32,), cluster=16)
    with pytest.raises(
        LaunchError, match=r"at most 8 blocks, or 16 with non_portable_cluster_size_allowed = True, got"
    ):
        launched(PLAIN, (32, 4), cluster=(4, 4))
    launched(PLAIN, (32, 4), cluster=(4, 4), allowed=True)
    with pytest.raises(LaunchError, match=r"a cluster has at most 16 blocks, got \(32, 1, 1\)"):
        launched(PLAIN, (32,), cluster=32, allowed=True)
    with pytest.raises(LaunchError, match=r"its __cluster_dims__ are \(2, 1, 1\), got cluster=4"):
        launched(OF_TWO, (8,), cluster=4)
    launched(OF_TWO, (8,), cluster=2)
    with pytest.raises(LaunchError, match=r"cluster must be 1 to 3 sizes from 1 to \(8, 1, 1\), got 9"):
        launched(PLAIN, (8,), cluster=9)
    with pytest.raises(LaunchError, match=r"cluster must be 1 to 3 integers, got 2.0"):
        launched(PLAIN, (8,), cluster=2.0)
    launched(PLAIN, np.int64(8), cluster=np.int64(2))


def test_clusters_need_an_architecture_that_has_them():
    with pytest.raises(LaunchError, match=r"need compute capability 9.0, got cluster=2 for arch=800"):
        launched(PLAIN, (2,), cluster=2, arch=800)
    with pytest.raises(
        CompileError, match=r"kernel.cu:1: clusters of blocks need compute capability 9.0: give arch=900"
    ):
        launched(OF_TWO, (2,), arch=800)
    group = "#include <cooperative_groups.h>\n" + PLAIN.replace(
        "y[0]", "cooperative_groups::this_cluster().sync(); y[0]"
    )
    with pytest.raises(
        CompileError, match=r"kernel.cu:2: clusters of blocks need compute capability 9.0: give arch=900"
    ):
        launched(group, (2,), arch=800)


def test_clusters_in_a_cooperative_launch_are_refused():
    with pytest.raises(LaunchError, match="clusters in a cooperative launch are not emulated"):
        launched(OF_TWO, (2,), enable_cooperative_groups=True)


def test_groups_and_sizes_that_are_refused():
    with pytest.raises(CompileError, match=r"kernel.cu:1: __cluster_dims__ takes 1 to 3 sizes, got 1, 1, 2, 1"):
        RawModule(OF_TWO.replace("(2)", "(1, 1, 2, 1)"))
    code = """#include <cooperative_groups.h>
    namespace cg = cooperative_groups;
    extern "C" __global__ void k() { cg::thread_group all = cg::this_cluster(); all.sync(); }"""
    with pytest.raises(CompileError, match=r"kernel.cu:3: .*a thread_group that stands for a cluster is not emulated"):
        RawModule(code)
    with pytest.raises(CompileError, match=r"kernel.cu:1: .*__cluster_map_shared_multicast is not emulated"):
        RawModule(PLAIN.replace("y[0]", "__cluster_map_shared_multicast(y, 3); y[0]"))


def test_sizes_of_clusters_come_from_templates_macros_and_namespaces():
    code = """
    namespace sizes { constexpr int wide = 2;
      template <int N, class T>
      __global__ void __launch_bounds__(32) __cluster_dims__(N * wide, (N > 1 ? 2 : 1)) k(T* y) {
        y[blockIdx.y * gridDim.x + blockIdx.x] = T(10 * __clusterDim().x + __clusterDim().y);
      }
    }
    #define SIZE 1, 1, 2
    __cluster_dims__(SIZE) __global__ void deep(int* y) { y[blockIdx.z] = __clusterSizeInBlocks(); }
    """
    module = RawModule(code, name_expressions=["sizes::k<1, int>", "sizes::k<2, float>", "deep"])
    for name, dtype, value in (("sizes::k<1, int>", i32, 21), ("sizes::k<2, float>", f32, 42)):
        y = np.zeros((2, 4), dtype)
        module.get_function(name)((4, 2), (1,), (y,))
        np.testing.assert_array_equal(y, value)
    y = np.zeros(4, i32)
    module.get_function("deep")((1, 1, 4), (1,), (y,))
    np.testing.assert_array_equal(y, 2)


def test_the_command_line_gives_the_size_of_a_cluster(tmp_path, capsys):
    file = tmp_path / "k.cu"
    file.write_text('extern "C" __global__ void k(int* y) { y[blockIdx.x] = __clusterRelativeBlockRank(); }')
    words = ["run", str(file), "--kernel", "k", "--grid", "4", "--arg", "int32[4]", "--cluster"]
    assert __main__.main([*words, "2"]) == 0
    assert "[0 1 0 1]" in capsys.readouterr().out
    assert __main__.main([*words, "3"]) == 2
    assert "the grid must be a multiple of the cluster (3, 1, 1)" in capsys.readouterr().err


# --- what is misused --------------------------------------------------------------------------------------------------

MISUSED = r"""
typedef unsigned u32;
__device__ u32 other(const void* p) {
  u32 to, at = (u32)__cvta_generic_to_shared(p);
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(at), "r"(__clusterRelativeBlockRank() ^ 1));
  return to;
}
__device__ void meet() {
  __cluster_barrier_arrive();
  __cluster_barrier_wait();
}
#define BARRIER __shared__ unsigned long long barrier; __shared__ __align__(16) int x[4]; \
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1; fence.mbarrier_init.release.cluster;" \
               :: "r"((u32)__cvta_generic_to_shared(&barrier)) : "memory"); meet();
extern "C" __global__ void __cluster_dims__(2) rank(int* y) {
  __shared__ int x;
  y[blockIdx.x] = *(int*)__cluster_map_shared_rank(&x, 2);
}
extern "C" __global__ void __cluster_dims__(2) global(int* y) { y[blockIdx.x] = __cluster_query_shared_rank(y); }
extern "C" __global__ void __cluster_dims__(2) waits(int* y) {
  __cluster_barrier_wait();
  y[0] = 1;
}
extern "C" __global__ void __cluster_dims__(2) mask(int* y) {
  BARRIER
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
    " [%0], [%1], 16, [%2], %3;"
    :: "r"((u32)__cvta_generic_to_shared(x)), "l"(y), "r"((u32)__cvta_generic_to_shared(&barrier)), "h"((short)5));
  meet();
}
extern "C" __global__ void __cluster_dims__(2) apart(int* y) {
  BARRIER
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];"
    :: "r"(other(x)), "r"(1), "r"((u32)__cvta_generic_to_shared(&barrier)) : "memory");
}
extern "C" __global__ void __cluster_dims__(2) own(int* y) {
  BARRIER
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(y[0]) : "r"(other(x)));
}
extern "C" __global__ void __cluster_dims__(2) never(int* y) {
  BARRIER
  u32 done = 0;
  while (!done && blockIdx.x % 2)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0; selp.u32 %0, 1, 0, p; }"
                 : "=r"(done) : "r"((u32)__cvta_generic_to_shared(&barrier)) : "memory");
  meet();
}
"""


@pytest.fixture(scope="module", params=[{}, {"check": True}], ids=str)
def misused(request):
    return RawModule(MISUSED, filename="misused.cu", **request.param)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rank", "out-of-bounds: misused.cu:17: .* a mapping to block 2 of a cluster, which has 2"),
        (
            "global",
            "out-of-bounds: misused.cu:19: .* the rank of 0x[0-9a-f]+, which is in no shared memory of the cluster",
        ),
        (
            "waits",
            "divergent-barrier: misused.cu:21: .* waits at a barrier of the cluster, at which it has not arrived",
        ),
        ("mask", "misuse: misused.cu:26: .* a copy to the blocks 0x5 of a cluster, which has 2"),
        ("apart", "misuse: misused.cu:33: .* a copy to the shared memory of one block and the mbarrier of another"),
        ("own", "(fault|out-of-bounds): misused.cu:38: "),
        ("never", "deadlock: misused.cu:44: .* it waits for ever for phase 0 of an mbarrier"),
    ],
)
def test_what_is_misused_is_told(misused, name, message):
    with pytest.raises((LaunchError, CheckError), match=message):
        misused.get_function(name)((4,), (1,), (np.zeros(8, i32),))


# What is known of a race at the very end, when the block that made it has ended.
def test_races_that_are_told_last():
    code = """__device__ void meet() { __cluster_barrier_arrive(); __cluster_barrier_wait(); }
    extern "C" __global__ void __cluster_dims__(2) looks(int* y) {
      if (blockIdx.x % 2) atomicAdd(y, 1);
      else y[1 + blockIdx.x] = y[0];  // a race, unless the value goes to atomicCAS
      meet();
    }
    extern "C" __global__ void __cluster_dims__(2) ends(int* y) {
      if (threadIdx.x == 31) y[0] = blockIdx.x + 1;
      if (threadIdx.x == 31 && blockIdx.x % 2) __trap();
      meet();
    }"""
    module = RawModule(code, filename="last.cu", check=True)
    for name, kinds in (("looks", ["race"]), ("ends", ["race", "trap"])):
        with pytest.raises(CheckError) as error:
            module.get_function(name)((2,), (32,), (np.zeros(8, i32),))
        assert sorted({report.kind for report in error.value.reports}) == kinds


def test_a_kernel_goes_on_after_one_that_was_given_up(misused):
    for _ in range(3):
        with pytest.raises(KernelError):
            misused.get_function("never")((4,), (1,), (np.zeros(8, i32),))
        with pytest.raises(KernelError):
            misused.get_function("mask")((4,), (1,), (np.zeros(8, i32),))
