"""The emulator: cooperative groups, pairs of 16-bit numbers, atomics on them and of every scope; what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawKernel, RawModule
from gpunn.errors import CompileError

GROUPS = r"""
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
namespace cg = cooperative_groups;

extern "C" __global__ void ranks(unsigned* y) {
  cg::thread_block block = cg::this_thread_block();
  cg::grid_group grid = cg::this_grid();
  auto tile = cg::tiled_partition<8>(block);
  auto part = cg::tiled_partition<2>(cg::tiled_partition<8>(block));
  unsigned* mine = y + 11 * grid.thread_rank();
  mine[0] = block.thread_rank(); mine[1] = block.size(); mine[2] = block.group_index().x;
  mine[3] = block.thread_index().y; mine[4] = grid.size(); mine[5] = tile.thread_rank();
  mine[6] = tile.meta_group_rank(); mine[7] = tile.meta_group_size(); mine[8] = part.meta_group_rank();
  mine[9] = part.meta_group_size(); mine[10] = part.thread_rank() + 10 * part.size();
}

// The sum of a block: of tiles, then of the tiles' sums.
extern "C" __global__ void block_sum(const float* x, float* y) {
  __shared__ float sums[8];
  cg::thread_block block = cg::this_thread_block();
  cg::thread_block_tile<32> tile = cg::tiled_partition<32>(block);
  float total = x[blockIdx.x * block.size() + block.thread_rank()];
  for (int distance = 16; distance; distance /= 2) total += tile.shfl_down(total, distance);
  if (tile.thread_rank() == 0) sums[tile.meta_group_rank()] = total;
  block.sync();
  if (tile.meta_group_rank() == 0) {
    total = tile.thread_rank() < tile.meta_group_size() ? sums[tile.thread_rank()] : 0.0f;
    total = cg::reduce(tile, total, cg::plus<float>());
    if (tile.thread_rank() == 0) y[blockIdx.x] = total;
  }
}

extern "C" __global__ void in_tiles(const int* x, int* y) {
  cg::thread_block block = cg::this_thread_block();
  auto tile = cg::tiled_partition<8>(block);
  int t = block.thread_rank(), n = block.size();
  y[t] = tile.shfl(x[t], 3);
  y[n + t] = tile.shfl_up(x[t], 2);
  y[2 * n + t] = tile.shfl_xor(x[t], 1);
  y[3 * n + t] = tile.ballot(x[t] > 0);
  y[4 * n + t] = tile.any(x[t] > 4) + 2 * tile.all(x[t] > -5);
  y[5 * n + t] = tile.match_any(x[t]);
  y[6 * n + t] = cg::reduce(tile, x[t], cg::greater<int>());
}

extern "C" __global__ void divergent(float* y) {
  cg::thread_block block = cg::this_thread_block();
  if (block.thread_rank() < 16) {
    block.sync();
  } else {
    block.sync();
  }
  y[block.thread_rank()] = 1.0f;
}
"""

HALVES = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <math_constants.h>

extern "C" __global__ void half_atomics(__half* h, __half2* h2, __nv_bfloat16* b, __nv_bfloat162* b2) {
  atomicAdd(h, __float2half(0.5f));
  atomicAdd(h2, __floats2half2_rn(0.5f, 2.0f));
  atomicAdd(b, __float2bfloat16(1.0f));
  atomicAdd(b2, __floats2bfloat162_rn(1.0f, -1.0f));
}

extern "C" __global__ void scopes(int* y, float* f) {
  atomicAdd_block(&y[0], 1); atomicAdd_system(&y[1], 2); atomicMax_block(&y[2], (int)threadIdx.x);
  atomicMin_system(&y[3], -(int)threadIdx.x); atomicCAS_block(&y[4], 0, 7); atomicAdd_system(f, 0.5f);
}

extern "C" __global__ void pairs(const __half2* x, __half2* y, int n) {
  int t = threadIdx.x, k = 0;
  __half2 a = x[t], b = x[n + t], c = a;
  c += b;
  y[n * k++ + t] = a + b; y[n * k++ + t] = a - b; y[n * k++ + t] = a * b; y[n * k++ + t] = a / b;
  y[n * k++ + t] = -a; y[n * k++ + t] = __habs2(a); y[n * k++ + t] = h2exp(a); y[n * k++ + t] = h2floor(a);
  y[n * k++ + t] = h2sqrt(__habs2(a)); y[n * k++ + t] = __lowhigh2highlow(a); y[n * k++ + t] = c;
}

extern "C" __global__ void vector_atomics(float2* a, float4* b) {
  atomicAdd(a, make_float2(1, 2));
  atomicAdd(b, make_float4(1, 2, 3, 4));
}

extern "C" __global__ void steps(__half* x, float* y) {
  x[1] = x[0]++; x[2] = --x[0]; ++x[0]; x[3] = x[0]--;
  y[0] = CUDART_INF_F; y[1] = nanf(""); y[2] = CUDART_PI_F;
}

extern "C" __global__ void bytes(const int* x, int* y) { y[threadIdx.x] = __dp4a(x[threadIdx.x], 0x7f01ff02, 5); }
"""


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def module(request):
    return RawModule(GROUPS + HALVES, filename="groups.cu", check=request.param)


def test_ranks(module):
    y = np.zeros((2, 48, 11), np.uint32)
    module.get_function("ranks")((2,), (12, 4), (y,))
    block, rank = np.indices((2, 48))
    constant = np.ones_like(rank)
    expected = [rank, 48 * constant, block, rank // 12, 96 * constant, rank % 8, rank // 8, 6 * constant]
    expected += [rank % 8 // 2, 4 * constant, rank % 2 + 20]
    np.testing.assert_array_equal(y, np.stack(expected, -1))


def test_a_sum_over_tiles(module, rng):
    x, y = rng.integers(-9, 9, (3, 96)).astype(np.float32), np.zeros(3, np.float32)
    module.get_function("block_sum")((3,), (96,), (x, y))
    np.testing.assert_array_equal(y, x.sum(1))


def test_operations_of_a_tile(module, rng):
    x, y = rng.integers(-5, 6, 64).astype(np.int32), np.zeros((7, 8, 8), np.int32)
    module.get_function("in_tiles")((1,), (64,), (x, y))
    x, lanes, bits = x.reshape(8, 8), np.arange(8), 1 << np.arange(8)
    expected = [
        np.repeat(x[:, 3:4], 8, 1),
        x[:, [0, 1, *range(6)]],
        x[:, lanes ^ 1],
        np.repeat((x > 0) @ bits[:, None], 8, 1),
        np.repeat((x > 4).any(1) + 2 * (x > -5).all(1), 8).reshape(8, 8),
        (x[:, :, None] == x[:, None, :]) @ bits,
        np.repeat(x.max(1), 8).reshape(8, 8),
    ]
    np.testing.assert_array_equal(y, np.stack(expected))


def test_barriers_of_a_block_on_two_lines_are_told_apart():
    with pytest.raises(CheckError) as caught:
        RawKernel(GROUPS, "divergent", check=True)((1,), (32,), (np.zeros(32, np.float32),))
    assert {report.kind for report in caught.value.reports} == {"divergent-barrier"}


def test_atomics_of_half_types(module):
    half, pair = np.zeros(1, np.float16), np.zeros(2, np.float16)
    bfloat, two = np.zeros(1, np.uint16), np.zeros(2, np.uint16)  # the upper halves of float32
    module.get_function("half_atomics")((3,), (40,), (half, pair, bfloat, two))
    assert (half.tolist(), pair.tolist()) == ([60.0], [60.0, 240.0])
    as_float = (np.concatenate([bfloat, two]).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(as_float, [120, 120, -120])


def test_a_sum_in_half_precision_stops_growing_where_it_rounds_down(module):
    half, unused = np.array([1024.0], np.float16), np.zeros(2, np.float16)
    module.get_function("half_atomics")((1,), (32,), (half, unused, unused.view(np.uint16)[:1], unused.view(np.uint16)))
    assert half[0] == 1024  # 1024.5 lies half-way, and goes to the even one


def test_atomics_of_every_scope(module):
    y, f = np.zeros(5, np.int32), np.zeros(1, np.float32)
    module.get_function("scopes")((2,), (50,), (y, f))
    assert (y.tolist(), f.tolist()) == ([100, 200, 49, -49, 7], [50.0])


def test_atomics_of_vectors(module):
    a, b = np.zeros(2, np.float32), np.zeros(4, np.float32)
    module.get_function("vector_atomics")((2,), (50,), (a, b))
    assert (a.tolist(), b.tolist()) == ([100, 200], [100, 200, 300, 400])


def test_steps_and_constants(module):
    x, y = np.array([4, 0, 0, 0], np.float16), np.zeros(3, np.float32)
    module.get_function("steps")((1,), (1,), (x, y))
    assert x.tolist() == [4, 4, 4, 5]
    np.testing.assert_array_equal(y, np.float32([np.inf, np.nan, np.pi]))


def test_pairs(module, rng):
    x, y = rng.uniform(-2, 2, (2, 32, 2)).astype(np.float16), np.zeros((11, 32, 2), np.float16)
    module.get_function("pairs")((1,), (32,), (x, y, np.int32(32)))
    a, b = x
    wide = a.astype(np.float32)
    expected = [
        a + b,
        a - b,
        a * b,
        a / b,
        -a,
        abs(a),
        np.exp(wide),
        np.floor(a),
        np.sqrt(abs(wide)),
        a[:, ::-1],
        a + b,
    ]
    for row, wanted in zip(y, expected, strict=True):
        np.testing.assert_allclose(row, wanted, rtol=np.finfo(np.float16).eps)  # a unit in the last place, from expf


def test_products_of_bytes(module, rng):
    x, y = rng.integers(-(2**31), 2**31, 32).astype(np.int32), np.zeros(32, np.int32)
    module.get_function("bytes")((1,), (32,), (x, y))
    parts = x.view(np.int8).reshape(32, 4).astype(int)
    np.testing.assert_array_equal(y, parts @ np.array([2, -1, 1, 127]) + 5)


def test_nvrtc_knows_the_same_names():
    """Not those of cooperative groups: their header needs another package than NVRTC and CUDA's runtime."""
    core = pytest.importorskip("cuda.core")
    runtime = pytest.importorskip("nvidia.cuda_runtime")
    include = str(Path(next(iter(runtime.__path__))) / "include")
    options = core.ProgramOptions(arch="sm_90", std="c++17", include_path=[include])
    program = core.Program(HALVES, "c++", options)
    try:
        assert program.compile("cubin").code
    finally:
        program.close()


KERNEL = 'extern "C" __global__ void k(float* x) {\n  %s\n}'


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (KERNEL % 'asm volatile("bar.arrive 0, 32;");', "^k.cu:2: inline PTX 'bar.arrive' is not emul"),
        (
            "#include <mma.h>\n" + KERNEL % "nvcuda::wmma::experimental::precision::u4 u;",
            "^k.cu:3: nvcuda::wmma of less",
        ),
        ("__global__ void k(const CUtensorMap map) {}", r"^k.cu:1: the kernel has no CUtensorMap; .*hopper.cuh"),
        (KERNEL % "other<<<1, 1>>>();", "^k.cu:2: launches from a kernel are not emulated"),
        (
            "#include <cub/cub.cuh>\n" + KERNEL % "cub::BlockReduce<float, 32> reduce;",
            r"^k.cu:3: [^\n]*cub(.*\n)*Nothing of these headers is emulated, which may be why: <cub/cub.cuh>\n"
            r"NVIDIA's own CUB and Thrust are taken where the options name their folders: -I.../cub, -I.../thrust and",
        ),
        (
            "#include <thrust/random.h>\n" + KERNEL % "thrust::minstd_rand engine;",
            r"^k.cu:3: [^\n]*thrust(.*\n)*Nothing .*: <thrust/random.h>\nNVIDIA's own CUB and Thrust are taken where",
        ),
        (
            "#include <cuda.h>\n#include <cufft.h>\n" + KERNEL % "cufftComplex c;",
            r"^k.cu:4: [^\n]*cufftComplex(.*\n)*Nothing .*: <cuda.h>, <cufft.h>$",
        ),
        ('#include "cudnn/../../own.h"\n', r"^k.cu:1: .*own.h"),
        ("#include <own.h>\n", r"^k.cu:1: .*own.h"),
    ],
)
def test_what_is_refused_is_named(code, message):
    with pytest.raises(CompileError, match=message):
        RawModule(code, filename="k.cu")


@pytest.mark.parametrize("check", [False, True])
def test_a_header_of_which_nothing_is_used_does_not_matter(tmp_path, check):
    (tmp_path / "own.h").write_text("#include <thrust/device_vector.h>\n#include <cusparse.h>\n#define ONE 1.0f\n")
    code = '#include <cublas_v2.h>\n#include "own.h"\n#include <cublas_v2.h>\n' + KERNEL % "x[0] = ONE;"
    x = np.zeros(1, np.float32)
    RawKernel(code, "k", (f"-I{tmp_path}",), check=check)((1,), (1,), (x,))
    assert x[0] == 1


def test_words_in_comments_and_strings_are_not_refused():
    code = (
        '// asm volatile("wgmma"); CUtensorMap\nextern "C" __global__ void k() { const char* s = "<<<1>>>"; (void)s; }'
    )
    RawKernel(code, "k")((1,), (1,), ())


def test_an_empty_asm_statement_is_taken():
    x = np.zeros(1, np.float32)
    RawKernel(KERNEL % 'x[0] = 1.0f; asm volatile("" ::: "memory");', "k")((1,), (1,), (x,))
    assert x[0] == 1
