"""Check mode over CuPy's allocations. Each program runs in a process of its own, with a device that checks."""

import re
import subprocess
import sys

import pytest

pytest.importorskip("cupy")
pytestmark = pytest.mark.gpu

HEAD = """
import numpy as np
from gpunn.cuda import device
device.start(device.Settings(devices=2, check={check}))
import cupy
def kernel(body, name="k"):
    return cupy.RawKernel('extern "C" __global__ void %s(float* x, const float* y) {{\\n  %s\\n}}' % (name, body), name)
x, y = cupy.zeros(64, np.float32), cupy.zeros(64, np.float32)
"""


def run(program, check=True):
    done = subprocess.run(
        [sys.executable, "-c", HEAD.format(check=check) + program], capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


MISTAKES = {
    "a race": ("kernel('x[0] = threadIdx.x;')((1,), (2,), (x, y))", r"race.*:2: block \(0,0,0\) thread \(1,0,0\)"),
    "past the end": (
        "kernel('x[threadIdx.x + 128] = 1;')((1,), (32,), (x, y))",
        r"out-of-bounds.*write of 4 bytes at byte 512",
    ),
    "before the beginning": ("kernel('x[-1] = 1;')((1,), (1,), (x, y))", r"out-of-bounds.*byte -4"),
    "memory that was freed": (
        """
memory = cupy.cuda.runtime.malloc(256)
k = kernel("x[threadIdx.x] = 1;")
stale = cupy.ndarray(64, np.float32, cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(memory, 256, None), 0))
cupy.cuda.runtime.free(memory)
k((1,), (32,), (stale, y))
""",
        "which was freed",
    ),
    "memory that nobody wrote": (
        "kernel('x[threadIdx.x] = y[threadIdx.x];')((1,), (32,), (x, cupy.empty(4096, np.float32)))",
        "uninitialised.*argument 1 byte 0, which nobody has written",
    ),
    "shared memory that nobody wrote": (
        "kernel('__shared__ float4 v[2]; v[1].x = v[1].y = v[1].z = 1; *(float4*)x = v[1];')((1,), (1,), (x, y))",
        "uninitialised.*shared 'v' byte 28, which no thread has written",
    ),
    "another device's memory": (
        """
with cupy.cuda.Device(1): far = cupy.zeros(64, np.float32)
cupy.cuda.runtime.setDevice(0)
k = kernel("x[threadIdx.x] = 1;")
k((1,), (32,), (np.uint64(far.data.ptr), y))
""",
        "which is on another device, to which this one has no peer access",
    ),
    "a barrier that some threads reach": (
        """
k = kernel("if (threadIdx.x < 3) __syncthreads(); else { x[threadIdx.x]++; __syncthreads(); }")
k((1,), (64,), (x, y))
""",
        "divergent-barrier",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_told_with_its_place(what):
    program, message = MISTAKES[what]
    said = run(program + "\nprint('nothing')")
    assert "CUDADriverError: CUDA_ERROR_" in said
    assert re.search(message, said), said


def test_what_is_right_is_not_told():
    program = """
a = cupy.arange(1000, dtype=np.float32).reshape(10, 100)
b = (a[:, ::2] + 1).sum(axis=1)
c = cupy.sort(b)[::-1].copy() @ cupy.ones((10, 3), np.float32)
d = cupy.concatenate([c, c])[cupy.asarray([0, 2, 4])]
e = cupy.random.rand(5) * cupy.linspace(0, 1, 5)
kernel("x[threadIdx.x] = y[threadIdx.x];")((1,), (64,), (x, y))
print(int(d.sum()) > 0, float(e.sum()) < 5, a.std() > 0, cupy.cumsum(a)[-1])
"""
    assert run(program).startswith("True True True")


CUPYS_OWN = {
    "scans of rows": "cupy.cumsum(cupy.ones((2, 3)), axis=1); cupy.cumprod(cupy.ones((2, 300), int), axis=1)",
    "scans of many blocks": "cupy.nancumsum(cupy.ones((600, 3), 'F'), axis=0)",
    "padding": "a = cupy.ones((4, 4), 'F'); a.argmin(axis=0); a.max(axis=0); cupy.nanargmax(a)",
    "padding in CUB": "cupy.ones((40, 400), 'F').argmin(axis=1)",
    "padding in a fused kernel": "def f(x): return cupy.max(x * 2, axis=0)\ncupy.fuse(f)(cupy.ones((4, 4), 'F'))",
    "duplicates of a sparse matrix": """
from cupyx.scipy.sparse import coo_matrix
at = cupy.array([0, 0, 1])
for t in "fF?": coo_matrix((cupy.ones(3, t), (at, at)), (2, 2)).tocsr()
""",
    "duplicate places": """
for t in "efd": cupy.add.at(cupy.zeros(3, t), cupy.array([0, 0]), 1)
for t in "fd": cupy.maximum.at(cupy.zeros(3, t), cupy.array([0, 0]), 1)
for t in "fd": cupy.minimum.at(cupy.zeros(3, t), cupy.array([0, 0]), 1)
""",
    "labels": "import cupyx.scipy.ndimage as n; n.label(cupy.ones((30, 40)))",
    "shared variables with constructors": """
import cupyx.scipy.signal as s
s.sosfilt(s.butter(4, 0.3, output="sos"), cupy.random.rand(300))
""",
    "nonzero": "cupy.nonzero(cupy.ones(4356, bool)); cupy.unique(cupy.arange(4356) % 77, True, True, True)",
}


@pytest.mark.parametrize("what", CUPYS_OWN)
def test_a_fault_of_cupys_own_kernels_is_not_told(what):
    assert run(CUPYS_OWN[what] + "\nprint('right')") == "right"


def test_what_a_program_gives_these_kernels_is_watched():
    for call in "cupy.cumsum(a, axis=1)", "a.max(axis=0)", "cupy.nonzero(a.ravel())":
        assert "which nobody has written" in run(f"a = cupy.empty((2, 4356), 'F')\n{call}")


def test_the_device_goes_on_after_a_report():
    program = """
try: kernel('x[-1] = 1;')((1,), (1,), (x, y))
except cupy.cuda.driver.CUDADriverError: pass
print(float((x + 1).sum()))
"""
    assert run(program) == "64.0"


def test_a_child_that_leaves_the_device_alone_may_end():
    program = """
import os, sys
(x + 1).sum()
if not os.fork(): sys.exit(0)
print(os.wait()[1])
"""
    assert run(program) == "0"


def test_waiting_for_a_device_waits_for_streams_that_are_gone():
    program = """
stream = cupy.cuda.Stream(non_blocking=True)
cupy.cuda.Device().synchronize()
with stream:
    x += 1
del stream
cupy.cuda.Device().synchronize()
print(float((x + 1).sum()))
"""
    assert run(program) == "128.0"


ORDER = "in another stream: no event and no synchronisation is between the two"
STREAMS = """
s1, s2 = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
a, b, c = (cupy.ones((64, 64), np.float32) for _ in range(3))
memory = cupy.empty(1 << 18, np.uint8)
del memory
u, v, w = (cupy.zeros(128, np.float32) for _ in range(3))
cupy.cuda.Device().synchronize()
"""
APART = {  # work on bytes that have nothing in common, in one allocation
    "what lies between": ("v += 1", "d = u + w"),
    "every other number": ("u[::2] += 1", "u[1::2] += 1"),
    "columns": ("a[:, :32] += 1", "a[:, 32:] += 1"),
    "columns that are copied": (
        "cupy.cuda.runtime.memcpy2DAsync(a.data.ptr, 256, b.data.ptr, 256, 128, 64, 3, s1.ptr)",
        "cupy.cuda.runtime.memcpy2DAsync(a.data.ptr + 128, 256, b.data.ptr, 256, 128, 64, 3, s2.ptr)",
    ),
}


@pytest.mark.parametrize("what", APART)
def test_work_apart_in_one_allocation_needs_no_order(what):
    first, second = APART[what]
    assert run(f"{STREAMS}\nwith s1: {first}\nwith s2: {second}\nprint('right')") == "right"


def test_work_that_meets_in_one_byte_is_told():
    said = run(STREAMS + "with s1: u[::2] += 1\nwith s2: d = u[1:3] + 1\n")
    assert re.search(f"bytes 8 to 12 of an allocation of 262144.*{ORDER}", said), said


def test_gaps_between_rows_that_are_copied_are_not_written():
    said = run(
        STREAMS
        + """
d = cupy.empty((1024, 64), np.float32)
cupy.cuda.runtime.memcpy2D(d.data.ptr, 256, a.data.ptr, 256, 128, 64, 3)
print(int(d[:64, :32].sum()))
d[:63, 32:] + 1
"""
    )
    assert "which nobody has written" in said


GRAPH = """
with s1:
    s1.begin_capture()
    s2.wait_event(s1.record())
    with s2: {first}
    {wait}
    {second}
    s1.wait_event(s2.record())
    graph = s1.end_capture()
    graph.launch()
    graph.launch()
s1.synchronize()
print("right")
"""


def test_branches_of_a_graph_are_told():
    program = STREAMS + GRAPH
    for first, second, wait, right in (
        ("u += 1", "v += u", "pass", False),
        ("u += v", "v += 1", "pass", False),
        ("u += 1", "v += u", "s1.wait_event(s2.record())", True),
        ("u += 1", "v += 1", "pass", True),
    ):
        said = run(program.format(first=first, second=second, wait=wait))
        assert said == "right" if right else "in another branch of the graph" in said, said


LIBRARIES = {
    "cuBLAS": "a @ b",
    "a sum": "a.sum()",
    "a reduction of rows": "a.max(axis=1)",
    "a sort": "cupy.sort(a)",
    "places of a sort": "cupy.argsort(a)",
    "a scan": "cupy.cumsum(a)",
    "a histogram": "cupy.histogram(a, cupy.linspace(0, 2, 4))[0]",
    "cuFFT": "cupy.fft.fft(a)",
    "cuFFT, along columns": "cupy.fft.fft(a, axis=0)",
    "cuSOLVER": "cupy.linalg.svd(a)[1]",
    "cuSPARSE": "cupyx.scipy.sparse.csr_matrix(a) @ b",
}


TOLD = """
import cupyx.scipy.sparse
def told(first, second, order=False):
    cupy.cuda.Device().synchronize()
    try:
        with s1: exec(first, globals())
        if order: s2.wait_event(s1.record())
        with s2: exec(second, globals())
        s1.synchronize(); s2.synchronize()
    except (cupy.cuda.runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError) as error:
        return "no event and no synchronisation is between the two" in str(error)
    return False
"""


def test_the_order_of_libraries_is_told():
    program = f"""
{STREAMS}
{TOLD}
for name, call in {LIBRARIES}.items():
    exec(call)
    seen = told("d = " + call, "d + 1"), told("a += 0", call), told("d = " + call, "d + 1", True), told(call, call)
    if seen != (True, True, False, False): print(name, seen)
"""
    assert run(program) == ""


def test_the_order_of_random_numbers_is_told():
    draws = "cupy.random.rand(8)", "cupy.random.default_rng(1).random(8)"
    assert (
        run(f"{STREAMS}\n{TOLD}\nfor draw in {draws}: exec(draw); print(told('d = ' + draw, 'd + 1'))") == "True\nTrue"
    )


def test_what_a_library_wrote_is_written():
    program = """
m = cupy.full(3, -1, np.int64)
print(int(m.min() + 1), int(cupy.sort(m)[0] + 1), int((m[:2, None] @ m[None, :2])[0, 0] - 1))
"""
    assert run(program) == "0 0 0"


FAR = """
from cupy_backends.cuda.libs import cublas, curand
handle = cupy.cuda.device.get_cublas_handle()
generator = curand.createGenerator(100)
with cupy.cuda.Device(1):
    far = cupy.zeros(64, np.complex64)
    cupy.cuda.Device().synchronize()
cupy.cuda.runtime.setDevice(0)
"""
REACHES = {
    "cuFFT": "cupy.fft.fft(far)",
    "CUB": "cupy.cuda.cub.device_reduce(far, 0, (0,), ())",
    "cuBLAS": "cublas.cscal(handle, 64, np.ones(1, np.complex64).ctypes.data, far.data.ptr, 1)",
    "cuRAND": "curand.generateUniform(generator, far.data.ptr, 64)",
}


@pytest.mark.parametrize("library", REACHES)
def test_a_library_cannot_reach_another_device_and_the_device_goes_on(library):
    said = run(f"""
{FAR}
told = ""
for code in {REACHES[library]!r}, "x + 1":
    try: exec(code)
    except Exception as error: told += str(error) + " "
print(float((x + 1).sum()), told)
""")
    assert re.search("^64.0 .*outside the memory of the device", said), said


@pytest.mark.parametrize("library", REACHES)
def test_out_of_reach_a_library_breaks_the_device_without_check_mode(library):
    program = f"{FAR}\ntry: {REACHES[library]}\nexcept Exception: pass\nx + 1\n"
    assert "illegal memory access was encountered" in (said := run(program, check=False))
    assert "outside the memory of the device" in said
