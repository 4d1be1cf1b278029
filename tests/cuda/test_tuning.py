"""Measured choices of configurations: the clock is a fake one, all else is real."""

import contextlib
import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading

import numpy as np
import oracles
import pytest
from planned import conv

from gpunn import backend, cuda
from gpunn.cuda import cache, tuning
from gpunn.ops.conv import plan, tensor_core_tiles, tiles

DEVICE = "Sample GPU, 4 multiprocessors"
PASSES = ("forward", "backward_x", "backward_w")


@dataclasses.dataclass(frozen=True)
class Tile:
    size: int


TILES = [Tile(8), Tile(16), Tile(32)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where choices are kept, in a cache whose emulated kernels are those of all tests."""
    kernels = cache.folder() / "emulator"
    kernels.mkdir(mode=0o700, parents=True, exist_ok=True)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "emulator").symlink_to(kernels)
    monkeypatch.setattr(cache, "_spares", {})
    monkeypatch.setattr(tuning, "_known", {})
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tuned"


@pytest.fixture
def measured(monkeypatch):
    """What was measured; the fake clock finds the middle one of all candidates the fastest."""
    done = []

    def measure(run, arrays):
        done.append(run.args[0])
        run(*(a.copy() for a in arrays))
        return 1 + (len(done) - 2) ** 2

    monkeypatch.setattr(tuning, "measure", measure)
    monkeypatch.setattr(tuning, "_device", lambda x: DEVICE)
    return done


def choose(shape=(3, 4), op="sample", dtype=np.float32, candidates=TILES):
    x = np.zeros(shape, dtype)
    return tuning.fastest(op, "conv.cu", shape, candidates, TILES[0], lambda choice, x: None, (x,))


def forget(monkeypatch):
    """As a new process begins."""
    monkeypatch.setattr(tuning, "_known", {})


def test_the_fastest_is_chosen_kept_and_measured_once(folder, measured, monkeypatch):
    with cuda.autotune():
        assert choose() == TILES[1]
        assert choose() == TILES[1]
        assert measured == TILES
        forget(monkeypatch)
        assert choose() == TILES[1]
    assert measured == TILES
    (file,) = folder.iterdir()
    stored = json.loads(file.read_text())
    assert stored["choice"] == {"size": 16}
    assert stored["key"].keys() == {"op", "dtype", "shape", "device", "source"}
    assert tuning.kept() == 1


def test_outside_of_autotune_the_usual_one_is_used_though_another_is_kept(measured):
    assert choose() == TILES[0]
    with cuda.autotune():
        assert choose() == TILES[1]
    assert choose() == TILES[0]
    assert measured == TILES


def test_deterministic_turns_it_off_on_either_side(measured, folder):
    with cuda.autotune(), cuda.deterministic():
        assert choose() == TILES[0]
        with cuda.autotune():
            assert choose() == TILES[0]
    with contextlib.suppress(ZeroDivisionError), cuda.autotune(), cuda.deterministic():
        raise ZeroDivisionError
    assert not tuning.in_use()
    assert measured == []
    assert not folder.exists()


def test_a_thread_does_not_tune_for_another():
    seen = []
    with cuda.autotune():
        thread = threading.Thread(target=lambda: seen.append(tuning.in_use()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_numpy_arrays_are_never_measured(monkeypatch, folder):
    monkeypatch.setattr(tuning, "measure", None)  # calling it would fail
    x, w = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 2, 2), np.float32)
    with cuda.autotune():
        conv.conv2d(x, w)
        with cuda.emulate():
            conv.conv2d(x, w)
    assert not folder.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: {"op": "other"},
        lambda patch: {"shape": (4, 3)},
        lambda patch: {"dtype": np.float64},
        lambda patch: patch.setattr(tuning, "_device", lambda x: "Sample GPU, 8 multiprocessors"),
        lambda patch: patch.setattr(tuning, "_device", lambda x: "Another GPU, 4 multiprocessors"),
        lambda patch: edit_source(patch),
        lambda patch: {"candidates": [TILES[0], TILES[2], Tile(64)]},
    ],
    ids=["op", "shape", "dtype", "multiprocessors", "device", "source", "candidates"],
)
def test_what_was_measured_for_something_else_does_not_count(change, measured, monkeypatch):
    with cuda.autotune():
        choose()
        forget(monkeypatch)
        choose(**(change(monkeypatch) or {}))
    assert len(measured) == 6


def edit_source(monkeypatch):
    flatten = tuning.source.flatten
    monkeypatch.setattr(tuning.source, "flatten", lambda file: flatten(file) + "//")
    tuning._digest.cache_clear()
    monkeypatch.setattr(tuning, "_digest", tuning._digest.__wrapped__)


def remove(file):
    file.unlink()


def other_key(file):
    stored = json.loads(file.read_text())
    stored["key"]["device"] = "Another GPU"
    file.write_text(json.dumps(stored))


SPOILERS = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "empty": lambda file: file.write_bytes(b""),
    "no text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda file: file.write_text("[1, 2]"),
    "other keys": lambda file: file.write_text('{"choice": {"size": 16}}'),
    "of another key": other_key,
    "gone": remove,
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("spoil", SPOILERS.values(), ids=SPOILERS.keys())
def test_a_spoilt_file_is_measured_again(spoil, folder, measured, monkeypatch):
    with cuda.autotune():
        choose()
        (file,) = folder.iterdir()
        spoil(file)
        forget(monkeypatch)
        measured.clear()
        with pytest.warns(RuntimeWarning, match="cannot be written") if file.is_dir() else contextlib.nullcontext():
            assert choose() == TILES[1]
    assert measured == TILES
    if file.is_file():
        assert json.loads(file.read_text())["choice"] == {"size": 16}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_read_only_cache_does_not_stop_it(number, folder, measured, monkeypatch):
    def refuse(source, target):
        raise OSError(number, os.strerror(number), str(target))

    monkeypatch.setattr(os, "replace", refuse)
    with cuda.autotune():
        with pytest.warns(RuntimeWarning, match=os.strerror(number)):
            choose()
        assert choose() == TILES[1]
    assert measured == TILES
    assert not list(folder.glob("*"))


def test_a_read_only_cache_with_choices_is_used(measured, monkeypatch):
    with cuda.autotune():
        choose()
        forget(monkeypatch)
        monkeypatch.setattr(os, "replace", None)
        assert choose() == TILES[1]
    assert measured == TILES


OTHER_PROCESS = """
import sys, time
import numpy as np
from pathlib import Path
from gpunn import cuda
from gpunn.cuda import tuning
import gpunn.functional as F
tuning._device = lambda x: sys.argv[1]
times = iter(range(8, 0, -1))  # the last one is the fastest
def measure(run, arrays):
    print("measured")
    return next(times)
tuning.measure = measure
while len(sys.argv) > 2 and not Path(sys.argv[2]).exists(): time.sleep(0.001)
x, w = np.ones((1, 3, 6, 6), np.float32), np.ones((2, 3, 3, 3), np.float32)
with cuda.record_launches() as launched, cuda.autotune():
    F.conv2d(x, w)
print(*launched)
"""


def test_a_new_process_finds_what_another_has_measured():
    runs = [
        subprocess.run([sys.executable, "-c", OTHER_PROCESS, DEVICE], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    first, second = (run.stdout.splitlines() for run in runs)
    assert first[:-1] == ["measured"] * len(tiles.FLOAT)
    assert second == first[-1:]
    assert "TILE_M=16" in second[0]  # the last of them


def test_processes_that_tune_the_same_at_once(folder, tmp_path):
    start = tmp_path / "start"
    command = [sys.executable, "-c", OTHER_PROCESS, DEVICE, str(start)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    start.touch()
    ended = [process.communicate(timeout=60) for process in running]
    assert [err for _, err in ended] == [""] * 3
    assert len({out.splitlines()[-1] for out, _ in ended}) == 1
    (file,) = folder.iterdir()
    assert json.loads(file.read_text())["choice"]["rows"] == 16


# --- the clock: on a stand-in for CuPy --------------------------------------------------------------------------------


class FakeGpu:
    """A CuPy whose device takes as long as it is told for what it is given to do."""

    def __init__(self):
        self.now = 0.0
        gpu = self

        class Event:
            def record(self):
                self.at = gpu.now

            def synchronize(self):
                gpu.synchronized = self.at

        class Device:
            attributes = {"L2CacheSize": 1000}  # noqa: RUF012

        self.cuda = type("cuda", (), {"Event": Event, "Device": Device})
        self.cuda.get_elapsed_time = staticmethod(lambda a, b: (b.at - a.at) * 1000)
        self.uint8 = np.uint8

    def empty(self, size, dtype):
        self.filled = size
        return np.empty(size, dtype)


@pytest.mark.parametrize(("size", "sets"), [(25, 15), (100, 6), (800, 2)])
def test_the_clock_takes_the_median_of_runs_on_arrays_that_fill_the_cache(size, sets, monkeypatch):
    gpu, seen = FakeGpu(), []
    monkeypatch.setattr(tuning, "get_array_module", lambda *arrays: gpu)
    durations = iter([100.0, *[2.0] * 7, 50.0, *[1.0] * 3, *[3.0] * 4])  # the first run compiles

    def run(*arrays):
        seen.append(arrays)
        gpu.now += next(durations)

    x = np.arange(size, dtype=np.float32)
    assert tuning.measure(run, (x,)) == 2.0
    assert gpu.synchronized == gpu.now
    assert gpu.filled > 2 * 1000
    assert len({id(arrays[0]) for arrays in seen}) == sets
    assert sets == 15 or sets * x.nbytes > 2 * 1000
    for (given,) in seen:
        np.testing.assert_array_equal(given, x)
    assert seen[1][0] is x
    assert seen[1][0] is not seen[2][0]


# --- convolution ------------------------------------------------------------------------------------------------------


def passes(x, w, gy):
    return conv.conv2d(x, w, padding=1), conv.conv2d_backward_x(gy, w, x.shape, padding=1), conv.conv2d_backward_w(
        gy, x, w.shape, padding=1
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_convolutions_run_in_the_configuration_that_was_fastest(precision, folder, monkeypatch, rng):
    shapes = (8, 5, 13, 11), (7, 5, 3, 3), (8, 7, 13, 11)
    x, w, gy = (rng.integers(-3, 4, shape).astype(np.float32) for shape in shapes)
    wanted = passes(x, w, gy)  # whole numbers: exact in every precision and order
    measured, launched, launch = [], [], cuda.launch

    def measure(run, arrays):
        """Finds tall tiles fast, and many splits, which are not the usual choice for 7 rows."""
        run(*(a.copy() for a in arrays))
        measured.append(run.args[0])
        return 1000 - run.args[0].rows - run.args[0].splits / 1000

    def watched(file, kernel, macros, grid, block, args):
        launched.append((kernel, macros["TILE_M"], grid))
        launch(file, kernel, macros, grid, block, args)

    monkeypatch.setattr(tuning, "measure", measure)
    monkeypatch.setattr(tuning, "_device", lambda x: DEVICE)
    with cuda.emulate(), backend.matmul_precision(precision):
        with cuda.autotune():
            passes(x, w, gy)
            count = len(measured)
            monkeypatch.setattr(cuda, "launch", watched)
            tuned = passes(x, w, gy)
        assert {rows for _, rows, _ in launched} == {128}
        splits = max(candidate.splits for candidate in measured if candidate.rows == 128)
        (grid,) = (grid for kernel, _, grid in launched if kernel.endswith("backward_w"))
        assert grid[2] == splits > 1
        launched.clear()
        usual = passes(x, w, gy)
        assert 128 not in {rows for _, rows, _ in launched}
    assert len(measured) == count >= 9
    for results in (tuned, usual):
        for actual, exact in zip(results, wanted, strict=True):
            np.testing.assert_array_equal(actual, exact)
    kept = [json.loads(file.read_text())["choice"] for file in folder.iterdir()]
    assert [choice["rows"] for choice in kept] == [128] * 3
    assert sorted(choice["splits"] for choice in kept) == [1, 1, splits]


def layer(n, c, size, k, f, stride, padding):
    return plan(2, (n, c, size, size), (k, c, f, f), stride, padding)


@pytest.mark.parametrize("job", PASSES)
@pytest.mark.parametrize("sizes", [(128, 256, 13, 384, 3, 1, 1), (64, 1, 8, 32, 3, 1, 1), (1, 1, 1, 1, 1, 1, 0)])
def test_the_shortlist_is_short_and_has_every_tile_and_the_usual_one(job, sizes):
    shape = layer(*sizes)
    for wide, allowed_tiles in ((False, tiles.FLOAT), (True, tiles.FLOAT[3:])):
        listed = tiles.shortlist(job, shape, 132, 4, wide)
        assert tiles.choose(job, shape, 132, 4, wide) in listed
        assert len(set(listed)) == len(listed) <= 8
        assert {dataclasses.replace(c, splits=1) for c in listed} == set(allowed_tiles)
        allowed = tiles.configurations(job, tiles.product(shape, job), 4, wide)
        assert set(listed) <= set(allowed)


@pytest.mark.parametrize("pixels", [0, 1, 31, 500, 387_200])
@pytest.mark.parametrize("rows", [1, 33, 300])
def test_tilings_for_tensor_cores_cover_the_pixels_with_no_split_empty(pixels, rows):
    work = tensor_core_tiles.Work(rows, 488, 2, 8, pixels)
    listed = tensor_core_tiles.tilings(work)
    assert tensor_core_tiles.choose(work) in listed
    assert {tiling.rows for tiling in listed} == {32, 64, 128}
    assert len(set(listed)) == len(listed) <= 8
    for tiling in listed:
        each = tensor_core_tiles.split_pixels(work, tiling.splits)
        assert each % 32 == 0
        assert (tiling.splits - 1) * each < max(pixels, 1) <= tiling.splits * each


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", pytest.param("tf32", marks=pytest.mark.slow)])
def test_on_a_gpu_it_measures_keeps_and_computes_the_same(precision, folder, monkeypatch, rng):
    shapes = (2, 16, 9, 9), (24, 16, 3, 3), (2, 24, 9, 9)
    x, w, gy = (backend.to_gpu(rng.integers(-3, 4, shape).astype(np.float32)) for shape in shapes)
    timed, measure = [], tuning.measure
    monkeypatch.setattr(tuning, "measure", lambda *args: timed.append(measure(*args)) or timed[-1])
    with backend.matmul_precision(precision):
        usual = passes(x, w, gy)
        with cuda.autotune():
            first = passes(x, w, gy)
            count = len(timed)
            again = passes(x, w, gy)
    assert tuning.kept() == 3
    assert len(timed) == count >= 9
    assert all(time > 0 for time in timed)
    for results in (first, again):
        for actual, expected in zip(results, usual, strict=True):
            oracles.assert_close(backend.to_cpu(actual), backend.to_cpu(expected), 2 * 9 * 9)
