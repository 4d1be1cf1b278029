"""The emulator's counts against numbers worked out by hand, in several orders of the threads."""

import json
from dataclasses import replace

import numpy as np
import pytest

from gpunn import plot
from gpunn.cuda import source
from gpunn.cuda.emulator import Count, RawKernel, RawModule, count, sass, tensor_map
from gpunn.cuda.emulator.cards import CARDS, card
from gpunn.cuda.emulator.counting import Kernel, Line
from gpunn.errors import ArgumentError, LaunchError, install_command

# A comment "@name" marks a line that tests ask for.
CODE = r"""
#include "ptx.cuh"
#define T threadIdx.x

extern "C" __global__ void copy(const float* x, float* y, int stride, int offset, int n) {
  int i = blockIdx.x * blockDim.x + T;
  if (i < n)
    y[i] = x[i * stride + offset];  // @copy
}

template <int PAD> __global__ void transpose(const float* x, float* y) {
  __shared__ float tile[32][32 + PAD];
  tile[threadIdx.y][T] = x[32 * threadIdx.y + T];  // @in
  __syncthreads();  // @sync
  y[32 * threadIdx.y + T] = tile[T][threadIdx.y];  // @out
}

extern "C" __global__ void banks(float* y, int stride) {
  __shared__ float s[1024];
  for (int i = T; i < 1024; i += 32) s[i] = i;
  __syncthreads();
  float v = s[T * stride];  // @bank
  y[T] = v;
}

extern "C" __global__ void wide(float4* y, int stride) {
  __shared__ double pairs[64];
  __shared__ float4 fours[64];
  for (int i = T; i < 64; i += 32) pairs[i] = i;  // @pairs_in
  for (int i = T; i < 64; i += 32) fours[i] = make_float4(i, i, i, i);
  __syncthreads();
  double d = pairs[T * stride];  // @pairs
  float4 f = fours[T * stride];  // @fours
  f.x += d;
  y[T] = f;  // @store4
}

// Lane t asks for the elements at places[t]: those below 0 for none.
extern "C" __global__ void placed(const int* places, float* y) {
  __shared__ float2 twos[64];
  __shared__ float4 fours[64];
  for (int i = T; i < 64; i += 32) twos[i] = make_float2(i, i), fours[i] = make_float4(i, i, i, i);
  __syncthreads();
  int place = places[T];
  if (place >= 0) {
    float2 two = twos[place];  // @two_in
    float4 four = fours[place];  // @four_in
    y[T] = two.x + two.y + four.x + four.y + four.z + four.w;
    twos[place] = make_float2(1, 2);  // @two_out
    fours[place] = make_float4(1, 2, 3, 4);  // @four_out
  }
}

extern "C" __global__ void broadcast(const float* x, float* y) {
  __shared__ float s[32];
  s[T] = x[0];  // @global0
  __syncthreads();
  y[T] = s[0] + s[5];  // @shared0
}

extern "C" __global__ void branches(float* y) {
  if (T % 4 == 0)
    y[T] = 1;  // @quarter
  else
    y[T] = 2;  // @rest
}

extern "C" __global__ void histogram(const int* x, int* bins) {
  __shared__ int mine[8];
  if (T < 8) mine[T] = 0;
  __syncthreads();
  int bin = x[blockIdx.x * blockDim.x + T];
  atomicAdd(&mine[bin], 1);  // @shared_add
  atomicAdd(&bins[bin], 1);  // @global_add
}

extern "C" __global__ void vectors(const float* x, float* y, int offset) {
  float2 a = ((const float2*)x)[T + offset];  // @two
  float4 b = ((const float4*)x)[T + offset];  // @four
  float3 c = ((const float3*)x)[T];  // @three
  y[T] = a.x + a.y + b.x + b.y + b.z + b.w + c.x + c.y + c.z;
}

extern "C" __global__ void loops(const float* x, float* y) {
  float sum = 0;
  for (int i = 0; i <= T; i++) {
    sum += x[i];  // @triangle
    if ((i * 7 + T) % 3 == 0)
      sum += x[i + 1];  // @third
    for (int j = T % 4; j < 4; j++)
      sum += x[j + 64];  // @inner
  }
  y[T] = sum;  // @after
}

extern "C" __global__ void crooked(const float* x, float* y) {
  float s = 0; int i = 0;
  while (true) {
    i++;
    if (i > T + 2) break;
    if ((i + T) % 3 == 0) {
      s += x[i];  // @skip
      continue;
    }
    s += x[i + 40];  // @go
    do {
      s *= x[5] * 0.25f;
      if (s > 1e6f) s = 0;
    } while (s > 10);
    switch (i % 3) {
      case 0: s += x[1];  // @c0
        break;
      case 1: s += x[2];  // @c1
      default: s += x[3];  // @c2
    }
  }
  y[T] = s;
}
__device__ __noinline__ float helper(const float* x, int n) {
  float s = 0;
  for (int i = 0; i < n; i++)
    s += x[i];  // @help
  return s;
}
extern "C" __global__ void calls(const float* x, float* y) {
  float s = 0;
  for (int i = 0; i < T % 5; i++) {
    s += helper(x, i + T % 2);
    if (T & 1)
      s += x[70];  // @odd
    else
      s += helper(x, 3);
  }
  y[T] = s;
}
extern "C" __global__ void early(const float* x, float* y) {
  if (T >= 20) return;
  for (int i = 0; i < 4; i++) {
    if (i == T % 4) continue;
    y[T] = x[i];  // @early
    __syncwarp(0xfffff);
  }
}

extern "C" __global__ void long_loop(const float* x, float* y, int n) {
  float sum = 0;
  if (T % 2)
    for (int i = 0; i < n; i++)
      sum += x[i];  // @long
  y[T] = sum;
}

extern "C" __global__ void meetings(unsigned* y) {
  unsigned v = T;
  for (int i = 0; i < 3; i++)
    __syncthreads();  // @barrier
  __syncwarp();  // @warp_barrier
  for (int d = 16; d; d /= 2)
    v += __shfl_xor_sync(0xffffffffu, v, d);  // @shuffle
  v += __ballot_sync(0xffffffffu, v & 1);  // @vote
  y[T] = v + __reduce_add_sync(0xffffffffu, v);  // @reduce
}

__constant__ float weights[4];
extern "C" __global__ void not_counted(float* y) {
  float local[64];
  for (int i = 0; i < 64; i++) local[i] = weights[i % 4] * i;  // @local
  y[T] = local[(T * 5) % 64];  // @one_store
}

extern "C" __global__ void tensor(const unsigned short* x, float* y) {
  __shared__ __align__(128) unsigned short s[512];
  cp_async<16>(s + 8 * T, x + 8 * T);  // @async
  cp_async<16>(s + 8 * (T + 32), x + 8 * (T + 32));
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  unsigned a[4], b[2] = {0, 0};
  float d[4] = {0, 0, 0, 0};
  ldmatrix<4>(a, s + 16 * T);  // @matrix
  mma_m16n8k16_f16(d, a, b);  // @mma
  y[T] = d[0];
}

extern "C" __global__ void rows_in_pairs(float* y) {
  __shared__ __align__(128) unsigned short s[128];
  for (int i = T; i < 128; i += 32) s[i] = i;
  __syncwarp();
  unsigned a[4];
  ldmatrix<4>(a, s + 8 * (T / 2));
  y[T] = a[0] + a[1] + a[2] + a[3];
}

extern "C" __global__ void two_arrays(float* y) {
  __shared__ float a[32], b[32];
  a[T] = b[T] = T;
  __syncwarp();
  float* half = T < 16 ? a : b;
  y[T] = half[T % 16];  // @halves
}

extern "C" __global__ void twice(const float* x, float* y, int n) {
  float sum = 0;
  for (int k = 0; k < 2; k++)
    for (int i = T; i < n; i += 32)
      sum += x[i];  // @again
  y[T] = sum;
}

extern "C" __global__ void arithmetic(float* y, int n) {
  float v = T;
  double w = T;
  for (int i = 0; i < n; i++) {
    v = fmaf(v, 1.5f, 0.5f);  // @fma
    w = w * 3.0 + 1.0;  // @fp64
  }
  y[T] = v + (float)w;
}
"""
LINES = {line.split("// @")[1].strip(): i for i, line in enumerate(CODE.split("\n"), 1) if "// @" in line}
ORDERS = ("forward", "reverse", 5)


@pytest.fixture(scope="module")
def modules():
    options = (f"-I{source.kernels_folder()}",)
    names = ("transpose<0>", "transpose<1>")
    return [RawModule(CODE, options, names, filename="k.cu", count=True, order=order) for order in ORDERS]


@pytest.fixture
def counted(modules):
    """Runs a kernel in every order, and returns its counts by the names of its lines: they must agree."""

    def run(name, grid, block, args):
        found = []
        for module in modules:
            with count() as c:
                module.get_function(name)((grid,), block if isinstance(block, tuple) else (block,), args)
            found.append(c)
        assert len({c.json() for c in found}) == 1
        lines = {line.line: line for line in c.kernels[0].lines if not line.file.endswith("ptx.cuh")}
        return {mark: lines[number] for mark, number in LINES.items() if number in lines}, c.kernels[0]

    return run


def floats(n):
    return np.zeros(n, np.float32)


@pytest.mark.parametrize(
    ("stride", "offset", "sectors"), [(1, 0, 4), (2, 0, 8), (32, 0, 32), (1, 1, 5), (1, 8, 4), (0, 3, 1)]
)
def test_a_strided_copy_touches_more_sectors_than_it_needs(counted, stride, offset, sectors):
    x = floats(64 * 32 + 64)
    lines, kernel = counted("copy", 1, 64, (x, floats(64), np.int32(stride), np.int32(offset), np.int32(64)))
    line = lines["copy"]
    assert (line.loads, line.stores, line.executions, line.lanes) == (2, 2, 2, 64)
    least = 8 if stride else 2  # of one float for all, one sector a warp
    assert (line.sectors, line.least_sectors) == (2 * sectors + 8, least + 8)
    # Both warps touch the sector that the first ends in, where the offset is odd, and the same one without a stride.
    different = 2 * sectors - (stride == 1 and offset == 1) - (stride == 0)
    assert (kernel.read_bytes, kernel.written_bytes) == (32 * different, 32 * 8)
    assert line.cache_hits == 2 * sectors - different


def test_partial_warps_count_the_lanes_they_have(counted):
    lines, kernel = counted("copy", 2, 40, (floats(80), floats(80), np.int32(1), np.int32(0), np.int32(50)))
    line = lines["copy"]
    # Blocks of 40 threads: warps of 32 and 8 lanes; of the second block 10 threads are below 50, all in one warp.
    assert (line.loads, line.executions, line.lanes) == (3, 3, 50)
    # 128 and 32 bytes, then 40 bytes from 160 on.
    assert (line.sectors, line.least_sectors) == (2 * (4 + 1 + 2), 2 * (4 + 1 + 2))
    assert kernel.read_bytes == 7 * 32


@pytest.mark.parametrize(("padding", "degree"), [(0, 32), (1, 1)])
def test_a_padded_transpose_has_no_bank_conflicts(counted, padding, degree):
    x, y = np.arange(1024, dtype=np.float32), floats(1024)
    lines, _ = counted(f"transpose<{padding}>", 1, (32, 32), (x, y))
    np.testing.assert_array_equal(y.reshape(32, 32), x.reshape(32, 32).T)
    assert (lines["in"].loads, lines["in"].sectors, lines["in"].shared_stores) == (32, 128, 32)
    assert (lines["in"].wavefronts, lines["in"].worst_degree) == (32, 1)
    assert (lines["out"].stores, lines["out"].sectors, lines["out"].shared_loads) == (32, 128, 32)
    assert (lines["out"].wavefronts, lines["out"].least_wavefronts) == (32 * degree, 32)
    assert (lines["out"].worst_degree, lines["sync"].block_barriers) == (degree, 32)


@pytest.mark.parametrize(
    ("stride", "degree"), [(1, 1), (2, 2), (3, 1), (4, 4), (8, 8), (16, 16), (31, 1), (32, 32), (0, 1)]
)
def test_the_degree_of_a_bank_conflict(counted, stride, degree):
    line = counted("banks", 1, 32, (floats(32), np.int32(stride)))[0]["bank"]
    assert (line.shared_loads, line.wavefronts, line.least_wavefronts, line.worst_degree) == (1, degree, 1, degree)


@pytest.mark.parametrize("stride", [1, 2])
def test_wide_loads_are_served_in_halves_and_quarters(counted, stride):
    lines, _ = counted("wide", 1, 32, (np.zeros((32, 4), np.float32).reshape(-1).view("V16"), np.int32(stride)))
    pairs, fours = lines["pairs"], lines["fours"]
    # Neighbouring lanes `stride` elements apart: each bank has `stride` words for a half, or a quarter, of the warp.
    assert (pairs.shared_loads, pairs.wavefronts, pairs.least_wavefronts) == (1, 2 * stride, 2)
    assert (fours.shared_loads, fours.wavefronts, fours.least_wavefronts) == (1, 4 * stride, 4)
    assert pairs.worst_degree == fours.worst_degree == stride
    assert (lines["pairs_in"].shared_stores, lines["pairs_in"].wavefronts) == (2, 4)
    assert (lines["store4"].stores, lines["store4"].sectors) == (1, 16)


LANES = np.arange(32)


@pytest.mark.parametrize(
    ("places", "two", "four", "two_out", "four_out"),
    [
        # One element for all: the two halves are served together, and so are two quarters of each half.
        (0 * LANES, (1, 1), (2, 2), (2, 2), (4, 4)),
        # In pairs of neighbours, and of lanes two apart: 16 elements. Of 16 bytes, 8 for each half of the warp.
        (LANES // 2, (1, 1), (2, 2), (2, 2), (4, 4)),
        (LANES // 4 * 2 + LANES % 2, (1, 1), (2, 2), (2, 2), (4, 4)),
        # The same element every four lanes, or for a whole quarter: of the second, lanes do agree in pairs.
        (LANES % 4, (2, 2), (4, 4), (2, 2), (4, 4)),
        (LANES // 8, (1, 1), (2, 2), (2, 2), (4, 4)),
        # Half of the pairs are neighbours, half are two apart.
        (np.where(LANES < 16, LANES // 2, LANES // 4 * 2 + LANES % 2), (2, 2), (2, 2), (2, 2), (4, 4)),
        # Pairs, of which one lane asks for another element: nothing is served together, of 16 bytes in its half.
        (np.where(LANES == 5, 44, LANES // 2), (2, 2), (3, 3), (2, 2), (4, 4)),
        # Pairs, with the elements of a half in two banks: 16 of 2 words, then 2 times 8 of 4 words.
        (LANES // 2 * 4 % 64, (4, 1), (8, 2), (4, 2), (8, 4)),
        # One lane of each quarter: it has no lane to agree with.
        (np.where(LANES % 8 == 3, LANES // 8, -1), (1, 1), (2, 2), (2, 2), (4, 4)),
        (np.where(LANES < 8, 0, -1), (1, 1), (1, 1), (1, 1), (1, 1)),
        (np.where(LANES == 31, 0, -1), (1, 1), (1, 1), (1, 1), (1, 1)),
    ],
)  # fmt: skip
def test_lanes_that_ask_for_the_same_words(counted, places, two, four, two_out, four_out):
    lines, _ = counted("placed", 1, 32, (places.astype(np.int32), floats(32)))
    found = [
        (lines[name].wavefronts, lines[name].least_wavefronts) for name in ("two_in", "four_in", "two_out", "four_out")
    ]
    assert found == [two, four, two_out, four_out]


def test_a_broadcast_is_free(counted):
    lines, _ = counted("broadcast", 1, 32, (floats(1), floats(32)))
    assert (lines["global0"].loads, lines["global0"].sectors, lines["global0"].least_sectors) == (1, 1, 1)
    assert (lines["shared0"].shared_loads, lines["shared0"].wavefronts, lines["shared0"].worst_degree) == (2, 2, 1)


def test_a_divergent_branch(counted):
    lines, _ = counted("branches", 1, 64, (floats(64),))
    assert (lines["quarter"].executions, lines["quarter"].lanes, lines["quarter"].active) == (2, 16, 8)
    assert (lines["rest"].executions, lines["rest"].lanes) == (2, 48)
    # Every fourth float: 8 of them in 4 sectors of 32 bytes, where 32 bytes are asked for.
    assert (lines["quarter"].sectors, lines["quarter"].least_sectors) == (8, 2)
    assert (lines["rest"].sectors, lines["rest"].least_sectors) == (8, 6)


def test_atomics_of_a_histogram_collide(counted):
    bins = np.zeros(8, np.int32)
    x = np.arange(128, dtype=np.int32) % 4
    lines, _ = counted("histogram", 2, 64, (x, bins))
    assert (lines["shared_add"].shared_atomics, lines["shared_add"].collisions) == (4, 4 * 28)
    assert (lines["global_add"].atomics, lines["global_add"].collisions) == (4, 4 * 28)
    assert (lines["global_add"].sectors, lines["global_add"].least_sectors) == (4, 4)
    assert bins.tolist() == [32 * len(ORDERS)] * 4 + [0] * 4


@pytest.mark.parametrize("offset", [0, 1])
def test_vector_loads(counted, offset):
    lines, _ = counted("vectors", 1, 32, (floats(256), floats(32), np.int32(offset)))
    assert (lines["two"].loads, lines["two"].sectors, lines["two"].least_sectors) == (1, 8 + offset, 8)
    assert (lines["four"].loads, lines["four"].sectors, lines["four"].least_sectors) == (1, 16 + offset, 16)
    # A float3 is three floats, each from all of its 12 sectors.
    assert (lines["three"].loads, lines["three"].sectors, lines["three"].least_sectors) == (3, 36, 12)


def test_lanes_meet_in_the_same_iteration_of_a_loop(counted):
    lines, _ = counted("loops", 1, 32, (floats(128), floats(32)))
    # In iteration i the lanes from i on are active.
    assert (lines["triangle"].loads, lines["triangle"].lanes) == (32, 32 * 33 // 2)
    third = [[t for t in range(i, 32) if (i * 7 + t) % 3 == 0] for i in range(32)]
    assert (lines["third"].loads, lines["third"].lanes) == (sum(map(bool, third)), sum(map(len, third)))
    # The n-th iteration of the inner loop: of 4 - t % 4 iterations.
    inner = [[t for t in range(i, 32) if n < 4 - t % 4] for i in range(32) for n in range(4)]
    assert (lines["inner"].loads, lines["inner"].lanes) == (sum(map(bool, inner)), sum(map(len, inner)))
    assert (lines["after"].stores, lines["after"].lanes) == (1, 32)


def groups_of(lanes):
    """How many of these groups of lanes are not empty, and how many lanes are in them."""
    return sum(map(bool, lanes)), sum(map(len, lanes))


def test_loops_with_jumps_and_calls(counted):
    found = counted("crooked", 1, 32, (np.ones(128, np.float32), floats(32)))[0]
    found |= counted("calls", 1, 32, (np.ones(128, np.float32), floats(32)))[0]
    found |= counted("early", 1, 32, (np.ones(128, np.float32), floats(32)))[0]
    turns = [(i, [t for t in range(32) if i <= t + 2]) for i in range(1, 34)]
    went = [(i, [t for t in lanes if (i + t) % 3]) for i, lanes in turns]
    helped = [[t for t in range(32) if i < t % 5 and j < i + t % 2] for i in range(5) for j in range(9)]
    helped += [[t for t in range(32) if i < t % 5 and t % 2 == 0] for i in range(5) for _ in range(3)]
    expected = {
        "skip": [[t for t in lanes if (i + t) % 3 == 0] for i, lanes in turns],
        "go": [lanes for _, lanes in went],
        "c0": [lanes for i, lanes in went if i % 3 == 0],
        "c1": [lanes for i, lanes in went if i % 3 == 1],
        "c2": [lanes for i, lanes in went if i % 3],
        "help": helped,
        "odd": [[t for t in range(32) if i < t % 5 and t % 2] for i in range(5)],
        "early": [[t for t in range(20) if t % 4 != i] for i in range(4)],
    }
    assert {mark: (found[mark].loads, found[mark].lanes) for mark in expected} == {
        mark: groups_of(lanes) for mark, lanes in expected.items()
    }


def test_a_long_loop_without_a_barrier(counted):
    lines, kernel = counted("long_loop", 1, 64, (floats(3000), floats(64), np.int32(3000)))
    assert (lines["long"].loads, lines["long"].lanes, lines["long"].sectors) == (6000, 96000, 6000)
    assert kernel.read_bytes == 375 * 32


def test_barriers_and_collectives(counted):
    lines, kernel = counted("meetings", 1, 64, (np.zeros(64, np.uint32),))
    assert lines["barrier"].block_barriers == 6
    assert lines["warp_barrier"].warp_barriers == 2
    assert lines["shuffle"].shuffles == 10
    assert (lines["vote"].votes, lines["reduce"].reductions) == (2, 2)
    total = kernel.total
    assert (total.block_barriers, total.shuffles, total.votes, total.matches) == (6, 10, 2, 0)


def test_local_memory_and_constants_are_not_counted(counted, modules):
    y = floats(32)
    for module in modules:
        np.ndarray((4,), np.float32, module.get_global("weights"))[:] = 1, 2, 3, 4
    lines, _ = counted("not_counted", 1, 32, (y,))
    places = np.arange(32) * 5 % 64
    np.testing.assert_array_equal(y, (places % 4 + 1) * places)
    assert (lines["local"].loads, lines["local"].stores) == (0, 0)
    assert (lines["one_store"].loads, lines["one_store"].stores, lines["one_store"].sectors) == (0, 1, 4)


def test_copies_matrices_and_tensor_cores(counted):
    _, kernel = counted("tensor", 1, 32, (np.zeros(512, np.uint16), floats(32)))
    inside = [line for line in kernel.lines if line.file.endswith("ptx.cuh")]
    (copy,) = (line for line in inside if line.shared_stores)
    assert (copy.loads, copy.sectors, copy.shared_stores) == (2, 32, 2)
    # Rows of 16 bytes, 32 bytes apart: two of the 8 rows of a matrix in each bank.
    (matrix,) = (line for line in inside if line.matrix_loads)
    assert (matrix.matrix_loads, matrix.shared_loads, matrix.wavefronts, matrix.least_wavefronts) == (1, 1, 8, 4)
    (product,) = (line for line in inside if line.operations)
    assert product.operations == {"16 bit": 2 * 16 * 8 * 16}
    assert kernel.times["16 bit"] == pytest.approx(4096 / 989.5e12 * 132)


def test_each_matrix_is_a_turn_also_where_rows_are_the_same(counted):
    _, kernel = counted("rows_in_pairs", 1, 32, (floats(32),))
    (matrix,) = (line for line in kernel.lines if line.matrix_loads)
    assert (matrix.shared_loads, matrix.wavefronts, matrix.least_wavefronts) == (1, 4, 4)


HOPPER = r"""
#include "hopper.cuh"
extern "C" __global__ void boxes(const __grid_constant__ CUtensorMap map, const float* x, float* y) {
  extern __shared__ __align__(1024) unsigned char s[];
  __shared__ unsigned long long b;
  float sums[4] = {};
  if (threadIdx.x == 0) {
    mbarrier_init(&b, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect_tx(&b, 256 + 1024);
    bulk_load(s, x, 256, &b);  // @bulk
    tensor_load(s + 1024, &map, {8, -3}, &b);  // @box
  }
  __syncthreads();
  mbarrier_wait_parity(&b, 0);
  wgmma_fence();
  wgmma_bf16(sums, wgmma_matrix(s, 0, 0, 128), wgmma_matrix(s, 0, 0, 128));  // @product
  wgmma_commit();
  wgmma_wait<0>();
  y[threadIdx.x] = sums[0];
  __syncthreads();
  fence_proxy_async();
  if (threadIdx.x == 0) {
    bulk_store(y, s, 96);  // @store
    bulk_commit();
    bulk_wait<0>();
  }
}
"""


@pytest.mark.parametrize("order", ["forward", "reverse", 3])
def test_bulk_copies_and_products_of_warpgroups(order):
    image = np.zeros((16, 32), np.float32)  # of which a box of 8 x 32 takes 5 rows of 24 columns
    kernel = RawKernel(HOPPER, "boxes", (f"-I{source.kernels_folder()}",), order=order)
    args = tensor_map(aligned(image), (8, 32)), floats(64), floats(128)
    with count("H200") as c:
        kernel((1,), (128,), args, shared_mem=4096)
    (counted,) = c.kernels
    lines = {(line.file.rpartition("/")[2], line.line): line for line in counted.lines}
    loads = [line.sectors for place, line in sorted(lines.items()) if line.loads]
    stores = [line.sectors for place, line in sorted(lines.items()) if line.stores and place[0] == "hopper.cuh"]
    assert (loads, stores) == ([8, 5 * 3], [3])
    assert counted.total.operations == {"16 bit": 2 * 64 * 8 * 16}
    assert counted.resources["registers"] > 0


def aligned(x):
    """A copy at a multiple of 128 bytes."""
    room = np.zeros(x.nbytes + 128, np.uint8)
    return room[-room.ctypes.data % 128 :][: x.nbytes].view(x.dtype).reshape(x.shape)


def test_shared_arrays_follow_each_other(counted):
    lines, _ = counted("two_arrays", 1, 32, (floats(32),))
    assert (lines["halves"].shared_loads, lines["halves"].wavefronts) == (1, 2)  # 128 bytes on: the same banks


@pytest.mark.parametrize(("cache_bytes", "hits"), [(128 * 32, 0), (128 * 64, 64 * 4)])
def test_the_cache_holds_what_was_used_last(modules, cache_bytes, hits):
    kernel = modules[0].get_function("twice")
    kernel.counts = Count(replace(card("H200"), cache_bytes=cache_bytes))
    n = 64 * 32  # 64 lines of 128 bytes, read one after the other, twice
    kernel((1,), (32,), (floats(n), floats(32), np.int32(n)))
    counted = kernel.counts.kernel("twice")
    assert sum(line.cache_hits for line in counted.lines if line.line == LINES["again"]) == hits
    assert counted.fetched_bytes == (2 * 64 * 4 - hits) * 32
    assert (counted.read_bytes, counted.written_back_bytes) == (n * 4, 128)


# --- what is made of it -----------------------------------------------------------------------------------------------


def test_launches_of_a_kernel_are_summed(modules):
    copy = modules[0].get_function("copy")
    with count("A100") as c:
        for _ in range(3):
            copy((1,), (32,), (floats(32), floats(32), np.int32(1), np.int32(0), np.int32(32)))
    (kernel,) = c.kernels
    assert (kernel.launches, kernel.total.loads, kernel.read_bytes, kernel.block) == (3, 3, 3 * 128, (32, 1, 1))
    assert kernel.times["DRAM"] == 3 * 256 / CARDS["A100"].bandwidth
    assert copy.counts.kernels == []  # those outside of count()
    text = str(c)
    assert "copy: 3 launches, grid (1, 1, 1), block (32, 1, 1), on A100" in text
    assert f"k.cu:{LINES['copy']}" in text
    described = json.loads(c.json())
    assert described["card"] == "A100"
    assert described["kernels"][0]["read_bytes"] == 384


def test_a_kernel_made_without_it_is_counted_too():
    code = 'extern "C" __global__ void plain(float* x, int n) { if (threadIdx.x < n) x[threadIdx.x] += 1; }'
    plain, x = RawKernel(code, "plain"), floats(32)
    with count() as c:
        plain((1,), (32,), (x, np.int32(5)))
    plain((1,), (32,), (x, np.int32(5)))
    assert x.tolist() == [2] * 5 + [0] * 27
    total = c.kernel("plain").total
    assert (total.loads, total.stores, total.sectors, c.kernel("plain").launches) == (1, 1, 2, 1)


def test_a_roofline_is_drawn(modules, tmp_path):
    pytest.importorskip("matplotlib")
    with count() as c:
        modules[0].get_function("tensor")((1,), (32,), (np.zeros(512, np.uint16), floats(32)))
    plot.roofline(c, tmp_path / "roofline.png")
    assert (tmp_path / "roofline.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_refused():
    code = '__device__ int total; extern "C" __global__ void add(int n) { total += n; }'
    with pytest.raises(ArgumentError, match="a kernel is checked or counted"):
        RawModule(code, check=True, count=True)
    with pytest.raises(ArgumentError, match="card must be one of H200, A100, RTX 3060, got 'H300'"), count("H300"):
        pass
    with count(), pytest.raises(LaunchError, match="add: a kernel made with check=True is not counted"):
        RawKernel(code, "add", check=True)((1,), (1,), (np.int32(1),))
    with count(), pytest.raises(LaunchError, match="the variable 'total' of its source would be another one"):
        RawKernel(code, "add")((1,), (1,), (np.int32(1),))


LISTING = """
.text.k:
	//## File "/here/k.cu", line 3 inlined at "/here/k.cu", line 8
	//## File "/here/k.cu", line 8
        /*0010*/                   FFMA R2, R2, R3, R4 ;
        /*0020*/              @!P0 FADD.FTZ R2, R2, R3 ;
	//## File "/here/k.cu", line 9
        /*0030*/                   IMAD.MOV.U32 R11, RZ, RZ, RZ ;
        /*0040*/                   HFMA2.MMA R5, -RZ, RZ, 1.5, 0 ;
        /*0050*/                   NOP;
        /*0058*/                   LDL.LU R5, [R1+0x4] ;
        /*0060*/               @P0 BRA `(.L_x_2) ;
.L_x_2:
        /*0070*/                   DFMA R2, R2, R3, R4 ;
        .type           $__internal_0_$__cuda_slowpath,@function
$__internal_0_$__cuda_slowpath:
        /*0080*/                   FFMA R2, R2, R3, R4 ;
"""


def test_a_listing_is_read():
    lines = sass.read_listing(LISTING, "/here")["k"]
    inlined, own = lines[("k.cu", 3), ("k.cu", 8)], lines[("k.cu", 9),]
    assert (inlined.instructions, inlined.operations) == ({"fp32": 2}, {"fp32": 3})
    assert own.instructions == {"move": 2, "local": 1, "branch": 1, "fp64": 1}
    assert own.operations == {"fp64": 2}


def test_what_unrolling_saves_takes_no_time():
    kinds = {"load": 400, "local": 800, "integer": 800, "move": 800, "constant": 800, "branch": 800}
    kernel = Kernel("k", card("H200"), lines=[Line(file="k.cu", line=1, instructions=kinds)])
    assert kernel.times["issue"] == pytest.approx(100 / card("H200").clock)  # by one multiprocessor, for one block


def test_a_missing_disassembler_is_said(monkeypatch):
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    monkeypatch.setattr(sass, "disassembler", lambda: None)
    code = 'extern "C" __global__ void without(float* x) { x[threadIdx.x] = 2; }'
    with count() as c:
        RawKernel(code, "without")((1,), (32,), (floats(32),))
    assert f"  no instructions: nvdisasm is not installed: {install_command('count')}" in str(c)
    assert c.kernel("without").resources["registers"] > 0


@pytest.mark.skipif(not sass.disassembler(), reason="nvdisasm is not installed")
def test_instructions_of_a_line(counted):
    lines, kernel = counted("arithmetic", 2, 64, (floats(64), np.int32(100)))
    assert not kernel.no_instructions
    # Four warps, a hundred iterations.
    assert (lines["fma"].instructions["fp32"], lines["fma"].operations) == (400, {"fp32": 2 * 32 * 400})
    assert (lines["fp64"].instructions["fp64"], lines["fp64"].operations) == (400, {"fp64": 2 * 32 * 400})
    assert 0 < kernel.resources["registers"] < 64
    assert kernel.occupancy == 1
    lines, _ = counted("transpose<1>", 1, (32, 32), (floats(1024), floats(1024)))
    assert (lines["in"].instructions["load"], lines["in"].instructions["store"]) == (32, 32)
