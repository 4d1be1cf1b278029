"""Callbacks that show and write while a run trains: the display, TensorBoard, plots, the profile."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gpunn
from gpunn import functional as F
from gpunn import nn, optim, plot, tensor
from gpunn.backend import random_generator
from gpunn.cuda.compilation import Compiled, compiled, compiling, listening
from gpunn.cuda.emulator.build import host_compiler
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, CompileError, FileError, PackageError
from gpunn.observer import observers
from gpunn.train import Callback, Checkpoint, Plots, Profile, Progress, TensorBoard, Trainer

STEPS = 4  # an epoch


def trainer(*callbacks: Callback, model: nn.Module | None = None, measure: Any = None) -> Trainer:
    model = nn.Linear(3, 2, generator=random_generator(0)) if model is None else model
    x = random_generator(1).standard_normal((2 * STEPS, 3)).astype(np.float32)
    data = DataLoader(ArrayDataset(x, np.arange(2 * STEPS) % 2), batch_size=2, shuffle=True, seed=0)

    def loss(batch: Any) -> Any:
        return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

    sgd = optim.SGD(model.parameters(), lr=0.1)
    return Trainer(model, sgd, data, loss, measure=measure or (lambda: {"test_accuracy": 0.5}), callbacks=callbacks)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Each(Callback):
    """Calls a function after each step."""

    def __init__(self, function: Callable[[Trainer], object]) -> None:
        self._function = function

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self._function(trainer)


@pytest.fixture(autouse=True)
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def visible(text: str) -> str:
    """Without control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def no_time_between(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.train.callbacks.display import Bar, Notebook

    for kind in (Bar, Notebook):
        monkeypatch.setattr(kind, "pause", 0.0)


# ---- a log or a pipe -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", ["0", "1"])
def test_a_log_has_a_plain_line_an_epoch(colours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", colours)  # rich takes any file for a terminal then
    log = io.StringIO()
    records = trainer(Progress(file=log)).run(3)
    lines = log.getvalue().splitlines()
    assert len(lines) == 3
    loss = f"{records[1]['train_loss']:.4g}"
    line = rf"epoch 2/3  train loss {re.escape(loss)}  test accuracy 50.00%  \d+\.\d s  0:00 left"
    assert re.fullmatch(line, lines[1])
    assert log.getvalue().replace("\n", "").isprintable()


def test_a_log_has_lines_within_a_long_epoch() -> None:
    log = io.StringIO()
    trainer(Progress(every=1e-9, file=log)).run(1)
    lines = log.getvalue().splitlines()
    assert len(lines) == STEPS + 1
    assert re.fullmatch(r"epoch 1/1  loss \d\.\d{4}  [\d.,]+ steps/s  0:00 left", lines[1])


def test_a_log_of_a_run_that_goes_on(tmp_path: Path) -> None:
    saving = Checkpoint(tmp_path)
    trainer(saving).run(1)
    log, again = io.StringIO(), Checkpoint(tmp_path)
    resumed = trainer(Progress(file=log), again)
    assert again.resume(resumed)
    resumed.run(3)
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["2/3", "3/3"]


def test_the_time_left_is_that_of_the_steps_left(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpunn.train.callbacks import display

    now = [100.0]
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    log = io.StringIO()
    trainer(Each(lambda _: now.__setitem__(0, now[0] + 5.0)), Progress(every=1.0, file=log)).run(2)
    shown = log.getvalue().splitlines()
    assert shown[0].endswith("0.2 steps/s  0:35 left")  # 7 of 8 steps, each 5 s
    assert shown[-1].endswith("0:00 left")


@pytest.mark.parametrize("kind", [io.StringIO, Terminal])
def test_a_closed_output_does_not_end_a_training(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for when in (0, 3):
        output, streams = kind(), (Terminal(), sys.stderr)
        monkeypatch.setattr(sys, "stdout", streams[0])
        if not when:
            output.close()
        run = trainer(
            Each(lambda t, when=when, output=output: t.step == when and output.close()), Progress(file=output)
        )
        assert len(run.run(2)) == 2
        assert (sys.stdout, sys.stderr) == streams


def test_no_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert len(trainer(Progress()).run(1)) == 1


def test_an_output_that_fails_is_dropped() -> None:
    class Full(io.StringIO):
        tried = 0

        def write(self, text: str) -> int:
            self.tried += 1
            raise OSError(28, "No space left on device")

    full = Full()
    assert len(trainer(Progress(file=full)).run(3)) == 3
    assert full.tried == 1


def test_a_pause_between_lines_that_is_none() -> None:
    with pytest.raises(ArgumentError, match=r"Progress: every must be above 0, got every=0"):
        Progress(every=0)


def test_the_end_of_one_callback_does_not_take_that_of_another(tmp_path: Path) -> None:
    ended: list[str] = []

    class Ends(Callback):
        def __init__(self, name: str) -> None:
            self._name = name

        def on_end(self, trainer: Trainer) -> None:
            ended.append(self._name)
            if self._name == "b":
                raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        trainer(Ends("a"), Ends("b"), Ends("c"), Profile(tmp_path, (1, 99))).run(1)
    assert ended == ["a", "b", "c"]
    assert observers.get() == ()


# ---- a terminal ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_has_a_bar_where_it_has_room(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    no_time_between(monkeypatch)
    terminal = Terminal()
    records = trainer(Progress(file=terminal)).run(2)
    shown = terminal.getvalue()
    last = [line for line in re.split(r"[\r\n]+", visible(shown)) if "epoch" in line][-1]
    if columns >= 80:
        assert re.match(r"━+ epoch 2/2  loss \d\.\d{4}  test accuracy 50.00%  [\d.,]+ steps/s  0:00 left", last)
    else:
        assert re.match(r"epoch 2/2  loss \d\.\d{4}  test .*…$", last)
    assert len(last) <= columns
    assert len(records) == 2
    assert visible(shown).count("\n") <= 2  # one line, drawn anew
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is hidden, and shown again


def test_prints_on_a_terminal_go_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    no_time_between(monkeypatch)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    trainer(Progress(file=terminal), Each(lambda t: print(f"printed at {t.step}"))).run(1)
    assert re.findall(r"printed at (\d)", visible(terminal.getvalue())) == ["1", "2", "3", "4"]
    assert sys.stdout is terminal


def test_prints_into_a_file_stay_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    trainer(Progress(file=terminal), Each(lambda t: print(t.step))).run(1)
    assert file.getvalue() == "1\n2\n3\n4\n"


def test_a_dumb_terminal_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal = Terminal()
    trainer(Progress(file=terminal)).run(2)
    assert terminal.getvalue().count("\n") == 2
    assert "\x1b" not in terminal.getvalue()


def test_a_terminal_without_rich_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = Terminal()
    trainer(Progress(file=terminal)).run(2)
    assert terminal.getvalue().count("\n") == 2


def test_an_error_leaves_the_terminal_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)

    def fails(trainer: Trainer) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        trainer(Progress(file=terminal), Each(fails)).run(1)
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
    assert (sys.stdout, sys.stderr) == streams


# ---- a notebook ----------------------------------------------------------------------------------------------------


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The displays of a notebook: a stand-in for IPython's kernel."""
    shown: list[dict[str, Any]] = []

    class Handle:
        def __init__(self, number: int) -> None:
            self._number = number

        def update(self, content: dict[str, str], raw: bool) -> None:
            assert raw
            shown[self._number] = content | {"updates": shown[self._number]["updates"] + 1}

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(content | {"updates": 0})
        return Handle(len(shown) - 1)

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    package = types.ModuleType("IPython")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_has_one_display(
    notebook: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_time_between(monkeypatch)
    trainer(Progress()).run(3)
    assert len(notebook) == 1
    assert notebook[0]["updates"] >= 3 * STEPS
    text = notebook[0]["text/plain"]
    assert re.fullmatch(r"epoch 3/3  loss \d\.\d{4}  test accuracy 50.00%  [\d.,]+ steps/s  0:00 left", text)
    assert notebook[0]["text/html"].startswith('<progress value="12" max="12"></progress> epoch 3/3')
    assert capsys.readouterr() == ("", "")


def test_a_notebook_needs_no_rich_and_writes_into_a_file_that_is_given(
    notebook: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    trainer(Progress()).run(1)
    assert len(notebook) == 1
    log = io.StringIO()
    trainer(Progress(file=log)).run(2)
    assert [line.split()[1] for line in log.getvalue().splitlines()] == ["1/2", "2/2"]
    assert len(notebook) == 1


def test_a_notebook_shows_words_not_markup(notebook: list[dict[str, Any]]) -> None:
    trainer(Progress(), measure=lambda: {"<b>": 1.0}).run(1)
    assert "&lt;b&gt; 1" in notebook[0]["text/html"]


# ---- compiling -----------------------------------------------------------------------------------------------------


def test_a_pause_to_compile_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    log = io.StringIO()

    def pause(trainer: Trainer) -> None:
        if trainer.step in (1, 2):
            for file in ("pool.cu", "conv.cu")[: trainer.step]:
                with compiling(f"{file} for sm_90"):
                    pass

    trainer(Progress(file=log), Each(pause)).run(1)
    lines = log.getvalue().splitlines()
    assert lines[:4] == [
        f"compiling pool.cu for sm_90 (first use; kept in {tmp_path})",
        "compiled 1 kernel in 0.0 s; kept for the next run",
        f"compiling pool.cu for sm_90 (first use; kept in {tmp_path})",
        "compiled 2 kernels in 0.0 s; kept for the next run",
    ]
    assert len(lines) == 5


def test_a_bar_says_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    no_time_between(monkeypatch)
    terminal, seen = Terminal(), []

    def pause(trainer: Trainer) -> None:
        if trainer.step == 2:
            for file in ("pool.cu", "conv.cu"):
                with compiling(f"{file} for sm_90"):
                    seen.append(visible(terminal.getvalue()).rstrip().splitlines()[-1])

    trainer(Progress(file=terminal), Each(pause)).run(1)
    assert re.search(r"━ +epoch 1/1  compiling pool.cu for sm_90$", seen[0])
    assert re.search(r"━ +epoch 1/1  compiling conv.cu for sm_90$", seen[1])
    text = visible(terminal.getvalue())
    assert text.count("compiling pool.cu for sm_90 (first use") == 1
    assert text.count("compiled 2 kernels in 0.0 s") == 1
    assert "compiling" not in text.splitlines()[-1]


def test_a_notebook_keeps_what_was_compiled(notebook: list[dict[str, Any]]) -> None:
    def pause(trainer: Trainer) -> None:
        with compiling("pool.cu for sm_90"):
            pass

    trainer(Progress(), Each(pause)).run(1)
    assert len(notebook) == 1
    assert notebook[0]["text/html"].count("<br>compiled 1 kernel in 0.0 s") == STEPS


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the emulator is for Linux")
def test_emulated_kernels_are_compiled_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    launch = importlib.import_module("gpunn.cuda.launch")  # the name in gpunn.cuda is the function
    host_compiler()
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    caplog.set_level("INFO", "gpunn")
    x, before, heard = np.ones((1, 1, 4, 4), np.float32), compiled(), []
    for _ in range(2):
        launch._emulated.cache_clear()
        launch._emulated_module.cache_clear()
        with gpunn.cuda.emulate(), listening(lambda each: heard.append((each.what, each.seconds))):
            F.max_pool2d(x, 2)
    (first, begun), (second, seconds) = [each for each in heard if "pool.cu" in each[0]]
    assert (first, begun, second) == ("pool.cu for the emulator", None, "pool.cu for the emulator")
    assert seconds > 0.05
    assert compiled().kernels == before.kernels + 1
    assert compiled().seconds - before.seconds >= seconds
    said = f"compiling pool.cu for the emulator (first use; kept in {tmp_path})"
    assert [record.message for record in caplog.records if "pool.cu" in record.message] == [said]
    assert "the emulator's runtime" in caplog.text


def test_nvrtc_says_what_it_compiles(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    from gpunn.cuda.compiler import compile_cubin

    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    caplog.set_level("INFO", "gpunn")
    code = 'extern "C" __global__ void f(float* x) { x[threadIdx.x] = 1; }'
    before = compiled()
    for _ in range(2):
        compile_cubin(code, "mine.cu", (), "sm_90")
    assert caplog.messages == [f"compiling mine.cu for sm_90 (first use; kept in {tmp_path})"]
    assert compiled().kernels == before.kernels + 1
    with pytest.raises(CompileError):
        compile_cubin("nothing that compiles", "mine.cu", (), "sm_90")
    assert compiled().kernels == before.kernels + 1  # it took time, and gave no kernel


def test_what_cannot_be_kept_is_not_said_to_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from gpunn.cuda import cache

    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    assert str(Compiled(1, 2.0)) == "compiled 1 kernel in 2.0 s; kept for the next run"
    monkeypatch.setitem(cache._spares, tmp_path, tmp_path / "spare")
    assert str(Compiled(1, 2.0)) == "compiled 1 kernel in 2.0 s"


def test_an_epochs_seconds_are_without_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    clock = types.SimpleNamespace(perf_counter=lambda: now[0], monotonic=lambda: now[0])
    for module in ("gpunn.cuda.compilation", "gpunn.train.trainer", "gpunn.train.callbacks.display"):
        monkeypatch.setattr(f"{module}.time", clock)

    def loss(batch: Any) -> Any:
        if run.step == 0:
            with compiling("pool.cu for sm_90"):
                now[0] += 50
        now[0] += 2
        return of_batch(batch)

    log = io.StringIO()
    run = trainer(Progress(every=1.0, file=log))
    of_batch, run.loss = run.loss, loss
    records = run.run(1)
    assert records[0]["seconds"] == pytest.approx(2 * STEPS)
    assert run.seconds == pytest.approx(2 * STEPS + 50)
    assert re.findall(r"  ([\d.,]+) steps/s", log.getvalue()) == ["0.5"] * STEPS


# ---- TensorBoard ---------------------------------------------------------------------------------------------------


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The scalars in ``folder``, read by TensorBoard itself: steps and values by tag."""
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


@pytest.mark.slow
def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    losses: list[float] = []

    class Losses(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            losses.append(loss)

    records = trainer(TensorBoard(tmp_path, every_steps=2), Losses()).run(3)
    found = events(tmp_path)
    assert found["epoch"] == [(4, 1), (8, 2), (12, 3)]
    assert found["train_loss"] == [(STEPS * r["epoch"], pytest.approx(r["train_loss"])) for r in records]
    assert found["test_accuracy"] == [(4, 0.5), (8, 0.5), (12, 0.5)]
    assert found["step/loss"] == [(step, pytest.approx(losses[step - 1])) for step in range(2, 13, 2)]
    assert [value for _, value in found["step/learning_rate"]] == pytest.approx([0.1] * 6)


def test_tensorboard_has_each_epoch_of_a_resumed_run_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    saving = Checkpoint(tmp_path / "checkpoints", every_epochs=2)
    trainer(saving, TensorBoard(tmp_path / "events", every_steps=1)).run(3)  # and then it is killed
    again = Checkpoint(tmp_path / "checkpoints")
    resumed = trainer(again, TensorBoard(tmp_path / "events", every_steps=1))
    assert again.resume(resumed)
    assert resumed.epoch == 2
    resumed.run(4)
    found = events(tmp_path / "events")
    assert [value for _, value in found["epoch"]] == [1, 2, 3, 4]
    assert [step for step, _ in found["step/loss"]] == list(range(1, 17))


def test_tensorboard_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    words = r"TensorBoard: event files are written by tensorboardX \(.*\): pip install .*\[tensorboard\]"
    with pytest.raises(PackageError, match=words):
        TensorBoard("events")


def test_tensorboard_that_cannot_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensorboardX = pytest.importorskip("tensorboardX")
    close = tensorboardX.SummaryWriter.close

    def full(writer: Any) -> None:
        close(writer)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorboardX.SummaryWriter, "close", full)
    with pytest.raises(FileError, match="the event files cannot be written there: No space left on device"):
        trainer(TensorBoard(tmp_path)).run(1)


def test_tensorboard_where_nothing_can_be_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file/events: the event files cannot be written there"):
        trainer(TensorBoard(tmp_path / "file" / "events")).run(1)
    with pytest.raises(ArgumentError, match="every_steps must be an integer of at least 1, got every_steps=0"):
        TensorBoard(tmp_path, every_steps=0)


# ---- plots ---------------------------------------------------------------------------------------------------------


def test_plots_draws_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    drawn: list[int] = []

    def draw(records: Any, path: Path) -> None:
        path.write_text("half")
        if drawn:
            assert (tmp_path / "curves.png").read_text() == f"all {drawn[-1]}"
        drawn.append(len(records))
        path.write_text(f"all {len(records)}")

    trainer(Plots(tmp_path, draw, every=2)).run(5)
    assert drawn == [2, 4, 5]
    assert os.listdir(tmp_path) == ["curves.png"]


def test_plots_of_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    trainer(Plots(tmp_path / "new", plot.curves)).run(1)
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plots_that_cannot_be_drawn_leave_the_old_ones(tmp_path: Path) -> None:
    def draw(records: Any, path: Path) -> None:
        path.write_text("half" if len(records) == 2 else "whole")
        if len(records) == 2:
            raise OSError(28, "No space left on device")

    with pytest.raises(FileError, match=r"curves.png cannot be drawn there: No space left on device"):
        trainer(Plots(tmp_path, draw)).run(3)
    assert (tmp_path / "curves.png").read_text() == "whole"
    assert os.listdir(tmp_path) == ["curves.png"]
    with pytest.raises(ArgumentError, match="Plots: every must be an integer of at least 1, got every=0"):
        Plots(tmp_path, draw, every=0)


# ---- the profile ---------------------------------------------------------------------------------------------------


def test_a_profile_of_some_steps(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    trainer(Profile(tmp_path / "profile", steps=(2, 4)), model=net).run(2)
    assert sorted(os.listdir(tmp_path / "profile")) == ["profile.txt", "trace.json"]
    table = (tmp_path / "profile" / "profile.txt").read_text()
    calls = {line.split()[0]: line.split()[2] for line in table.splitlines()[2:6]}
    assert calls == {"(Sequential)": "3", "0": "3", "1": "3", "2": "3"}
    events = json.loads((tmp_path / "profile" / "trace.json").read_text())["traceEvents"]
    assert sum(event["name"] == "forward 0" for event in events) == 3


def test_a_profile_of_a_run_that_ends_before(tmp_path: Path) -> None:
    trainer(Profile(tmp_path, steps=(STEPS, 100))).run(1)
    row = (tmp_path / "profile.txt").read_text().splitlines()[2].split()
    assert row[:3] == ["(Linear)", "Linear", "1"]
    trainer(Profile(tmp_path / "none", steps=(50, 60))).run(1)
    assert not (tmp_path / "none").exists()


def test_a_profile_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file: the profile cannot be written there"):
        trainer(Profile(tmp_path / "file")).run(2)
    with pytest.raises(ArgumentError, match=r"Profile: steps must be \(first, last\) .*, got steps=\(3, 2\)"):
        Profile(tmp_path, steps=(3, 2))


def test_a_training_that_is_profiled_gives_the_same_weights(tmp_path: Path) -> None:
    profiled, plain = trainer(Profile(tmp_path, steps=(1, 5), memory=True)), trainer()
    profiled.run(2)
    plain.run(2)
    for name, array in plain.model.state_dict().items():
        np.testing.assert_array_equal(profiled.model.state_dict()[name], array)
