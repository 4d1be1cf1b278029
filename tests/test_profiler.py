"""The profiler: whose time and memory it is, that the parts are the whole, kernels counted, the table and the trace."""

from __future__ import annotations

import itertools
import json
import pickle
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import backend, nn, tensor
from gpunn import functional as F
from gpunn.backend import random_generator
from gpunn.cuda.compilation import compiling
from gpunn.errors import ArgumentError, FileError
from gpunn.observer import Observer, observers
from gpunn.profiler import Profile, measures
from gpunn.profiler.measures import EventClock, PoolMemory
from gpunn.tensor import record

MS = 1e-3


class Sleeps(nn.Module):
    """The identity; it takes ``forward`` seconds, and its gradient ``backward``."""

    def __init__(self, forward: float, backward: float = 0.0) -> None:
        self.seconds, self.back = forward, backward

    def forward(self, x: Any) -> Any:
        time.sleep(self.seconds)

        def backward(gy: Any, needs: Any) -> Any:
            time.sleep(self.back)
            return (gy,)

        return record(x.data.copy(), (x,), backward)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sleep takes no time but on the profile's clock, which else moves by 1 ns a look: a busy machine adds none."""
    now = itertools.count()
    slept = [0]
    clock = SimpleNamespace(perf_counter_ns=lambda: next(now) + slept[0])
    monkeypatch.setattr(measures, "time", clock)
    sleeping = SimpleNamespace(sleep=lambda seconds: slept.__setitem__(0, slept[0] + round(1e9 * seconds)))
    monkeypatch.setitem(globals(), "time", sleeping)


def lasts(milliseconds: float) -> Any:
    return pytest.approx(milliseconds * MS, abs=1e-6)


def lasts_each(*milliseconds: float) -> Any:
    return tuple(map(lasts, milliseconds))


def by_name(profile: Profile) -> dict[str, Any]:
    return {layer.name: layer for layer in profile.layers}


def a_leaf(*shape: int) -> Any:
    return tensor(np.ones(shape, np.float32), requires_grad=True)


def mlp() -> nn.Sequential:
    g = random_generator(0)
    return nn.Sequential(nn.Linear(20, 30, generator=g), nn.ReLU(), nn.Linear(30, 5, generator=g))


def assert_parts_are_the_whole(profile: Profile) -> None:
    """Each ns is counted once, so only the rounding of float sums is allowed for."""
    parts = sum(layer.self_seconds for layer in profile.layers)
    parts += profile.outside_seconds + profile.autograd_seconds + profile.compile_seconds
    assert parts == pytest.approx(profile.seconds, rel=1e-9)


# ---- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pretended")
def test_a_known_sleep_is_in_its_layer_and_in_those_around_it():
    net = nn.Sequential(nn.Sequential(Sleeps(20 * MS, 40 * MS), nn.Identity()), Sleeps(10 * MS))
    x = a_leaf(3)
    with gpunn.profile() as profile:
        net(x).sum().backward()
    found = by_name(profile)
    slow, inner, last, root = (found[name] for name in ("0.0", "0", "1", "(Sequential)"))
    assert (slow.forward_seconds, slow.backward_seconds, slow.self_seconds) == lasts_each(20, 40, 60)
    assert (inner.forward_seconds, inner.backward_seconds, inner.self_seconds) == lasts_each(20, 40, 0)
    assert (last.forward_seconds, last.backward_seconds, last.self_seconds) == lasts_each(10, 0, 10)
    assert (root.forward_seconds, root.backward_seconds, root.self_seconds) == lasts_each(30, 40, 0)
    assert_parts_are_the_whole(profile)


def test_parts_are_the_whole_of_a_training_step():
    net = mlp()
    with gpunn.profile() as profile:
        for _ in range(3):
            net.zero_grad()
            F.cross_entropy(net(a_leaf(8, 20)), np.arange(8) % 5).backward()
    assert_parts_are_the_whole(profile)
    assert profile.autograd_seconds > 0
    assert profile.outside_seconds > 0
    assert [layer.calls for layer in profile.layers] == [3, 3, 3, 3]
    assert all(layer.forward_seconds > 0 and layer.backward_seconds >= 0 for layer in profile.layers)
    shares = [layer["share"] for layer in profile.as_dict()["layers"]]
    assert 0 < sum(shares) < 1


@pytest.mark.usefixtures("pretended")
def test_the_time_outside_of_layers_has_the_gradients_recorded_there():
    outside = Sleeps(0, 30 * MS).forward
    net = nn.Identity()
    with gpunn.profile() as profile:
        outside(net(a_leaf(2))).sum().backward()
        time.sleep(10 * MS)
    assert (profile.outside_seconds, profile.autograd_seconds) == lasts_each(40, 0)
    assert_parts_are_the_whole(profile)


@pytest.mark.usefixtures("pretended")
def test_a_layer_within_itself_counts_its_total_once():
    class Again(nn.Module):
        def forward(self, x: Any, times: int = 3) -> Any:
            time.sleep(5 * MS)
            return x if times == 1 else self(x, times - 1)

    with gpunn.profile() as profile:
        Again()(a_leaf(1))
    (layer,) = profile.layers
    assert layer.calls == 3
    assert (layer.forward_seconds, layer.self_seconds) == lasts_each(15, 15)


@pytest.mark.usefixtures("pretended")
def test_compiling_is_in_no_layers_time():
    class First(nn.Module):
        def forward(self, x: Any) -> Any:
            with compiling("pool.cu for sm_90"):
                time.sleep(20 * MS)
            time.sleep(5 * MS)
            return x

    with gpunn.profile() as profile:
        nn.Sequential(First())(a_leaf(1))
    assert profile.compile_seconds == lasts(20)
    assert [(layer.total_seconds, layer.self_seconds) for layer in profile.layers] == [
        lasts_each(5, 0),
        lasts_each(5, 5),
    ]
    assert profile.as_dict()["compiled"] == 1
    assert_parts_are_the_whole(profile)


def test_a_gradient_after_the_profile_is_as_without():
    net, x = mlp(), a_leaf(4, 20)
    with gpunn.profile() as profile:
        y = net(x).sum()
    y.backward()
    expected = a_leaf(4, 20)
    mlp()(expected).sum().backward()
    np.testing.assert_array_equal(x.grad, expected.grad)
    assert all(layer.backward_seconds == 0 for layer in profile.layers)


def test_an_error_passes_and_the_figures_are_there():
    class Fails(nn.Module):
        def forward(self, x: Any) -> Any:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"), gpunn.profile() as profile:
        nn.Sequential(Fails())(a_leaf(1))
    assert [layer.type for layer in profile.layers] == ["Sequential", "Fails"]
    assert_parts_are_the_whole(profile)
    assert observers.get() == ()


def test_another_thread_is_not_seen():
    net = mlp()
    with gpunn.profile() as profile:
        thread = threading.Thread(target=lambda: net(a_leaf(2, 20)))
        thread.start()
        thread.join()
    assert profile.layers == []


# ---- names ---------------------------------------------------------------------------------------------------------


def test_layers_have_their_names_in_the_outermost_module():
    net = nn.Sequential(mlp(), nn.CrossEntropyLoss())
    with gpunn.profile() as profile:
        net[0](a_leaf(2, 20))
        nn.CrossEntropyLoss()(a_leaf(2, 5), np.zeros(2, int))
        nn.CrossEntropyLoss()(a_leaf(2, 5), np.zeros(2, int))
    names = [layer.name for layer in profile.layers]
    assert names == ["(Sequential)", "0", "1", "2", "(CrossEntropyLoss)", "(CrossEntropyLoss 2)"]


def test_layers_have_their_names_in_the_model_that_is_given():
    net = nn.Sequential(mlp(), nn.Identity())
    with gpunn.profile(net) as profile:
        net[0](a_leaf(2, 20))
    assert [layer.name for layer in profile.layers] == ["0", "0.0", "0.1", "0.2"]
    assert by_name(profile)["0"].parameters == 20 * 30 + 30 + 30 * 5 + 5
    assert by_name(profile)["0.1"].parameters == 0
    assert by_name(profile)["0.0"].output_bytes == 2 * 30 * 4


def test_layers_made_on_the_way_are_one_row():
    class Makes(nn.Module):
        def forward(self, x: Any) -> Any:
            for _ in range(4):
                x = nn.Identity()(x)
            return x

    with gpunn.profile() as profile:
        Makes()(a_leaf(1))
    assert [(layer.name, layer.calls) for layer in profile.layers] == [("(Makes)", 1), ("(Makes).(Identity)", 4)]


# ---- memory --------------------------------------------------------------------------------------------------------


class Temporary(nn.Module):
    """Keeps ``kept`` bytes and, for a moment, ``moment`` bytes more."""

    def __init__(self, kept: int, moment: int) -> None:
        self._kept, self._moment = kept, moment

    def forward(self, x: Any) -> Any:
        kept = np.empty(self._kept, np.uint8)
        np.empty(self._moment, np.uint8)
        return kept


def test_memory_of_a_known_temporary():
    net = nn.Sequential(Temporary(1_000_000, 8_000_000), Temporary(2_000_000, 500_000))
    with gpunn.profile(memory=True) as profile:
        y = net(None)
    some = 20_000  # what Python itself takes
    found = by_name(profile)
    assert found["0"].memory_bytes == pytest.approx(9_000_000, abs=some)
    assert found["0"].kept_bytes == pytest.approx(1_000_000, abs=some)
    assert found["1"].memory_bytes == pytest.approx(2_500_000, abs=some)
    assert found["(Sequential)"].memory_bytes == pytest.approx(9_000_000, abs=some)
    assert found["(Sequential)"].kept_bytes == pytest.approx(2_000_000, abs=some)
    assert profile.peak_bytes == pytest.approx(9_000_000, abs=some)
    assert y.nbytes == 2_000_000
    rows = [line.split() for line in profile.table("memory").splitlines()]
    assert [row[0] for row in rows[2:5]] == ["(Sequential)", "0", "1"]
    assert rows[3][-4:] == ["9.0", "MB", "1.0", "MB"]
    assert "Peak memory 9.0 MB" in profile.table()


def test_memory_is_measured_only_when_asked():
    with gpunn.profile() as profile:
        mlp()(a_leaf(2, 20))
    assert (profile.peak_bytes, profile.memory) == (None, "not measured")
    assert profile.as_dict()["layers"][0]["memory_bytes"] is None
    assert "memory" not in profile.table()


# ---- kernels -------------------------------------------------------------------------------------------------------


def test_kernels_are_counted():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    net = nn.MaxPool2d(2)
    with gpunn.cuda.emulate(), gpunn.profile() as profile:
        for _ in range(3):
            net(tensor(x, requires_grad=True)).sum().backward()
        net(x.astype(np.float64))
    found = {(k.name, k.file, k.dtype): (k.launches, k.bytes) for k in profile.kernels}
    assert found["max_pool2d_forward", "pool.cu", "float32"][0] == 3
    assert found["max_pool2d_backward", "pool.cu", "float32"][0] == 3
    assert found["max_pool2d_forward", "pool.cu", "float64"][0] == 1
    assert len(found) == 3
    assert found["max_pool2d_forward", "pool.cu", "float64"][1] >= 8 * (16 + 4)
    layer = profile.layers[0]
    assert 0 < sum(k.seconds for k in profile.kernels) <= layer.total_seconds
    assert_parts_are_the_whole(profile)


# ---- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("pretended")
def test_the_table():
    net = nn.Sequential(Sleeps(0, 0), Sleeps(60 * MS), Sleeps(25 * MS, 120 * MS))
    with gpunn.profile() as profile:
        net(a_leaf(2)).sum().backward()

    def order(sort: str) -> list[str]:
        return [line.split()[0] for line in profile.table(sort).splitlines()[2:6]]

    assert order("order") == ["(Sequential)", "0", "1", "2"]
    assert order("self")[:2] == ["2", "1"]
    assert order("forward") == ["(Sequential)", "1", "2", "0"]
    assert order("backward")[-1] in ("0", "1")
    lines = str(profile).splitlines()
    assert lines[-1] == "Times in ms, by the wall clock."
    assert {"all", "outside", "autograd"} <= {line.split()[0] for line in lines if line}
    whole = next(line for line in lines if line.startswith("all"))
    assert whole.endswith("100.0%")
    head = lines[0]
    assert all(len(line) <= len(head) for line in lines)
    with pytest.raises(ArgumentError, match=r"profile: sort must be one of self, total, .*, got sort='speed'"):
        profile.table("speed")


def test_a_notebook_shows_the_table():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    with gpunn.profile() as profile:
        net(tensor(np.ones((2, 4), np.float32))).sum().backward()
    shown = profile._repr_html_()
    assert shown.count("<tr>") == len(profile.table().splitlines()) - 4  # but for two rules, an empty line and the note
    for text in (">Linear</td>", ">(Sequential)</td>", 'font-weight:bold">all</td>', "by the wall clock.</p>"):
        assert text in shown
    told: list[str] = []
    profile._repr_pretty_(SimpleNamespace(text=told.append), cycle=False)
    assert told == [str(profile)]
    summary = net.summary((4,))
    assert repr(summary) == str(summary)
    assert summary._repr_html_().count("<tr>") == len(summary.splitlines())
    assert ">(N, 3)</td>" in summary._repr_html_()
    assert pickle.loads(pickle.dumps(summary))._repr_html_() == summary._repr_html_()


def test_figures_only_when_the_context_is_left():
    with gpunn.profile() as profile, pytest.raises(ArgumentError, match="when the context is left"):
        profile.table()
    with pytest.raises(ArgumentError, match="entered once"), profile:
        pass


def test_figures_are_json():
    with gpunn.profile(memory=True) as profile:
        mlp()(a_leaf(2, 20))
    figures = json.loads(json.dumps(profile.as_dict(), allow_nan=False))
    assert figures["layers"][1]["name"] == "0"
    assert figures["layers"][1]["total_seconds"] > 0


# ---- the trace -----------------------------------------------------------------------------------------------------


def test_the_trace_follows_the_rules_of_its_format(tmp_path: Path):
    net = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4, 2))
    with gpunn.cuda.emulate(), gpunn.profile() as profile:
        for _ in range(2):
            net(a_leaf(1, 1, 4, 4)).sum().backward()
    profile.chrome_trace(tmp_path / "trace.json")
    content = json.loads((tmp_path / "trace.json").read_text())
    events = content["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X"}
    assert {event["name"]: event["args"]["name"] for event in events if event["ph"] == "M"} == {
        "process_name": "gpunn", "thread_name": "computation (wall clock)",
    }  # fmt: skip
    complete = [event for event in events if event["ph"] == "X"]
    assert all({"name", "cat", "ph", "ts", "dur", "pid", "tid"} <= event.keys() for event in complete)
    assert len({(event["pid"], event["tid"]) for event in events}) == 1
    assert {event["cat"] for event in complete} >= {"profile", "forward", "backward", "autograd", "kernel"}
    assert sum(event["cat"] == "kernel" for event in complete) == 4
    assert sum(event["name"] == "forward 2" for event in complete) == 2
    # Complete events of one thread must lie in each other, or apart.
    spans = [(round(1000 * event["ts"]), round(1000 * (event["ts"] + event["dur"]))) for event in complete]
    assert [begin for begin, _ in spans] == sorted(begin for begin, _ in spans)
    open_until: list[int] = []
    for begin, end in spans:
        assert 0 <= begin <= end
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        assert not open_until or end <= open_until[-1]
        open_until.append(end)
    assert spans[0] == (0, round(1e9 * profile.seconds))
    assert content["otherData"]["seconds"] == profile.seconds


def test_a_trace_that_cannot_be_written(tmp_path: Path):
    with gpunn.profile() as profile:
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file/trace.json: the trace cannot be written there"):
        profile.chrome_trace(tmp_path / "file" / "trace.json")


# ---- observers -----------------------------------------------------------------------------------------------------


def test_observers_may_be_left_in_any_order():
    class Counts(Observer):
        def __init__(self) -> None:
            self.calls = 0

        def around_module(self, module: Any, run: Any) -> Any:
            self.calls += 1
            return run

    first, second = Counts(), Counts()
    net = nn.Identity()
    first.__enter__()
    second.__enter__()
    net(1)
    first.__exit__()
    net(1)
    second.__exit__()
    net(1)
    assert (first.calls, second.calls, observers.get()) == (1, 2, ())


@pytest.mark.gpu
def test_a_gpus_times_are_of_events():
    net, y = mlp().to("gpu"), np.arange(8) % 5
    x = tensor(np.ones((8, 20), np.float32), device="gpu")
    labels = tensor(y, device="gpu").data
    with gpunn.profile(memory=True) as profile:
        for _ in range(3):
            F.cross_entropy(net(x), labels).backward()
    assert (profile.clock, profile.memory) == ("CUDA events", "CuPy's memory pool")
    assert_parts_are_the_whole(profile)
    assert all(layer.forward_seconds > 0 for layer in profile.layers)
    assert by_name(profile)["0"].memory_bytes >= 8 * 30 * 4
    assert {kernel.file for kernel in profile.kernels} >= {"loss.cu"}
    assert "GB/s" in profile.table()


@pytest.mark.gpu
def test_two_gpus_have_their_own_times() -> None:
    if backend.gpu_count() < 2:
        pytest.skip("needs two GPUs")
    import cupy

    clock = EventClock(cupy)
    for device in (0, 1, 0, 1):
        with cupy.cuda.Device(device):
            cupy.ones(1000) * 2
            clock.mark()
    times = clock.times()
    assert times[2] >= times[0]
    assert times[3] >= times[1]


@pytest.mark.gpu
def test_the_memory_of_cupys_pool_is_counted() -> None:
    import cupy

    memory = PoolMemory(cupy)
    memory.start()
    before, _ = memory.read()
    x = cupy.empty(1 << 20, np.uint8)
    cupy.empty(1 << 21, np.uint8)
    used, peak = memory.read()
    assert (used - before, peak - before) == (1 << 20, 3 << 20)
    del x
    assert memory.read()[0] == before
    memory.stop()
    cupy.empty(1 << 20, np.uint8)
    assert memory.read()[1] == before


# ---- a GPU's clock and memory, of a stand-in for CuPy --------------------------------------------------------------


class FakeCupy:
    """Two GPUs, whose events come at the times in ``plan`` (ms), and a memory pool."""

    def __init__(self, plan: list[float]) -> None:
        times, self.current, fake = iter(plan), 0, self

        class Device:
            def __init__(self, number: int | None = None) -> None:
                self.id = fake.current if number is None else number

            def __enter__(self) -> None:
                self.before, fake.current = fake.current, self.id

            def __exit__(self, *raised: object) -> None:
                fake.current = self.before

            def synchronize(self) -> None: ...

        class Event:
            def record(self) -> None:
                self.ms, self.device = next(times), fake.current

            def synchronize(self) -> None:
                assert self.device == fake.current

        class MemoryHook:
            def __enter__(self) -> None:
                fake.hooks.append(self)

            def __exit__(self, *raised: object) -> None:
                fake.hooks.remove(self)

        def elapsed(before: Any, after: Any) -> float:
            assert before.device == after.device
            return float(after.ms - before.ms)

        self.hooks: list[Any] = []
        cuda = {"Device": Device, "Event": Event, "MemoryHook": MemoryHook, "get_elapsed_time": elapsed}
        self.cuda = type("cuda", (), {name: staticmethod(value) if name == "get_elapsed_time" else value
                                      for name, value in cuda.items()})  # fmt: skip

    def get_default_memory_pool(self) -> Any:
        return type("pool", (), {"used_bytes": staticmethod(lambda: 100)})


def test_the_clock_of_events():
    fake = FakeCupy([5.0, 6.5, 900.0, 7.0, 901.0])
    clock = EventClock(fake)
    marks = [clock.mark(), clock.mark()]
    with fake.cuda.Device(1):
        marks.append(clock.mark())
    marks.append(clock.mark())
    with fake.cuda.Device(1):
        marks.append(clock.mark())
    times = clock.times()
    assert marks == [0, 1, 2, 3, 4]
    assert [times[1] - times[0], times[3] - times[0], times[4] - times[2]] == [1_500_000, 2_000_000, 1_000_000]
    assert 0 <= times[2] - times[0] < 1e9  # on the line of the wall clock


def test_the_memory_of_the_pool():
    fake = FakeCupy([])
    memory = PoolMemory(fake)
    memory.start()
    (hook,) = fake.hooks
    hook.malloc_postprocess(device_id=0, size=9, mem_size=512, mem_ptr=1, pmem_id=1)
    hook.malloc_postprocess(device_id=1, size=9, mem_size=4096, mem_ptr=1, pmem_id=1)  # of another GPU
    hook.free_postprocess(device_id=0, mem_size=512, mem_ptr=1, pmem_id=1)
    assert memory.read() == (100, 612)
    assert memory.read() == (100, 100)
    memory.stop()
    assert fake.hooks == []
