"""The recipes on sequences: what their run folders hold, what they reach, how they end, what they refuse."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import WORDS, finished, settings, told
from PIL import Image

from gpunn.backend import random_generator
from gpunn.checkpoint import load_weights
from gpunn.data import digits
from gpunn.errors import ArgumentError, FileError, TrainingError
from gpunn.models import CharacterModel
from gpunn.recipes import digits_rows, run, spell, text
from gpunn.recipes.catalogue import find
from gpunn.train import evaluate


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("".join(WORDS[i] for i in random_generator(0).integers(4, size=900)))
    return path


def quick_text(file: Path, **more: Any) -> text.Options:
    return text.Options(file=str(file), hidden_size=32, epochs=2, batch_size=8, sequence_length=16, **more)


RUNS: dict[str, Any] = {
    "digits-rows": (
        digits_rows.train_digits_rows,
        digits_rows.Options,
        {"epochs": 2, "hidden_size": 16, "batch_size": 128},
    ),
    "spell": (spell.train_spell, spell.Options, {"epochs": 2, "hidden_size": 16, "batch_size": 128}),
}


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads((folder / "summary.json").read_text()), [json.loads(line) for line in lines]


def check_pictures(folder: Path) -> None:
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.load()


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", RUNS)
def test_a_run_keeps_what_it_came_to(name: str, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """That it repeats is seen by test_every_file_gives_what_the_recipe_gives, for all recipes."""
    train, options, _ = RUNS[name]
    folder = finished(tmp_path_factory, name)
    given, summary = settings(folder), told(folder)["summary"]
    assert set(os.listdir(folder)) == set(find(name).files())
    saved, metrics = read(folder)
    assert saved == summary
    assert summary["status"] == "finished"
    assert [m["epoch"] for m in metrics] == sorted([1, 2] * (3 if name == "digits-rows" else 1))
    config = json.loads((folder / "config.json").read_text())
    assert config == config | given | {"seed": 0, "device": "cpu"}
    check_pictures(folder)
    other, _ = train(options(seed=4, **given), tmp_path / "other")
    assert (other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()
    with pytest.raises(FileError, match="holds a run already"):
        train(options(**given), folder)


@pytest.mark.parametrize("name", RUNS)
def test_ctrl_c_completes_the_folder(name: str, tmp_path: Path) -> None:
    train, options, quick = RUNS[name]
    seen = []

    def stop(step: int, steps: int, loss: float) -> None:
        seen.append(step)
        if step == 15:
            raise KeyboardInterrupt

    folder, summary = train(options(**quick), tmp_path / "run", on_step=stop)
    assert summary["status"] == "interrupted"
    assert seen == list(range(1, 16))
    assert summary["steps"] == 15
    assert len(read(folder)[1]) == 1  # 11 steps an epoch: one was whole


@pytest.mark.parametrize("name", RUNS)
def test_a_loss_that_is_not_finite_ends_the_run(name: str, tmp_path: Path) -> None:
    train, options, quick = RUNS[name]
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) at step \d+ .*the run is in"):
        train(options(**{**quick, "lr": 1e38}), tmp_path / "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "diverged"


@pytest.mark.usefixtures("undrawn")
def test_the_accuracies_of_the_three_are_those_of_the_saved_weights(tmp_path: Path) -> None:
    folder, summary = digits_rows.train_digits_rows(digits_rows.Options(epochs=2, hidden_size=32), tmp_path / "run")
    models = digits_rows.Readers(32, 99)
    load_weights(models, folder / "model.safetensors")
    (_, _), (x, y) = digits(0)
    for cell in digits_rows.CELLS:
        found = evaluate(models[cell], x[:, 0], y)
        assert found.accuracy == summary["test_accuracy"][cell]
        assert found.accuracy > 0.3  # by chance: 0.1


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_what_was_spelled_is_kept(tmp_path: Path) -> None:
    folder, summary = spell.train_spell(spell.Options(epochs=6), tmp_path / "run")
    names = json.loads((folder / "names.json").read_text())
    exact = np.mean([a == b for a, b in zip(names["spelled"], names["true"], strict=True)])
    assert summary["exact_names"] == exact > 0.7
    assert set(names["true"]) == set(spell.NAMES)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_text_is_learned_and_written(story: Path, tmp_path: Path) -> None:
    folder, summary = text.train_text(quick_text(story, lr=0.02), tmp_path / "run")
    assert set(os.listdir(folder)) == set(text.Text.files())
    saved, metrics = read(folder)
    assert saved == {name: value for name, value in summary.items() if name != "sample"}
    assert (folder / "sample.txt").read_text() == summary["sample"] + "\n"
    assert len(summary["sample"]) == text.SAMPLE_LENGTH
    # Two bits choose a word of nine letters or ten, all else follows: 0.2 bits a character at best, 3.7 for letters.
    assert summary["test_bits_per_character"] < 1.5
    assert metrics[-1]["test_loss"] == summary["test_loss"]
    model = CharacterModel(json.loads((folder / "alphabet.json").read_text())["alphabet"], hidden_size=32, cell="gru")
    load_weights(model, folder / "model.safetensors")
    assert set(summary["sample"]) <= set(model.alphabet)
    assert json.loads((folder / "config.json").read_text())["file"] == str(story)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_every_cell_and_several_layers_learn_a_text(cell: str, story: Path, tmp_path: Path) -> None:
    _, summary = text.train_text(quick_text(story, cell=cell, num_layers=2, lr=0.01), tmp_path / "run")
    assert summary["test_bits_per_character"] < 3


def test_texts_that_cannot_be_used(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def refused(content: bytes | None, message: str, **more: Any) -> None:
        path = tmp_path / "file.txt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(FileError, match=message):
            text.train_text(quick_text(path, **more), out)
        assert not out.exists()

    refused(None, "file.txt: the text cannot be read: No such file or directory")
    refused(b"", "file.txt: the text is empty")
    refused(b"abc\xff" * 100, "file.txt: not a text in UTF-8: invalid start byte at byte 3")
    # 8 parts of 17 characters make nine tenths of 152, and the tenth for the test must hold 17: of 161.
    refused(b"ab" * 80, "file.txt: the text is too short: 160 characters, where 161 are needed for batch_size=8, seq")
    with pytest.raises(FileError, match="cannot be read: Is a directory"):
        text.train_text(quick_text(tmp_path), out)
    (tmp_path / "file.txt").write_bytes(b"a\r\nb" * 81)
    assert text.read_text(tmp_path / "file.txt") == "a\nb" * 81


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_shortest_text(tmp_path: Path) -> None:
    for batch_size, sequence_length, length in ((1, 1, 11), (8, 16, 161), (7, 1, 16), (9, 3, 40)):
        (tmp_path / "file.txt").write_text(("ab" * length)[:length])
        options = text.Options(
            file=str(tmp_path / "file.txt"),
            hidden_size=4,
            epochs=1,
            batch_size=batch_size,
            sequence_length=sequence_length,
        )
        _, summary = text.train_text(options, tmp_path / f"run{batch_size}")
        assert summary["steps"] >= 1
        assert np.isfinite(summary["test_bits_per_character"])
        (tmp_path / "file.txt").write_text(("ab" * length)[: length - 1])
        with pytest.raises(FileError, match=f"{length - 1} characters, where {length} are needed"):
            text.train_text(options, tmp_path / "short")


def test_the_default_text_is_pythons_help() -> None:
    topics = text.read_text(None)
    assert len(topics) > 300_000
    assert "lambda" in topics


def test_bad_options() -> None:
    wrong: tuple[tuple[Any, dict[str, Any]], ...] = (
        (digits_rows.Options, {"hidden_size": 0}), (digits_rows.Options, {"epochs": 0}), (spell.Options, {"lr": 0.0}),
        (spell.Options, {"batch_size": 0}), (text.Options, {"sequence_length": 0}), (text.Options, {"num_layers": 0}),
        (text.Options, {"temperature": 0.0}), (text.Options, {"temperature": float("nan")}),
        (text.Options, {"seed": -1}),
    )  # fmt: skip
    for options, given in wrong:
        with pytest.raises(ArgumentError, match=rf"train [a-z-]+: {next(iter(given))} must be"):
            options(**given)
    with pytest.raises(ArgumentError, match="train text: cell must be one of rnn, lstm, gru, got cell='cnn'"):
        text.Options(cell="cnn")


def test_one_way_to_read_the_versions() -> None:
    assert set(run.versions("scikit-learn")) == {"gpunn", "python", "numpy", "scikit-learn"}


@pytest.mark.usefixtures("undrawn")
def test_emulated_steps_are_those_of_numpy(story: Path, tmp_path: Path) -> None:
    def losses(emulate: bool) -> list[float]:
        found: list[float] = []

        def on_step(step: int, steps: int, loss: float) -> None:
            found.append(loss)
            if step == 4:
                raise KeyboardInterrupt

        options = text.Options(file=str(story), hidden_size=8, batch_size=4, sequence_length=8, emulate=emulate)
        text.train_text(options, tmp_path / f"{emulate}", on_step=on_step)
        return found

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_the_promises_for_one_seed_with_fewer_epochs(tmp_path: Path) -> None:
    """95 % is promised of the LSTM and the GRU, and of the names, by default; fewer epochs do for this seed."""
    _, summary = digits_rows.train_digits_rows(digits_rows.Options(epochs=12, seed=1), tmp_path / "rows")
    assert min(summary["test_accuracy"]["lstm"], summary["test_accuracy"]["gru"]) >= 0.95
    _, summary = spell.train_spell(spell.Options(epochs=12, seed=1), tmp_path / "spell")
    assert summary["exact_names"] >= 0.95
