"""The emulator: barriers, pipelines, latches and semaphores of libcu++."""

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule
from gpunn.errors import CompileError

# Every kernel has a last parameter, `leave_out`, which names what a mistaken one would forget.
CODE = r"""
#include <cooperative_groups.h>
#include <cuda/barrier>
#include <cuda/latch>
#include <cuda/pipeline>
#include <cuda/semaphore>
#include <cuda/std/utility>
#include <cuda_pipeline.h>

typedef cuda::barrier<cuda::thread_scope_block> Barrier;
namespace cg = cooperative_groups;

// Each thread reads what the next one has written; twice in the same array.
extern "C" __global__ void shift(int* x, int leave_out) {
  __shared__ Barrier barrier;
  __shared__ int held[96];
  int t = threadIdx.x, v = x[t];
  if (t == 0) init(&barrier, blockDim.x);
  __syncthreads();
  for (int round = 0; round < 2; round++) {
    held[t] = v;
    if (leave_out != 1) barrier.arrive_and_wait();
    v = held[(t + 1) % 96];
    if (leave_out != 2) barrier.arrive_and_wait();
  }
  x[t] = v;
}

// The first warp writes for the second one, which says when it has read.
extern "C" __global__ void hand_over(int* x, int rounds, int leave_out) {
  __shared__ Barrier full, empty;
  __shared__ int held[32];
  int lane = threadIdx.x % 32, sum = 0;
  if (threadIdx.x == 0) { init(&full, 64); init(&empty, 64); }
  __syncthreads();
  for (int i = 0; i < rounds; i++) {
    if (threadIdx.x < 32) {
      held[lane] = i + lane;
      Barrier::arrival_token written = full.arrive();
      auto taken = empty.arrive();
      if (leave_out != 1) empty.wait(cuda::std::move(taken));
    } else {
      full.arrive_and_wait();
      sum += held[31 - lane];
      if (leave_out != 2) Barrier::arrival_token read = empty.arrive();
    }
  }
  if (threadIdx.x >= 32) x[lane] = sum;
}

// Who has finished does not arrive any more. wait_parity names a phase without a token.
extern "C" __global__ void drop(int* x, int leave_out) {
  __shared__ Barrier barrier;
  __shared__ int count;
  int t = threadIdx.x;
  if (t == 0) { init(&barrier, blockDim.x); count = 0; }
  __syncthreads();
  for (int i = 0; i < t; i++) {
    if (t == (int)blockDim.x - 1) count += 1;
    barrier.arrive();
    barrier.wait_parity(i & 1);
  }
  barrier.arrive_and_drop();
  if (t == (int)blockDim.x - 1) x[0] = count;
}

// Numbers of a row, brought by all threads and by each its own.
extern "C" __global__ void copies(const float* x, float* y, int leave_out) {
  __shared__ Barrier barrier;
  __shared__ alignas(16) float row[64];
  __shared__ float own[64];
  auto block = cg::this_thread_block();
  int t = threadIdx.x;
  if (t == 0) new (&barrier) Barrier(blockDim.x);
  __syncthreads();
  cuda::memcpy_async(block, row, x, cuda::aligned_size_t<16>(sizeof(row)), barrier);
  cuda::memcpy_async(&own[t], &x[64 + t], sizeof(float), barrier);
  if (leave_out) barrier.arrive();
  else barrier.arrive_and_wait();
  if (leave_out == 1) __syncthreads();
  y[t] = row[63 - t] + 2 * own[(t + 1) % 64];
}

// A copy that the barrier counts by its bytes.
extern "C" __global__ void bytes(const float* x, float* y, int leave_out) {
  __shared__ Barrier barrier;
  __shared__ alignas(16) float row[64];
  if (threadIdx.x == 0) {
    init(&barrier, blockDim.x);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  Barrier::arrival_token token;
  if (threadIdx.x == 0) {
    cuda::device::memcpy_async_tx(row, x, cuda::aligned_size_t<16>(sizeof(row)), barrier);
    token = cuda::device::barrier_arrive_tx(barrier, 1, sizeof(row));
  } else {
    token = barrier.arrive();
  }
  if (!leave_out) barrier.wait(cuda::std::move(token));
  y[threadIdx.x] = row[63 - threadIdx.x] + ((char*)cuda::device::barrier_native_handle(barrier) - (char*)&barrier);
}

// Each thread waits for its own copies, two stages deep.
extern "C" __global__ void thread_pipeline(const float* x, float* y, int n, int leave_out) {
  __shared__ float held[2][32];
  auto pipe = cuda::make_pipeline();
  int t = threadIdx.x;
  for (int i = 0; i < 2; i++) {
    pipe.producer_acquire();
    cuda::memcpy_async(&held[i][t], &x[32 * i + t], sizeof(float), pipe);
    pipe.producer_commit();
  }
  float sum = 0;
  for (int i = 0; i < n; i++) {
    if (leave_out != 1) pipe.consumer_wait();
    sum = 2 * sum + held[i % 2][t];
    pipe.consumer_release();
    pipe.producer_acquire();
    if (i + 2 < n) cuda::memcpy_async(&held[i % 2][t], &x[32 * (i + 2) + t], sizeof(float), pipe);
    pipe.producer_commit();
  }
  y[t] = sum;
}

// All threads produce and consume.
extern "C" __global__ void block_pipeline(const float* x, float* y, int n, int leave_out) {
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 2> state;
  __shared__ alignas(16) float held[2][64];
  auto block = cg::this_thread_block();
  auto pipe = cuda::make_pipeline(block, &state);
  float sum = 0;
  for (int next = 0, i = 0; i < n; i++) {
    for (; next < n && next < i + 2; next++) {
      pipe.producer_acquire();
      cuda::memcpy_async(block, held[next % 2], x + 64 * next, cuda::aligned_size_t<16>(256), pipe);
      pipe.producer_commit();
    }
    if (leave_out != 1) pipe.consumer_wait();
    sum = 2 * sum + held[i % 2][63 - threadIdx.x];
    if (leave_out != 2) pipe.consumer_release();
  }
  y[threadIdx.x] = sum;
}

// The first warp produces for the others.
template <bool by_role> __device__ void two_roles(const float* x, float* y, int n, int leave_out) {
  __shared__ cuda::pipeline_shared_state<cuda::thread_scope_block, 3> state;
  __shared__ float held[3][32];
  auto block = cg::this_thread_block();
  const auto role = threadIdx.x < 32 ? cuda::pipeline_role::producer : cuda::pipeline_role::consumer;
  auto pipe = by_role ? cuda::make_pipeline(block, &state, role) : cuda::make_pipeline(block, &state, (size_t)32);
  int lane = threadIdx.x % 32;
  float sum = 0;
  for (int i = 0; i < n; i++) {
    if (threadIdx.x < 32) {
      if (leave_out != 1) pipe.producer_acquire();
      held[i % 3][lane] = x[32 * i + lane];
      pipe.producer_commit();
    } else {
      pipe.consumer_wait();
      sum = 2 * sum + held[i % 3][31 - lane];
      pipe.consumer_release();
    }
  }
  if (threadIdx.x >= 32) y[threadIdx.x - 32] = sum;
  __shared__ int last;
  if (pipe.quit()) last = 1;
  __syncthreads();
  if (threadIdx.x == 32 && last != 1) y[0] = -1;
}
extern "C" __global__ void partitioned(const float* x, float* y, int n, int leave_out) {
  two_roles<false>(x, y, n, leave_out);
}
extern "C" __global__ void by_roles(const float* x, float* y, int n, int leave_out) {
  two_roles<true>(x, y, n, leave_out);
}

// The numbers of all threads, added by whoever waits for the latch.
extern "C" __global__ void latches(const int* x, int* y, int leave_out) {
  __shared__ alignas(8) char storage[sizeof(cuda::latch<cuda::thread_scope_block>)];
  __shared__ int held[64];
  auto* latch = (cuda::latch<cuda::thread_scope_block>*)storage;
  if (threadIdx.x == 0) new (latch) cuda::latch<cuda::thread_scope_block>(blockDim.x);
  __syncthreads();
  held[threadIdx.x] = x[threadIdx.x];
  latch->count_down();
  if (!leave_out) latch->wait();
  int sum = 0;
  for (int i = 0; i < 64; i++) sum += held[i];
  y[threadIdx.x] = sum;
}

// One thread at a time adds to what no atomic guards; every thread reads it under the semaphore first.
__device__ cuda::binary_semaphore<cuda::thread_scope_device> turn(1);

extern "C" __global__ void semaphores(int* x, int leave_out) {
  __shared__ Barrier barrier;
  __shared__ int total;
  if (threadIdx.x == 0) { init(&barrier, blockDim.x); total = 0; }
  __syncthreads();
  turn.acquire();
  int seen = total;
  turn.release();
  if (!leave_out) turn.acquire();
  total += 1 + 0 * seen;
  if (!leave_out) turn.release();
  barrier.arrive_and_wait();
  if (threadIdx.x == 0) x[0] = total;
}

// The first thread writes when all others have read, with a barrier in the block or without.
extern "C" __global__ void readers(int* x, int with_barrier, int leave_out) {
  typedef cuda::counting_semaphore<cuda::thread_scope_block> Semaphore;
  __shared__ alignas(8) char storage[sizeof(Semaphore)];
  __shared__ Barrier barrier;
  __shared__ int total;
  auto* have_read = (Semaphore*)storage;
  if (threadIdx.x == 0) {
    if (with_barrier) init(&barrier, 1);
    new (have_read) Semaphore(0);
    total = 7;
  }
  __syncthreads();
  if (threadIdx.x) {
    x[threadIdx.x] = total;
    have_read->release();
  } else {
    for (int i = 1; i < blockDim.x; i++)
      if (!leave_out) have_read->acquire();
    total = 8;
  }
}

extern "C" __global__ void primitives(const float* x, float* y, int leave_out) {
  __shared__ alignas(16) float4 held[32];
  __pipeline_memcpy_async(&held[threadIdx.x], x + 4 * threadIdx.x, 16, 4);
  __pipeline_commit();
  if (!leave_out) __pipeline_wait_prior(0);
  float4 mine = held[threadIdx.x];
  y[threadIdx.x] = mine.x + mine.y + mine.z + mine.w;
}

// Each a mistake, by its number.
extern "C" __global__ void misused(Barrier* of_global, float* x, int mistake) {
  __shared__ Barrier barrier;
  __shared__ alignas(16) float held[8];
  if (mistake == 1) init(of_global, 1);
  if (mistake == 2) barrier.arrive();
  init(&barrier, 2);
  if (mistake == 3) barrier.arrive(3);
  if (mistake == 4) barrier.arrive_and_wait();
  if (mistake == 5) cuda::memcpy_async(held, x, cuda::aligned_size_t<16>(24), barrier);
  if (mistake == 6) cuda::memcpy_async(held, x + 1, cuda::aligned_size_t<16>(16), barrier);
  if (mistake == 7) {
    barrier.arrive(2);
    barrier.arrive(2);
    barrier.wait(0);
  }
}
"""


@pytest.fixture(scope="module", params=["forward", "reverse", 3, "check"])
def run(request):
    settings = {"check": True} if request.param == "check" else {"order": request.param}
    module = RawModule(CODE, filename="barriers.cu", **settings)

    def run(name, *args, threads=64, leave_out=0):
        module.get_function(name)((1,), (threads,), (*args, np.int32(leave_out)))

    run.checks = request.param == "check"
    return run


def weighted(rows):
    total = np.zeros_like(rows[0])
    for row in rows:
        total = 2 * total + row
    return total


def test_a_barrier_hands_over_what_was_written(run):
    x = np.arange(96, dtype=np.int32)
    run("shift", x, threads=96)
    np.testing.assert_array_equal(x, (np.arange(96) + 2) % 96)


def test_who_arrives_need_not_wait(run):
    x = np.zeros(32, np.int32)
    run("hand_over", x, np.int32(5))
    np.testing.assert_array_equal(x, 5 * (31 - np.arange(32)) + 10)


def test_who_drops_is_not_waited_for(run):
    x = np.zeros(1, np.int32)
    run("drop", x, threads=40)
    assert x[0] == 39


def test_copies_that_a_barrier_waits_for(run):
    x, y = np.arange(128, dtype=np.float32), np.zeros(64, np.float32)
    run("copies", x, y)
    np.testing.assert_array_equal(y, x[:64][::-1] + 2 * np.roll(x[64:], -1))


def test_copies_that_a_barrier_counts_by_bytes(run):
    x, y = np.arange(64, dtype=np.float32), np.zeros(64, np.float32)
    run("bytes", x, y)
    np.testing.assert_array_equal(y, x[::-1])


@pytest.mark.parametrize(
    ("name", "width", "threads", "turned"),
    [
        ("thread_pipeline", 32, 32, 1),
        ("block_pipeline", 64, 64, -1),
        ("partitioned", 32, 64, -1),
        ("by_roles", 32, 64, -1),
    ],
)
@pytest.mark.parametrize("stages", [2, 7])
def test_pipelines(run, name, width, threads, turned, stages):
    x = np.random.default_rng(0).integers(0, 9, (stages, width)).astype(np.float32)
    y = np.zeros(width, np.float32)
    run(name, x, y, np.int32(stages), threads=threads)
    np.testing.assert_array_equal(y, weighted(x)[::turned])


def test_a_latch_opens_when_all_have_counted(run):
    x, y = np.arange(64, dtype=np.int32), np.zeros(64, np.int32)
    run("latches", x, y)
    assert set(y.tolist()) == {x.sum()}


def test_a_semaphore_lets_one_in_at_a_time(run):
    x = np.zeros(1, np.int32)
    run("semaphores", x, threads=70)
    assert x[0] == 70


@pytest.mark.parametrize("with_barrier", [0, 1])
def test_who_writes_waits_for_all_readers(run, with_barrier):
    x = np.zeros(70, np.int32)
    run("readers", x, np.int32(with_barrier), threads=70)
    assert x.tolist() == [0] + 69 * [7]


def test_primitives_of_pipelines_fill_with_zeros(run):
    x, y = np.arange(128, dtype=np.float32), np.zeros(32, np.float32)
    run("primitives", x, y, threads=32)
    np.testing.assert_array_equal(y, x.reshape(32, 4)[:, :3].sum(1))


ROWS = np.ones((7, 64), np.float32)
FORGOTTEN = {
    "what was written": ("shift", (np.ones(96, np.int32),), 96, 1, "race", "read of shared 'held'"),
    "what was read": ("shift", (np.ones(96, np.int32),), 96, 2, "race", "write of shared 'held'"),
    "the consumers": ("hand_over", (np.ones(32, np.int32), np.int32(5)), 64, 1, "deadlock", "it waits for ever"),
    "to say so": ("hand_over", (np.ones(32, np.int32), np.int32(5)), 64, 2, "deadlock", "it waits for ever"),
    "a barrier's copies": ("copies", (ROWS, np.ones(64, np.float32)), 64, 1, "race", "target of an asynchronous copy"),
    "a copy's bytes": (*("bytes", (ROWS, np.ones(64, np.float32)), 64, 1, "race"), "target of an asynchronous copy"),
    "a thread's copies": (
        *("thread_pipeline", (ROWS, np.ones(32, np.float32), np.int32(7)), 32, 1),
        *("race", "target of an asynchronous copy"),
    ),
    "a block's copies": (
        *("block_pipeline", (ROWS, np.ones(64, np.float32), np.int32(2)), 64, 1),
        *("race", "target of an asynchronous copy"),
    ),
    "to release": (
        *("block_pipeline", (ROWS, np.ones(64, np.float32), np.int32(7)), 64, 2, "deadlock"),
        "it waits for ever",
    ),
    "to acquire": (
        *("partitioned", (ROWS, np.ones(32, np.float32), np.int32(7)), 64, 1, "deadlock"),
        "it waits for ever",
    ),
    "the latch": ("latches", (np.ones(64, np.int32), np.ones(64, np.int32)), 64, 1, "race", "write of shared 'held'"),
    "the semaphore": ("semaphores", (np.ones(1, np.int32),), 64, 1, "race", "shared 'total'"),
    "readers": ("readers", (np.ones(64, np.int32), np.int32(0)), 64, 1, "race", "read of shared 'total'"),
    "readers beside a barrier": ("readers", (np.ones(64, np.int32), np.int32(1)), 64, 1, "race", "shared 'total'"),
    "primitives": (*("primitives", (ROWS, np.ones(32, np.float32)), 32, 1, "race"), "target of an asynchronous copy"),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_who_does_not_wait_is_told(run, what):
    name, args, threads, leave_out, kind, message = FORGOTTEN[what]
    if not run.checks:
        pytest.skip("only a check tells it")
    with pytest.raises(CheckError) as caught:
        run(name, *(arg.copy() for arg in args), threads=threads, leave_out=leave_out)
    assert any(report.kind == kind and message in report.message for report in caught.value.reports)


@pytest.mark.parametrize("name", ["copies", "thread_pipeline", "block_pipeline", "primitives"])
def test_copies_are_late(run, name):
    if run.checks:
        pytest.skip("a check tells it")
    x, y = np.ones((7, 64), np.float32), np.zeros(64, np.float32)
    sizes = () if name in ("copies", "primitives") else (np.int32(2),)
    with np.errstate(all="ignore"):
        run(name, x, y, *sizes, threads=64 if name in ("copies", "block_pipeline") else 32, leave_out=1)
    assert np.isnan(y[:32]).all()


MISUSES = [
    (1, "misuse", "an mbarrier must lie in shared memory"),
    (2, "uninitialised", "arrive of an mbarrier that is not initialised"),
    (3, "misuse", "3 arrive at an mbarrier whose phase lacks 2 arrivals"),
    (4, "deadlock", "which lacks 1 arrivals of 2"),
    (5, "misuse", "an asynchronous copy of 24 bytes, said to be a multiple of 16"),
    (6, "misaligned", "the source of an asynchronous copy is not a multiple of 16"),
    (7, "misuse", "a wait for a phase of an mbarrier that is long past"),
]


@pytest.mark.parametrize(("mistake", "kind", "message"), MISUSES)
def test_misuse_of_a_barrier_is_told(run, mistake, kind, message):
    if not run.checks:
        pytest.skip("the same in fast mode, but for the error's type")
    with pytest.raises(CheckError) as caught:
        run("misused", np.zeros(1, np.uint64), np.zeros(8, np.float32), threads=1, leave_out=mistake)
    assert (caught.value.reports[0].kind, message in caught.value.reports[0].message) == (kind, True)


def test_a_completion_function_is_refused():
    code = """#include <cuda/barrier>
struct Done { __device__ void operator()() {} };
extern "C" __global__ void k() { __shared__ cuda::barrier<cuda::thread_scope_block, Done> barrier; }"""
    with pytest.raises(CompileError, match="a cuda::barrier with a completion function is not emulated"):
        RawKernel(code, "k")
