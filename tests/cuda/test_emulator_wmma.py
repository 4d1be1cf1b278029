"""The emulator: nvcuda::wmma, against products of NumPy."""

import numpy as np
import pytest

from gpunn.cuda.emulator import CheckError, RawModule
from gpunn.errors import CompileError

CODE = r"""
#include <mma.h>
using namespace nvcuda::wmma;

template <int m, int n, int k, class T, class Stored, class D, class LayoutA, class LayoutB>
__global__ void product(const Stored* a, const Stored* b, const D* c, D* d, int a_stride, int b_stride, int rows) {
  fragment<matrix_a, m, n, k, T, LayoutA> left;
  fragment<matrix_b, m, n, k, T, LayoutB> right;
  fragment<accumulator, m, n, k, D> sum, twice;
  load_matrix_sync(left, a, a_stride);
  load_matrix_sync(right, b, b_stride);
  load_matrix_sync(sum, c, rows ? n : m, rows ? mem_row_major : mem_col_major);
  fill_fragment(twice, (D)2);
  for (int i = 0; i < twice.num_elements; i++) twice.x[i] = twice.x[i] * sum.x[i];
  mma_sync(sum, left, right, twice);
  store_matrix_sync(d, sum, rows ? n : m, rows ? mem_row_major : mem_col_major);
}

extern "C" __global__ void saturated(int* y) {
  fragment<matrix_a, 16, 16, 16, signed char, row_major> a;
  fragment<matrix_b, 16, 16, 16, signed char, col_major> b;
  fragment<accumulator, 16, 16, 16, int> c;
  fill_fragment(a, 100);
  fill_fragment(b, 100);
  fill_fragment(c, 2147483000);
  mma_sync(c, a, b, c, true);
  store_matrix_sync(y, c, 16, mem_row_major);
}

extern "C" __global__ void rounding(const float* x, float* y) { y[threadIdx.x] = __float_to_tf32(x[threadIdx.x]); }

extern "C" __global__ void counts(int* y) {
  y[0] = fragment<matrix_a, 16, 16, 16, __half, row_major>::num_elements;
  y[1] = fragment<matrix_b, 32, 8, 16, __half, row_major>::num_elements;
  y[2] = fragment<matrix_b, 32, 8, 16, __nv_bfloat16, row_major>::num_elements;
  y[3] = fragment<matrix_a, 32, 8, 16, signed char, row_major>::num_elements;
  y[4] = fragment<accumulator, 8, 32, 16, float>::num_elements;
  y[5] = fragment<matrix_a, 16, 16, 8, precision::tf32, col_major>::num_elements;
  y[6] = fragment<accumulator, 8, 8, 4, double>::num_elements;
}

extern "C" __global__ void shared_tile(const __half* x, float* y) {
  __shared__ __half tile[16 * 24];
  for (int i = threadIdx.x; i < 256; i += 32) tile[i / 16 * 24 + i % 16] = x[i];
  BARRIER
  fragment<matrix_a, 16, 16, 16, __half, row_major> a;
  fragment<matrix_b, 16, 16, 16, __half, row_major> b;
  fragment<accumulator, 16, 16, 16, float> c;
  load_matrix_sync(a, tile, STRIDE);
  load_matrix_sync(b, x, 16);
  fill_fragment(c, 0.0f);
  mma_sync(c, a, b, c);
  store_matrix_sync(y, c, 16, mem_row_major);
}
"""

CASES = [
    ("16, 16, 16", "__half, __half, float", np.float16, np.float32),
    ("16, 16, 16", "__half, __half, __half", np.float16, np.float16),
    ("32, 8, 16", "__half, __half, float", np.float16, np.float32),
    ("8, 32, 16", "__nv_bfloat16, __nv_bfloat16, float", None, np.float32),
    ("16, 16, 8", "precision::tf32, float, float", np.float32, np.float32),
    ("16, 16, 16", "signed char, signed char, int", np.int8, np.int32),
    ("16, 16, 16", "unsigned char, unsigned char, int", np.uint8, np.int32),
    ("8, 8, 4", "double, double, double", np.float64, np.float64),
]
CASES = [(*case, ("row_major", "col_major")[:: 1 if i % 2 else -1]) for i, case in enumerate(CASES)]
NAMES = [f"product<{shape}, {types}, {', '.join(layouts)}>" for shape, types, _, _, layouts in CASES]


def source(barrier="__syncwarp();", stride=24):
    return CODE.replace("BARRIER", barrier).replace("STRIDE", str(stride))


@pytest.fixture(scope="module", params=[False, True], ids=["fast", "check"])
def module(request):
    return RawModule(source(), name_expressions=NAMES, filename="wmma.cu", check=request.param)


@pytest.mark.parametrize(("shape", "types", "dtype", "result", "layouts"), CASES)
def test_products(module, rng, shape, types, dtype, result, layouts):
    m, n, k = map(int, shape.split(","))
    low = 0 if dtype == np.uint8 else -100
    a, b, c = (rng.integers(low, 100, size) for size in ((m, k), (k, n), (m, n)))
    if dtype is None:  # bfloat16: the upper halves of float32
        stored = [(x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) for x in (a, b)]
    elif result == np.float16:
        a, b = a // 32, b // 32
        stored = [a.astype(dtype), b.astype(dtype)]
    else:
        stored = [a.astype(dtype), b.astype(dtype)]
    by_rows = [layout == "row_major" for layout in layouts]
    stored = [np.ascontiguousarray(x if rows else x.T) for x, rows in zip(stored, by_rows, strict=True)]
    rows = by_rows[0]
    given = np.ascontiguousarray((c if rows else c.T).astype(result))
    d = np.zeros_like(given)
    kernel = module.get_function(f"product<{shape}, {types}, {', '.join(layouts)}>")
    kernel((1,), (32,), (*stored, given, d, *(np.int32(x.shape[1]) for x in stored), np.int32(rows)))
    np.testing.assert_array_equal(d if rows else d.T, (a @ b + 2 * c).astype(result))


def test_integers_saturate(module):
    y = np.zeros((16, 16), np.int32)
    module.get_function("saturated")((1,), (32,), (y,))
    assert (y == 2**31 - 1).all()


def test_tf32_has_ten_digits(module):
    x = np.float32([1 + 2**-11, 1 + 2**-11 - 2**-23, -1 - 2**-11, np.inf, np.nan, 3])
    y = np.zeros_like(x)
    module.get_function("rounding")((1,), (6,), (x, y))
    np.testing.assert_array_equal(y, np.float32([1 + 2**-10, 1, -1 - 2**-10, np.inf, np.nan, 3]))


def test_lanes_hold_as_many_elements_as_cuda_says(module):
    y = np.zeros(7, np.int32)
    module.get_function("counts")((1,), (1,), (y,))
    assert y.tolist() == [16, 16, 4, 16, 8, 4, 2]


def test_a_tile_in_shared_memory(module, rng):
    x, y = rng.integers(-4, 5, (16, 16)).astype(np.float16), np.zeros((16, 16), np.float32)
    module.get_function("shared_tile")((1,), (32,), (x, y))
    np.testing.assert_array_equal(y, x.astype(np.float32) @ x.astype(np.float32))


@pytest.mark.parametrize(
    ("barrier", "stride", "threads", "kind"),
    [("", 24, 32, "race"), ("__syncwarp();", 20, 32, "misaligned"), ("__syncwarp();", 24, 16, "warp-mask")],
)
def test_mistakes_are_told_with_the_line_of_the_kernel(barrier, stride, threads, kind):
    code = source(barrier, stride)
    line = 1 + code[: code.index("load_matrix_sync(a, tile")].count("\n")
    x, y = np.ones((16, 16), np.float16), np.zeros((16, 16), np.float32)
    with pytest.raises(CheckError) as caught:
        RawModule(code, filename="wmma.cu", check=True).get_function("shared_tile")((1,), (threads,), (x, y))
    assert (kind, line) in {(report.kind, report.line) for report in caught.value.reports}


def test_shapes_that_wmma_lacks_are_refused():
    code = (
        '#include <mma.h>\nextern "C" __global__ void k() { nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 4, '
    )
    with pytest.raises(CompileError, match="wmma has no fragment of this type in this shape"):
        RawModule(code + "__half, nvcuda::wmma::row_major> a; (void)a; }")
