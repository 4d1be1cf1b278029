"""The device and processes: forks, signals, what is visible, what is kept, and a kernel that fails."""

import os
import subprocess
import sys

import pytest

from gpunn.cuda import device

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(device.running() is None, reason="of the emulated device")]


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    return done.returncode, done.stdout, done.stderr


def test_a_child_by_fork_cannot_use_it_and_the_parent_can():
    code = """
import os, cupy
x = cupy.arange(3)
child = os.fork()
if not child:
    try: x + 1
    except Exception as error: print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(int(x.sum()))
"""
    refused, total = run(code)[1].splitlines()
    assert refused.endswith(": initialization error")
    assert total == "3"
    asked = """
import os, cupy
runtime = cupy.cuda.runtime
{}
if os.fork(): os.wait()
else:
    try: print(int(cupy.arange(4).sum()), flush=True)
    except Exception as error: print(error, flush=True)
    os._exit(0)
"""
    for call in ("runtime.getDeviceCount()", "runtime.memGetInfo()", "cupy.cuda.Event()"):
        assert run(asked.format(call))[1] == "cudaErrorInitializationError: initialization error\n"
    for call in ("runtime.runtimeGetVersion()", "str(runtime.CUDARuntimeError(1))"):
        assert run(asked.format(call))[1] == "6\n"
    fresh = """
import os
child = os.fork()
import cupy
print(int(cupy.arange(4).sum()), flush=True)
if child: os.waitpid(child, 0)
else: os._exit(0)
"""
    assert run(fresh)[1].splitlines() == ["6", "6"]


def test_a_fork_while_another_thread_works():
    code = """
import os, threading, cupy
x, forked = cupy.arange(64.0), threading.Event()
def work():
    while not forked.is_set(): cupy.fft.fft(x)
thread = threading.Thread(target=work)
thread.start()
for _ in range(300):
    child = os.fork()
    if not child: os._exit(0)
    os.waitpid(child, 0)
forked.set()
thread.join()
print("all")
"""
    assert run(code)[1] == "all\n"


def test_python_may_end_while_other_threads_work():
    code = """
import threading, cupy, time
stream = cupy.cuda.Stream()
def work():
    while True: cupy.cuda.runtime.streamSynchronize(stream.ptr)
def callbacks():
    while True: stream.launch_host_func(int, 1)
for job in (work, work, callbacks): threading.Thread(target=job, daemon=True).start()
time.sleep(0.1)
"""
    for _ in range(3):
        assert run(code) == (0, "", "")


def test_children_that_are_spawned_have_it_too(tmp_path):
    code = """
import multiprocessing, cupy
def work(n): return int(cupy.arange(n).sum())
if __name__ == "__main__":
    cupy.arange(3)
    with multiprocessing.get_context("spawn").Pool(1) as pool: print(pool.map(work, [4, 5]))
"""
    (tmp_path / "program.py").write_text(code)
    done = subprocess.run([sys.executable, str(tmp_path / "program.py")], capture_output=True, text=True, timeout=120)
    assert done.stdout == "[6, 10]\n", done.stderr


def test_what_is_visible():
    count = "import cupy; print(cupy.cuda.runtime.getDeviceCount())"
    assert run(count, GPUNN_EMULATED_DEVICE="devices=3")[1] == "3\n"
    assert run(count, GPUNN_EMULATED_DEVICE="devices=3", CUDA_VISIBLE_DEVICES="1")[1] == "1\n"
    code, _, said = run(count, CUDA_VISIBLE_DEVICES="")
    assert code == 1
    assert "cudaErrorNoDevice: no CUDA-capable device is detected" in said


def test_memory_and_card_are_those_asked_for():
    code = """
import cupy
print(cupy.cuda.runtime.memGetInfo()[1], cupy.cuda.Device().compute_capability)
try: cupy.empty((1 << 21) + 1)
except cupy.cuda.memory.OutOfMemoryError as error: print("out", error)
"""
    _, said, _ = run(code, GPUNN_EMULATED_DEVICE="memory=16M card=sm_80")
    assert said.startswith("16777216 80\nout Out of memory allocating 16,777,728 bytes")


@pytest.mark.parametrize("late", ["", "late"])
def test_memory_of_the_host_that_cannot_be_had(late):
    code = """
import cupy, numpy, resource
from pathlib import Path
x, host = cupy.zeros(20_000_000), numpy.zeros(20_000_000)
cupy.argsort(x[:100])
memory = cupy.cuda.runtime.malloc(host.nbytes)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), -1))
try: cupy.argsort(x)[0].get()
except Exception as error: print(error)
resource.setrlimit(resource.RLIMIT_AS, (used + (20 << 20), -1))
try: cupy.cuda.runtime.memcpyAsync(memory, host.ctypes.data, host.nbytes, 1, 0)
except Exception as error: print(error)
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(int(cupy.argsort(x[:100])[3]))
"""
    told = ["cudaErrorMemoryAllocation: out of memory"] * (2 if late else 1)
    assert run(code, GPUNN_EMULATED_DEVICE=late)[1].splitlines() == [*told, "3"]


FAILING = """
import cupy
kernel = cupy.RawKernel('#include <cooperative_groups.h>\\nextern "C" __global__ void f(int* x) { %s }', "f")
x = cupy.arange(8, dtype="i4")
for _ in range(2):
    try: kernel((1,), (4,), (x,)); cupy.cuda.Device().synchronize()
    except Exception as error: print(error)
"""


@pytest.mark.parametrize(
    ("body", "name", "report"),
    [
        ("__trap();", "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure", "f: trap:"),
        ("*(int*)0 = 1;", "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered", "f: fault:"),
        (
            "cooperative_groups::this_grid().sync();",
            "CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure",
            "in a launch that is not cooperative: make the kernel with enable_cooperative_groups=True",
        ),
        ("assert(x[0] == 5);", "CUDA_ERROR_ASSERT: device-side assert triggered", "assertion failed: x[0] == 5"),
    ],
)
def test_a_kernel_that_fails_leaves_the_device_broken_as_on_a_gpu(body, name, report):
    said = run(FAILING % body)[1].splitlines()
    assert len(said) == 2
    for line in said:
        assert report in line
    assert said[0].startswith(name)


def test_ctrl_c_ends_a_kernel():
    code = """
import cupy, os, signal, threading, time
kernel = cupy.RawKernel('extern "C" __global__ void spin(volatile int* x) { while (!*x) {} }', "spin")
kernel.compile()
x = cupy.zeros(1, "i4")
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    kernel((1,), (1,), (x,))
    for _ in range(1000): time.sleep(0.001)
except KeyboardInterrupt: print("ended", int(x.sum()))
"""
    assert run(code)[1] == "ended 0\n"


@pytest.mark.parametrize("late", ["", "late"])
def test_what_a_signal_handler_raises_in_a_kernel_keeps_its_value(late):
    code = """
import cupy, signal, time, traceback
class Told(Exception):
    def __init__(self, number, text): super().__init__(number, text)
def handler(*_): raise Told(7, "x")
signal.signal(signal.SIGALRM, handler)
kernel = cupy.RawKernel('extern "C" __global__ void spin(volatile int* x) { while (!*x) {} }', "spin")
kernel.compile()
x = cupy.zeros(1, "i4")
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        kernel((1,), (1,), (x,))
        cupy.cuda.Device().synchronize()
        for _ in range(1000): time.sleep(0.001)
    except Told as error: print(error, *(frame.name for frame in traceback.extract_tb(error.__traceback__)))
"""
    assert run(code, GPUNN_EMULATED_DEVICE=late)[1] == 3 * "(7, 'x') <module> handler\n"


def test_caches_are_apart():
    code = """
import cupy, os
from gpunn.cuda import cache
cupy.arange(3) + 1
print(os.environ["CUPY_CACHE_DIR"].startswith(str(cache.folder() / "device")))
"""
    assert run(code)[1] == "True\n"


def test_starting_again_is_quick():
    code = """
import time
begin = time.perf_counter()
from gpunn.cuda import device
if device.running() is None: device.start()
print(time.perf_counter() - begin)
"""
    environment = {**os.environ}
    environment.pop("GPUNN_EMULATED_DEVICE", None)
    times = [float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment).stdout)
             for _ in range(5)]  # fmt: skip
    assert min(times) < 1
