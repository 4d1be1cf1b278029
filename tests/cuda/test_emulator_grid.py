"""The emulator: blocks of a launch that wait for each other, in cooperative launches and by flags of their own."""

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule
from gpunn.errors import KernelError, LaunchError

i32, u32, u64 = np.int32, np.uint32, np.uint64

CODE = r"""
#include <cooperative_groups.h>
namespace cg = cooperative_groups;

// Each round, every thread takes what its right neighbour had. What blocks hold in shared memory stays theirs.
extern "C" __global__ void rounds(int* x, int* y, int times) {
  __shared__ int mine[48];
  extern __shared__ long long more[];
  auto grid = cg::this_grid();
  int n = grid.size(), i = grid.thread_rank();
  mine[threadIdx.x] = i;
  more[threadIdx.x] = 5 * i;
  for (int r = 0; r < times; r++) {
    int *from = r % 2 ? y : x, *to = r % 2 ? x : y;
    to[i] = from[(i + 1) % n];
    if (r % 2) grid.sync();
    else cg::sync(grid);
  }
  x[i] += 1000 * (mine[threadIdx.x] == i && more[threadIdx.x] == 5 * i);
}
extern "C" __global__ void in_halves(const int* x, int* y) {
  auto grid = cg::this_grid();
  int i = grid.thread_rank();
  y[i] = x[i] + 1;
  cg::grid_group::arrival_token token = grid.barrier_arrive();
  int local = 10 * x[i];
  grid.barrier_wait(static_cast<cg::grid_group::arrival_token&&>(token));
  int other = y[grid.num_threads() - 1 - i];
  grid.sync();
  y[i] = local + other;
}
extern "C" __global__ void facts(unsigned long long* y) {
  auto grid = cg::this_grid();
  dim3 blocks = grid.group_dim(), again = grid.dim_blocks(), threads = grid.dim_threads(), at = grid.thread_index();
  unsigned long long values[] = {grid.is_valid(), grid.size(), grid.num_threads(), grid.num_blocks(), grid.block_rank(),
    grid.block_index().y, blocks.x, blocks.y, again.z, threads.x, threads.y, at.x, at.y, cg::thread_rank(grid)};
  for (int i = 0; i < 14; i++) y[14 * grid.thread_rank() + i] = values[i];
}
// A barrier across the grid that needs no cooperative launch, as long as there is room for all blocks.
extern "C" __global__ void by_hand(unsigned* arrived, int* x, int* y, int times) {
  __shared__ int mine[48];
  int n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  mine[threadIdx.x] = i;
  for (int r = 1; r <= times; r++) {
    int *from = r % 2 ? x : y, *to = r % 2 ? y : x;
    to[i] = from[(i + 1) % n];
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      atomicAdd(arrived, 1);
      while (atomicAdd(arrived, 0) < r * gridDim.x) {}
      __threadfence();
    }
    __syncthreads();
  }
  x[i] += 1000 * (mine[threadIdx.x] == i);
}
// An inclusive sum in one pass: a block looks back at those before it until one knows the sum up to its end.
extern "C" __global__ void look_back(const int* x, int* y, unsigned* state, int* sums, int* totals) {
  __shared__ int before, part[48];
  int b = blockIdx.x, t = threadIdx.x, i = b * blockDim.x + t;
  part[t] = x[i];
  __syncthreads();
  if (t == 0) {
    int sum = 0;
    for (int k = 0; k < (int)blockDim.x; k++) sum += part[k];
    sums[b] = sum;
    __threadfence();
    atomicExch(&state[b], 1u);
    before = 0;
    for (int k = b - 1; k >= 0; k--) {
      unsigned seen;
      while ((seen = atomicAdd(&state[k], 0u)) == 0) {}
      __threadfence();
      before += seen == 2 ? totals[k] : sums[k];
      if (seen == 2) break;
    }
    totals[b] = before + sum;
    __threadfence();
    atomicExch(&state[b], 2u);
  }
  __syncthreads();
  int sum = before;
  for (int k = 0; k <= t; k++) sum += part[k];
  y[i] = sum;
}
// Every thread waits for the thread of its number in the block before.
extern "C" __global__ void each_waits(unsigned* flags, int* y) {
  int n = blockDim.x, i = blockIdx.x * n + threadIdx.x;
  if (blockIdx.x) while (atomicAdd(&flags[i - n], 0u) == 0) {}
  y[i] = atomicAdd(&flags[gridDim.x * n], 1u) >= blockIdx.x * n;
  atomicExch(&flags[i], 1u);
}
extern "C" __global__ void forgets_the_barrier(int* x, int* y, int syncs) {
  auto grid = cg::this_grid();
  x[blockIdx.x] = blockIdx.x;
  if (syncs) grid.sync();
  y[blockIdx.x] = x[(blockIdx.x + 1) % gridDim.x];
  if (syncs) grid.sync();
  x[(blockIdx.x + 2) % gridDim.x] = 1;
}
extern "C" __global__ void reads_and_writes(int* x, int* y) {
  auto grid = cg::this_grid();
  y[grid.thread_rank()] = x[0];
  grid.sync();
  y[grid.thread_rank()] += x[0];
  grid.sync();
  if (grid.thread_rank() == 0) x[0] = 1;
}
extern "C" __global__ void other_barrier(int* y) {
  if (threadIdx.x < 3) __syncthreads();
  else cg::this_grid().sync();
  y[0] = 1;
}
extern "C" __global__ void returns_early(int* y) {
  if (blockIdx.x == 1) return;
  cg::this_grid().sync();
  y[0] = 1;
}
extern "C" __global__ void stops_early(int* y) {
  if (blockIdx.x == 1) __trap();
  cg::this_grid().sync();
  y[0] = 1;
}
"""
LINES = CODE.split("\n")


def line(kernel, text):
    start = next(i for i, each in enumerate(LINES) if f" {kernel}(" in each)
    return next(i for i in range(start, len(LINES)) if text in LINES[i]) + 1


MODES = {"fast": {}, "check": {"check": True}, "count": {"count": True}}
WAYS = [(mode, order) for mode in ("fast", "check") for order in ("forward", "reverse", 1)] + [("count", "forward")]


@pytest.fixture(scope="module", params=WAYS, ids=str)
def module(request):
    mode, order = request.param
    return RawModule(CODE, filename="k.cu", order=order, enable_cooperative_groups=True, **MODES[mode])


@pytest.fixture(scope="module", params=["fast", "check"])
def forward(request):
    return RawModule(CODE, filename="k.cu", enable_cooperative_groups=True, **MODES[request.param])


@pytest.mark.parametrize(("blocks", "threads"), [(1, 32), (2, 48), (9, 40), (70, 3)])
def test_all_blocks_wait_at_a_barrier_across_the_grid(module, blocks, threads):
    n, times = blocks * threads, 4
    x, y = np.arange(n, dtype=i32), np.zeros(n, i32)
    module.get_function("rounds")(blocks, threads, (x, y, i32(times)), shared_mem=8 * threads)
    np.testing.assert_array_equal(x, 1000 + np.roll(np.arange(n), -times))


def test_a_barrier_in_halves(module):
    x, y = np.arange(60, dtype=i32), np.zeros(60, i32)
    module.get_function("in_halves")((3, 2), 10, (x, y))
    np.testing.assert_array_equal(y, 10 * x + x[::-1] + 1)


def test_what_a_grid_says_of_itself(forward):
    for cooperative in (True, False):
        module = forward if cooperative else RawModule(CODE, filename="k.cu", check=forward._source.mode.checks)
        y = np.zeros((3 * 2, 4 * 2, 14), u64)
        module.get_function("facts")((3, 2), (4, 2), (y,))
        for block in range(6):
            for thread in range(8):
                rank = block * 8 + thread
                at = (block % 3 * 4 + thread % 4, block // 3 * 2 + thread // 4)
                said = [cooperative, 48, 48, 6, block, block // 3, 3, 2, 1, 12, 4, *at, rank]
                assert y[block, thread].tolist() == said


def test_a_barrier_made_by_hand(module):
    x, y = np.arange(9 * 48, dtype=i32), np.zeros(9 * 48, i32)
    module.get_function("by_hand")(9, 48, (np.zeros(1, u32), x, y, i32(4)))
    np.testing.assert_array_equal(x, 1000 + np.roll(np.arange(9 * 48), -4))


def test_a_scan_looks_back(module):
    blocks = 40
    x = np.random.default_rng(0).integers(-50, 50, blocks * 48).astype(i32)
    y, state, sums, totals = np.zeros_like(x), np.zeros(blocks, u32), np.zeros(blocks, i32), np.zeros(blocks, i32)
    module.get_function("look_back")(blocks, 48, (x, y, state, sums, totals))
    np.testing.assert_array_equal(y, np.cumsum(x))


def test_each_thread_waits_for_one_of_another_block(module):
    y, flags = np.zeros(5 * 20, i32), np.zeros(5 * 20 + 1, u32)
    module.get_function("each_waits")(5, 20, (flags, y))
    assert flags[-1] == 100


def test_what_the_barrier_orders_and_what_it_does_not():
    kernel = RawModule(CODE, filename="k.cu", check=True, enable_cooperative_groups=True).get_function
    x, y = np.zeros(4, i32), np.zeros(4, i32)
    kernel("forgets_the_barrier")(4, 1, (x, y, i32(1)))
    assert y.tolist() == [1, 2, 3, 0]
    kernel("reads_and_writes")(4, 40, (np.ones(1, i32), np.zeros(160, i32)))
    with pytest.raises(CheckError) as caught:
        kernel("forgets_the_barrier")(4, 1, (x, y, i32(0)))
    assert {(report.kind, report.line) for report in caught.value.reports} == {
        ("race", line("forgets_the_barrier", text))
        for text in ("x[blockIdx.x] =", "y[blockIdx.x] =", "% gridDim.x] = 1")
    }


def test_a_barrier_in_a_launch_that_is_not_cooperative():
    message = (
        rf"^rounds: trap: k.cu:{line('rounds', 'else cg::sync')}: block \(0,0,0\) thread \(0,0,0\): a barrier across"
        " the grid in a launch that is not cooperative: make the kernel with enable_cooperative_groups=True"
    )
    for check in (False, True):
        module = RawModule(CODE, filename="k.cu", check=check)
        with pytest.raises(KernelError, match=message):
            module.get_function("rounds")(1, 4, (np.zeros(4, i32), np.zeros(4, i32), i32(1)), shared_mem=32)


def test_threads_of_a_block_at_different_barriers(forward):
    with pytest.raises(KernelError, match="waits at this barrier while other threads wait at another") as caught:
        forward.get_function("other_barrier")(2, 8, (np.zeros(1, i32),))
    assert f"k.cu:{line('other_barrier', 'else')}: block (0,0,0) thread (3,0,0)" in str(caught.value)


def test_blocks_that_return_before_the_barrier(forward):
    y = np.zeros(1, i32)
    where = rf"k.cu:{line('returns_early', 'sync()')}: block \((0|2),0,0\) thread \(0,0,0\)"
    with pytest.raises(
        KernelError, match=f"deadlock: {where}: .* across the grid, before which 1 of its 3 blocks have returned"
    ):
        forward.get_function("returns_early")(3, 2, (y,))
    with pytest.raises(KernelError) as caught:  # the trap alone: the others wait because of it
        forward.get_function("stops_early")(3, 2, (y,))
    assert f"trap: k.cu:{line('stops_early', '__trap')}" in str(caught.value)
    assert "deadlock" not in str(caught.value)
    assert y[0] == 0
    test_all_blocks_wait_at_a_barrier_across_the_grid(forward, 9, 40)


@pytest.mark.parametrize(
    ("card", "arch", "threads", "shared", "each", "multiprocessors"),
    [("H200", 900, 1024, 0, 2, 132), ("H200", 900, 33, 0, 32, 132), ("A100", 800, 32, 81 << 10, 2, 108),
     ("RTX 3060", 860, 512, 0, 3, 28)],
)  # fmt: skip
def test_more_blocks_than_a_card_has_room_for(card, arch, threads, shared, each, multiprocessors):
    code = 'extern "C" __global__ void f(int* y) { y[0] = blockIdx.x; }'
    kernel = RawModule(code, arch=arch, enable_cooperative_groups=True).get_function("f")
    kernel.max_dynamic_shared_size_bytes = shared
    room = each * multiprocessors
    kernel(room, threads, (np.zeros(1, i32),), shared_mem=shared)
    said = (
        f"^f: the blocks of a cooperative launch must be there at once, of {threads} threads and {shared} bytes of"
        f" shared memory at most {room} on the {card}, {each} on each of its {multiprocessors} multiprocessors,"
        f" got {room + 1}$"
    )
    with pytest.raises(LaunchError, match=said):
        kernel(room + 1, threads, (np.zeros(1, i32),), shared_mem=shared)


def test_counts_of_a_barrier_across_the_grid():
    code = (
        "#include <cooperative_groups.h>\n"
        'extern "C" __global__ void f(int* x) { x[threadIdx.x] = 1; cooperative_groups::this_grid().sync(); }'
    )
    kernel = RawKernel(code, "f", count=True, enable_cooperative_groups=True)
    kernel(5, 64, (np.zeros(64, i32),))
    (counted,) = kernel.counts.kernels
    assert sum(each.block_barriers for each in counted.lines) == 5 * 2
