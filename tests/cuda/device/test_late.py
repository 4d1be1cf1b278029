"""Late mode: work that nobody has waited for has not been done, so whoever forgot to wait sees old data.

Each program runs in a process of its own, with a late device. What it prints is compared.
"""

import subprocess
import sys

import pytest

pytest.importorskip("cupy")
pytestmark = pytest.mark.gpu

HEAD = """
import numpy as np
from gpunn.cuda import device
device.start(device.Settings(devices=2, late=True, check={check}))
import cupy, cupyx
a, b = cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True)
x = cupy.zeros(1000, np.float32)
y = cupy.zeros(1000, np.float32)
pinned = cupyx.zeros_pinned(1000, np.float32)
cupy.cuda.Device().synchronize()
show = lambda array: print(*sorted(set(np.nan_to_num(cupy.asnumpy(array), nan=-1).tolist())))
"""


def run(program, check=False):
    code = HEAD.format(check=check) + program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    return done.stdout.split() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


FORGOTTEN = {
    "an event between two streams": (
        """
with a: x += 1; done = a.record()
{wait}
with b: y += x
b.synchronize(); show(y)
""",
        "b.wait_event(done)",
        ["0.0"],
        ["1.0"],
    ),
    "the host's wait for a copy to pinned memory": (
        """
with a: x += 1; x.get(out=pinned, stream=a, blocking=False)
{wait}
show(pinned)
""",
        "a.synchronize()",
        ["0.0"],
        ["1.0"],
    ),
    "the host's wait before it writes pinned memory again": (
        """
pinned[:] = 1
with a: x.set(pinned, stream=a)
{wait}
pinned[:] = 2
a.synchronize(); show(x)
""",
        "a.synchronize()",
        ["2.0"],
        ["1.0"],
    ),
    "an event's wait": (
        """
with a: x += 3; x.get(out=pinned, stream=a, blocking=False); done = a.record()
{wait}
show(pinned)
""",
        "done.synchronize()",
        ["0.0"],
        ["3.0"],
    ),
    "the device's wait": (
        """
with a: x += 1
with b: y += 2
{wait}
with a: y += x
a.synchronize(); show(y)
""",
        "cupy.cuda.Device().synchronize()",
        ["1.0"],
        ["3.0"],
    ),
    "a join within a graph": (
        """
with a:
    a.begin_capture()
    b.wait_event(a.record())
    with b:
        y += 1
        done = b.record()
    {wait}
    x += y
    a.wait_event(done)
    graph = a.end_capture()
    graph.launch()
a.synchronize(); show(x)
""",
        "a.wait_event(done)",
        ["0.0"],
        ["1.0"],
    ),
}


@pytest.mark.parametrize("what", FORGOTTEN)
def test_a_forgotten_wait_shows(what):
    program, wait, without, with_it = FORGOTTEN[what]
    assert run(program.format(wait=wait)) == with_it
    assert run(program.format(wait="pass")) == without


@pytest.mark.parametrize("what", [name for name in FORGOTTEN if name != "a join within a graph"])
def test_check_mode_tells_of_a_forgotten_wait(what):
    program, wait, _, with_it = FORGOTTEN[what]
    assert run(program.format(wait=wait), check=True) == with_it
    said = run(program.format(wait="pass"), check=True)
    assert "unspecified launch failure" in said
    assert ("no event and no synchronisation is between the two" in said) or ("pinned memory" in said)


def test_long_branches_of_a_graph_in_a_thread_of_little_stack():
    program = """
import threading
memset = cupy.cuda.runtime.memsetAsync
def work():
    a.begin_capture()
    b.wait_event(a.record())
    for i in range(20_000):
        memset(x.data.ptr, i % 7, 4, a.ptr)
        memset(y.data.ptr, i % 3, 4, b.ptr)
    a.wait_event(b.record())
    graph = a.end_capture()
    graph.launch(a)
    a.synchronize()
threading.stack_size(1 << 18)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(x.view("u1")[0], y.view("u1")[0])
"""
    assert run(program) == [str(19_999 % 7), str(19_999 % 3)]


def test_the_legacy_stream_is_waited_for_and_copies_to_ordinary_memory_wait():
    assert run("x += 1; print(float(x.sum()))") == ["1000.0"]
    program = "blocking = cupy.cuda.Stream()\nwith blocking: x += 1\ny += x\nwith blocking: x += y\nshow(x)\n"
    assert run(program) == ["2.0"]


def test_asking_a_stream_is_no_wait():
    program = """
blocking = cupy.cuda.Stream()
with blocking: x += 1
asked = 0
while not cupy.cuda.Stream.null.done: asked += 1
print(asked > 0, blocking.done)
"""
    assert run(program) == ["True", "True"]


def test_memory_that_is_freed_is_waited_for():
    program = """
with a: x += 1; x.get(out=pinned, stream=a, blocking=False)
memory = cupy.cuda.runtime.malloc(100)
cupy.cuda.runtime.free(memory)
show(pinned)
"""
    assert run(program) == ["1.0"]


BUFFERS = """
buffers = cupyx.zeros_pinned((2, 100000), np.float32)
first, second = cupy.zeros(100000, np.float32), cupy.zeros(100000, np.float32)
cupy.cuda.Device().synchronize()
first.set(buffers[0], stream=a)
"""


def test_check_mode_leaves_the_other_buffer_alone():
    program = BUFFERS + "buffers[1][:] = 1\nsecond.set(buffers[1], stream=b)\na.synchronize()\nbuffers[0][:] = 2\n"
    assert run(program + "b.synchronize(); show(first); show(second)", check=True) == ["0.0", "1.0"]


def test_check_mode_watches_until_the_last_copy_is_done():
    program = BUFFERS + "second.set(buffers[0], stream=b)\n{wait}buffers[0][:] = 1\nb.synchronize()\nshow(first)"
    assert run(program.format(wait="a.synchronize(); b.synchronize(); "), check=True) == ["0.0"]
    assert "it wrote pinned memory" in run(program.format(wait="a.synchronize(); "), check=True)
    program = BUFFERS + "second.get(out=buffers[0], stream=a, blocking=False)\na.synchronize()\nshow(buffers[0])"
    assert run(program, check=True) == ["0.0"]
