"""CUB's classes for blocks and warps in kernels: many sizes, numbers of items and types."""

import numpy as np
import pytest

pytestmark = [pytest.mark.gpu, pytest.mark.slow]  # the quick calls of test_calls.py have some of each

CODE = r"""
#include <cub/block/block_reduce.cuh>
#include <cub/block/block_load.cuh>
#include <cuda/functional>

template <class T, int threads, int items> __global__ void totals(const T* x, T* y, int valid) {
    typedef cub::BlockReduce<T, threads> Reduce;
    typedef cub::BlockLoad<T, threads, items> Load;
    __shared__ typename Reduce::TempStorage room;
    T mine[items];
    Load().Load(x, mine, valid, T(0));
    T sum = Reduce(room).Sum(mine);
    __syncthreads();
    T most = Reduce(room).Reduce(mine, cuda::maximum<>());
    __syncthreads();
    T first = Reduce(room).Reduce(x[threadIdx.x], cuda::minimum<>(), valid < threads ? valid : threads);
    if (threadIdx.x == 0) y[0] = sum, y[1] = most, y[2] = first;
}

// Following one affine function by another is no commutative operation: it shows in which order items are taken.
struct Affine { unsigned times, plus; };
struct Then {
    __device__ Affine operator()(Affine a, Affine b) const { return {a.times * b.times, a.plus * b.times + b.plus}; }
};
template <int threads> __global__ void in_order(const Affine* x, Affine* y) {
    typedef cub::BlockReduce<Affine, threads> Reduce;
    __shared__ typename Reduce::TempStorage room;
    Affine all = Reduce(room).Reduce(x[threadIdx.x], Then());
    if (threadIdx.x == 0) y[0] = all;
}

template <int lanes> __global__ void warps(const int* x, int* sums, int* most) {
    typedef cub::WarpReduce<int, lanes> Reduce;
    __shared__ typename Reduce::TempStorage rooms[96 / lanes];
    int group = threadIdx.x / lanes;
    int sum = Reduce(rooms[group]).Sum(x[threadIdx.x]);
    __syncwarp();
    int largest = Reduce(rooms[group]).Reduce(x[threadIdx.x], cuda::maximum<>(), lanes / 2);
    if (threadIdx.x % lanes == 0) sums[group] = sum, most[group] = largest;
}

__global__ void two_dimensions(const double* x, double* y) {
    typedef cub::BlockReduce<double, 8, cub::BLOCK_REDUCE_RAKING, 4, 3> Reduce;
    __shared__ Reduce::TempStorage room;
    int thread = threadIdx.x + 8 * (threadIdx.y + 4 * threadIdx.z);
    double sum = Reduce(room).Sum(x[thread]);
    if (thread == 0) y[0] = sum;
}

template <cub::BlockLoadAlgorithm algorithm> __global__ void loads(const int* x, int* y) {
    typedef cub::BlockLoad<int, 32, 3, algorithm> Load;
    __shared__ typename Load::TempStorage room;
    int mine[3] = {-1, -1, -1};
    Load(room).Load(x, mine, 50);
    for (int i = 0; i < 3; i++) y[threadIdx.x * 3 + i] = mine[i];
}
"""
SIZES = [1, 2, 3, 31, 32, 33, 64, 100, 256, 1000, 1024]
TYPES = {"float": "f4", "double": "f8", "int": "i4", "unsigned char": "u1", "long long": "i8"}
EACH = [(t, n, i) for t in TYPES for n in SIZES for i in ((1, 3) if t in ("float", "int") else (4,))]


def kernels(names):
    import cupy

    return cupy.RawModule(code=CODE, options=("-std=c++17",), name_expressions=names)


@pytest.mark.parametrize("kind", TYPES)
def test_totals_of_blocks(kind):
    import cupy

    rng = np.random.default_rng(0)
    each = [(threads, items) for name, threads, items in EACH if name == kind]
    module = kernels([f"totals<{kind}, {threads}, {items}>" for threads, items in each])
    for threads, items in each:
        for valid in {threads * items, max(1, threads * items * 2 // 3), 1}:
            x = rng.integers(0, 9, threads * items).astype(TYPES[kind])
            y = cupy.zeros(3, TYPES[kind])
            kernel = module.get_function(f"totals<{kind}, {threads}, {items}>")
            kernel((1,), (threads,), (cupy.asarray(x), y, np.int32(valid)))
            most = x[:valid].max()
            least = x[: min(valid, threads)].min()
            expected = np.array([x[:valid].sum(dtype=x.dtype), most, least])
            np.testing.assert_array_equal(y.get(), expected, err_msg=f"{threads} threads, {items} items, {valid} valid")


def test_items_are_taken_in_order():
    import cupy

    module = kernels([f"in_order<{threads}>" for threads in SIZES])
    for threads in SIZES:
        x = np.random.default_rng(0).integers(0, 1 << 32, (threads, 2), np.uint32)
        y = cupy.zeros(2, "u4")
        module.get_function(f"in_order<{threads}>")((1,), (threads,), (cupy.asarray(x), y))
        times, plus = 1, 0
        for a, b in x.tolist():
            times, plus = times * a % 2**32, (plus * a + b) % 2**32
        assert y.get().tolist() == [times, plus], threads


def test_totals_of_warps():
    import cupy

    sizes = (2, 8, 16, 32)
    module = kernels([f"warps<{lanes}>" for lanes in sizes])
    for lanes in sizes:
        x = np.random.default_rng(0).integers(-99, 99, 96).astype("i4")
        sums, most = cupy.zeros(96 // lanes, "i4"), cupy.zeros(96 // lanes, "i4")
        module.get_function(f"warps<{lanes}>")((1,), (96,), (cupy.asarray(x), sums, most))
        np.testing.assert_array_equal(sums.get(), x.reshape(-1, lanes).sum(1))
        np.testing.assert_array_equal(most.get(), x.reshape(-1, lanes)[:, : lanes // 2].max(1))


def test_blocks_of_several_dimensions_and_loads():
    import cupy

    module = kernels(
        ["two_dimensions", *(f"loads<cub::BLOCK_LOAD_{how}>" for how in ("DIRECT", "STRIPED", "TRANSPOSE"))]
    )
    y = cupy.zeros(1)
    module.get_function("two_dimensions")((1,), (8, 4, 3), (cupy.arange(96.0), y))
    assert float(y[0]) == 95 * 48
    for how in ("DIRECT", "STRIPED", "TRANSPOSE"):
        z = cupy.zeros(96, "i4")
        module.get_function(f"loads<cub::BLOCK_LOAD_{how}>")((1,), (32,), (cupy.arange(96, dtype="i4"), z))
        places = np.arange(96)
        if how == "STRIPED":
            places = np.arange(96).reshape(3, 32).T.ravel()
        np.testing.assert_array_equal(z.get(), np.where(places < 50, places, -1))


SLOW = ["bool", "float16", "complex128", "uint64"]


@pytest.mark.parametrize("reductions", [["cub"], []])
@pytest.mark.parametrize("dtype", ["float32", *(pytest.param(dtype, marks=pytest.mark.slow) for dtype in SLOW)])
def test_cupys_reductions(dtype, reductions):
    import cupy
    from cupy._core import _accelerator

    before = [_accelerator.get_reduction_accelerators(), _accelerator.get_routine_accelerators()]
    rng = np.random.default_rng(0)
    try:
        _accelerator.set_reduction_accelerators(reductions)
        _accelerator.set_routine_accelerators([])
        for shape in ((1,), (31,), (257,), (5000,), (3, 7, 65)):
            x = (rng.random(shape) * 3).astype(dtype)
            axes = [None] if len(shape) == 1 else [None, 2, (1, 2), 0]
            for axis in axes:
                for name in ("sum", "max", "argmin", "any"):
                    if name == "argmin" and isinstance(axis, tuple):
                        continue
                    got, expected = (
                        getattr(cupy, name)(cupy.asarray(x), axis=axis).get(),
                        getattr(np, name)(x, axis=axis),
                    )
                    tolerance = 1e-2 if dtype == "float16" else 1e-5
                    np.testing.assert_allclose(got, expected, tolerance, err_msg=f"{name} {shape} {axis}")
    finally:
        _accelerator.set_reduction_accelerators(before[0])
        _accelerator.set_routine_accelerators(before[1])
