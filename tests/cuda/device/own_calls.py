"""What CuPy has beside NumPy's functions: kernels of one's own, streams, memory, graphs, devices.

Each function of ``TABLE`` makes its calls and checks what comes of them; it returns nothing.
"""

from __future__ import annotations

import ctypes
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TABLE: dict[str, Callable[[], None]] = {}


def call(function: Callable[[], None]) -> Callable[[], None]:
    TABLE[function.__name__] = function
    return function


def same(got: Any, expected: Any, rtol: float = 0.0, atol: float = 0.0) -> None:
    import cupy

    got = cupy.asnumpy(got)
    if rtol or atol:
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(got, expected)


# --- kernels in CUDA C++ ----------------------------------------------------------------------------------------------


@call
def raw_kernel() -> None:
    import cupy

    kernel = cupy.RawKernel(
        'extern "C" __global__ void add(const float* a, const float* b, float* c, int n) {'
        "  int i = blockDim.x * blockIdx.x + threadIdx.x; if (i < n) c[i] = a[i] + 2 * b[i]; }",
        "add",
    )
    a, b, c = cupy.arange(100, dtype="f"), cupy.ones(100, "f"), cupy.zeros(128, "f")
    kernel((4,), (32,), (a, b, c, np.int32(100)))
    same(c, np.concatenate([np.arange(100) + 2, np.zeros(28)]))
    assert kernel.attributes["max_threads_per_block"] >= 32


@call
def raw_kernel_dynamic_shared_memory() -> None:
    import cupy

    kernel = cupy.RawKernel(
        'extern "C" __global__ void reverse(const double* x, double* y, int n) { extern __shared__ double s[];'
        "  for (int i = threadIdx.x; i < n; i += blockDim.x) s[i] = x[i]; __syncthreads();"
        "  for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = s[n - 1 - i]; }",
        "reverse",
    )
    for n in (50, 8000):  # the second is more than a block gets unasked
        kernel.max_dynamic_shared_size_bytes = n * 8
        x, y = cupy.arange(float(n)), cupy.zeros(n)
        kernel((1,), (64,), (x, y, np.int32(n)), shared_mem=n * 8)
        same(y, np.arange(n)[::-1])


@call
def raw_kernel_too_much_shared_memory() -> None:
    import cupy

    kernel = cupy.RawKernel('extern "C" __global__ void f(int* x) { extern __shared__ int s[]; x[0] = s[0]; }', "f")
    found = ""
    try:
        kernel((1,), (1,), (cupy.zeros(1, "i"),), shared_mem=1 << 20)
        cupy.cuda.Device().synchronize()
    except cupy.cuda.driver.CUDADriverError as error:
        found = str(error)
    assert "INVALID_VALUE" in found


@call
def raw_kernel_that_does_not_compile() -> None:
    import cupy

    found = ""
    try:
        cupy.RawKernel('extern "C" __global__ void f(int* x) { x[0] = undeclared; }', "f").compile()
    except cupy.cuda.compiler.CompileException as error:
        found = str(error)
    assert "undeclared" in found


@call
def raw_kernel_parameters() -> None:
    import cupy

    kernel = cupy.RawKernel(
        "#include <cupy/complex.cuh>\n"
        'extern "C" __global__ void f(double* y, bool a, signed char b, unsigned short c, long long d, float e,'
        " double f,  complex<double> g, const int* none) { y[0] = a; y[1] = b; y[2] = c; y[3] = d; y[4] = e; y[5] = f;"
        "  y[6] = g.real(); y[7] = g.imag(); y[8] = none == 0; }",
        "f",
    )
    y = cupy.zeros(9)
    kernel(
        (1,),
        (1,),
        (y, True, np.int8(-3), np.uint16(60000), np.int64(1 << 40), np.float32(0.5), 0.25, np.complex128(1 + 2j), None),
    )
    same(y, [1, -3, 60000, 1 << 40, 0.5, 0.25, 1, 2, 1])


@call
def raw_kernel_struct_by_value() -> None:
    import cupy

    kernel = cupy.RawKernel(
        'struct Pair { double a; int b; };extern "C" __global__ void f(Pair p, double* y) { y[0] = p.a; y[1] = p.b; }',
        "f",
    )
    y, pair = cupy.zeros(2), np.array((2.5, 7), np.dtype([("a", "f8"), ("b", "i4")], align=True))
    kernel((1,), (1,), (pair, y))
    same(y, [2.5, 7])


@call
def raw_module_templates() -> None:
    import cupy

    module = cupy.RawModule(
        code="template <class T, int times> __global__ void scale(T* x, int n) {"
        " int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) x[i] *= times; }",
        options=("-std=c++17",),
        name_expressions=("scale<float, 2>", "scale<long long, 3>", "scale<double,4>"),
    )
    for name, dtype, times in [
        ("scale<float, 2>", "f4", 2),
        ("scale<long long, 3>", "i8", 3),
        ("scale<double,4>", "f8", 4),
    ]:
        x = cupy.arange(50, dtype=dtype)
        module.get_function(name)((2,), (32,), (x, np.int32(50)))
        same(x, np.arange(50) * times)


@call
def raw_module_globals() -> None:
    import cupy

    module = cupy.RawModule(
        code='__constant__ float weights[4]; __device__ int counter = 5; extern "C" __global__ void f(float* y) {'
        " y[threadIdx.x] = weights[threadIdx.x] * 2; atomicAdd(&counter, 1); }"
    )
    weights = cupy.ndarray(4, "f", module.get_global("weights"))
    counter = cupy.ndarray(1, "i", module.get_global("counter"))
    weights[...] = cupy.array([1, 2, 3, 4], "f")
    y = cupy.zeros(4, "f")
    module.get_function("f")((1,), (4,), (y,))
    same(y, [2, 4, 6, 8])
    same(counter, [9])


@call
def raw_module_from_path() -> None:
    import cupy

    code = 'extern "C" __global__ void f(int* x) { x[threadIdx.x] = threadIdx.x * 3; }'
    program = cupy.cuda.compiler.compile_using_nvrtc(code, arch=cupy.cuda.Device().compute_capability)[0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(program)
        x = cupy.zeros(5, "i")
        cupy.RawModule(path=str(path)).get_function("f")((1,), (5,), (x,))
        same(x, np.arange(5) * 3)


@call
def raw_kernel_cooperative() -> None:
    import cupy

    kernel = cupy.RawKernel(
        "#include <cooperative_groups.h>\n"
        'extern "C" __global__ void f(int* x, int* y) { int i = blockIdx.x * blockDim.x + threadIdx.x; x[i] = i;'
        "  cooperative_groups::this_grid().sync(); y[i] = x[gridDim.x * blockDim.x - 1 - i]; }",
        "f",
        enable_cooperative_groups=True,
    )
    x, y = cupy.zeros(64, "i"), cupy.zeros(64, "i")
    kernel((2,), (32,), (x, y))
    same(y, np.arange(64)[::-1])


@call
def raw_kernel_texture() -> None:
    import cupy
    from cupy.cuda import runtime, texture

    channel = texture.ChannelFormatDescriptor(32, 0, 0, 0, runtime.cudaChannelFormatKindFloat)
    array = texture.CUDAarray(channel, 8, 4)
    array.copy_from(cupy.arange(32, dtype="f").reshape(4, 8))
    resource = texture.ResourceDescriptor(runtime.cudaResourceTypeArray, cuArr=array)
    description = texture.TextureDescriptor(
        (runtime.cudaAddressModeClamp,) * 2, runtime.cudaFilterModePoint, runtime.cudaReadModeElementType
    )
    kernel = cupy.RawKernel(
        'extern "C" __global__ void f(float* y, cudaTextureObject_t t) {'
        " y[threadIdx.x] = tex2D<float>(t, threadIdx.x % 8, threadIdx.x / 8); }",
        "f",
    )
    y = cupy.zeros(32, "f")
    kernel((1,), (32,), (y, texture.TextureObject(resource, description)))
    same(y, np.arange(32))


@call
def raw_kernel_warps_and_atomics() -> None:
    import cupy

    kernel = cupy.RawKernel(
        'extern "C" __global__ void f(const int* x, int* total, unsigned long long* most, float* sum) {'
        " int v = x[threadIdx.x];  for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(~0u, v, d);"
        "  if (threadIdx.x % 32 == 0) atomicAdd(total, v); atomicMax(most, (unsigned long long)x[threadIdx.x]);"
        "  atomicAdd(sum, 0.5f); }",
        "f",
    )
    x, total, most, sums = cupy.arange(128, dtype="i"), cupy.zeros(1, "i"), cupy.zeros(1, "Q"), cupy.zeros(1, "f")
    kernel((1,), (128,), (x, total, most, sums))
    same(total, [127 * 64])
    same(most, [127])
    same(sums, [64])


@call
def raw_kernel_half_types() -> None:
    import cupy

    kernel = cupy.RawKernel(
        "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
        'extern "C" __global__ void f(const __half* x, __half* y, float* z) { int i = threadIdx.x;'
        "  y[i] = __hadd(__hmul(x[i], x[i]), __float2half(1.0f));"
        "  z[i] = __bfloat162float(__float2bfloat16(__half2float(x[i]) / 3)); atomicAdd(y + 8, x[i]); }",
        "f",
    )
    x, y, z = cupy.arange(8, dtype="e"), cupy.zeros(9, "e"), cupy.zeros(8, "f")
    kernel((1,), (8,), (x, y, z))
    same(y, [*(np.arange(8) ** 2 + 1), 28])
    same(z, np.arange(8) / 3, rtol=1 / 256)


@call
def raw_kernel_cub_headers() -> None:
    import cupy

    kernel = cupy.RawKernel(
        "#include <cub/block/block_reduce.cuh>\n"
        'extern "C" __global__ void f(const float* x, float* y) { typedef cub::BlockReduce<float, 96> Reduce;'
        " __shared__ typename Reduce::TempStorage storage; float total = Reduce(storage).Sum(x[threadIdx.x]);"
        " if (threadIdx.x == 0) y[0] = total; }",
        "f",
    )
    y = cupy.zeros(1, "f")
    kernel((1,), (96,), (cupy.arange(96, dtype="f"), y))
    same(y, [95 * 48])


@call
def raw_kernel_libcudacxx() -> None:
    import cupy

    kernel = cupy.RawKernel(
        "#include <cuda/std/limits>\n#include <cuda/std/array>\n#include <cuda/std/tuple>\n#include <cuda/std/cmath>\n"
        "#include <cuda/std/type_traits>\n"
        'extern "C" __global__ void f(double* y) { cuda::std::array<int, 3> a = {1, 2, 3}; '
        " auto t = cuda::std::make_tuple(a[2], 2.5); y[0] = cuda::std::numeric_limits<int>::max();"
        " y[1] = cuda::std::get<1>(t); y[2] = cuda::std::hypot(3.0, 4.0);"
        " y[3] = cuda::std::is_same_v<int, decltype(a)::value_type>; }",
        "f",
        options=("-std=c++17",),
    )
    y = cupy.zeros(4)
    kernel((1,), (1,), (y,))
    same(y, [2**31 - 1, 2.5, 5, 1])


@call
def raw_kernel_on_views() -> None:
    import cupy

    kernel = cupy.RawKernel('extern "C" __global__ void f(int* x) { x[threadIdx.x] += 10; }', "f")
    x = cupy.arange(10, dtype="i")
    kernel((1,), (3,), (x[4:],))
    same(x, [0, 1, 2, 3, 14, 15, 16, 7, 8, 9])


# --- kernels that CuPy writes -----------------------------------------------------------------------------------------


@call
def elementwise_kernel() -> None:
    import cupy

    kernel = cupy.ElementwiseKernel("float32 x, float32 y", "float32 z", "z = (x - y) * (x - y)", "squared_difference")
    a, b = np.arange(10, dtype="f").reshape(2, 5), np.arange(5, dtype="f")
    same(kernel(cupy.array(a), cupy.array(b)), (a - b) ** 2)


@call
def elementwise_kernel_generic() -> None:
    import cupy

    kernel = cupy.ElementwiseKernel("T x, T y", "T z", "z = x * y + T(1)", "generic")
    for dtype in ("int8", "uint16", "int64", "float16", "float32", "float64", "complex64"):
        a = np.arange(5).astype(dtype)
        same(kernel(cupy.array(a), cupy.array(a)), a * a + 1)


@call
def elementwise_kernel_raw_and_loop() -> None:
    import cupy

    kernel = cupy.ElementwiseKernel(
        "raw T x, int32 shift",
        "T y",
        "y = x[(i + shift) % x.size()] * scale",
        "roll",
        preamble="#define scale 2",
        loop_prep="int unused = 0;",
    )
    a = np.arange(7.0)
    same(kernel(cupy.array(a), 3, size=7), 2 * np.roll(a, -3))


@call
def elementwise_kernel_strided() -> None:
    import cupy

    kernel = cupy.ElementwiseKernel("T x", "T y", "y = x + 1", "strided")
    a = np.arange(60).reshape(3, 4, 5)
    same(kernel(cupy.array(a)[::2, ::-1, 1::2].T), a[::2, ::-1, 1::2].T + 1)


@call
def reduction_kernel() -> None:
    import cupy

    kernel = cupy.ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0", "norm")
    a = np.random.default_rng(0).random((40, 300))
    for axis in (None, 0, 1):
        same(kernel(cupy.array(a), axis=axis), np.sqrt((a * a).sum(axis)), rtol=1e-12)


@call
def reduction_kernel_of_two() -> None:
    import cupy

    kernel = cupy.ReductionKernel("float32 x, float32 y", "float32 z", "abs(x - y)", "max(a, b)", "z = a", "0", "most")
    a, b = np.random.default_rng(0).random((2, 1234), np.float32)
    same(kernel(cupy.array(a), cupy.array(b)), abs(a - b).max())


@call
def fuse() -> None:
    import cupy

    @cupy.fuse()
    def function(x: Any, y: Any) -> Any:
        return cupy.where(x > y, cupy.sqrt(x) + y, x * y - 1)

    a, b = np.random.default_rng(0).random((2, 7, 9))
    same(function(cupy.array(a), cupy.array(b)), np.where(a > b, np.sqrt(a) + b, a * b - 1), rtol=1e-14)


@call
def fuse_with_reduction() -> None:
    import cupy

    @cupy.fuse(kernel_name="variance")
    def function(x: Any) -> Any:
        return cupy.sum((x - 1) ** 2, axis=1)

    a = np.random.default_rng(0).random((7, 90))
    same(function(cupy.array(a)), ((a - 1) ** 2).sum(1), rtol=1e-13)


@call
def fuse_in_place() -> None:
    import cupy

    @cupy.fuse()
    def function(x: Any, y: Any) -> None:
        x += y
        y *= 2

    a, b = cupy.arange(5.0), cupy.ones(5)
    function(a, b)
    same(a, np.arange(5) + 1)
    same(b, np.full(5, 2))


@call
def fuse_types() -> None:
    import cupy

    @cupy.fuse()
    def function(x: Any) -> Any:
        return (x * 2).astype(np.int32) + x.astype(np.complex64)

    for dtype in ("int8", "float16", "float32"):
        a = np.arange(5).astype(dtype)
        same(function(cupy.array(a)), 3 * np.arange(5))


@call
def vectorize() -> None:
    import cupy

    @cupy.vectorize
    def function(x: Any, y: Any) -> Any:
        if x > y:
            return x - y
        return x + y

    a, b = np.random.default_rng(0).random((2, 50))
    same(function(cupy.array(a), cupy.array(b)), np.where(a > b, a - b, a + b))


@call
def jit_rawkernel() -> None:
    import cupy
    from cupyx import jit

    @jit.rawkernel()
    def copy(x: Any, y: Any, size: Any) -> None:
        start = jit.blockIdx.x * jit.blockDim.x + jit.threadIdx.x
        for i in range(start, size, jit.gridDim.x * jit.blockDim.x):
            y[i] = x[i] * 2 + 1

    x = cupy.arange(1000, dtype="f")
    y = cupy.zeros_like(x)
    copy[4, 32](x, y, np.uint32(1000))
    same(y, np.arange(1000) * 2 + 1)
    y.fill(0)
    copy((2,), (64,), (x, y, np.uint32(1000)))
    same(y, np.arange(1000) * 2 + 1)


@call
def jit_shared_memory_and_atomics() -> None:
    import cupy
    from cupyx import jit

    @jit.rawkernel()
    def reverse(x: Any, y: Any, count: Any) -> None:
        held = jit.shared_memory(np.int32, 64)
        i = jit.threadIdx.x
        held[i] = x[i]
        jit.syncthreads()
        y[i] = held[63 - i]
        jit.atomic_add(count, 0, 1)
        jit.atomic_max(count, 1, x[i])

    x, y, count = cupy.arange(64, dtype="i"), cupy.zeros(64, "i"), cupy.zeros(2, "i")
    reverse[1, 64](x, y, count)
    same(y, np.arange(64)[::-1])
    same(count, [64, 63])


@call
def jit_warp_functions() -> None:
    import cupy
    from cupyx import jit

    @jit.rawkernel()
    def shuffle(x: Any, y: Any) -> None:
        i = jit.threadIdx.x
        y[i] = jit.shfl_xor_sync(0xFFFFFFFF, x[i], 1)
        y[i + 32] = jit.laneid()
        jit.syncwarp()

    x, y = cupy.arange(32, dtype="i"), cupy.zeros(64, "i")
    shuffle[1, 32](x, y)
    same(y, [*(np.arange(32) ^ 1), *range(32)])


@call
def jit_two_dimensions_and_functions() -> None:
    import cupy
    from cupyx import jit

    @jit.rawkernel(device=True)
    def mixed(a: Any, b: Any) -> Any:
        return a * 10 + b

    @jit.rawkernel()
    def fill(y: Any) -> None:
        i, j = jit.grid(2)
        if i < y.shape[0] and j < y.shape[1]:
            y[i, j] = mixed(i, j)

    y = cupy.zeros((5, 6), "i")
    fill[(1, 1), (8, 8)](y)
    same(y, np.add.outer(np.arange(5) * 10, np.arange(6)))


@call
def jit_cub() -> None:
    import cupy
    from cupyx import jit

    block, warp = jit.cub.BlockReduce[np.float32, 96], jit.cub.WarpReduce[np.float32]

    @jit.rawkernel()
    def totals(x: Any, y: Any) -> None:
        room = jit.shared_memory(block.TempStorage, 1)
        rooms = jit.shared_memory(warp.TempStorage, 3)
        i = jit.threadIdx.x
        total = block(room[0]).Sum(x[i])
        most = warp(rooms[i // 32]).Reduce(x[i], jit.cub.Max())
        if i == 0:
            y[3] = total
        if i % 32 == 0:
            y[i // 32] = most

    x, y = np.random.default_rng(0).random(96, np.float32), cupy.zeros(4, "f")
    totals[1, 96](cupy.array(x), y)
    same(y, [*x.reshape(3, 32).max(1), x.sum()], rtol=1e-6)


@call
def jit_cooperative_groups() -> None:
    import cupy
    from cupyx import jit

    @jit.rawkernel()
    def ranks(y: Any) -> None:
        block = jit.cg.this_thread_block()
        block.sync()
        y[block.thread_rank()] = block.group_index().x + block.size()

    y = cupy.zeros(8, "i")
    ranks[1, 8](y)
    same(y, np.full(8, 8))


@call
def ufunc_keywords() -> None:
    import cupy

    a, out = cupy.arange(6.0), cupy.zeros(6)
    assert cupy.add(a, 1, out=out) is out
    same(out, np.arange(6) + 1)
    same(cupy.multiply(a, 2, dtype="float32"), np.arange(6, dtype="f") * 2)
    same(cupy.add.outer(a, a), np.add.outer(np.arange(6.0), np.arange(6.0)))
    same(cupy.add.reduce(a), 15)
    cupy.add.at(out, cupy.array([0, 0, 1]), 5)
    same(out, [11, 7, 3, 4, 5, 6])


@call
def scatter() -> None:
    import cupy
    import cupyx

    a = cupy.zeros(4, "f")
    cupyx.scatter_add(a, cupy.array([0, 0, 2]), cupy.array([1, 2, 3], "f"))
    same(a, [3, 0, 3, 0])
    cupyx.scatter_max(a, cupy.array([0, 1]), cupy.array([1, 2], "f"))
    same(a, [3, 2, 3, 0])
    cupyx.scatter_min(a, cupy.array([0, 1]), cupy.array([1, 7], "f"))
    same(a, [1, 2, 3, 0])


@call
def scatter_types() -> None:
    import cupy
    import cupyx

    for dtype in ("float16", "float32", "float64", "int32", "uint32", "uint64"):
        a = cupy.zeros(3, dtype)
        cupyx.scatter_add(a, cupy.array([0, 0, 2, 1, 0]), cupy.array([1, 2, 3, 4, 5], dtype))
        same(a, [8, 4, 3])


@call
def cupyx_functions() -> None:
    import cupy
    import cupyx

    same(cupyx.rsqrt(cupy.array([4.0, 16.0])), [0.5, 0.25])
    assert cupyx.empty_pinned((3,), "f").shape == (3,)
    with cupyx.errstate(linalg="raise"):
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = cupyx.profiler.benchmark(lambda: cupy.arange(4) + 1, n_repeat=2, n_warmup=1)
    assert result.gpu_times.shape == (1, 2)


# --- streams, events, graphs ------------------------------------------------------------------------------------------


@call
def streams() -> None:
    import cupy

    first, second = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    with first:
        a = cupy.arange(1000) * 2
        done = first.record()
    second.wait_event(done)
    with second:
        b = a + 1
    second.synchronize()
    same(b, np.arange(1000) * 2 + 1)
    assert first.done
    assert cupy.cuda.get_current_stream() == cupy.cuda.Stream.null
    assert cupy.cuda.Stream.ptds is not None


@call
def stream_priority_and_external() -> None:
    import cupy

    stream = cupy.cuda.Stream(priority=-1)
    assert stream.priority <= 0
    with cupy.cuda.ExternalStream(stream.ptr):
        a = cupy.ones(9).sum()
    stream.synchronize()
    assert float(a) == 9


@call
def events() -> None:
    import cupy

    start, end = cupy.cuda.Event(), cupy.cuda.Event()
    start.record()
    cupy.arange(10) + 1
    end.record()
    end.synchronize()
    assert end.done
    assert cupy.cuda.get_elapsed_time(start, end) >= 0


@call
def stream_callbacks() -> None:
    import cupy

    called: list[int] = []
    stream = cupy.cuda.Stream()
    stream.launch_host_func(called.append, 7)
    stream.add_callback(lambda stream, status, data: called.append(data), 8)
    stream.synchronize()
    assert called == [7, 8]


@call
def asynchronous_copies() -> None:
    import cupy

    stream = cupy.cuda.Stream()
    host = cupy.cuda.alloc_pinned_memory(8 * 100)
    pinned = np.frombuffer(host, "f8", 100)
    pinned[...] = np.arange(100)
    a = cupy.empty(100)
    a.set(pinned, stream=stream)
    with stream:
        b = a * 2
    back = b.get(stream=stream, blocking=False)
    stream.synchronize()
    same(back, np.arange(100) * 2)


@call
def graphs() -> None:
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)
    a, b = cupy.arange(10.0), cupy.zeros(10)
    cupy.multiply(a, 2, out=b)  # compiled before it is captured
    b.fill(0)
    cupy.cuda.Device().synchronize()
    with stream:
        stream.begin_capture()
        cupy.multiply(a, 2, out=b)
        graph = stream.end_capture()
    same(b, np.zeros(10))
    graph.launch(stream)
    stream.synchronize()
    same(b, np.arange(10) * 2)
    a += 1
    cupy.cuda.Device().synchronize()
    graph.launch(stream)
    stream.synchronize()
    same(b, (np.arange(10) + 1) * 2)


# --- memory -----------------------------------------------------------------------------------------------------------


@call
def memory_pool() -> None:
    import cupy

    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.using_allocator(pool.malloc):
        a = cupy.zeros(1000)
        assert pool.used_bytes() >= 8000
        same(a, np.zeros(1000))
        del a
    assert pool.used_bytes() == 0
    assert pool.total_bytes() >= 8000
    pool.free_all_blocks()
    assert pool.total_bytes() == 0


@call
def memory_pool_limit() -> None:
    import cupy

    pool = cupy.cuda.MemoryPool()
    pool.set_limit(size=1 << 20)
    with cupy.cuda.using_allocator(pool.malloc):
        try:
            cupy.zeros(1 << 20)
        except cupy.cuda.memory.OutOfMemoryError:
            return
    raise AssertionError("there was no limit")


@call
def memory_async_pool() -> None:
    import cupy

    pool = cupy.cuda.MemoryAsyncPool()
    with cupy.cuda.using_allocator(pool.malloc):
        a = cupy.arange(1000.0) + 1
        same(a, np.arange(1000) + 1)
        del a
    cupy.cuda.Device().synchronize()


@call
def memory_async_allocator() -> None:
    import cupy

    with cupy.cuda.using_allocator(cupy.cuda.malloc_async):
        a = cupy.arange(100.0) * 3
        same(a, np.arange(100) * 3)


@call
def managed_memory() -> None:
    import cupy

    with cupy.cuda.using_allocator(cupy.cuda.malloc_managed):
        a = cupy.arange(10) * 2
    cupy.cuda.Device().synchronize()
    same(np.ctypeslib.as_array((ctypes.c_int64 * 10).from_address(a.data.ptr)), np.arange(10) * 2)


@call
def pinned_memory() -> None:
    import cupy
    import cupyx

    pool = cupy.cuda.PinnedMemoryPool()
    memory = pool.malloc(1000)
    assert memory.size() >= 1000
    del memory
    assert pool.n_free_blocks() == 1
    pool.free_all_blocks()
    a = cupyx.zeros_pinned((4, 5), "f")
    a += 2
    same(cupy.asarray(a) * 2, np.full((4, 5), 4))


@call
def memory_hooks() -> None:
    import cupy

    hook = cupy.cuda.memory_hooks.DebugPrintHook(file=open("/dev/null", "w"))  # noqa: SIM115
    with hook:
        cupy.zeros(10)


@call
def unowned_memory_and_interfaces() -> None:
    import cupy

    a = cupy.arange(10, dtype="i")
    memory = cupy.cuda.UnownedMemory(a.data.ptr, a.nbytes, a)
    b = cupy.ndarray(5, "i", cupy.cuda.MemoryPointer(memory, 20))
    same(b, np.arange(5, 10))

    class Foreign:
        __cuda_array_interface__ = a.__cuda_array_interface__

    same(cupy.asarray(Foreign()), np.arange(10))
    same(cupy.from_dlpack(a), np.arange(10))
    pointer = cupy.cuda.runtime.pointerGetAttributes(a.data.ptr)
    assert pointer.device == cupy.cuda.Device().id


@call
def memory_copies() -> None:
    import cupy

    a, host = cupy.arange(10.0), np.zeros(10)
    a.data.copy_to_host(host.ctypes.data, 80)
    same(host, np.arange(10))
    b = cupy.empty(10)
    b.data.copy_from_device(a.data, 80)
    same(b, np.arange(10))
    b.data.memset(0, 40)
    same(b, [0] * 5 + [5, 6, 7, 8, 9])
    c = cupy.zeros((4, 6))
    c[:, 1:3] = 7
    assert float(c.sum()) == 56


@call
def too_much_memory() -> None:
    import cupy

    try:
        cupy.zeros(1 << 50, "i1")
    except cupy.cuda.memory.OutOfMemoryError:
        return
    raise AssertionError("a petabyte was there")


# --- devices ----------------------------------------------------------------------------------------------------------


@call
def device_properties() -> None:
    import cupy

    device = cupy.cuda.Device(0)
    assert int(device.compute_capability) >= 50
    assert device.attributes["MaxThreadsPerBlock"] == 1024
    free, total = device.mem_info
    assert 0 < free <= total
    assert cupy.cuda.runtime.getDeviceProperties(0)["warpSize"] == 32
    assert len(device.pci_bus_id) > 5
    assert cupy.cuda.is_available()


@call
def two_devices() -> None:
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        return
    with cupy.cuda.Device(1):
        a = cupy.arange(10) * 2
    assert a.device.id == 1
    same(a, np.arange(10) * 2)
    b = cupy.asarray(a)
    assert b.device.id == 0
    same(b + 1, np.arange(10) * 2 + 1)


@call
def versions() -> None:
    import cupy

    assert cupy.cuda.runtime.runtimeGetVersion() >= 11020
    assert cupy.cuda.runtime.driverGetVersion() >= 11020
    assert cupy.cuda.nvrtc.getVersion()[0] >= 11


@call
def profiler() -> None:
    import cupy
    import cupyx.profiler

    with cupyx.profiler.time_range("a range"), cupyx.profiler.profile():
        cupy.arange(3) + 1


@call
def get_array_module() -> None:
    import cupy

    assert cupy.get_array_module(cupy.zeros(1)) is cupy
    assert cupy.get_array_module(np.zeros(1)) is np
    assert cupy.get_array_module(np.zeros(1), cupy.zeros(1)) is cupy


@call
def no_silent_conversion() -> None:
    import cupy

    try:
        np.asarray(cupy.arange(3))
    except TypeError:
        pass
    else:
        raise AssertionError("NumPy took an array of the device")
    same(np.add(cupy.arange(3), 1), [1, 2, 3])  # CuPy computes it, for NumPy asks it to


@call
def pickled() -> None:
    import pickle

    import cupy

    same(pickle.loads(pickle.dumps(cupy.arange(5.0))), np.arange(5))


# --- random numbers ---------------------------------------------------------------------------------------------------


def _distributed(draw: Callable[..., Any], mean: float, deviation: float, size: int = 20000) -> Callable[[], None]:
    """Numbers of which mean and deviation are what they have to be, within what chance allows."""

    def check() -> None:
        import cupy

        x = cupy.asnumpy(draw(cupy.random, size)).astype(float)
        assert x.shape == (size,)
        assert np.isfinite(x).all()
        assert abs(x.mean() - mean) < 6 * deviation / size**0.5 + 1e-9, (x.mean(), mean)
        assert abs(x.std() / deviation - 1) < 0.1, (x.std(), deviation)

    return check


# "pareto" and "zipf" have tails so heavy that their sample deviation is uncertain: a bounded function of them is taken.
_DISTRIBUTIONS: dict[str, tuple[Callable[..., Any], float, float]] = {
    "rand": (lambda r, n: r.rand(n), 0.5, 12**-0.5),
    "random": (lambda r, n: r.random(n), 0.5, 12**-0.5),
    "random_sample": (lambda r, n: r.random_sample(n), 0.5, 12**-0.5),
    "ranf": (lambda r, n: r.ranf(n), 0.5, 12**-0.5),
    "sample": (lambda r, n: r.sample(n), 0.5, 12**-0.5),
    "randn": (lambda r, n: r.randn(n), 0, 1),
    "standard_normal": (lambda r, n: r.standard_normal(n), 0, 1),
    "normal": (lambda r, n: r.normal(3, 2, n), 3, 2),
    "uniform": (lambda r, n: r.uniform(2, 4, n), 3, 3**-0.5),
    "randint": (lambda r, n: r.randint(0, 10, n), 4.5, 8.25**0.5),
    "random_integers": (lambda r, n: r.random_integers(1, 6, n), 3.5, (35 / 12) ** 0.5),
    "beta": (lambda r, n: r.beta(2, 3, n), 0.4, 0.2),
    "binomial": (lambda r, n: r.binomial(10, 0.3, n), 3, 2.1**0.5),
    "chisquare": (lambda r, n: r.chisquare(4, n), 4, 8**0.5),
    "choice": (lambda r, n: r.choice(10, n), 4.5, 8.25**0.5),
    "exponential": (lambda r, n: r.exponential(2, n), 2, 2),
    "standard_exponential": (lambda r, n: r.standard_exponential(n), 1, 1),
    "f": (lambda r, n: r.f(5, 20, n), 20 / 18, (2 * 400 * 23 / (5 * 324 * 16)) ** 0.5),
    "gamma": (lambda r, n: r.gamma(3, 2, n), 6, 12**0.5),
    "standard_gamma": (lambda r, n: r.standard_gamma(3, n), 3, 3**0.5),
    "geometric": (lambda r, n: r.geometric(0.4, n), 2.5, 0.6**0.5 / 0.4),
    "gumbel": (lambda r, n: r.gumbel(0, 1, n), 0.5772157, np.pi / 6**0.5),
    "hypergeometric": (lambda r, n: r.hypergeometric(10, 20, 9, n), 3, (9 * (1 / 3) * (2 / 3) * 21 / 29) ** 0.5),
    "laplace": (lambda r, n: r.laplace(0, 1, n), 0, 2**0.5),
    "logistic": (lambda r, n: r.logistic(0, 1, n), 0, np.pi / 3**0.5),
    "lognormal": (lambda r, n: r.lognormal(0, 0.5, n), np.exp(0.125), ((np.exp(0.25) - 1) * np.exp(0.25)) ** 0.5),
    "logseries": (lambda r, n: r.logseries(0.3, n), 1.2015, 0.5224),
    "negative_binomial": (lambda r, n: r.negative_binomial(5, 0.5, n), 5, 10**0.5),
    "noncentral_chisquare": (lambda r, n: r.noncentral_chisquare(3, 2, n), 5, 14**0.5),
    "noncentral_f": (lambda r, n: r.noncentral_f(5, 30, 2, n), 1.5, 6 * (2 * 301 / (28**2 * 26)) ** 0.5),
    "pareto": (lambda r, n: 1 / (1 + r.pareto(5, n)), 5 / 6, (5 / 252) ** 0.5),
    "poisson": (lambda r, n: r.poisson(4, n), 4, 2),
    "power": (lambda r, n: r.power(3, n), 0.75, (3 / 80) ** 0.5),
    "rayleigh": (lambda r, n: r.rayleigh(1, n), (np.pi / 2) ** 0.5, (2 - np.pi / 2) ** 0.5),
    "standard_t": (lambda r, n: r.standard_t(10, n), 0, (10 / 8) ** 0.5),
    "triangular": (lambda r, n: r.triangular(0, 1, 2, n), 1, 6**-0.5),
    "vonmises": (lambda r, n: r.vonmises(0, 4, n), 0, 0.547),
    "wald": (lambda r, n: r.wald(3, 5, n), 3, (27 / 5) ** 0.5),
    "weibull": (lambda r, n: r.weibull(2, n), 0.886227, 0.463251),
    "zipf": (lambda r, n: 1 / r.zipf(2, n), 0.730763, 0.352068),
}
for _name, _what in _DISTRIBUTIONS.items():
    TABLE[f"random.{_name}"] = _distributed(*_what)

_GENERATED: dict[str, tuple[Callable[..., Any], float, float]] = {
    "random": (lambda g, n: g.random(n), 0.5, 12**-0.5),
    "standard_normal": (lambda g, n: g.standard_normal(n), 0, 1),
    "integers": (lambda g, n: g.integers(0, 10, n), 4.5, 8.25**0.5),
    "uniform": (lambda g, n: g.uniform(2, 4, n), 3, 3**-0.5),
    "exponential": (lambda g, n: g.exponential(2, n), 2, 2),
    "standard_exponential": (lambda g, n: g.standard_exponential(n), 1, 1),
    "gamma": (lambda g, n: g.gamma(3, 2, n), 6, 12**0.5),
    "standard_gamma": (lambda g, n: g.standard_gamma(3, n), 3, 3**0.5),
    "beta": (lambda g, n: g.beta(2, 3, n), 0.4, 0.2),
    "binomial": (lambda g, n: g.binomial(10, 0.3, n), 3, 2.1**0.5),
    "chisquare": (lambda g, n: g.chisquare(4, n), 4, 8**0.5),
    "f": (lambda g, n: g.f(5, 20, n), 20 / 18, (2 * 400 * 23 / (5 * 324 * 16)) ** 0.5),
    "geometric": (lambda g, n: g.geometric(0.4, n), 2.5, 0.6**0.5 / 0.4),
    "hypergeometric": (lambda g, n: g.hypergeometric(10, 20, 9, n), 3, (9 * (1 / 3) * (2 / 3) * 21 / 29) ** 0.5),
    "logseries": (lambda g, n: g.logseries(0.3, n), 1.2015, 0.5224),
    "poisson": (lambda g, n: g.poisson(4, n), 4, 2),
    "power": (lambda g, n: g.power(3, n), 0.75, (3 / 80) ** 0.5),
}
for _name, _what in _GENERATED.items():
    TABLE[f"default_rng.{_name}"] = _distributed(
        lambda random, size, draw=_what[0]: draw(random.default_rng(1), size), *_what[1:]
    )


@call
def random_permutations() -> None:
    import cupy

    same(cupy.sort(cupy.random.permutation(50)), np.arange(50))
    a = cupy.arange(50)
    cupy.random.shuffle(a)
    assert (a != cupy.arange(50)).any()
    same(cupy.sort(a), np.arange(50))


@call
def random_seeds() -> None:
    import cupy

    cupy.random.seed(3)
    a = cupy.random.rand(5)
    cupy.random.seed(3)
    same(cupy.random.rand(5), cupy.asnumpy(a))
    state = cupy.random.RandomState(7)
    assert float(abs(state.rand(5) - cupy.random.RandomState(7).rand(5)).max()) == 0
    assert len(cupy.random.bytes(5)) == 5


@call
def random_of_several_dimensions() -> None:
    import cupy

    x = cupy.random.multivariate_normal(
        cupy.array([1.0, 2.0]), cupy.array([[1.0, 0.5], [0.5, 2.0]]), 20000, method="eigh"
    )
    same(x.mean(0), [1, 2], atol=0.1)
    same(cupy.cov(x.T), [[1, 0.5], [0.5, 2]], atol=0.15)
    same(cupy.random.dirichlet([1, 2, 3], 5).sum(1), np.ones(5), rtol=1e-12)
    same(cupy.random.multinomial(20, [0.2, 0.3, 0.5], 5).sum(1), np.full(5, 20))
    assert np.isfinite(cupy.asnumpy(cupy.random.standard_cauchy(100))).all()


def main(names: list[str]) -> int:
    totals = {"right": 0, "refused": 0, "wrong": 0}
    for name in names or TABLE:
        outcome = tried(name)
        totals[outcome.verdict] += 1
        if outcome.verdict != "right":
            print(f"{name}: {outcome.verdict}: {' '.join(outcome.why.split())[:600]}", flush=True)
    print(f"{sum(totals.values())} calls: " + ", ".join(f"{count} {verdict}" for verdict, count in totals.items()))
    return totals["wrong"]


def tried(name: str) -> Any:
    from calls import REFUSALS, Outcome, said

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            TABLE[name]()
        except Exception as error:
            text = said(error)
            return Outcome("refused" if any(words in text for words in REFUSALS) else "wrong", text)
    return Outcome("right")


if __name__ == "__main__":
    import sys

    from gpunn.cuda import device

    device.start()
    sys.exit(main(sys.argv[1:]) != 0)
