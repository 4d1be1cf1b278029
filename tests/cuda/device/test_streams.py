"""Streams, events, captures, graphs, pools and peers, as CUDA's rules have them: on the real CuPy."""

import os
import threading

import numpy as np
import pytest

from gpunn.cuda import device

cupy = pytest.importorskip("cupy")
runtime = cupy.cuda.runtime

pytestmark = pytest.mark.gpu

emulated = pytest.mark.skipif(device.running() is None, reason="says what the emulated device does where CUDA may vary")
RELAXED, THREAD_LOCAL, GLOBAL = runtime.streamCaptureModeRelaxed, runtime.streamCaptureModeThreadLocal, 0


def stream(non_blocking=True):
    return cupy.cuda.Stream(non_blocking=non_blocking)


def refused(name):
    return pytest.raises(runtime.CUDARuntimeError, match=name)


# ---- streams and events ---------------------------------------------------------------------------------------------


def test_work_of_two_streams_with_an_event_between():
    first, second = stream(), stream()
    x = cupy.zeros(1000, np.float32)
    cupy.cuda.Device().synchronize()
    with first:
        x += 1
    done = first.record()
    second.wait_event(done)
    with second:
        y = x * 2
    second.synchronize()
    assert second.done
    assert done.done
    np.testing.assert_array_equal(cupy.asnumpy(y), np.full(1000, 2, np.float32))


def test_the_legacy_stream_and_blocking_streams_wait_for_each_other():
    blocking = stream(non_blocking=False)
    x = cupy.zeros(1000, np.float32)
    with blocking:
        x += 1
    x *= 3  # in the legacy stream
    with blocking:
        x += 2
    np.testing.assert_array_equal(cupy.asnumpy(x), np.full(1000, 5, np.float32))


def test_time_between_events_is_that_of_the_work():
    with stream() as s:
        begin, end = s.record(cupy.cuda.Event()), s.record(cupy.cuda.Event())
        s.synchronize()
        assert 0 <= cupy.cuda.get_elapsed_time(begin, end) < 1000
    with refused("InvalidResourceHandle"):
        cupy.cuda.get_elapsed_time(cupy.cuda.Event(), end)
    untimed = s.record(cupy.cuda.Event(disable_timing=True))
    with refused("InvalidResourceHandle"):
        cupy.cuda.get_elapsed_time(untimed, end)


def test_functions_of_the_host_run_in_their_turn():
    called, s = [], stream()
    x = cupy.zeros(4)
    cupy.cuda.Device().synchronize()
    with s:
        x += 1
        s.launch_host_func(called.append, "a")
        s.add_callback(lambda stream, status, argument: called.append((status, argument)), "b")
    s.synchronize()
    assert called == ["a", (0, "b")]


def test_functions_of_the_host_must_not_call_the_device():
    said, s, x = [], stream(), cupy.zeros(4)
    cupy.cuda.Device().synchronize()
    calls = (s.synchronize, cupy.cuda.Device().synchronize, lambda: runtime.memsetAsync(x.data.ptr, 0, 8, s.ptr))

    def call(_):
        for each in calls:
            with refused("NotPermitted"):
                each()
            said.append("refused")

    s.launch_host_func(call, None)
    s.synchronize()
    assert said == ["refused"] * 3


def test_priorities_flags_and_destroyed_handles():
    handle = runtime.streamCreateWithPriority(runtime.streamNonBlocking, -100)
    assert runtime.streamGetFlags(handle) == runtime.streamNonBlocking
    assert runtime.streamGetPriority(handle) == -5
    runtime.streamDestroy(handle)
    with refused("InvalidValue"):
        runtime.streamCreateWithFlags(8)


@emulated
def test_handles_that_are_none_are_refused():
    for call in (runtime.streamSynchronize, runtime.eventSynchronize, runtime.streamDestroy, runtime.eventDestroy):
        with refused("InvalidResourceHandle"):
            call(12345)
    with refused("InvalidResourceHandle"):
        runtime.memsetAsync(cupy.zeros(1).data.ptr, 0, 8, 12345)


def test_a_stream_of_each_thread():
    results = []

    def work():
        with cupy.cuda.Stream.ptds:
            results.append(int(cupy.arange(10).sum()))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [45] * 3


# ---- captures and graphs --------------------------------------------------------------------------------------------


def test_a_graph_does_the_work_again_with_what_is_there():
    s, x = stream(), cupy.zeros(100, np.float32)
    x + 1  # compiles
    y = cupy.empty_like(x)
    cupy.cuda.Device().synchronize()
    with s:
        s.begin_capture()
        assert s.is_capturing()
        cupy.add(x, 1, out=y)
        cupy.add(y, y, out=x)
        graph = s.end_capture()
        assert not s.is_capturing()
        for _ in range(3):
            graph.launch()
        graph.upload()
    s.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(x), np.full(100, 14, np.float32))


def test_a_capture_that_forks_and_joins(tmp_path):
    a, b = stream(), stream()
    x, y, z = (cupy.ones(100, np.float32) for _ in range(3))
    x + y, x * y
    cupy.cuda.Device().synchronize()
    with a:
        a.begin_capture()
        cupy.add(x, x, out=x)
        b.wait_event(a.record())
        with b:
            cupy.add(x, 1, out=y)
            joined = b.record()
        cupy.add(x, 2, out=z)
        a.wait_event(joined)
        cupy.multiply(y, z, out=x)
        graph = a.end_capture()
    graph.launch(a)
    a.synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(x), np.full(100, 12, np.float32))
    runtime.graphDebugDotPrint(graph.graph, str(tmp_path / "graph.dot"), 0)
    drawn = (tmp_path / "graph.dot").read_text()
    assert drawn.startswith("digraph")
    assert drawn.count("->") >= 4


def test_what_was_left_unjoined_is_refused():
    a, b = stream(), stream()
    x = cupy.ones(10)
    cupy.add(x, 1, out=x)
    cupy.cuda.Device().synchronize()
    with a:
        a.begin_capture()
        b.wait_event(a.record())
        with b:
            cupy.add(x, 1, out=x)
        with refused("StreamCaptureUnjoined"):
            a.end_capture()


FORBIDDEN = {
    "waiting for the stream": (lambda s: runtime.streamSynchronize(s.ptr), "StreamCaptureUnsupported"),
    "waiting for an event of it": (lambda s: s.record().synchronize(), "CapturedEvent"),
    "a second capture": (lambda s: runtime.streamBeginCapture(s.ptr, RELAXED), "IllegalState"),
    "waiting for the device": (lambda s: cupy.cuda.Device().synchronize(), "StreamCaptureUnsupported"),
    "a callback": (lambda s: s.add_callback(print, None), "StreamCaptureUnsupported"),
}


@pytest.mark.parametrize("mode", [GLOBAL, RELAXED])
@pytest.mark.parametrize("what", FORBIDDEN)
def test_what_a_capture_refuses(what, mode):
    call, error = FORBIDDEN[what]
    s = stream()
    with s:
        s.begin_capture(mode)
        with refused(error):
            call(s)
        if what != "a second capture":
            with refused("StreamCaptureInvalidated"):
                s.end_capture()
        else:
            s.end_capture()


@pytest.mark.parametrize("mode", [GLOBAL, THREAD_LOCAL])
def test_memory_cannot_be_taken_unless_the_capture_is_relaxed(mode):
    s = stream()
    with s:
        s.begin_capture(mode)
        with refused("StreamCaptureUnsupported"):
            runtime.malloc(512)
        with refused("StreamCaptureInvalidated"):
            s.end_capture()
        s.begin_capture(RELAXED)
        memory = runtime.malloc(512)
        s.end_capture()
    runtime.free(memory)


@emulated
def test_memory_in_the_order_of_a_stream_is_no_part_of_a_graph():
    s, pool = stream(), runtime.deviceGetDefaultMemPool(0)
    memory = runtime.mallocAsync(512, s.ptr)
    for call in (
        lambda: runtime.mallocAsync(512, s.ptr),
        lambda: runtime.mallocFromPoolAsync(512, pool, s.ptr),
        lambda: runtime.freeAsync(memory, s.ptr),
    ):
        s.begin_capture(RELAXED)
        with refused("NotSupported"):
            call()
        with refused("StreamCaptureInvalidated"):
            s.end_capture()
    blocking = stream(non_blocking=False)
    blocking.begin_capture(RELAXED)
    with refused("StreamCaptureImplicit"):
        runtime.mallocAsync(512, 0)
    with refused("StreamCaptureInvalidated"):
        blocking.end_capture()
    runtime.freeAsync(memory, s.ptr)


def test_events_from_before_a_capture_and_the_legacy_stream():
    s, other = stream(), stream()
    before = other.record()
    with s:
        s.begin_capture()
        with refused("StreamCaptureIsolation"):
            s.wait_event(before)
        with refused("StreamCaptureInvalidated"):
            s.end_capture()
    with refused("IllegalState"):
        s.end_capture()
    with refused("StreamCaptureUnsupported"):
        runtime.streamBeginCapture(0, RELAXED)


@pytest.mark.skipif(runtime.getDeviceCount() < 2, reason="needs two GPUs")
def test_a_capture_leaves_other_devices_alone():
    s = stream()
    s.begin_capture(RELAXED)
    with cupy.cuda.Device(1) as other:
        other.synchronize()
    s.end_capture()


LEGACY = {
    "work": lambda: runtime.memsetAsync(cupy.zeros(1).data.ptr, 0, 8, 0),
    "waiting for it": cupy.cuda.Stream.null.synchronize,
    "its wait for an event": lambda: cupy.cuda.Stream.null.wait_event(stream().record()),
}


@pytest.mark.parametrize("what", LEGACY)
def test_the_legacy_stream_beside_a_blocking_one_that_captures(what):
    blocking = stream(non_blocking=False)
    blocking.begin_capture(RELAXED)
    with refused("StreamCaptureImplicit"):
        LEGACY[what]()
    with refused("StreamCaptureInvalidated"):
        blocking.end_capture()


def test_a_question_raises_nothing_and_may_end_a_capture():
    for ask in (lambda s: s.done, lambda _: cupy.cuda.Stream.null.done):
        s = stream(non_blocking=False)
        s.begin_capture(RELAXED)
        assert not ask(s)
        with refused("StreamCaptureInvalidated"):
            s.end_capture()


def test_a_graph_is_drawn(tmp_path):
    s, x = stream(), cupy.zeros(3)
    with s:
        s.begin_capture()
        x += 1
        graph = s.end_capture()
    drawn, more = graph.debug_dot_str(), graph.debug_dot_str(runtime.cudaGraphDebugDotFlagsVerbose)
    assert "cupy_add" in drawn
    assert len(drawn) < len(more)


def test_a_capture_ends_in_its_thread_and_stream():
    s, errors = stream(), []

    def end():
        try:
            runtime.streamEndCapture(s.ptr)
        except runtime.CUDARuntimeError as error:
            errors.append(str(error))

    s.begin_capture(GLOBAL)
    thread = threading.Thread(target=end)
    thread.start()
    thread.join()
    assert "StreamCaptureWrongThread" in errors[0]


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_copies_know_where_memory_is():
    x = cupy.arange(4, dtype=np.int32)
    host = np.empty(4, np.int32)
    runtime.memcpy(host.ctypes.data, x.data.ptr, 16, runtime.memcpyDeviceToHost)
    assert host.tolist() == [0, 1, 2, 3]
    with refused("InvalidValue"):
        runtime.memcpy(host.ctypes.data, x.data.ptr, 16, runtime.memcpyHostToDevice)
    runtime.memcpy(x.data.ptr, host[::-1].copy().ctypes.data, 16, runtime.memcpyDefault)
    assert x.tolist() == [3, 2, 1, 0]
    runtime.memset(x.data.ptr, 0, 8)
    assert x.tolist() == [0, 0, 1, 0]
    pointer = runtime.pointerGetAttributes(x.data.ptr)
    assert (pointer.type, pointer.device, pointer.devicePointer) == (runtime.memoryTypeDevice, 0, x.data.ptr)
    assert runtime.pointerGetAttributes(host.ctypes.data).type == runtime.memoryTypeUnregistered


def test_rows_are_copied_with_their_pitch():
    x = cupy.zeros((3, 8), np.uint8)
    rows = np.arange(12, dtype=np.uint8).reshape(3, 4)
    runtime.memcpy2D(x.data.ptr + 2, 8, rows.ctypes.data, 4, 4, 3, runtime.memcpyHostToDevice)
    np.testing.assert_array_equal(cupy.asnumpy(x)[:, 2:6], rows)
    assert cupy.asnumpy(x)[:, :2].sum() == 0
    with refused("InvalidValue"):
        runtime.memcpy2D(x.data.ptr, 2, rows.ctypes.data, 4, 4, 3, runtime.memcpyHostToDevice)


def test_pinned_and_managed_memory():
    pinned = cupy.cuda.alloc_pinned_memory(64)
    assert runtime.pointerGetAttributes(pinned.ptr).type == runtime.memoryTypeHost
    managed = cupy.cuda.malloc_managed(64)
    x = cupy.ndarray(8, np.float64, managed)
    x[...] = 3
    assert runtime.pointerGetAttributes(managed.ptr).type == runtime.memoryTypeManaged
    assert x.sum() == 24
    runtime.memPrefetchAsync(managed.ptr, 64, 0, 0)
    runtime.memAdvise(managed.ptr, 64, 1, 0)
    for wrong, call in (
        ("InvalidDevice", lambda: runtime.memPrefetchAsync(managed.ptr, 64, 1000, 0)),
        ("InvalidDevice", lambda: runtime.memAdvise(managed.ptr, 64, 1, 1000)),
        ("InvalidValue", lambda: runtime.memAdvise(managed.ptr, 64, -1, 0)),
    ):
        with refused(wrong):
            call()
    host = np.zeros(1024)
    runtime.hostRegister(host.ctypes.data, host.nbytes, 0)
    assert runtime.pointerGetAttributes(host.ctypes.data).type == runtime.memoryTypeHost
    with refused("HostMemoryAlreadyRegistered"):
        runtime.hostRegister(host.ctypes.data, host.nbytes, 0)
    runtime.hostUnregister(host.ctypes.data)
    runtime.hostRegister(host.ctypes.data + 4096, 4096, 0)
    with refused("HostMemoryAlreadyRegistered"):
        runtime.hostRegister(host.ctypes.data, host.nbytes, 0)
    runtime.hostUnregister(host.ctypes.data + 4096)
    with refused("HostMemoryNotRegistered"):
        runtime.hostUnregister(host.ctypes.data)


def test_more_memory_than_there_is():
    free, total = runtime.memGetInfo()
    assert 0 < free <= total
    with refused("MemoryAllocation: out of memory"):
        runtime.malloc(total + 1)
    with pytest.raises(cupy.cuda.memory.OutOfMemoryError):
        cupy.empty(total + 1, np.uint8)
    free, _ = runtime.memGetInfo()
    memory = runtime.malloc(1 << 20)
    assert runtime.memGetInfo()[0] <= free - (1 << 20)
    runtime.free(memory)


@emulated
def test_memory_in_the_order_of_a_stream_is_freed_once():
    s = stream()
    memory = runtime.mallocAsync(100, s.ptr)
    for wrong in (memory + 8, 0, 12345):
        with refused("InvalidValue"):
            runtime.freeAsync(wrong, s.ptr)
    runtime.freeAsync(memory, s.ptr)
    for free in (lambda: runtime.freeAsync(memory, s.ptr), lambda: runtime.free(memory)):
        with refused("InvalidValue"):
            free()


@emulated
def test_pinned_memory_is_the_hosts():
    total = runtime.memGetInfo()[1]
    if total >= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
        pytest.skip("the host has less memory than the device")
    runtime.freeHost(runtime.hostAlloc(total + 1, 0))
    with refused("MemoryAllocation"):
        runtime.hostAlloc(1 << 45, 0)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: runtime.deviceGetAttribute(9999, 0), "InvalidValue"),
        (lambda: runtime.mallocManaged(0), "InvalidValue"),
        (lambda: runtime.deviceGetLimit(99), "UnsupportedLimit"),
        (lambda: runtime.deviceSetLimit(99, 1), "UnsupportedLimit"),
        (lambda: runtime.streamWaitEvent(0, cupy.cuda.Event().ptr, 7), "InvalidValue"),
        (lambda: runtime.streamAddCallback(0, print, 0, 1), "InvalidValue"),
    ],
)
def test_arguments_that_are_none(call, error):
    with refused(error):
        call()


@emulated
def test_memory_is_freed_once():
    memory = runtime.malloc(100)
    runtime.free(memory)
    with refused("InvalidValue"):
        runtime.free(memory)
    runtime.free(0)


def test_pools_of_the_runtime():
    pool = cupy.cuda.MemoryAsyncPool()
    with cupy.cuda.using_allocator(pool.malloc), stream() as s:
        x = cupy.arange(1000)
        assert int(x.sum()) == 499500
        used = pool.used_bytes()
        assert used >= 8000
        del x
        s.synchronize()
    assert pool.used_bytes() < used
    pool.free_all_blocks()
    held = pool.malloc(1024)
    total = pool.total_bytes()  # the pool takes more than it is asked for
    more = pool.malloc(4096)
    assert pool.total_bytes() == total == pool.used_bytes() + pool.free_bytes()
    del held, more
    assert pool.total_bytes() == total
    pool.free_all_blocks()
    assert pool.total_bytes() < total
    pool.set_limit(fraction=0.5)
    assert 0 < pool.get_limit() < runtime.memGetInfo()[1]
    pool.set_limit(size=0)


# ---- devices --------------------------------------------------------------------------------------------------------


def test_a_thread_has_a_context_when_it_has_used_the_device():
    def look():
        seen.append(cupy.cuda.driver.ctxGetCurrent())
        cupy.arange(1)
        seen.append(cupy.cuda.driver.ctxGetCurrent())

    seen = []
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert [context != 0 for context in seen] == [False, True]


@pytest.mark.skipif(runtime.getDeviceCount() < 2, reason="needs two GPUs")
def test_memory_in_the_order_of_a_stream_is_its_devices_or_the_pools():
    with cupy.cuda.Device(1):
        far = stream()
    near = stream()
    for memory in (
        runtime.mallocAsync(512, far.ptr),
        runtime.mallocFromPoolAsync(512, runtime.deviceGetDefaultMemPool(1), near.ptr),
    ):
        assert runtime.pointerGetAttributes(memory).device == 1
        runtime.freeAsync(memory, far.ptr)
    far.synchronize()
    with refused("InvalidValue"):
        runtime.deviceSetMemPool(0, runtime.deviceGetDefaultMemPool(1))


@pytest.mark.skipif(runtime.getDeviceCount() < 2, reason="needs two GPUs")
def test_arrays_of_two_devices():
    with cupy.cuda.Device(1):
        y = cupy.arange(5)
    assert y.device.id == 1
    x = cupy.asarray(y)
    assert x.device.id == 0
    np.testing.assert_array_equal(cupy.asnumpy(x), np.arange(5))
    assert runtime.deviceCanAccessPeer(0, 1) in (0, 1)
    with cupy.cuda.Device(1):
        elsewhere = stream()
    with pytest.raises((runtime.CUDARuntimeError, cupy.cuda.driver.CUDADriverError), match="INVALID_HANDLE|Handle"):
        cupy.RawKernel('extern "C" __global__ void none() {}', "none")((1,), (1,), (), stream=elsewhere)


def test_there_is_no_further_device():
    count = runtime.getDeviceCount()
    with refused("InvalidDevice"):
        cupy.cuda.Device(count).use()
    assert cupy.cuda.Device().id == 0
    with refused("InvalidDevice"):
        runtime.deviceGetAttribute(1, count)


def test_what_the_device_says_of_itself():
    about = runtime.getDeviceProperties(0)
    attributes = cupy.cuda.Device(0).attributes
    assert about["warpSize"] == attributes["WarpSize"] == 32
    assert about["multiProcessorCount"] == attributes["MultiProcessorCount"]
    assert about["maxThreadsPerBlock"] == 1024
    for device_id in range(runtime.getDeviceCount()):
        bus = cupy.cuda.Device(device_id).pci_bus_id
        assert runtime.deviceGetByPCIBusId(bus) == device_id
        assert int(bus.split(":")[1], 16) == cupy.cuda.Device(device_id).attributes["PciBusId"]
    assert f"{about['major']}{about['minor']}" == cupy.cuda.Device(0).compute_capability
