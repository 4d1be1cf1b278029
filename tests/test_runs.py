"""Runs that are opened again: measured, asked, compared and exported as they were kept."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_case import Command
from finished import finished, settings
from PIL import Image
from recipe_cases import CASES
from undrawn import undraw

from gpunn.backend import random_generator
from gpunn.checkpoint import load_weights
from gpunn.data import circles as ring_points
from gpunn.data import digits as digit_data
from gpunn.data import image_folder
from gpunn.errors import ArgumentError, FileError
from gpunn.functional.record import raw
from gpunn.interop.trace import leaves
from gpunn.models import CharacterModel, lenet
from gpunn.recipes import circles, digits, inputs, spell
from gpunn.recipes.catalogue import RECIPES, find, load
from gpunn.recipes.training import Training
from gpunn.runs import comparison, loaded, lock
from gpunn.tensor import no_grad, tensor

NAMES = [name for name, case in CASES.items() if case.measures]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each recipe that keeps a model; not to be changed."""
    return {name: finished(tmp_path_factory, name) for name in NAMES}


@pytest.fixture
def copy(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a run, to be changed."""
    return lambda name: Path(shutil.copytree(finished(tmp_path_factory, name), tmp_path / name))


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(read(path) | values))


# ---- opening and measuring -----------------------------------------------------------------------------------------


def test_every_recipe_that_keeps_weights_can_be_opened() -> None:
    assert {recipe.name for recipe in RECIPES if issubclass(recipe, Training)} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_measures_exactly_what_it_measured(name: str, runs: dict[str, Path]) -> None:
    recipe, run = load(runs[name])
    assert (recipe.name, run.weights) == (name, "model.safetensors")
    measures, confusion = run.evaluate()
    summary = read(runs[name] / "summary.json")
    assert sorted(measures) == sorted(CASES[name].measures)
    assert measures == {key: summary[key] for key in measures}  # to the last bit
    assert run.evaluate().measures == measures
    given = run.example if isinstance(run.example, tuple) else (run.example,)
    assert len(given[0]) == 1
    with no_grad(), run.model.evaluating():
        run.model(*given)
    accuracy = measures.get("exact_names", measures.get("test_accuracy"))
    for reader, counts in confusion.items():
        assert run.classes is not None
        assert set(counts) <= set(run.classes)
        right = sum(given.get(true, 0) for true, given in counts.items())
        total = sum(sum(given.values()) for given in counts.values())
        assert total == CASES[name].tested
        assert right / total == (accuracy[reader] if reader else accuracy)
    assert set(confusion) == (set() if CASES[name].tested is None else set(CASES[name].parts))


@pytest.mark.parametrize("name", ["digits", "digits-rows", "text"])
def test_a_run_that_goes_on_is_read_from_its_checkpoint(name: str, copy: Callable[[str], Path]) -> None:
    folder = copy(name)
    expected = read(folder / "summary.json")
    (folder / "summary.json").unlink()
    (folder / "model.safetensors").unlink()
    _, run = load(folder)
    assert run.weights == "the newest checkpoint"
    measures, _ = run.evaluate()
    assert measures == {key: expected[key] for key in measures}


def test_a_run_that_was_resumed_is_read_from_where_it_went_on(
    copy: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undraw(monkeypatch)
    done = copy("digits")

    def stop(record: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    early = tmp_path / "early"
    digits.train_digits(digits.Options(**CASES["digits"].options), early, on_epoch=stop)
    _, run = load(early)
    assert run.weights == "model.safetensors"
    assert run.evaluate().measures["test_loss"] == records(early)[0]["test_loss"]
    assert comparison.read_run(early).status == "interrupted"
    # As it is while it is resumed: its summary and weights are still those of the interruption.
    shutil.rmtree(early / "checkpoints")
    shutil.copytree(done / "checkpoints", early / "checkpoints")
    shutil.copy(done / "metrics.jsonl", early / "metrics.jsonl")
    later = (early / "summary.json").stat().st_mtime + 5
    os.utime(early / "metrics.jsonl", (later, later))
    _, run = load(early)
    assert run.weights == "the newest checkpoint"
    assert run.evaluate().measures["test_loss"] == records(done)[-1]["test_loss"]
    assert comparison.read_run(early).status == "unfinished"


def test_a_run_without_weights_is_refused(copy: Callable[[str], Path]) -> None:
    folder = copy("digits-rows")
    (folder / "summary.json").unlink()
    (folder / "model.safetensors").unlink()
    shutil.rmtree(folder / "checkpoints" / "lstm")
    said = rf"{folder}: the run has no weights yet: neither model.safetensors nor a checkpoint in checkpoints.lstm, "
    with pytest.raises(FileError, match=said):
        load(folder)


def test_a_recipe_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"recipe": "gradients", "steps": 3}')
    with pytest.raises(FileError, match="a run of train gradients, which keeps no model"):
        load(tmp_path)
    with pytest.raises(FileError, match="holds no run that was begun"):
        load(tmp_path / "none")


def test_damaged_weights_are_named(copy: Callable[[str], Path]) -> None:
    folder = copy("circles")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(FileError, match=r"model.safetensors: not a whole safetensors file: .*"):
        load(folder)
    (folder / "model.safetensors").unlink()
    for path in (folder / "checkpoints").iterdir():
        content = path.read_bytes()
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(FileError, match="checkpoints: no checkpoint is whole"):
        load(folder)


def test_weights_of_another_network_are_named_with_what_differs(copy: Callable[[str], Path]) -> None:
    folder = copy("circles")
    change(folder / "config.json", hidden=7)
    with pytest.raises(FileError, match=r"another network: .*'0.weight' is float32\[16, 2\], where float32\[7, 2\] is"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"newest checkpoint is of another network: .*'0.bias' is float32\[16\], where"):
        load(folder)


@pytest.mark.slow
def test_the_device_is_that_of_the_run_unless_another_is_given(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("circles")
    emulated: list[bool] = []
    monkeypatch.setattr("gpunn.recipes.run.host_compiler", lambda: None)
    monkeypatch.setattr("gpunn.recipes.run.emulation", lambda: emulated.append(True) or contextlib.nullcontext())
    change(folder / "config.json", device="cpu", emulate=True)
    load(folder)[1].evaluate()
    assert emulated == [True]
    _, run = load(folder, "cpu")
    assert run.evaluate().measures["test_accuracy"] == read(folder / "summary.json")["test_accuracy"]
    assert emulated == [True]


def test_a_text_that_changed_is_not_measured(copy: Callable[[str], Path], tmp_path: Path) -> None:
    folder, text = copy("text"), tmp_path / "other.txt"
    original = Path(read(folder / "config.json")["file"]).read_text()
    change(folder / "config.json", file=str(text))
    for changed in (original + "z", original + "fish "):
        text.write_text(changed)
        _, run = load(folder)
        with pytest.raises(FileError, match=r"other.txt: not the data of the run any more: they have changed"):
            run.evaluate()
    change(folder / "config.json", data_digest=None)  # as runs were begun before there was one
    text.write_text(original + "z")
    with pytest.raises(FileError, match=r"other.txt: not the text of the run: 'z' is not in its alphabet"):
        load(folder)[1].evaluate()
    (folder / "alphabet.json").write_text('{"alphabet": "ba"}')
    with pytest.raises(FileError, match=r"alphabet.json: it must hold the characters of the run"):
        load(folder)


# ---- asking --------------------------------------------------------------------------------------------------------


def test_digits_are_asked_as_the_network_answers(runs: dict[str, Path], tmp_path: Path) -> None:
    _, run = load(runs["digits"])
    x = digit_data(3)[1][0][:300]
    np.save(tmp_path / "x.npy", x[:, 0] * 16)
    found = run.predict(tmp_path / "x.npy")
    model = lenet(generator=random_generator(9))
    load_weights(model, runs["digits"] / "model.safetensors")
    with no_grad(), model.evaluating():
        logits = model(tensor(x)).data.astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert [answer.place for answer in found] == list(range(300))
    for answer, share in zip(found, shares, strict=True):
        assert answer.reader is None
        assert [name for name, _ in answer.ranked] == [str(i) for i in np.argsort(-share, kind="stable")]
        np.testing.assert_allclose([p for _, p in answer.ranked], -np.sort(-share), atol=1e-6)


def test_each_cell_answers(runs: dict[str, Path], tmp_path: Path) -> None:
    _, run = load(runs["digits-rows"])
    x, y = digit_data(0)[1]
    np.save(tmp_path / "x.npy", x)
    found = run.predict(tmp_path / "x.npy")
    assert [(answer.place, answer.reader) for answer in found[:4]] == [(0, "rnn"), (0, "lstm"), (0, "gru"), (1, "rnn")]
    accuracy = read(runs["digits-rows"] / "summary.json")["test_accuracy"]
    for cell in ("rnn", "lstm", "gru"):
        given = [int(answer.ranked[0][0]) for answer in found if answer.reader == cell]
        assert (np.array(given) == y).mean() == accuracy[cell]


def test_a_spelled_name_and_its_probability(runs: dict[str, Path], tmp_path: Path) -> None:
    _, run = load(runs["spell"])
    x = digit_data(0)[1][0][:3]
    np.save(tmp_path / "x.npy", x)
    for image, answer in zip(x, run.predict(tmp_path / "x.npy"), strict=True):
        spelled = answer.ranked[0][0]
        assert run.model.spell(image[None]) == [spelled]
        assert [p for _, p in answer.ranked[1:]] == sorted((p for _, p in answer.ranked[1:]), reverse=True)
        assert {name for name, _ in answer.ranked} == {spelled, *spell.NAMES}
        for name, probability in answer.ranked:
            expected, before = 0.0, ""
            for letter in f"{name}."[:6]:  # step by step, with what the step before was given
                symbols = spell.as_symbols([before + letter])[:, : len(before) + 1]
                with no_grad(), run.model.evaluating():
                    logits = run.model(tensor(image[None]), symbols).data[0, -1].astype(np.float64)
                expected += logits[spell.LETTERS.index(letter)] - np.log(np.exp(logits).sum())
                before += letter
            assert probability == pytest.approx(math.exp(expected), rel=1e-4)


def test_points_are_asked(runs: dict[str, Path], tmp_path: Path) -> None:
    _, run = load(runs["circles"])
    x, y = ring_points(0)[1]
    (tmp_path / "x.csv").write_text("".join(f"{a},{b}\n" for a, b in x))
    found = run.predict(tmp_path / "x.csv")
    given = [circles.CLASSES.index(answer.ranked[0][0]) for answer in found]
    assert (np.array(given) == y).mean() == read(runs["circles"] / "summary.json")["test_accuracy"]
    assert all(sum(p for _, p in answer.ranked) == pytest.approx(1) for answer in found)
    np.save(tmp_path / "one.npy", x[7])
    (one,) = run.predict(tmp_path / "one.npy")
    assert one.place is None
    assert one.ranked[0][1] == pytest.approx(found[7].ranked[0][1], abs=1e-6)


def test_an_image_is_read_as_the_test_images_were(runs: dict[str, Path]) -> None:
    _, run = load(runs["alexnet"])
    assert run.classes == ("dark", "light")
    confusion = run.evaluate().confusion[""]
    given: dict[str, list[str]] = {"dark": [], "light": []}
    _, (files, labels), _ = image_folder(settings(runs["alexnet"])["images"])
    for path, label in zip(files.paths, labels, strict=True):
        (answer,) = run.predict(path)
        assert answer.place is None
        given[run.classes[label]].append(answer.ranked[0][0])
    assert {name: {each: names.count(each) for each in names} for name, names in given.items()} == confusion


def test_an_alexnet_run_answers_without_its_images(copy: Callable[[str], Path], runs: dict[str, Path]) -> None:
    folder = copy("alexnet")
    change(folder / "config.json", images=str(folder / "gone"))
    _, run = load(folder)
    assert run.predict(Path(settings(runs["alexnet"])["images"], "dark", "0.png"))
    with pytest.raises(FileError, match="gone: there is no such file or folder; if it was moved, --data says where"):
        run.evaluate()


def test_a_text_is_measured_and_goes_on(runs: dict[str, Path], tmp_path: Path) -> None:
    _, run = load(runs["text"])
    assert isinstance(run.model, CharacterModel)
    path, text = tmp_path / "t.txt", "red fish two fish one fish blue fish"
    path.write_text(text)
    (written,) = run.predict(path, 9)
    nats, state = 0.0, None
    with no_grad(), run.model.evaluating():
        for now, following in zip(run.model.encode(text)[:-1], run.model.encode(text)[1:], strict=True):
            logits, state = run.model(np.array([[now]]), state)
            row = logits.data[0, 0].astype(np.float64)
            nats += np.log(np.exp(row).sum()) - row[following]
    assert written.bits_per_character == pytest.approx(nats / math.log(2) / (len(text) - 1), rel=1e-5)
    assert written.characters == len(text)
    assert written.continuation == run.model.generate(text, 9, 0.7, random_generator(0))
    assert len(run.predict(path)[0].continuation) == 400
    path.write_text("r")
    assert run.predict(path, 0) == [loaded.Written("", 1, None)]
    path.write_text("réd Fish")
    with pytest.raises(FileError, match=r"t.txt: it has characters that the run did not learn: 'Fé'"):
        run.predict(path)


# ---- what is asked about -------------------------------------------------------------------------------------------


def drawn(size: int = 40, margin: int = 5) -> np.ndarray[Any, Any]:
    """An L of light ink, its strokes a quarter of its height wide."""
    ink = np.zeros((size, size), np.uint8)
    stroke = (size - 2 * margin) // 4
    ink[margin : size - margin, margin : margin + stroke] = 255
    ink[size - margin - stroke : size - margin, margin : margin + 2 * stroke] = 255
    return ink


EXPECTED = np.zeros((8, 8), np.float32)
EXPECTED[:, 2:4] = EXPECTED[6:, 2:6] = 1


@pytest.mark.parametrize("margin", [0, 4, 12])
@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("contrast", [1.0, 0.3])
def test_a_picture_of_a_digit_is_cut_and_fitted(margin: int, inverted: bool, contrast: float, tmp_path: Path) -> None:
    grey = 40 + contrast * 200 * (drawn(32 + 2 * margin, margin) / 255)
    if margin == 0:
        grey = np.pad(grey, 1, constant_values=40)  # the border is the ground
    Image.fromarray(np.round(255 - grey if inverted else grey).astype(np.uint8)).save(tmp_path / "d.png")
    image, several = inputs.digit_images(tmp_path / "d.png")
    assert not several
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[0, 0], EXPECTED)


def test_a_wide_picture_keeps_its_proportions() -> None:
    paper = np.zeros((30, 90), np.float32)
    paper[10:20, 5:85] = 1
    fitted = inputs.as_digit(paper)
    assert np.flatnonzero(fitted.any(1)).tolist() == [3]
    assert fitted[3].tolist() == [1.0] * 8


def test_pictures_of_every_mode_give_the_same_digit(tmp_path: Path) -> None:
    ink = drawn()
    clear = np.stack([np.zeros_like(ink)] * 3 + [ink], -1)  # black ink on a transparent ground
    grey = Image.fromarray(ink)
    pictures = {
        "L.png": grey, "1.png": grey.convert("1"), "RGB.png": grey.convert("RGB"), "P.gif": grey.convert("P"),
        "LA.png": Image.fromarray(clear).convert("LA"), "RGBA.png": Image.fromarray(clear),
        "I16.png": Image.fromarray(ink.astype(np.uint16) * 257), "I.tif": Image.fromarray(ink.astype(np.int32) * 1000),
        "F.tif": Image.fromarray(ink.astype(np.float32) / 255), "CMYK.tif": grey.convert("RGB").convert("CMYK"),
        "weak.png": Image.fromarray(ink.astype(np.uint16) // 5 + 9),
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            assert opened.mode.replace(";", "") == name.split(".")[0] or name == "weak.png"
        image, _ = inputs.digit_images(tmp_path / name)
        np.testing.assert_allclose(image[0, 0], EXPECTED, atol=2e-2, err_msg=name)


def test_sixteen_bits_are_not_cut_off(tmp_path: Path) -> None:
    values = np.zeros((8, 8), np.uint16)
    values[2:6, 3], values[2:6, 4] = 60000, 30000
    for name, array in (("x.png", values), ("x.tif", values.astype(np.int32))):
        Image.fromarray(array).save(tmp_path / name)
        assert inputs.digit_images(tmp_path / name)[0][0, 0, 3].tolist() == [0, 0, 0, 1, 0.5, 0, 0, 0]


def test_small_digits_stay_as_they_are(tmp_path: Path) -> None:
    for image in digit_data(0)[1][0][:20, 0]:
        Image.fromarray(np.round(255 * image).astype(np.uint8)).save(tmp_path / "d.png")
        read_again = inputs.digit_images(tmp_path / "d.png")[0][0, 0]
        np.testing.assert_allclose(read_again, image / image.max(), atol=0.01)  # the strongest ink is 1 in most


@pytest.mark.parametrize(
    ("array", "shape", "several"),
    [(np.full((8, 8), 16), (1, 1, 8, 8), False), (np.ones((3, 8, 8), np.float32), (3, 1, 8, 8), True),
     (np.ones((2, 1, 8, 8), bool), (2, 1, 8, 8), True)],
)  # fmt: skip
def test_arrays_of_digits(array: Any, shape: tuple[int, ...], several: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    images, many = inputs.digit_images(tmp_path / "x.npy")
    assert (images.shape, images.dtype, many, images.max()) == (shape, np.float32, several, 1)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((8, 7)), r"images must be \(8, 8\), \(N, 8, 8\) or \(N, 1, 8, 8\), got \(8, 7\)"),
        (np.zeros((2, 3, 8, 8)), r"images must be .* got \(2, 3, 8, 8\)"),
        (np.zeros((0, 8, 8)), r"there must be real numbers, all finite, got float64 of shape \(0, 8, 8\)"),
        (np.full((8, 8), np.nan), "there must be real numbers, all finite"),
        (np.zeros((8, 8), complex), "there must be real numbers, all finite, got complex128"),
        (np.full((8, 8), -1), "pixels must be at least 0, got -1"),
        (np.full((8, 8), 255), "pixels must be from 0 to 1, or from 0 to 16 as scikit-learn has them, got 255"),
    ],
)
def test_arrays_that_are_no_digits(array: Any, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(FileError, match=f"x.npy: {said}"):
        inputs.digit_images(tmp_path / "x.npy")


def test_images_that_are_no_digits(tmp_path: Path) -> None:
    Image.new("L", (20, 20), 255).save(tmp_path / "white.png")
    with pytest.raises(FileError, match=r"white.png: there is no digit: one grey all over"):
        inputs.digit_images(tmp_path / "white.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(FileError, match=r"text.png: the image cannot be read: its format is none"):
        inputs.digit_images(tmp_path / "text.png")
    Image.fromarray(drawn()).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-30])
    with pytest.raises(FileError, match=r"cut.png: the image cannot be read: .*truncated"):
        inputs.digit_images(tmp_path / "cut.png")
    with pytest.raises(FileError, match=r"none.npy: cannot be read: No such file"):
        inputs.digit_images(tmp_path / "none.npy")


@pytest.mark.parametrize("head", ["", "x,y\n", "\n", '\ufeff"first","second"\n'])
def test_tables_of_points_with_and_without_names(head: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(f"{head}1,2.5\n-3,4e-1\n", encoding="utf-8")
    said = pytest.warns(UserWarning, match="p.csv: its first line is no point, but names the columns: ")
    with said if head.strip() else contextlib.nullcontext():
        found, several = inputs.points(tmp_path / "p.csv")
    assert (found.tolist(), several, found.dtype) == ([[1, 2.5], [-3, np.float32(0.4)]], True, np.float32)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1,2\n3\n", "line 2: 2 columns are needed, got 1"),
        ("1,2,3\n", "a point has two columns, got 3"),
        ("1,cat\n2,3\n", "line 1: column '1': a finite float32 number is needed, got 'cat'"),  # not a line of names
        ("", "the file is empty"),
    ],
)
def test_tables_that_are_no_points(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(content)
    with pytest.raises(FileError, match=rf"p.csv: .*{said}"):
        inputs.points(tmp_path / "p.csv")


def test_arrays_that_are_no_points(tmp_path: Path) -> None:
    for array, said in (
        (np.zeros(3), r"points must be \(2,\) or \(N, 2\), got \(3,\)"),
        (np.full(2, np.inf), "finite"),
    ):
        np.save(tmp_path / "p.npy", array)
        with pytest.raises(FileError, match=said):
            inputs.points(tmp_path / "p.npy")


# ---- comparing -----------------------------------------------------------------------------------------------------


def made(folder: Path, config: dict[str, Any], lines: list[dict[str, Any]], summary: dict[str, Any] | None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if lines:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def line(epoch: int, loss: float, accuracy: float, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "test_loss": loss, "test_accuracy": accuracy, "seconds": 0.5} | more


@pytest.fixture
def three(tmp_path: Path) -> dict[str, Path]:
    common = {"recipe": "digits", "seed": 0}
    return {
        "a": made(
            tmp_path / "a",
            common | {"lr": 0.1},
            [line(1, 0.5, 0.9), line(2, 0.25, 0.8)],
            {"status": "finished", "epochs": 2, "seconds": 1.25, "parameters": 10},
        ),
        "b": made(tmp_path / "b", common | {"lr": 0.2, "hidden": None}, [line(1, 0.75, 0.9)], None),
        "c": made(tmp_path / "c", common | {"lr": 0.1}, [], None),
    }


def test_what_differs_and_what_came_of_it(three: dict[str, Path]) -> None:
    runs = {name: comparison.read_run(folder) for name, folder in three.items()}
    rows = {row.name: row for row in comparison.compare(runs)}
    assert [name for name, row in rows.items() if row.kind == "option"] == ["lr", "hidden"]
    assert rows["lr"].values == {"a": 0.1, "b": 0.2, "c": 0.1}
    assert rows["hidden"].values == {"b": None}
    assert rows["status"].values == {"a": "finished", "b": "unfinished", "c": "unfinished"}
    assert rows["epochs"].values == {"a": 2, "b": 1, "c": 0}
    assert rows["seconds"].values == {"a": 1.25, "b": 0.5, "c": 0}
    assert rows["parameters"].values == {"a": 10}
    assert (rows["best test_loss"].values, rows["best test_loss"].best) == ({"a": 0.25, "b": 0.75}, ["a"])
    assert (rows["epoch of best test_loss"].values, rows["epoch of best test_loss"].best) == ({"a": 2, "b": 1}, [])
    assert (rows["best test_accuracy"].values, rows["best test_accuracy"].best) == ({"a": 0.9, "b": 0.9}, [])
    assert (rows["last test_accuracy"].values, rows["last test_accuracy"].best) == ({"a": 0.8, "b": 0.9}, ["b"])
    assert rows["epoch of best test_accuracy"].values == {"a": 1, "b": 1}
    whole = comparison.compare(runs, every=True)
    assert [row.name for row in whole if row.kind == "option"] == ["recipe", "seed", "lr", "hidden"]


def test_a_notebook_shows_a_run(tmp_path: Path) -> None:
    config = {"recipe": "digits", "file": "<b>ä & ö</b>"}
    begun = made(tmp_path / "a <b>", config, [], None)
    shown = comparison.read_run(str(begun))._repr_html_()
    assert "<b>ä" not in shown
    assert "&lt;b&gt;ä &amp; ö&lt;/b&gt;" in shown
    assert "a &lt;b&gt;</b>: unfinished" in shown
    assert "<img" not in shown
    going = made(tmp_path / "b", config, [line(1, 0.5, 0.9), line(2, 1e19, 0.1)], {"status": "diverged", "epochs": 2})
    shown = comparison.read_run(going)._repr_html_()
    assert '<img alt="curves" style="max-width:100%" src="data:image/png;base64,iVBOR' in shown
    assert re.search(r"<td[^>]*>last test_loss</td><td[^>]*>1e\+19</td>", shown)


def test_the_best_are_those_of_each_recipe(three: dict[str, Path], tmp_path: Path) -> None:
    other = made(tmp_path / "d", {"recipe": "circles"}, [line(1, 0.01, 1.0)], None)
    runs = {path.name: comparison.read_run(path) for path in (*three.values(), other)}
    rows = {row.name: row for row in comparison.compare(runs)}
    assert rows["best test_loss"].best == ["a"]  # not d, of another recipe, which is alone
    runs["e"] = comparison.read_run(made(tmp_path / "e", {"recipe": "circles"}, [line(1, 0.02, 1.0)], None))
    rows = {row.name: row for row in comparison.compare(runs)}
    assert rows["best test_loss"].best == ["a", "d"]


def test_a_line_that_is_being_written_does_not_count(three: dict[str, Path]) -> None:
    with (three["b"] / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "test_lo')
    with lock.locked(three["b"]):
        assert comparison.read_run(three["b"]).epochs == 1
    with pytest.warns(RuntimeWarning, match=r"metrics.jsonl, line 2: not JSON: .*; the rest is read"):
        assert comparison.read_run(three["b"]).epochs == 1
    with (three["b"] / "metrics.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(FileError, match=r"metrics.jsonl, line 2: not JSON: "):
        comparison.read_run(three["b"])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics.jsonl", '{"epoch": 1}\n', "line 1: not the record of an epoch, with its epoch and seconds"),
        ("metrics.jsonl", "[1]\n", "line 1: an object is needed"),
        ("metrics.jsonl", '{"epoch": 1e999, "seconds": 1}\n', "line 1: epoch is not finite: 1e999"),
        ("metrics.jsonl", '{"epoch": "1", "seconds": 1}\n', "line 1: not the record of an epoch"),
        ("metrics.jsonl", '{"epoch": 1, "seconds": 1, "loss": NaN}\n', "line 1: loss is not finite: NaN"),
        ("metrics.jsonl", b"\xff\n", "line 1: .*can't decode"),
        ("summary.json", "[]", "not an object of JSON"),
        ("summary.json", '{"epochs": "2"}', "epochs must be an integer, got '2'"),
        ("config.json", "{}", "holds no run that was begun"),
        ("config.json", "[" * 100_000, "config.json: not JSON: .*recursion"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_damaged_files_are_named(file: str, content: str | bytes, said: str, three: dict[str, Path]) -> None:
    path = three["a"] / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FileError, match=re.escape(str(three["a"])) + f".*{said}"):
        comparison.read_run(three["a"])


def test_labels_are_short_but_different(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="compare: each run must be given once, got twice="):
        comparison.labels([tmp_path, tmp_path / ".." / tmp_path.name])


def test_runs_of_all_recipes_side_by_side(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = {name: comparison.read_run(folder) for name, folder in runs.items()}
    rows = {row.name: row for row in comparison.compare(opened)}
    summary = read(runs["digits-rows"] / "summary.json")
    for cell in ("rnn", "lstm", "gru"):
        assert rows[f"last test_loss {cell}"].values == {"digits-rows": summary["test_loss"][cell]}
        assert rows[f"parameters {cell}"].values == {"digits-rows": summary["parameters"][cell]}
    for name, folder in runs.items():
        if name != "digits-rows":
            assert rows["last test_loss"].values[name] == read(folder / "summary.json")["test_loss"]
            assert rows["best test_loss"].values[name] == min(record["test_loss"] for record in records(folder))
    assert rows["last test_bits_per_character"].values == {
        "text": read(runs["text"] / "summary.json")["test_bits_per_character"]
    }
    sheets: list[Any] = []
    monkeypatch.setattr("gpunn.plot.figure.save", lambda sheet, path: sheets.append(sheet))
    comparison.draw(opened, tmp_path / "all.png")
    loss, accuracy, bits = sheets[0].axes
    one_each = {f"{name} {part.upper()}".strip() for name in NAMES for part in CASES[name].parts}
    assert {text.get_text().split(",")[0] for text in sheets[0].legends[0].get_texts()} == one_each
    for axes, expected in ((loss, one_each), (accuracy, one_each), (bits, {"text"})):
        assert {line.get_label().split(",")[0] for line in axes.lines} == expected


def test_recipes_without_epochs_compare_by_their_summary(tmp_path: Path) -> None:
    summary = {"status": "finished", "last_losses": {"small": 2.0, "large": None}, "device": "cpu"}
    runs = {"a": comparison.read_run(made(tmp_path / "a", {"recipe": "learning-rates"}, [], summary))}
    rows = {row.name: row.values for row in comparison.compare(runs)}
    assert rows == {"status": {"a": "finished"}, "epochs": {"a": 0}, "last_losses small": {"a": 2.0}}
    with pytest.raises(FileError, match="none of the runs has a whole epoch to draw: a"):
        comparison.draw(runs, tmp_path / "a.png")


# ---- the commands --------------------------------------------------------------------------------------------------


def test_eval(command: Command, runs: dict[str, Path]) -> None:
    folder, summary = runs["digits"], read(runs["digits"] / "summary.json")
    code, out, err = command("eval", folder)
    assert (code, err) == (0, "")
    first, _, head, *lines = out.splitlines()
    accuracy, loss = f"{summary['test_accuracy']:.2%}", f"{summary['test_loss']:.4f}"
    assert first == f"test accuracy {accuracy}, test loss {loss}: {folder} (model.safetensors)"
    assert head.split() == ["class", "examples", "right", "taken", "for"]
    assert [each.split()[0] for each in lines] == list("0123456789")
    assert sum(int(each.split()[1]) for each in lines) == 450
    facts = json.loads(command("eval", folder, "--json").out)
    assert facts["test_loss"] == summary["test_loss"]
    right = sum(given.get(name, 0) for name, given in facts["confusion"].items())
    assert right / 450 == summary["test_accuracy"]
    row = lines[3].split(maxsplit=3)
    wrong = {name: count for name, count in facts["confusion"]["3"].items() if name != "3"}
    assert row[2] == f"{facts['confusion']['3']['3'] / int(row[1]):.1%}"
    told = dict(each.split() for each in (row[3] if len(row) > 3 else "").split(", ") if each)
    assert told == {name: str(count) for name, count in wrong.items()}


def test_eval_of_several_networks_and_of_none(command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    code, out, _ = command("eval", runs["digits-rows"], "--device", "cpu")
    assert code == 0
    assert re.match(r"test accuracy RNN \d+\.\d\d%, LSTM .*, GRU .*, test loss RNN .*: .*\n", out)
    assert [text.split()[0] for text in out.split("\n\n")[1:]] == ["RNN", "LSTM", "GRU"]
    assert set(json.loads(command("eval", runs["digits-rows"], "--json").out)["confusion"]) == {"rnn", "lstm", "gru"}
    assert re.fullmatch(
        r"test bits/character \d.*, test accuracy .*%, test loss .*\n", command("eval", runs["text"]).out
    )
    code, out, err = command("eval", tmp_path / "none")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'none'}: holds no run that was begun")


def test_predict_takes_folders(command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "zwei ü" / "b").mkdir(parents=True)
    (tmp_path / "zwei ü" / ".hidden").mkdir()
    for name in ("a.png", "b/c.png", "b/d.png", ".e.png", ".hidden/f.png"):
        Image.fromarray(drawn()).save(tmp_path / "zwei ü" / name)
    (tmp_path / "zwei ü" / "b" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    code, out, err = command("predict", runs["digits"], "zwei ü", "empty")
    assert code == 2
    assert [each.split(": ")[0] for each in out.splitlines()] == [
        f"zwei ü/{x}" for x in ("a.png", "b/c.png", "b/d.png")
    ]
    first, last = err.splitlines()
    assert first.startswith("error: zwei ü/b/notes.txt: ")
    assert last == "error: empty: a folder without a file"


def test_predict_goes_on_after_a_bad_file(command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    Image.fromarray(drawn()).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", digit_data(0)[1][0][:2, 0])
    (tmp_path / "bad.png").write_text("no image")
    code, out, err = command("predict", runs["digits"], "none.png", "a.png", "bad.png", "b.npy", "--top", 3)
    assert code == 2
    assert [error.split(": ")[1] for error in err.splitlines()] == ["none.png", "bad.png"]
    answer = r"(\d) \d+\.\d\d%, \d \d+\.\d\d%, \d \d+\.\d\d%"
    whole = re.fullmatch(rf"a\.png: {answer}\nb\.npy\[0\]: {answer}\nb\.npy\[1\]: {answer}\n", out)
    assert whole
    code, out, err = command("predict", runs["digits"], "b.npy", "--json")
    assert (code, err) == (0, "")
    facts = [json.loads(each) for each in out.splitlines()]
    assert [(fact["file"], fact["place"], fact["class"]) for fact in facts] == [
        ("b.npy", 0, whole[2]), ("b.npy", 1, whole[3]),
    ]  # fmt: skip
    assert facts[0]["top"][0] == {"class": facts[0]["class"], "probability": facts[0]["probability"]}
    assert len(facts[0]["top"]) == 2
    lines = command("predict", runs["digits-rows"], "a.png").out.splitlines()
    assert [each.split(":")[0] for each in lines] == ["a.png RNN", "a.png LSTM", "a.png GRU"]


def test_predict_writes(command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("red fish")
    code, out, _ = command("predict", runs["text"], "t.txt", "--length", 5)
    assert code == 0
    assert re.fullmatch(r't\.txt: \d\.\d{3} bits/character, goes on ".{5}"\n', out)
    fact = json.loads(command("predict", runs["text"], "t.txt", "--length", 5, "--json").out)
    assert (fact["file"], fact["characters"], len(fact["continuation"])) == ("t.txt", 8, 5)
    said = f"error: predict: --top is not for a run of train text: {runs['text']}\n"
    assert command("predict", runs["text"], "t.txt", "--top", 2) == (2, "", said)
    code, _, err = command("predict", runs["digits"], "t.txt", "--length", 2)
    assert (code, err) == (2, f"error: predict: --length is not for a run of train digits: {runs['digits']}\n")


def test_compare(command: Command, three: dict[str, Path], tmp_path: Path) -> None:
    (three["c"] / "config.json").write_text("{")
    code, out, err = command("compare", "a", "b", "c", "--out", "curves.png")
    assert code == 2
    assert re.fullmatch(r"error: c/config.json: not JSON: .*\n", err)
    *table, _, last = out.splitlines()
    assert last == "curves: curves.png"
    with Image.open(tmp_path / "curves.png") as image:
        image.load()
    assert [re.split(r"\s{2,}", each.strip()) for each in table] == [
        ["a", "b"],
        ["lr", "0.1", "0.2"],
        ["hidden", "-", "none"],
        ["status", "finished", "unfinished"],
        ["epochs", "2", "1"],
        ["seconds", "1.2", "0.5"],
        ["parameters", "10", "-"],
        ["best test_loss (epoch)", "0.25* (2)", "0.75 (1)"],
        ["last test_loss", "0.25*", "0.75"],
        ["best test_accuracy (epoch)", "90.00% (1)", "90.00% (1)"],
        ["last test_accuracy", "80.00%", "90.00%*"],
    ]
    facts = json.loads(command("compare", "a", "b", "--json", "--all").out)
    assert facts["runs"] == {"a": "a", "b": "b"}
    assert facts["rows"][0] == {
        "name": "recipe",
        "kind": "option",
        "values": {"a": "digits", "b": "digits"},
        "best": [],
    }
    assert {"name": "last test_loss", "kind": "result", "values": {"a": 0.25, "b": 0.75}, "best": ["a"]} in facts[
        "rows"
    ]
    code, out, err = command("compare", "c")
    assert (code, out) == (2, "")


@pytest.mark.parametrize("name", NAMES)
def test_an_exported_run_answers_alike(name: str, command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx_case import RUN_BY  # it imports onnx

    path = tmp_path / "model.onnx"
    code, out, err = command("export", runs[name], "model.onnx")
    assert (code, out, err) == (0, f"{path.stat().st_size:,} bytes of ONNX: model.onnx\n", "")
    model = onnx.load(path)
    about = {each.key: json.loads(each.value) for each in model.metadata_props if each.key in ("config", "classes")}
    assert about["config"] == read(runs[name] / "config.json")
    _, run = load(runs[name])
    assert about["classes"] == (None if run.classes is None else list(run.classes))
    generator, example = random_generator(5), run.example if isinstance(run.example, tuple) else (run.example,)

    def drawn_like(each: Any) -> Any:
        if isinstance(each, tuple):
            return tuple(map(drawn_like, each))
        axis = 1 if each.ndim == 3 and name == "text" else 0  # of the examples: a state has its layers first
        shape = [2 if at == axis else size for at, size in enumerate(each.shape)]
        if each.dtype.kind == "f":
            return generator.standard_normal(shape).astype(each.dtype)
        return generator.integers(4, size=shape)

    given = tuple(map(drawn_like, example))
    names = [each.name for each in model.graph.input]
    with no_grad(), run.model.evaluating():
        own = [raw(each) for each in leaves(run.model(*given))]
    for compute in RUN_BY:
        found = compute(path, dict(zip(names, leaves(given), strict=True)))
        for theirs, ours in zip(found, own, strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-5, err_msg=compute.__name__)


def test_an_exported_model_of_text_writes_step_by_step(command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    """With the state and a length that vary: the whole prompt first, then letter by letter."""
    onnx = pytest.importorskip("onnx")
    from onnx_case import RUN_BY

    assert command("export", runs["text"], "m ü.onnx")[0] == 0
    model = onnx.load(tmp_path / "m ü.onnx")
    (alphabet,) = (each.value for each in model.metadata_props if each.key == "alphabet")
    inputs = [each.name for each in model.graph.input]
    sizes = {each.name: [size.dim_param or size.dim_value for size in each.type.tensor_type.shape.dim]
             for each in model.graph.input}  # fmt: skip
    assert sizes == {"input": ["batch", "length"], "input_1": [1, "batch", 16], "input_2": [1, "batch", 16]}
    _, run = load(runs["text"])
    assert alphabet == run.model.alphabet
    with no_grad(), run.model.evaluating():
        whole = raw(run.model(run.model.encode("one fish two")[None])[0])
    for compute in RUN_BY:
        states, logits = [np.zeros((1, 1, 16), np.float32)] * 2, []
        for part in ("one fi", "s", "h", " tw", "o"):
            fed = np.array([[alphabet.index(letter) for letter in part]])
            out, *states = compute(tmp_path / "m ü.onnx", dict(zip(inputs, [fed, *states], strict=True)))
            logits.append(out)
        np.testing.assert_allclose(np.concatenate(logits, 1), whole, rtol=1e-4, atol=1e-5, err_msg=compute.__name__)


def test_export_writes_over_nothing_unasked(command: Command, runs: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "model.onnx").write_text("mine")
    code, out, err = command("export", runs["circles"], "model.onnx")
    assert (code, out) == (2, "")
    assert err == "error: model.onnx: there is such a file already; --force writes over it\n"
    assert (tmp_path / "model.onnx").read_text() == "mine"
    facts = json.loads(command("export", runs["circles"], "model.onnx", "--force", "--json").out)
    assert (facts["recipe"], facts["classes"]) == ("circles", ["outer", "inner"])
    assert facts["bytes"] == (tmp_path / "model.onnx").stat().st_size > 4


def test_export_without_its_package(command: Command, runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, err = command("export", runs["circles"], "model.onnx")
    assert (code, out) == (2, "")
    assert re.search(r"^error: .*pip install .*\[onnx\].$", err)


def test_each_command_shows_an_example(command: Command) -> None:
    for name in ("eval", "predict", "compare", "export"):
        assert f"Examples: gpunn {name} runs/" in " ".join(command(name, "--help").out.split())


def test_a_run_keeps_full_paths_and_is_measured_from_any_folder(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undraw(monkeypatch)
    story = Path(settings(runs["text"])["file"])
    monkeypatch.chdir(story.parent)
    recipe = find("text")
    folder, _ = recipe.run(recipe.options_type(**CASES["text"].options, file="story.txt"), tmp_path / "run")
    assert read(folder / "config.json")["file"] == str(story)
    monkeypatch.chdir(tmp_path)
    assert load(folder)[1].evaluate().measures == load(runs["text"])[1].evaluate().measures
