"""The benchmarks' own arithmetic and their table, on made-up numbers; a GPU is played by a fake."""

import importlib
import importlib.util
import itertools
import json
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import gpunn.functional as F
from gpunn import backend
from gpunn.cuda import source
from gpunn.cuda.emulator import sass
from gpunn.cuda.emulator.cards import CARDS

FOLDER = Path(__file__).parents[1] / "bench"


@pytest.fixture
def peer(monkeypatch) -> ModuleType:
    return imported("peer", monkeypatch)


@pytest.fixture
def report(monkeypatch) -> ModuleType:
    return imported("report", monkeypatch)


def imported(name, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module(name)


def test_every_kernel_file_has_a_benchmark():
    stems = {name.removesuffix(".cu") for name in source.sources()}
    assert {path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")} >= stems


# ---- timing ---------------------------------------------------------------------------------------------------------


class FakeBenchmark:
    stats = None

    def __init__(self):
        self.extra_info, self.group = {}, ""

    def pedantic(self, run, rounds):
        assert rounds == 1
        run()


def measured(bench, **settings):
    calls = []

    def prepare(name):
        return lambda *arrays: lambda: calls.append((name, [type(a) for a in arrays]))

    inputs = [np.ones(3, np.float32)]
    bench.measure("job", "shape", inputs, prepare("gpunn"), prepare("peer"), moved=24, operations=3, **settings)
    return calls


def ticks():
    """A clock that goes on by a hundredth of a second whenever it is looked at."""
    count = itertools.count()
    return lambda: next(count) / 100


def test_on_the_cpu_the_sides_take_turns(peer):
    benchmark, settings = FakeBenchmark(), peer.Settings(seconds=0.05)
    bench = peer.Bench(lambda: benchmark, "cpu", "gpunn", settings)
    calls = measured(bench, peer_name="scikit-image", timer=ticks())
    assert calls[:6] == [("gpunn", [np.ndarray])] * 3 + [("peer", [np.ndarray])] * 3  # to warm up
    assert calls[6:] == [("gpunn", [np.ndarray]), ("peer", [np.ndarray])] * 5
    assert benchmark.extra_info == {
        "device": "cpu", "side": "gpunn", "peer": "scikit-image", "job": "job", "shape": "shape", "bytes": 24,
        "operations": 3, "unit": "fp32", "seconds": pytest.approx(0.01), "quartiles": pytest.approx([0.01, 0.01]),
        "rounds": 5,
    }  # fmt: skip
    bench = peer.Bench(lambda: benchmark, "cpu", "peer", settings)
    assert measured(bench, peer_name="scikit-image", timer=ticks()) == []  # its times are there
    assert benchmark.extra_info["side"] == "peer"


@pytest.mark.parametrize("side", ["gpunn", "peer"])
def test_a_side_alone(peer, side):
    bench = peer.Bench(FakeBenchmark, "cpu", side, peer.Settings(alone=side))
    assert set(map(str, measured(bench, peer_name="scikit-image", timer=ticks()))) == {str((side, [np.ndarray]))}


def test_a_round_of_what_is_short_has_many_runs(peer):
    now, ran = [0.0], []

    def run(name, seconds):
        def run():
            now[0] += seconds
            ran.append(name)

        return run

    found = peer.time_in_turn({"gpunn": run("a", 1e-4), "peer": run("b", 1e-2)}, lambda: now[0], 0.01)
    assert ran[6:] == (["a"] * 20 + ["b"]) * 3
    assert found == {"gpunn": pytest.approx([1e-4] * 3), "peer": pytest.approx([1e-2] * 3)}
    ran.clear()
    peer.time_in_turn({"gpunn": run("a", 5.0)}, lambda: now[0], 0.01)
    assert ran == ["a"] * 4  # one warms up


# ---- turns of two processes -----------------------------------------------------------------------------------------


@pytest.fixture
def meeting(peer, monkeypatch, tmp_path):
    """Runs two functions in threads, each of which gets its end of a meeting and the list that both write to."""
    turns = imported("turns", monkeypatch)
    monkeypatch.setattr(turns, "_rest", lambda: None)

    def run(first, second):
        seen = []

        def one(work, is_first):
            end = turns.meet(tmp_path, is_first)
            with end._connection, end._lines:
                return work(end, seen)

        with ThreadPoolExecutor() as pool:
            found = [pool.submit(one, first, True), pool.submit(one, second, False)]
            return *(future.result(timeout=30) for future in found), seen

    return run


def turn(end, seen, name, seconds, times=3):
    def work():
        seen.append(name)
        return seconds

    end.begin()
    return [end.take(work) for _ in range(times)]


def test_two_processes_take_turns(meeting):
    first, second, seen = meeting(
        lambda end, seen: turn(end, seen, "a", 0.5), lambda end, seen: turn(end, seen, "b", 0.25)
    )
    assert seen == ["a", "b"] * 3
    assert first == [0.5] * 3 == second  # the longer of both


@pytest.mark.parametrize("fails", [0, 1])
@pytest.mark.parametrize("at", [0, 1])
def test_where_a_job_fails_the_other_process_goes_on(meeting, fails, at):
    def failing(end, seen):
        end.begin()
        for _ in range(at):
            end.take(lambda: 1.0)
        with pytest.raises(ZeroDivisionError):
            end.take(lambda: 1 / 0)
        return turn(end, seen, "failed before", 0.5)

    def going_on(end, seen):
        alone = turn(end, [], "", 0.25)
        return alone, turn(end, seen, "went on", 0.125)

    works = [going_on, failing] if fails else [failing, going_on]
    *found, seen = meeting(*works)
    assert found[fails] == [0.5] * 3
    assert found[1 - fails] == ([1.0] * at + [0.25] * (3 - at), [0.5] * 3)
    assert seen == ["went on" if fails else "failed before", "failed before" if fails else "went on"] * 3


@pytest.mark.parametrize("ends", [0, 1])
def test_where_a_process_ends_the_other_goes_on(meeting, ends):
    works = [lambda end, seen: turn(end, seen, "a", 0.5, 1), lambda end, seen: turn(end, seen, "b", 0.25, 3)]
    *found, seen = meeting(*(works[::-1] if ends else works))
    assert found[1 - ends][0] == 0.5
    assert found[1 - ends][-1] == 0.25
    assert (seen.count("a"), seen.count("b")) == (1, 3)


def test_nobody_comes(peer, monkeypatch, tmp_path):
    turns = imported("turns", monkeypatch)
    monkeypatch.setattr(turns, "_PATIENCE", 0.01)
    for first in (False, True):
        with pytest.raises(TimeoutError):
            turns.meet(tmp_path, first)


def test_a_turn_ends_when_the_process_is_at_rest(peer, monkeypatch):
    turns = imported("turns", monkeypatch)
    used = itertools.chain([0.0, 2.0, 4.0, 4.0], itertools.repeat(9.0))
    looks = []
    monkeypatch.setattr(turns.time, "process_time", lambda: next(used))
    monkeypatch.setattr(turns.time, "sleep", looks.append)
    turns._rest()
    assert len(looks) == 3
    monkeypatch.setattr(turns.time, "process_time", itertools.count().__next__)
    turns._rest()  # of threads that never rest
    assert len(looks) == 3 + turns._MOST_LOOKS


class FakeTurns:
    """The other process takes as long as is said."""

    def __init__(self, theirs):
        self.theirs, self.taken = theirs, 0
        self.begun = 0

    def begin(self):
        self.begun += 1

    def take(self, work):
        self.taken += 1
        return max(work(), self.theirs)


def test_a_side_alone_takes_turns(peer):
    """The rounds are as many as the slower side has, of a turn's length, each after some runs that are not timed."""
    now, ran = [0.0], []

    def run():
        now[0] += 1e-3
        ran.append(now[0])

    turns = FakeTurns(0.1)
    found = peer.time_in_turn({"gpunn": run}, lambda: now[0], 0.5, turns)
    assert found == {"gpunn": pytest.approx([1e-3] * 5)}
    assert turns.taken == 1 + 5
    assert len(ran) == 3 + 5 * (5 + 30)
    settings = peer.Settings(alone="gpunn", turns=turns, seconds=0.0)
    bench = peer.Bench(FakeBenchmark, "cpu", "gpunn", settings)
    assert {name for name, _ in measured(bench, peer_name="scikit-image", timer=ticks())} == {"gpunn"}
    assert turns.begun == 1
    bench.measure("gpunn's", "own", [np.ones(1)], lambda x: lambda: None, None, peer_name="scikit-image", timer=ticks())
    assert turns.begun == 1  # the other process has no such job
    taken = turns.taken
    bench.record("own: job", "shape", lambda: [1.0], "a loop")
    assert (turns.begun, turns.taken) == (2, taken + 1)


# ---- what is asked for, and where -----------------------------------------------------------------------------------


def test_only_what_is_asked_for(peer):
    settings = peer.Settings(only="conv*alexNET")
    assert settings.asks_for("training: convolution", "AlexNet conv1 (4, 3, 227, 227)")
    assert settings.asks_for("ceiling: copy", "256 MB")
    assert not settings.asks_for("training: convolution", "ResNet")
    bench = peer.Bench(lambda: pytest.fail("the fixture was asked for"), "cpu", "gpunn", settings)
    with pytest.raises(pytest.skip.Exception, match="not asked for"):
        measured(bench)


def test_both_libraries_go_forward_and_backward(peer):
    """gpunn's side really, and PyTorch's where it is installed: the same function, the same numbers."""
    settings = peer.Settings(seconds=0)
    seen = {}

    def function(F, x, w, index):
        y = F.linear(x, w)[index]
        seen[F.__name__] = y.detach().numpy()
        return y

    for side in peer.SIDES:
        benchmark = FakeBenchmark()
        bench = peer.Bench(lambda benchmark=benchmark: benchmark, "cpu", side, settings)
        if peer.why_not("cpu", side):
            continue
        shapes, index = [(3, 4), (5, 4)], np.array([2, 0])
        bench.training("convolution", "a product", shapes, (2, 5), function, data=[index], operations=7)
        assert benchmark.extra_info["job"] == "training: convolution"
        assert benchmark.extra_info["shape"] == "a product (3, 4)"
        assert benchmark.extra_info["operations"] == 7
        assert benchmark.extra_info["bytes"] == 4 * (3 * (12 + 20) + 2 * 10) + 2 * index.nbytes
    values = [*seen.values()]
    np.testing.assert_allclose(values[0], values[-1], rtol=1e-5)


def test_without_pytorch_its_side_is_skipped(peer, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert peer.why_not("cpu", "peer") == "PyTorch is not installed"
    assert peer.why_not("cpu", "peer", "scikit-image") == ""
    bench = peer.Bench(FakeBenchmark, "cpu", "gpunn")
    assert {name for name, _ in measured(bench, timer=ticks())} == {"gpunn"}
    bench = peer.Bench(FakeBenchmark, "cpu", "peer")
    with pytest.raises(pytest.skip.Exception, match="not installed"):
        measured(bench)


def test_a_gpu_is_timed_by_events_over_rotated_inputs(peer, monkeypatch):
    """One run takes a millisecond of the fake clock; every copy of the inputs is used in its turn."""
    used = []
    monkeypatch.setattr(backend, "why_no_gpu", lambda: "")
    monkeypatch.setattr(peer, "cache_bytes", lambda: 100)
    monkeypatch.setattr(peer, "gpu_name", lambda: "a fake")
    monkeypatch.setattr(peer, "moved_to", lambda on, a: (on, len(used), a.copy()))

    def events(on):
        def elapsed(run):
            before = len(used)
            run()
            return (len(used) - before) * 1e-3

        return elapsed

    monkeypatch.setattr(peer, "events", events)
    prepared = []

    def prepare(x):
        number = len(prepared)
        prepared.append(x)
        return lambda: used.append(number)

    benchmark = FakeBenchmark()
    bench = peer.Bench(lambda: benchmark, "gpu", "gpunn")
    bench.measure("job", "shape", [np.ones(10, np.float32)], prepare, prepare)
    assert [on for on, _, _ in prepared] == ["cupy"] * 9  # 3 × 100 bytes are 8 times 40, and one more
    assert used[:12] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2]
    assert benchmark.extra_info["seconds"] == pytest.approx(1e-3)
    assert benchmark.extra_info["machine"] == "a fake"
    prepared.clear()
    bench.measure("job", "shape", [np.ones(10, np.float32)], prepare, prepare, rotate=False)
    assert len(prepared) == 1


def test_copies_past_the_cache(peer):
    assert peer.copies_past_cache(10, 100) == 31
    assert peer.copies_past_cache(1, 50 << 20) == peer._MOST_COPIES
    assert peer.copies_past_cache(1 << 30, 50 << 20) == 2
    assert peer.copies_past_cache(3 << 31, 50 << 20) == 1  # more than may be copied


def test_rounds_fill_the_time(peer):
    assert [peer.rounds_for(once, 0.25) for once in (1e-7, 0.025, 3.0)] == [40, 10, 3]


def test_whose_arrays(peer):
    assert [peer.place(device, side, "PyTorch") for device in peer.DEVICES for side in peer.SIDES] == [
        "numpy", "torch", "cupy", "torch.cuda",
    ]  # fmt: skip
    assert peer.place("gpu", "peer", "scikit-image on the CPU") == "numpy"


def test_times_that_were_taken_elsewhere(peer, report):
    benchmark = FakeBenchmark()
    peer.Bench(lambda: benchmark, "cpu", "peer").record("own: job", "shape", lambda: [4.0, 2.0, 3.0], "a loop")
    (row,) = report.read_rows({"benchmarks": [{"extra_info": benchmark.extra_info}]})
    assert (row.job, row.shape, row.peer, row.seconds) == ("own: job", "shape", "a loop", {"peer": 3.0})
    assert row.quartiles == {"peer": (2.5, 3.5)}


def test_a_device_that_is_not_there_is_skipped(peer, monkeypatch):
    monkeypatch.setattr(backend, "why_no_gpu", lambda: "no GPU")
    assert peer.why_not("gpu", "gpunn") == "no GPU"
    assert peer.why_not("cpu", "gpunn") == ""
    bench = peer.Bench(lambda: pytest.fail("the fixture was asked for"), "gpu", "gpunn")
    with pytest.raises(pytest.skip.Exception, match="no GPU"):
        measured(bench)


# ---- the table ------------------------------------------------------------------------------------------------------


def one(device, job, shape, side, median, **more):
    about = {"device": device, "job": job, "shape": shape, "side": side, "peer": "PyTorch", "bytes": 0}
    times = {"seconds": median, "quartiles": [0.9 * median, 1.1 * median], "rounds": 9}
    return {"extra_info": about | {"operations": 0, "unit": "fp32"} | times | more}


def result(*benchmarks):
    return {
        "benchmarks": benchmarks,
        "commit_info": {"id": "0123456789abcdef", "dirty": True},
        "machine_info": {
            "cpu": {"brand_raw": "a processor", "count": 2},
            "python_version": "3.12.1",
            "packages": {"numpy": "2"},
            "threads": 1,
            "libraries": ["openblas 0.3: 1"],
            "clock": "processor time",
        },
        "datetime": "2026-01-02T03:04:05",
    }


CPU = [
    one("cpu", "ceiling: copy", "1 MB", "gpunn", 2e-3, bytes=8_000_000),
    one("cpu", "ceiling: copy", "1 MB", "peer", 1e-3, bytes=8_000_000),
    one("cpu", "ceiling: fp32", "9 × 9", "gpunn", 1e-3, operations=50_000_000),
    one("cpu", "LRN forward", "small (2,)", "gpunn", 2e-3, bytes=8_000_000),
    one("cpu", "LRN forward", "small (2,)", "peer", 1e-3, bytes=8_000_000),
    one("cpu", "conv forward", "small", "gpunn", 4e-3, bytes=8_000_000, operations=100_000_000),
    one("cpu", "conv forward", "small", "peer", 2e-3, bytes=8_000_000, operations=100_000_000),
    one("cpu", "conv forward", "large", "gpunn", 1e-3),
    one("cpu", "conv forward", "large", "peer", 8e-3),
    one("cpu", "own: waiting", "digits", "gpunn", 1e-4, peer="the step"),
    one("cpu", "own: waiting", "digits", "peer", 8e-3, peer="the step"),
    one("cpu", "skeletonize", "512", "gpunn", 1e-3, peer="scikit-image"),
    one("cpu", "skeletonize", "512", "peer", 4e-3, peer="scikit-image"),
]
GPU = [
    one("gpu", "ceiling: copy", "1 MB", "gpunn", 1e-6, bytes=8_000_000, machine="a GPU"),
    one("gpu", "LRN forward", "small (9,)", "gpunn", 1.25e-6, bytes=8_000_000, machine="a GPU"),
    one("gpu", "LRN forward", "small (9,)", "peer", 10e-6, bytes=8_000_000, machine="a GPU"),
    one("gpu", "dropout forward", "small", "gpunn", 1e-6, machine="a GPU"),
]
TARGETS = """device,job,shape,of ceiling,rate,ratio,over
cpu,LRN forward,small*,,,0.4,each
cpu,conv *,*,,,1.3,mean
cpu,conv forward,small,,0.02,,each
cpu,own: waiting,*,,,0.05,each
gpu,LRN forward,*,75%,,1/6,each
gpu,dropout *,*,,,1,each
gpu,pool,*,80%,,,each
"""


@pytest.fixture
def targets(report, tmp_path):
    path = tmp_path / "targets.csv"
    path.write_text(TARGETS)
    return report.read_targets(path)


def test_the_table_of_both_devices(report, targets):
    text = report.report(result(*CPU, *GPU), targets)
    lines = text.splitlines()
    assert lines[0] == (
        "2026-01-02, commit 0123456789ab with changes, a processor, 2 cores; 1 thread (openblas 0.3: 1), "
        "by processor time; Python 3.12.1, numpy 2, GPU: a GPU."
    )
    for line in (
        "| copy | 1 MB | 2.000 | 1.000 | 8 GB/s |",
        "| fp32 | 9 × 9 | 1.000 | not measured | 50 GFLOP/s |",
        "| LRN forward | small (2,) | 2.000 ±10% | PyTorch | 1.000 ±10% | 2.00 | 4.0 GB/s | 50% | MISSED: ratio 0.40 |",
        "| conv forward | small | 4.000 ±10% | PyTorch | 2.000 ±10% | 2.00 | 25.0 GFLOP/s | 50% | met: 0.02 TFLOP/s |",
        "| conv forward | large | 1.000 ±10% | PyTorch | 8.000 ±10% | 0.12 |  |  |  |",
        "| skeletonize | 512 | 1.000 ±10% | scikit-image | 4.000 ±10% | 0.25 |  |  |  |",
        "| LRN forward | small (9,) | 0.001 ±10% | PyTorch | 0.010 ±10% | 0.12 | 6,400.0 GB/s | 80% |"
        " met: 75% of ceiling, ratio 0.17 |",
        "| dropout forward | small | 0.001 ±10% | PyTorch | not measured | not measured |  |  |"
        " not measured: ratio 1.00 |",
        "| single passes | 4 | 0.59 |",
        "| waiting | digits | 0.100 | the step | 8.000 | 0.013 | met: ratio 0.05 |",
        "| CPU | `LRN forward` | `small*` | ratio 0.40 | worst of 1 | ratio 2.00 | MISSED |",
        "| CPU | `conv *` | `*` | ratio 1.30 | mean of 2 | ratio 0.50 | met |",
        "| GPU | `LRN forward` | `*` | 75% of ceiling, ratio 0.17 | worst of 1 | 80% of ceiling, ratio 0.12 | met |",
        "| GPU | `pool` | `*` | 80% of ceiling |  |  | not measured |",
    ):
        assert line in lines


def test_the_table_is_made_of_what_is_kept(report, targets):
    kept = report.kept(result(*CPU, *GPU) | {"more": 1})
    assert "more" not in kept
    assert report.report(kept, targets) == report.report(result(*CPU, *GPU), targets)


def test_without_a_gpu_it_says_so(report, targets):
    text = report.report(result(*CPU), targets)
    assert "numpy 2, GPU: not measured." in text
    assert "\nGPU: not measured.\n" in text
    assert "| GPU | `LRN forward` | `*` | 75% of ceiling, ratio 0.17 |  |  | not measured |" in text


def test_the_targets_are_of_jobs_that_exist(report):
    """Each job name begins as a benchmark file or a title in one does: a misspelt one would never be missed."""
    code = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py"))
    for target in report.read_targets(FOLDER / "targets.csv"):
        assert target.device in report.DEVICES
        assert target.asks()
        word = next(part for part in target.job.replace("_*", "").split() if part != "*")
        assert word in code, target


# ---- scaling --------------------------------------------------------------------------------------------------------


@pytest.fixture
def scaling(monkeypatch) -> ModuleType:
    pytest.importorskip("cpuinfo")  # comes with pytest-benchmark
    return imported("scaling", monkeypatch)


def test_the_exponent(scaling):
    sizes = [2, 4, 8, 16]
    assert scaling.exponent(sizes, [3 * size**2 for size in sizes]) == pytest.approx(2)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak of the memory")
def test_a_step_is_measured_in_a_process_of_its_own(scaling):
    found = scaling.measured("gpunn", "sequence", 2)
    assert found["seconds"] > 0
    assert 1 << 16 < found["bytes"] < 1 << 28


def test_the_pages_of_scaling(scaling, monkeypatch, tmp_path, undrawn):
    """Time grows as the square of each size, memory as the size; PyTorch takes half the time."""
    asked = []

    def measured(side, axis, size):
        asked.append((side, axis, size))
        size = 2 if axis == "step" else size
        return {"seconds": size**2 * {"gpunn": 1e-3, "peer": 5e-4}[side], "bytes": size << 20}

    monkeypatch.setattr(scaling, "measured", measured)
    monkeypatch.setattr(scaling.cpuinfo, "get_cpu_info", lambda: {"brand_raw": "a processor", "count": 2})
    for reason in ("", "PyTorch is not installed"):
        monkeypatch.setattr(scaling.peer, "why_not", lambda device, side, reason=reason: reason * (side == "peer"))
        scaling.main(str(tmp_path / "here"))
        text = (tmp_path / "here.md").read_text(encoding="utf-8")
        assert ": a processor, 2 cores; 1 thread (gpunn" in text
        if reason:
            assert "| 8 | 64.000 | not measured | not measured | 8.0 | not measured | not measured |" in text
            assert "| exponent | 2.00 | not measured |  | 1.00 | not measured |  |" in text
        else:
            assert "| 8 | 64.000 | 32.000 | 2.00 | 8.0 | 8.0 | 1.00 |" in text
            assert "| exponent | 2.00 | 2.00 |  | 1.00 | 1.00 |  |" in text
            assert "| circles, 50 points | 4.000 | 2.000 | 2.00 | 2.0 | 2.0 | 1.00 |" in text
        assert (tmp_path / "here.png").exists()
    sizes = sum(len(axis.sizes) for axis in scaling.AXES.values()) + len(scaling.STEPS)
    assert len(asked) == 3 * sizes


# ---- what is counted ------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch) -> ModuleType:
    return imported("counted", monkeypatch)


@pytest.fixture(scope="module")
def counts():
    return json.loads((FOLDER / "results" / "counted.json").read_text())


def test_every_kernel_is_counted(counts):
    kernel = re.compile(r'extern "C" __global__ void(?:\s+__launch_bounds__\([^)]*\))?\s+(\w+)\(')
    kernels = {(file, name) for file in source.sources() for name in kernel.findall(source.flatten(file))}
    assert kernels == {(row["file"], row["kernel"]) for row in counts}


def test_what_is_far_from_its_least_has_a_remark(counted, counts):
    far = {row["kernel"] for row in counts if max(row["ratios"].values()) > counted.NEAR}
    assert set(counted.REMARKS) == far


def test_the_least_bytes(counted):
    p, g, v, now = np.zeros(100, np.float32), *np.zeros((2, 100), np.float32), np.zeros(3, np.float32)
    sizes = [np.int32(100)] * 3
    # g is read, p and v are read and written; without momentum p stands for v.
    assert counted.least_bytes("optimizer.cu", "sgd", [p, g, v, *sizes, now, np.int32(0)]) == 5 * 400 + 12
    assert counted.least_bytes("optimizer.cu", "sgd", [p, g, p, *sizes, now, np.int32(0)]) == 3 * 400 + 12
    # Without a bias the result stands for it, and is only written.
    filters, packed, out = (np.zeros(n, np.uint32) for n in (10, 20, 30))
    assert counted.least_bytes("conv_mma.cu", "conv_mma_product", [filters, packed, out, out, np.int32(0)]) == 240


@pytest.mark.skipif(not sass.disassembler(), reason="nvdisasm is not installed")
def test_a_case_is_counted_and_written(counted, monkeypatch, tmp_path):
    case = counted.Case("a toy", [(1, 1, 8, 8)], lambda x: F.max_pool2d(x, 2))
    monkeypatch.setattr(counted, "CASES", [case])
    monkeypatch.setattr(counted, "ProcessPoolExecutor", lambda _: ThreadPoolExecutor(1))
    monkeypatch.setattr(counted, "REMARKS", {"max_pool2d_forward": "it is a toy"})
    counted.main(str(tmp_path / "counted"))
    forward, backward = json.loads((tmp_path / "counted.json").read_text())
    # x of 256 bytes, y of 64, and places of 16 in a sector of 32; the gradient reads what was written.
    assert (forward["least_bytes"], forward["dram_bytes"]) == (256 + 64 + 16, 256 + 64 + 32)
    assert (backward["least_bytes"], backward["dram_bytes"]) == (336, 352)
    # A thread has four windows: two rows of two packs; lanes stand 32 bytes apart. It writes a pack, and four places.
    assert (forward["requests"], forward["sectors"], forward["least_sectors"]) == (6, 4 * 4 + 2 + 1, 4 * 4 // 2 + 2 + 1)
    assert set(forward["cards"]) == set(CARDS)
    assert forward["cards"]["A100"]["registers"] > 8
    text = (tmp_path / "counted.md").read_text()
    assert "| max_pool2d_forward | a toy: 1×1×8×8 | 1 × 128 | 1.05 | " in text
    assert " | it is a toy |\n" in text
    assert "Time: predicted, not measured" in text
