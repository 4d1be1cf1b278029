"""Runs that are interrupted or killed and resumed end as if nothing had been, byte for byte."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import kill
import numpy as np
import pytest
from cli_case import Command
from data_case import damaged
from finished import finished, settings
from kill import Moment
from once import once
from PIL import Image
from recipe_cases import CASES
from undrawn import undraw

from gpunn import cli
from gpunn.backend import random_generator
from gpunn.checkpoint import load_checkpoint, save_checkpoint
from gpunn.errors import DeviceError, FileError
from gpunn.recipes import alexnet, circles, digits_rows, spell, text
from gpunn.recipes.catalogue import RECIPES, find, load, resumable
from gpunn.recipes.digits import Options, train_digits
from gpunn.recipes.options import as_config
from gpunn.runs.folder import begin

QUICK = Options(epochs=3, batch_size=128, seed=3)  # 11 steps an epoch


def stop_at(number: int) -> Callable[[int, int, float], None]:
    def on_step(step: int, steps: int, loss: float) -> None:
        if step == number:
            raise KeyboardInterrupt

    return on_step


@pytest.fixture(autouse=True, scope="module")
def undrawn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        undraw(patch)
        patch.setattr(alexnet.AlexNet, "threads", 1)  # on a busy machine two wait for each other
        yield


@pytest.fixture
def stopped(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A run that was stopped in its second epoch, to be gone on with."""

    def make(folder: Path) -> None:
        train_digits(QUICK, folder, on_step=stop_at(15))

    return Path(shutil.copytree(once(tmp_path_factory, "stopped", make), tmp_path / "stopped"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = once(tmp_path_factory, "whole", lambda folder: train_digits(QUICK, folder))
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("steps", [(11, 15), (33,)])  # after an epoch, within one, after the last step
def test_an_interrupted_run_is_resumed(steps: tuple[int, ...], whole: bytes, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    for step in steps:
        _, summary = train_digits(QUICK, folder, on_step=stop_at(step), resume=folder.exists())
        assert (summary["status"], summary["steps"]) == ("interrupted", step)
    seen: list[int] = []
    _, summary = train_digits(QUICK, folder, on_step=lambda step, *_: seen.append(step), resume=True)
    assert seen == list(range(steps[-1] + 1, 34))
    assert (folder / "model.safetensors").read_bytes() == whole
    assert (summary["status"], summary["epochs"], summary["steps"]) == ("finished", 3, 33)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert sum(line["seconds"] for line in lines) <= summary["seconds"]
    with pytest.raises(FileError, match="the run is finished already"):
        train_digits(QUICK, folder, resume=True)


def test_other_options_are_refused_by_name(stopped: Path) -> None:
    before = {path: path.read_bytes() for path in stopped.rglob("*.*")}
    other = Options(epochs=3, batch_size=64, seed=4)
    with pytest.raises(FileError, match="other options: seed was 3, and is 4; batch_size was 128, and is 64$"):
        train_digits(other, stopped, resume=True)
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps(config | {"batch_size": 64}))
    with pytest.raises(FileError, match="checkpoint is of another run: batch_size was 128, and is 64$"):
        train_digits(Options(epochs=3, batch_size=64, seed=3), stopped, resume=True)
    (stopped / "config.json").write_bytes(before[stopped / "config.json"])
    assert {path: path.read_bytes() for path in stopped.rglob("*.*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["text", "alexnet"])
def test_a_run_goes_on_where_its_data_were_moved(
    name: str, command: Command, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Resumed, measured and asked with ``--data``; other data are refused, and nothing is changed."""
    folder = tmp_path / "run"
    finished_run = finished(tmp_path_factory, name)
    option = "file" if name == "text" else "images"
    data = shutil.copytree if name == "alexnet" else shutil.copy
    before, after = tmp_path / "before", tmp_path / "after"
    data(settings(finished_run)[option], before)
    recipe = find(name)
    options = recipe.options_type(**settings(finished_run) | {option: str(before)})
    recipe.run(options, folder, on_step=stop_at(1))
    before.rename(after)
    code, _, err = command("resume", str(folder))
    lost = "there is no such file or folder; if it was moved, --data says where"
    assert (code, err) == (2, f"error: {folder}: {before}: {lost}\n")
    other = tmp_path / "other"
    data(after, other)
    changed = next(path for path in [other, *sorted(other.rglob("*.png"))] if path.is_file())
    changed.write_bytes(changed.read_bytes() + b"!")
    kept = (folder / "config.json").read_bytes()
    for words in ("eval", "resume"):
        code, _, err = command(words, str(folder), "--data", str(other))
        assert (code, err) == (2, f"error: {folder}: {other}: not the data of the run any more: they have changed\n")
    assert (folder / "config.json").read_bytes() == kept
    assert command("eval", str(folder), "--data", str(after)).code == 0
    assert command("resume", str(folder), "--data", str(after)).code == 0
    assert (folder / "model.safetensors").read_bytes() == (finished_run / "model.safetensors").read_bytes()
    assert command("eval", str(folder)).code == 0
    assert json.loads((folder / "config.json").read_text())[option] == str(after)


def test_data_are_only_where_a_run_has_some(stopped: Path, command: Command) -> None:
    said = "error: train digits: such a run was given no file or folder of data that could be elsewhere, got data='x'\n"
    assert command("resume", str(stopped), "--data", "x")[::2] == (2, said)


def test_a_run_without_its_checkpoints_says_that_it_begins_anew(stopped: Path, whole: bytes) -> None:
    metrics = 2 * (stopped / "metrics.jsonl").read_bytes()
    (stopped / "metrics.jsonl").write_bytes(metrics)
    shutil.rmtree(stopped / "checkpoints")
    (stopped / "checkpoints").touch()
    with pytest.raises(FileError, match="checkpoints: a file, where the folder of checkpoints is wanted"):
        train_digits(QUICK, stopped, resume=True)
    assert (stopped / "metrics.jsonl").read_bytes() == metrics
    (stopped / "checkpoints").unlink()
    with pytest.warns(RuntimeWarning, match="has 2 epochs, but there is no checkpoint; the training begins anew"):
        train_digits(QUICK, stopped, resume=True)
    assert (stopped / "model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("device", ["tpu", "gpu:99"])
def test_a_run_of_a_device_that_is_not_here_is_named(device: str, stopped: Path) -> None:
    config = json.loads((stopped / "config.json").read_text())
    (stopped / "config.json").write_text(json.dumps(config | {"device": device}))
    said = f"^{re.escape(str(stopped))}: the device of the run, '{device}', cannot be used here: "
    with pytest.raises(DeviceError, match=said):
        train_digits(replace(QUICK, device=device), stopped, resume=True)
    with pytest.raises(DeviceError, match=f"{said}.*; --device cpu opens it on the CPU$"):
        load(stopped)


@pytest.mark.parametrize("change", [{"future": {"a": 1}}, {"trainer": {}}, {"data": {"seed": "x"}}], ids=str)
def test_a_checkpoint_of_another_gpunn_is_named(change: dict[str, Any], stopped: Path) -> None:
    newest = max((stopped / "checkpoints").iterdir())
    save_checkpoint(load_checkpoint(newest) | change, newest)
    before = {path: path.read_bytes() for path in stopped.rglob("*.*")}
    said = f"^{re.escape(str(stopped))}.checkpoints: the newest checkpoint is not of this training, or of another gpunn"
    with pytest.raises(FileError, match=said):
        train_digits(QUICK, stopped, resume=True)
    assert {path: path.read_bytes() for path in stopped.rglob("*.*")} == before


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_costs_an_epoch(whole: bytes, tmp_path: Path) -> None:
    train_digits(QUICK, tmp_path, on_step=stop_at(30))
    newest = max((tmp_path / "checkpoints").iterdir())
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    seen: list[int] = []
    with pytest.warns(RuntimeWarning, match=r"step-000000030.*a damaged checkpoint.*going back to step-000000022"):
        train_digits(QUICK, tmp_path, on_step=lambda step, *_: seen.append(step), resume=True)
    assert seen[0] == 23
    assert (tmp_path / "model.safetensors").read_bytes() == whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "moments",
    [
        (Moment("fsync", 4), Moment("replace", 1)),
        (Moment("write", 5.5), Moment("write", 2.9)),
        (Moment("replace", 4), Moment("fsync", 3)),
        (Moment("seconds", 0.4), Moment("seconds", 0.3)),
    ],
    ids=str,
)
def test_a_killed_run_is_readable_and_resumed(
    moments: tuple[Moment, Moment], killed_whole: bytes, tmp_path: Path
) -> None:
    told = kill.try_moments(tmp_path / "run", *moments)
    assert moments[0].kind == "seconds" or told == "killed 2 times"
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == killed_whole


@pytest.fixture(scope="module")
def killed_whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = once(tmp_path_factory, "killed-whole", lambda folder: train_digits(kill.OPTIONS, folder))
    return (folder / "model.safetensors").read_bytes()


def options_of_text(tmp_path: Path, **more: Any) -> text.Options:
    story = tmp_path / "story.txt"
    story.write_text("a word and another " * 60)
    return text.Options(file=str(story), hidden_size=8, epochs=2, batch_size=4, sequence_length=16, **more)


def images(folder: Path) -> Path:
    """Two classes of noise, eight images each."""
    for name in ("dark", "light"):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            pixels = random_generator(number).integers(128, size=(32, 32), dtype=np.uint8) + 128 * (name == "light")
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


SMALL: dict[str, tuple[Any, Callable[[Path], Any], int]] = {
    "spell": (spell.train_spell, lambda _: spell.Options(epochs=2, hidden_size=8, batch_size=256), 8),
    "digits-rows": (
        digits_rows.train_digits_rows,
        lambda _: digits_rows.Options(epochs=2, hidden_size=8, batch_size=256),
        21,  # in the first of the three, second epoch
    ),
    "text, gru": (text.train_text, lambda path: options_of_text(path, cell="gru"), 20),
    "text, lstm of two layers": (text.train_text, lambda path: options_of_text(path, cell="lstm", num_layers=2), 7),
    "alexnet": (
        alexnet.train_alexnet,
        lambda path: alexnet.Options(images=str(images(path / "images")), epochs=2, batch_size=4, width=0.02),
        3,  # dropout draws from the default generator
    ),
    "digits, fp16": (train_digits, lambda _: Options(epochs=2, batch_size=128, precision="fp16"), 15),
    "digits-rows, fp16": (
        digits_rows.train_digits_rows,
        lambda _: digits_rows.Options(epochs=2, hidden_size=8, batch_size=256, precision="fp16"),
        21,
    ),
    # The state that is carried on is of the half type, and in the checkpoint.
    "text, bf16": (text.train_text, lambda path: options_of_text(path, cell="lstm", precision="bf16"), 7),
    "text, fp16": (text.train_text, lambda path: options_of_text(path, cell="gru", precision="fp16"), 20),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_other_recipes_are_resumed(name: str, tmp_path: Path) -> None:
    """In the middle of an epoch; dropout, and the state that a model of text carries on, go on too."""
    train, make, step = SMALL[name]
    options = make(tmp_path)
    whole, _ = train(options, tmp_path / "whole")
    folder, summary = train(options, tmp_path / "run", on_step=stop_at(step))
    assert summary["status"] == "interrupted"
    _, summary = train(options, folder, resume=True)
    assert summary["status"] == "finished"
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    lines = [[json.loads(line) for line in (f / "metrics.jsonl").read_text().splitlines()] for f in (whole, folder)]
    for line in chain(*lines):
        line.pop("seconds")
    assert lines[0] == lines[1]


def test_the_film_of_a_resumed_run_is_whole(tmp_path: Path) -> None:
    options = circles.Options(epochs=3, batch_size=250, hidden=4)
    whole, _ = circles.train_circles(options, tmp_path / "whole")
    circles.train_circles(options, tmp_path / "run", on_step=stop_at(6))
    circles.train_circles(options, tmp_path / "run", resume=True)
    for name in ("model.safetensors", "surface.gif", "surface.png", "gradients.png", "activations.png"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes(), name


# ---- the command ---------------------------------------------------------------------------------------------------


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["gpunn", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.slow
def test_the_command(
    whole: bytes, stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(monkeypatch, "resume", stopped) == 0
    assert (stopped / "model.safetensors").read_bytes() == whole
    out, err = capsys.readouterr()
    assert re.fullmatch(rf"test accuracy \d+\.\d\d% after 3 epochs, \d+\.\d s: {re.escape(str(stopped))}\n", out)
    assert [line.split("  ")[0] for line in err.splitlines()] == ["epoch 2/3", "epoch 3/3"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "holds no run that was begun"),
        ("{", "not JSON"),
        ("[1]", "not an object of JSON, but list"),
        ('{"epochs": 3}', "holds no run that was begun"),
        ('{"recipe": "cats"}', "a run of an unknown recipe, 'cats'"),
        ('{"recipe": "gradients"}', "a run of train gradients: such a run keeps no model and no checkpoint"),
        ('{"recipe": "digits", "shear": 1}', "config.json has 'shear' for train digits, which this gpunn, .*newer or"),
        ('{"recipe": "digits", "epochs": 0}', "does not hold the options of train digits: .*epochs must be at least 1"),
        ('{"recipe": "digits", "epochs": "many"}', "does not hold the options of train digits"),
    ],
)
def test_what_cannot_be_resumed(
    config: str | None,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert ended(monkeypatch, "resume", tmp_path) == 2
    assert re.match(rf"error: .*{message}", capsys.readouterr().err)


def test_damaged_run_folders(stopped: Path) -> None:
    """600 damaged config.json and summary.json: refused in words, or read; nothing is written before."""
    g = random_generator(0)
    refused = 0
    for name in ("config.json", "summary.json"):
        content = (stopped / name).read_bytes()
        before = {path: path.read_bytes() for path in stopped.rglob("*.*")}
        for number in range(300):
            (stopped / name).write_bytes(damaged(content, g, len(content)) if number else b"[" * 100_000)
            try:
                recipe, options = resumable(stopped)
                config = {"recipe": recipe.name} | as_config(options) | {"device": options.device or "cpu"}
                with begin(config, stopped, (), resume=True):
                    pass
            except FileError as error:
                refused += str(error).startswith(str(stopped))
        (stopped / name).write_bytes(content)
        assert {path: path.read_bytes() for path in stopped.rglob("*.*")} == before
    assert 450 < refused < 600


@pytest.mark.slow
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[1]\n" * 5, None])
def test_a_damaged_metrics_file_is_written_again(damage: bytes | None, whole: bytes, stopped: Path) -> None:
    """What it should hold is in the checkpoint."""
    log = stopped / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-7] if damage is None else damage)
    train_digits(QUICK, stopped, resume=True)
    assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2, 3]
    assert (stopped / "model.safetensors").read_bytes() == whole


def test_which_recipes_are_resumable(tmp_path: Path) -> None:
    found = set()
    for recipe in RECIPES:
        (tmp_path / "config.json").write_text(json.dumps({"recipe": recipe.name}))
        try:
            assert resumable(tmp_path) == (recipe, recipe.options_type())
        except FileError:
            continue
        found.add(recipe.name)
    assert found == {name for name, case in CASES.items() if case.resumes}
