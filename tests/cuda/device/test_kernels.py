"""Kernels on the real CuPy: launches, modules, and what goes wrong with them."""

import os
import signal
import time

import numpy as np
import pytest

from gpunn.cuda import device
from gpunn.cuda.emulator import build

cupy = pytest.importorskip("cupy")
DriverError = cupy.cuda.driver.CUDADriverError

pytestmark = pytest.mark.gpu

emulated = pytest.mark.skipif(device.running() is None, reason="of the emulated device")

ADD = """
__constant__ float factor[2];
__device__ int launches;
extern "C" __global__ void scale(const float* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = factor[1] * x[i];
  if (i == 0) atomicAdd(&launches, 1);
}
extern "C" __global__ void reverse(const int* x, int* y) {
  extern __shared__ int row[];
  row[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = row[blockDim.x - 1 - threadIdx.x];
}
"""


def test_variables_of_a_module_are_memory():
    module = cupy.RawModule(code=ADD)
    factor = cupy.ndarray(2, np.float32, module.get_global("factor"))
    factor[...] = cupy.asarray([7, 3], np.float32)
    launches = cupy.ndarray(1, np.int32, module.get_global("launches"))
    x = cupy.arange(40, dtype=np.float32)
    y = cupy.zeros_like(x)
    for _ in range(2):
        module.get_function("scale")((2,), (32,), (x, y, np.int32(40)))
    np.testing.assert_array_equal(cupy.asnumpy(y), 3 * np.arange(40, dtype=np.float32))
    assert launches.tolist() == [2]
    with pytest.raises(DriverError, match="CUDA_ERROR_NOT_FOUND: named symbol not found"):
        module.get_function("none")
    with pytest.raises(DriverError, match="CUDA_ERROR_NOT_FOUND"):
        module.get_global("none")


@pytest.mark.parametrize(
    ("expected", "operation", "more"),
    [
        ([1] * 6, "n += 1; y = n", {"loop_prep": "int n = 0;"}),
        ([0, 0, 0, 0, 0, 6], "y = 0", {"after_loop": "_raw_y[5] = 6;"}),
        ([0, 1, 2, 3, 4, 5], "y = ID", {"options": ("-DID=threadIdx.x",)}),
        ([0, 1, 2, 3, 4, 5], "y = ID", {"options": ("-D", "ID=threadIdx.x")}),
        ([0, 1, 2, 3, 4, 5], 'asm("mov.u32 %0, %%laneid;" : "=r"(y))', {}),
        ([63] * 6, "y = __activemask()", {}),
        ([7] * 6, "y = 0; count(&y)", {"preamble": "__device__ void count(int* y) { *y += 7; }"}),
        ([0, 2, 4, 6, 8, 10], "i *= 2; y = i", {}),
        ([0, 1, 2, 3, 4, 5], "y = i; i = 100000", {}),
        ([0, 1, 0, 1, 0, 1], "i %= 2; y = i", {}),
        ([0, 1, 2, 3, 4, 5], "y = i; LEAVE", {"preamble": "#define A(x) re##x\n#define LEAVE if (i < 2) A(turn)"}),
        ([0, 1, 2, 3, 4, 5], "y = i; if (i < 2) re\\\nturn", {}),
        ([0, 1, 2, 3, 4, 5], "y = TI", {"preamble": "#define TI thread##Idx.x"}),
    ],
)
def test_elementwise_kernels_whose_threads_can_be_told_apart(expected, operation, more):
    kernel = cupy.ElementwiseKernel("", "int32 y", operation, "told_apart", **more)
    assert kernel(cupy.full(6, -1, np.int32)).tolist() == expected


def test_what_a_kernel_changes_is_its_threads():
    code = """#include <cupy/carray.cuh>
    extern "C" __global__ void f(int* x, int n, int s) { CUPY_FOR(i, n) { s += 1; ++x; x[i - s] = s; } }"""
    x = cupy.zeros(20, np.int32)
    cupy.RawKernel(code, "f")((5,), (4,), (x, 20, np.int32(0)))
    assert x.tolist() == [1] * 20


@pytest.mark.parametrize("dtype", "bBhHiIlL")
def test_a_shift_by_the_width_leaves_nothing(dtype):
    x, by = np.array([1, 3, 100, 0], dtype), np.arange(0, 72, 8, dtype=dtype)[:, None]
    for shift in (np.left_shift, np.right_shift):
        want = shift(x, by)
        want[by[:, 0] >= 8 * x.itemsize] = 0
        np.testing.assert_array_equal(getattr(cupy, shift.__name__)(cupy.asarray(x), cupy.asarray(by)).get(), want)
    if x.dtype.kind == "i":
        assert (cupy.asarray(-x[:3]) >> cupy.asarray(x.itemsize * 8, dtype)).tolist() == [-1] * 3


def test_a_bool_is_true_if_any_bit_of_it_is_set():
    x = cupy.array([0, 1, 2, -128], np.int8).view(bool)
    assert x.astype(np.int8).tolist() == [0, 1, 1, 1]
    assert (x + cupy.arange(4)).tolist() == [0, 2, 3, 4]
    assert (x ^ True).tolist() == [True, False, False, False]
    assert x[::2].sum() == 1
    assert (x[2] + cupy.asarray(0)) == 1
    assert cupy.ElementwiseKernel("T x", "int32 y", "y = x", "of_bool")(x).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("shape", [(), (1,), (33,), (2, 300)], ids=str)
def test_a_mask_of_any_rank_chooses(shape):
    x = cupy.full(shape, 5.0)
    x[x >= 1] = 7
    np.testing.assert_array_equal(x.get(), np.full(shape, 7.0))


def test_a_kernel_of_many_parameters():
    names = [f"q{i}" for i in range(800)]
    code = 'extern "C" __global__ void f(int* x, %s) { x[0] = q0; x[1] = q600; x[2] = q799; }'
    kernel = cupy.RawKernel(code % ", ".join(f"int {name}" for name in names), "f")
    x = cupy.zeros(3, np.int32)
    kernel((1,), (1,), (x, *map(np.int32, range(800))))
    assert x.tolist() == [0, 600, 799]


def test_shared_memory_of_a_launch():
    kernel = cupy.RawModule(code=ADD).get_function("reverse")
    x, y = cupy.arange(100, dtype=np.int32), cupy.zeros(100, np.int32)
    kernel((1,), (100,), (x, y), shared_mem=400)
    np.testing.assert_array_equal(cupy.asnumpy(y), np.arange(100)[::-1])
    most = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel((1,), (100,), (x, y), shared_mem=most)
    for far_too_much in (2**31, 2**32 - 4):
        with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
            kernel((1,), (100,), (x, y), shared_mem=far_too_much)
    kernel.max_dynamic_shared_size_bytes = most
    kernel((1,), (100,), (x, y), shared_mem=most)
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel.max_dynamic_shared_size_bytes = most + 1


def test_static_and_dynamic_shared_memory_together_have_a_limit():
    code = """extern "C" __global__ void f(int* x) {
        extern __shared__ int row[]; __shared__ int more[1024]; more[threadIdx.x] = row[threadIdx.x] = 3; *x = *more;
    }"""
    kernel, x = cupy.RawKernel(code, "f"), cupy.zeros(1, np.int32)
    kernel((1,), (1,), (x,), shared_mem=44 << 10)
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel((1,), (1,), (x,), shared_mem=(44 << 10) + 4)
    most = cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"]
    kernel.max_dynamic_shared_size_bytes = most - 4096
    kernel((1,), (1,), (x,), shared_mem=most - 4096)
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE"):
        kernel.max_dynamic_shared_size_bytes = most
    occupancy = cupy.cuda.driver.occupancyMaxActiveBlocksPerMultiprocessor
    assert occupancy(kernel.kernel.ptr, 128, 1 << 20) == 0
    assert 1 <= occupancy(kernel.kernel.ptr, 128, 1 << 10) <= 32
    potential = cupy.cuda.driver.occupancyMaxPotentialBlockSize
    assert potential(kernel.kernel.ptr, 1 << 10, 0)[1] == 1024


def test_static_shared_memory_has_a_limit():
    code = """extern "C" __global__ void f(int* x) {
        __shared__ char row[(48 << 10) + %d]; row[*x] = 3; __syncthreads(); *x = row[*x];
    }"""
    x = cupy.zeros(1, np.int32)
    cupy.RawKernel(code % 0, "f")((1,), (1,), (x,))
    assert x.tolist() == [3]
    with pytest.raises(
        (DriverError, cupy.cuda.compiler.CompileException), match="static shared memory|too much shared data"
    ):
        cupy.RawKernel(code % 16, "f").compile()


@pytest.mark.parametrize(
    ("grid", "block"), [((1,), (1025,)), ((1,), (32, 33)), ((1,), (1, 1, 65)), ((1, 65536), (1,)), ((0,), (1,))]
)
def test_launches_that_no_card_takes(grid, block):
    kernel = cupy.RawKernel('extern "C" __global__ void none() {}', "none")
    if grid == (0,):
        return kernel(grid, block, ())  # CuPy itself launches nothing
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_VALUE: invalid argument"):
        kernel(grid, block, ())
    return None


def test_a_source_that_does_not_compile_is_told_with_its_line():
    with pytest.raises(cupy.cuda.compiler.CompileException, match=r"(?s)line|:2:|\(2\)"):
        cupy.RawKernel('extern "C" __global__ void bad(float* x) {\n  x[0] = undefined_name;\n}', "bad").compile()


@emulated
def test_an_interrupt_waits_for_the_compiler(monkeypatch):
    compile_library = build.compile_library

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return compile_library(*arguments)

    code = 'extern "C" __global__ void interrupted() {} // %d'  # in no cache
    kernel = cupy.RawKernel(code % time.time_ns(), "interrupted")
    monkeypatch.setattr(build, "compile_library", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kernel.compile()
    monkeypatch.undo()
    kernel.compile()


def test_an_image_that_is_none(tmp_path):
    (tmp_path / "text.cubin").write_bytes(b"no image at all" * 10)
    with pytest.raises(DriverError, match="INVALID_IMAGE|NO_BINARY|INVALID_SOURCE|INVALID_PTX"):
        cupy.RawModule(path=str(tmp_path / "text.cubin")).compile()
    with pytest.raises(DriverError, match="CUDA_ERROR_FILE_NOT_FOUND"):
        cupy.RawModule(path=str(tmp_path / "missing.cubin")).compile()


@emulated
def test_what_nvrtc_says_of_itself():
    from cupy_backends.cuda.libs import nvrtc

    from gpunn.cuda.device.settings import CARDS

    assert nvrtc.getSupportedArchs() == CARDS
    program = nvrtc.createProgram('extern "C" __global__ void f() {}', "f.cu", (), ())
    nvrtc.compileProgram(program, ("-dlto",))
    with pytest.raises(nvrtc.NVRTCError, match="NVRTC_ERROR_INVALID_INPUT"):
        nvrtc.getLTOIR(program)
    for option in ("--nonsense", "-arch=sm_83", "--gpu-architecture=compute_73"):
        with pytest.raises(nvrtc.NVRTCError, match="NVRTC_ERROR_INVALID_OPTION"):
            nvrtc.compileProgram(program, (option,))
    nvrtc.destroyProgram(program)


@emulated
def test_a_real_cubin_is_refused(tmp_path):
    header = bytearray(64)
    header[:4], header[18:20] = b"\x7fELF", (190).to_bytes(2, "little")  # EM_CUDA
    (tmp_path / "real.cubin").write_bytes(bytes(header))
    with pytest.raises(DriverError, match="NO_BINARY_FOR_GPU.*emulated device runs what its own NVRTC compiled"):
        cupy.RawModule(path=str(tmp_path / "real.cubin")).compile()
    (tmp_path / "cut.cubin").write_bytes(bytes(header[:40]))
    with pytest.raises(DriverError, match="INVALID_IMAGE"):
        cupy.RawModule(path=str(tmp_path / "cut.cubin")).compile()


def test_handles_of_other_processes_are_refused_by_the_emulated_device():
    if device.running() is None:
        pytest.skip("of the emulated device")
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError, match="NotSupported.*emulated device"):
        cupy.cuda.runtime.ipcGetMemHandle(cupy.zeros(3).data.ptr)


GRID = """
#include <cooperative_groups.h>
extern "C" __global__ void turns(int* x, int* y) {
  auto grid = cooperative_groups::this_grid();
  const int n = grid.size(), i = grid.thread_rank();
  y[i] = x[(i + 1) % n];
  grid.sync();
  x[i] = 10 * y[(i + 1) % n] + grid.is_valid();
}
"""


def test_blocks_of_a_cooperative_launch_wait_for_each_other():
    module = cupy.RawModule(code=GRID, enable_cooperative_groups=True)
    x = cupy.arange(96, dtype=np.int32)
    module.get_function("turns")((3,), (32,), (x, cupy.zeros_like(x)))
    np.testing.assert_array_equal(cupy.asnumpy(x), 10 * np.roll(np.arange(96), -2) + 1)


CLUSTERS = r"""
#include <cooperative_groups.h>
extern "C" __global__ void __cluster_dims__(2) swap(int* y) {
  __shared__ int mine[32];
  auto cluster = cooperative_groups::this_cluster();
  mine[threadIdx.x] = 32 * blockIdx.x + threadIdx.x;
  cluster.sync();
  y[32 * blockIdx.x + threadIdx.x] = cluster.map_shared_rank(mine, cluster.block_rank() ^ 1)[threadIdx.x];
  cluster.sync();
}
"""


def test_blocks_of_a_cluster_read_each_others_shared_memory():
    if int(cupy.cuda.Device().compute_capability) < 90:
        pytest.skip("the device has no clusters")
    y = cupy.zeros((4, 32), np.int32)
    kernel = cupy.RawKernel(CLUSTERS, "swap")
    kernel((4,), (32,), (y,))
    np.testing.assert_array_equal(cupy.asnumpy(y), np.arange(128).reshape(4, 32)[[1, 0, 3, 2]])
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_CLUSTER_SIZE") as caught:
        kernel((3,), (32,), (y,))
    if device.running():
        assert str(caught.value).endswith(": swap: clusters of 2 x 1 x 1 blocks, which do not divide the grid")


def test_more_blocks_than_can_be_there_at_once():
    kernel = cupy.RawKernel(GRID, "turns", enable_cooperative_groups=True)
    x = cupy.zeros(1, np.int32)
    multiprocessors = cupy.cuda.Device().attributes["MultiProcessorCount"]
    blocks = 2 * multiprocessors + 1
    with pytest.raises(UserWarning, match=f"will be reduced from {blocks} to {blocks - 1}"):
        kernel((blocks,), (1024,), (x, x))
    with pytest.raises(DriverError, match="COOPERATIVE_LAUNCH_TOO_LARGE: too many blocks in cooperative") as caught:
        cupy.cuda.driver.launchCooperativeKernel(kernel.kernel.ptr, blocks, 1, 1, 1024, 1, 1, 0, 0, 0)
    if device.running():
        each = f"has room for 2 on each of its {multiprocessors} multiprocessors"
        assert str(caught.value).endswith(f": turns: {blocks} blocks, of which the card {each}")
