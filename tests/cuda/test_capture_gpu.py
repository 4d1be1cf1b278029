"""Captured work on a GPU, an arena's stream and memory: what waits for what, and where it runs.

Of Trainer's captured steps see tests/test_gpu.py. On the emulated device in its late mode each missing wait gives wrong
numbers.
"""

import gc

import numpy as np
import pytest

from gpunn import backend
from gpunn import functional as F
from gpunn.cuda import capture
from gpunn.cuda.capture import Arena
from gpunn.errors import CaptureError, DeviceError
from gpunn.observer import Observer

pytestmark = pytest.mark.gpu

SIZE = 5000


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.fixture(params=["null", "own"])
def stream(request, cupy):
    """The stream of who uses an arena."""
    chosen = cupy.cuda.Stream.null if request.param == "null" else cupy.cuda.Stream(non_blocking=True)
    with chosen:
        yield chosen


def times_live(x, again=None, value=1.0, arena=None):
    """A graph that multiplies ``x`` by a live value, where its result is, and the arena."""
    arena = arena or Arena("gpu:0")
    work = lambda: x * capture.live(x, np.array([value]), again)  # noqa: E731
    arena.rehearse(work)
    graph, y = arena.capture(work)
    return graph, y, arena


def counting(start=0):
    numbers = iter(range(start, 100))
    return lambda: np.array([float(next(numbers))])


def assert_all(x, value):
    np.testing.assert_array_equal(backend.to_cpu(x), np.full(x.shape, value, x.dtype))


# ---- order ----------------------------------------------------------------------------------------------------------


def test_a_replay_comes_after_the_work_before_it_and_before_that_after_it(cupy, stream):
    x, results = cupy.zeros(SIZE), []
    graph, y, _ = times_live(x, counting(10))
    for n in range(6):
        x.fill(n)
        graph.replay()
        results.append(y + 0.5)
    for n, result in enumerate(results):
        assert_all(result, n * (10 + n) + 0.5)


def test_rehearsed_work_is_in_turn_too(cupy, stream):
    arena, x = Arena("gpu:0"), cupy.zeros(SIZE)
    results = []
    for n in range(4):
        x.fill(n)
        y = arena.rehearse(lambda: x * 3)
        results.append(y + 0.5)
        del y  # its memory is the next one's
        with arena.entered():
            cupy.cuda.get_current_stream().synchronize()
    for n, result in enumerate(results):
        assert_all(result, 3 * n + 0.5)


def test_live_values_are_read_before_they_are_written_anew(cupy, stream):
    x, results = cupy.ones(SIZE), []
    graph, y, _ = times_live(x, counting(10))
    for _ in range(6):
        graph.replay()
        results.append(y.copy())
    for n, result in enumerate(results):
        assert_all(result, 10 + n)


def test_a_graph_that_is_dropped_has_read_its_live_values(cupy, stream):
    x, arena, results = cupy.ones(SIZE), Arena("gpu:0"), []
    for n in range(5):
        graph, y, _ = times_live(x, value=10.0 + n, arena=arena)
        graph.replay(first=True)
        results.append(y.copy())
        del graph, y
        gc.collect()
    for n, result in enumerate(results):
        assert_all(result, 10 + n)


def test_the_first_replay_has_the_values_of_the_capture(cupy, stream):
    x = cupy.ones(SIZE)
    graph, y, _ = times_live(x, counting(10), value=7.0)
    graph.replay(first=True)
    assert_all(y, 7)
    graph.replay()
    assert_all(y, 10)


# ---- memory ---------------------------------------------------------------------------------------------------------


def churn(cupy):
    """Arrays of many sizes that take what memory is free, filled."""
    return [cupy.full(size, np.nan) for size in (1, SIZE, SIZE, SIZE, 1 << 16)]


def test_nobody_else_gets_the_memory_of_a_graph(cupy, stream):
    arena, x = Arena("gpu:0"), cupy.ones(SIZE)
    work = lambda: ((x + 1) * 2) + (x * 3)  # noqa: E731 - temporary arrays
    arena.rehearse(work)
    graph, y = arena.capture(work)
    others = churn(cupy)
    graph.replay(first=True)
    assert_all(y, 7)
    for other in others:
        assert_all(other, np.nan)
    kept = churn(cupy)
    graph.replay(first=True)
    assert_all(y, 7)
    del kept


def test_a_limit_of_memory_is_not_the_arenas(cupy, monkeypatch):
    monkeypatch.setenv("CUPY_GPU_MEMORY_LIMIT", str(1 << 20))
    arena = Arena("gpu:0")
    assert_all(arena.rehearse(lambda: cupy.ones(1 << 18) * 2), 2)


def test_without_memory_it_says_so_and_gives_back_what_the_work_had(cupy):
    def used():
        gc.collect()
        Arena("gpu:0").rehearse(lambda: None)
        cupy.get_default_memory_pool().free_all_blocks()
        free, total = cupy.cuda.runtime.memGetInfo()
        return total - free

    arena, before, held = Arena("gpu:0"), used(), []
    with pytest.raises(
        DeviceError, match=r"cuda graph: there is no memory for \d+ bytes more .*: take smaller batches"
    ):
        arena.rehearse(lambda: held.append(cupy.ones(SIZE)) or cupy.empty(1 << 46, np.uint8))
    assert_all(arena.rehearse(lambda: held[0] * 2), 2)
    held.clear()
    assert used() < before + 2 * SIZE * 8  # what the second rehearsal took, not the first
    del arena
    assert used() <= before


def test_unused_memory_of_others_is_given_back_for_a_graph(cupy, monkeypatch):
    pool = cupy.get_default_memory_pool()
    arena, memory, refused, unused = Arena("gpu:0"), cupy.cuda.Memory, [], []

    def refusing_once(size):
        unused.append(pool.free_bytes())
        if not refused:
            refused.append(size)
            raise cupy.cuda.runtime.CUDARuntimeError(2)  # out of memory
        return memory(size)

    cupy.ones(SIZE)  # its memory is in the pool from now on
    assert pool.free_bytes() >= SIZE * 8
    monkeypatch.setattr(cupy.cuda, "Memory", refusing_once)
    assert_all(arena.rehearse(lambda: cupy.ones(SIZE)), 1)
    assert len(refused) == 1
    assert unused[0] >= SIZE * 8
    assert unused[1] < unused[0]  # parts of what earlier tests hold may be left


# ---- the host's part ------------------------------------------------------------------------------------------------


class Launches(Observer):
    """How many kernels of the library were launched."""

    count = 0

    def around_launch(self, file, kernel, args, function):
        self.count += 1
        return function


def test_what_the_host_repeats_renews_values_and_launches_nothing(cupy, stream):
    x, numbers, launches = cupy.arange(16, dtype=np.float32).reshape(1, 1, 4, 4), iter(range(100)), Launches()
    arena = Arena("gpu:0")

    def work():
        n = next(numbers)
        a = capture.live(x, np.float32([n]))
        b = capture.live(x, np.array([[10.0 * n, 1.0], [2.0, 3.0]]).T)
        return F.max_pool2d(x, 2), a, b

    arena.rehearse(work)
    graph, (pooled, a, b) = arena.capture(work)
    assert graph.counted_values == 2
    with launches:
        for n in range(2, 5):
            graph.replay(work)
            np.testing.assert_array_equal(backend.to_cpu(pooled).ravel(), [5, 7, 13, 15])
            assert_all(a, n)
            np.testing.assert_array_equal(backend.to_cpu(b), [[10 * n, 2], [1, 3]])
        assert launches.count == 0
        work()
        assert launches.count == 1
    assert (capture.capturing(), capture.in_capture(), capture.repeating()) == (False, False, False)


def test_the_phases(cupy):
    arena, x, seen = Arena("gpu:0"), cupy.ones(4), []

    def note():
        seen.append((capture.capturing(), capture.in_capture(), capture.repeating()))
        return x * 2

    note()
    arena.rehearse(note)
    graph, _ = arena.capture(note)
    graph.replay(lambda: seen.append((capture.capturing(), capture.in_capture(), capture.repeating())))
    assert seen == [(False,) * 3, (True, False, False), (True, True, False), (True, False, True)]


def test_other_work_than_was_captured_is_refused(cupy):
    x = cupy.ones(4)
    graph, _, arena = times_live(x)
    rule = "cuda graph: the host repeats other work than was captured"
    with pytest.raises(CaptureError, match=f"{rule}, got values_left=1"):
        graph.replay(lambda: None)
    with pytest.raises(CaptureError, match=f"{rule}, got dtype='float32', bytes=4"):
        graph.replay(lambda: capture.live(x, np.float32([1])))
    with pytest.raises(CaptureError, match=f"{rule}, got dtype='uint64', bytes=8"):
        graph.replay(lambda: capture.live(x, np.uint64([1])))
    with pytest.raises(CaptureError, match=f"{rule}, got dtype='float64', bytes=16"):
        graph.replay(lambda: capture.live(x, np.ones(2)))
    with pytest.raises(CaptureError, match=rule):
        graph.replay(lambda: [capture.live(x, np.ones(1)) for _ in range(2)])
    with pytest.raises(CaptureError, match=r"too many values that change, got room=65536, needed=80000"):
        arena.capture(lambda: capture.live(x, np.ones(10_000)))


def test_live_values_lie_where_every_dtype_may(cupy, stream):
    arena, x, n = Arena("gpu:0"), cupy.ones(1), iter(range(1, 100))
    kinds = [np.uint8, np.float64, np.float16, np.uint64, np.float32, np.float64]

    def work():
        live = [capture.live(x, np.array([next(n)], kind)) for kind in kinds]
        return live, [y + 0 for y in live]

    arena.rehearse(work)
    graph, (live, copied) = arena.capture(work)
    for y in live:
        assert y.data.ptr % 16 == 0
    graph.replay(first=True)
    for number, (y, kind) in enumerate(zip(copied, kinds, strict=True), 7):
        assert y.dtype == kind
        assert_all(y, number)
    graph.replay(lambda: [capture.live(x, np.array([next(n)], kind)) for kind in kinds])
    for number, y in enumerate(copied, 13):
        assert_all(y, number)


def test_the_host_repeats_no_value_that_is_drawn_again(cupy, stream):
    arena, x, again = Arena("gpu:0"), cupy.ones(SIZE), counting(10)

    def work():
        return x * capture.live(x, np.array([1.0]), again) + capture.live(x, np.array([0.5]))

    arena.rehearse(work)
    graph, y = arena.capture(work)
    assert graph.counted_values == 1
    for n in range(3):
        graph.replay(lambda n=n: capture.live(x, np.array([100.0 * n])))
        assert_all(y, 10 + n + 100 * n)


def test_whether_values_are_drawn_again(cupy):
    graph, _, _ = times_live(cupy.ones(4), lambda: np.array([3.0]), value=3.0)
    assert graph.drawn_again()
    graph, _, _ = times_live(cupy.ones(4), lambda: np.array([4.0]), value=3.0)
    assert not graph.drawn_again()


def test_alarms_wait_for_the_work(cupy):
    arena, x, told = Arena("gpu:0"), cupy.ones(4), []

    def work():
        capture.alarm(x.sum() > 9, lambda: told.append("large"))
        return [wrong for wrong, _ in capture.alarms()]

    assert [bool(wrong) for wrong in arena.rehearse(work)] == [False]
    graph, (wrong,) = arena.capture(work)
    for value, expected in ((1.0, False), (3.0, True)):
        x.fill(value)
        graph.replay(first=True)
        assert bool(wrong) is expected
    assert told == []
    assert capture.alarms() == []
    capture.alarm(x.sum() > 9, lambda: told.append("large"))
    capture.alarm(x.sum() > 99, lambda: told.append("wrong"))
    assert told == ["large"]
    with capture.rehearsing(), pytest.raises(CaptureError, match="op: it cannot be captured in a CUDA graph: mine"):
        capture.refuse_capture("op", "mine")
    capture.refuse_capture("op", "mine")


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def test_after_work_that_failed_the_arena_captures_again(cupy, stream):
    arena, x = Arena("gpu:0"), cupy.arange(4.0)

    def fail(error):
        y = x * 2
        raise error if y is not None else AssertionError

    for error in (ValueError("mine"), RuntimeError("mine")):
        for way in (arena.rehearse, arena.capture):
            expected = CaptureError if way == arena.capture and type(error) is RuntimeError else type(error)
            with pytest.raises(expected, match="mine"):
                way(lambda error=error: fail(error))
            assert not capture.capturing()
    for read, place in ((float, ""), (backend.to_cpu, r"to_cpu\(\) \(backend.py, line \d+\)")):
        with pytest.raises(CaptureError, match=rf"cuda graph: .*{place} cannot be captured \(.*\): read nothing back"):
            arena.capture(lambda read=read: read(x.sum()))
    assert cupy.cuda.get_current_stream() == stream
    arena.rehearse(lambda: x * 2)
    graph, y = arena.capture(lambda: x * 2)
    graph.replay(first=True)
    np.testing.assert_array_equal(backend.to_cpu(y), [0, 2, 4, 6])


# ---- the second device ----------------------------------------------------------------------------------------------


def test_an_arena_of_another_device_than_the_current_one(cupy):
    if backend.gpu_count() < 2:
        pytest.skip("one GPU")
    with cupy.cuda.Device(1):
        x = cupy.ones(SIZE)
    arena, devices = Arena("gpu:1"), []

    def work():
        devices.append(cupy.cuda.Device().id)
        return x * capture.live(x, np.array([3.0 + len(devices)]))

    arena.rehearse(work)
    graph, y = arena.capture(work)
    graph.replay(first=True)
    assert_all(y, 5)

    def repeat():
        devices.append(cupy.cuda.Device().id)
        capture.live(x, np.array([8.0]))

    graph.replay(repeat)
    assert_all(y, 8)
    assert devices == [1, 1, 1]
    assert cupy.cuda.Device().id == 0
