"""The recipes that end in pictures: what their folders hold, what they show, what they refuse."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import finished, settings, told
from PIL import Image

from gpunn import data
from gpunn.data.image_files import ImageFiles
from gpunn.errors import ArgumentError, FileError
from gpunn.recipes import alexnet, drawings, gradients, learning_rates
from gpunn.recipes.catalogue import find
from gpunn.recipes.recipe import Recipe


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """AlexNet takes one a core by itself, which on a busy machine wait for each other."""
    monkeypatch.setattr(alexnet.AlexNet, "threads", 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["circles", "learning-rates", "gradients"])
def test_a_run_keeps_what_it_came_to(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """That it repeats is seen by test_every_file_gives_what_the_recipe_gives, for all recipes."""
    folder = finished(tmp_path_factory, name)
    check_folder(find(name), folder, told(folder)["summary"], told(folder)["steps"])
    with pytest.raises(FileError, match="holds a run already"):
        find(name).run(find(name).options_type(**settings(folder)), folder)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_an_alexnet_makes_its_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alexnet, "large_digits", partial(alexnet.large_digits, each=5))
    seen: list[tuple[int, int]] = []
    options = alexnet.Options(epochs=1, width=0.05, batch_size=10)
    folder, summary = alexnet.train_alexnet(
        options, tmp_path, on_step=lambda step, steps, _: seen.append((step, steps))
    )
    check_folder(alexnet.AlexNet, folder, summary, seen)
    with pytest.raises(FileError, match="holds a run already"):
        alexnet.train_alexnet(options, folder)


def check_folder(recipe: type[Recipe], folder: Path, summary: dict[str, Any], seen: list[Any]) -> None:
    assert {path.name for path in folder.iterdir()} == set(recipe.files())
    saved = json.loads((folder / "summary.json").read_text())
    assert json.dumps(saved) == json.dumps(summary)
    assert saved["status"] == "finished"
    assert [step for step, _ in seen] == list(range(1, seen[0][1] + 1))
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert len(image.getcolors(1 << 24)) > 5
    assert "\n" not in recipe.headline(summary)


def test_the_film_of_the_circles(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = finished(tmp_path_factory, "circles")
    with Image.open(folder / "surface.gif") as film:
        assert film.n_frames == 7  # before training, and each epoch
    assert told(folder)["summary"]["parameters"] == 881


@pytest.mark.usefixtures("undrawn")
def test_three_learning_rates(tmp_path: Path) -> None:
    _, summary = learning_rates.compare_learning_rates(learning_rates.Options(steps=150), tmp_path / "run")
    last = summary["last_losses"]
    assert last["right"] < 0.5
    assert last["small"] > 2
    assert last["large"] is None or last["large"] > 2
    _, summary = learning_rates.compare_learning_rates(learning_rates.Options(steps=5, large=1e38), tmp_path / "more")
    assert summary["last_losses"]["large"] is None
    assert learning_rates.LearningRates.headline(summary).endswith("too large not finite")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_gradients_vanish_and_explode(tmp_path: Path) -> None:
    _, summary = gradients.show_gradients(gradients.Options(), tmp_path / "run")
    ratio = summary["first_over_last"]
    assert ratio["RNN"] < 1e-9
    assert ratio["large RNN"] > 100
    assert ratio["LSTM"] > 0.01
    assert ratio["GRU"] > 0.01
    assert summary["largest_norm"]["not clipped"] > 100
    loss = summary["last_loss"]
    assert loss["not clipped"] is None or loss["not clipped"] > 2.2  # by chance: log 10 = 2.3
    assert loss["clipped"] < 2.2


def test_activations_are_drawn_with_their_derivatives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {}
    monkeypatch.setattr(drawings.plot, "panels", lambda panels, *rest: drawn.update(panels))
    drawings.draw_activations(tmp_path / "a.png")
    assert len(drawn) == 10
    for panel in drawn.values():
        points, y = panel["function"]
        _, slope = panel["derivative"]
        step = points[1] - points[0]
        # The middle difference of a smooth function; at a corner it is the mean of two slopes.
        middle = (y[2:] - y[:-2]) / (2 * step)
        assert np.quantile(np.abs(middle - slope[1:-1]), 0.98) < 1e-3


@pytest.mark.parametrize("said", [False, True])
@pytest.mark.parametrize("dark", [False, True])
def test_a_skeleton_of_a_file(dark: bool, said: bool, tmp_path: Path) -> None:
    bar = np.zeros((20, 60), np.uint8)
    bar[8:13, 5:55] = 255
    Image.fromarray(255 - bar if dark else bar).save(tmp_path / "bar.png")
    picture, guess = tmp_path / "bar.png", dark if said else None
    before, after, taken = drawings.draw_skeleton(tmp_path / "out.png", picture, dark=guess)
    assert (before, taken) == (250, dark)
    assert 40 <= after <= 55
    assert drawings.draw_skeleton(tmp_path / "out.png", picture, dark=not dark).before == 20 * 60 - 250
    with pytest.raises(FileError, match=r"bar.png: the image itself, which the picture must not be written over"):
        drawings.draw_skeleton(picture, picture)
    with pytest.raises(FileError, match=r"out.bmp: a figure is written as .png, .svg"):
        drawings.draw_skeleton(tmp_path / "out.bmp", picture)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(FileError, match=r"text.png: the image cannot be read: its format is none"):
        drawings.draw_skeleton(tmp_path / "out.png", tmp_path / "text.png")
    with pytest.raises(FileError, match=r"none.png: the image cannot be read: No such file"):
        drawings.draw_skeleton(tmp_path / "out.png", tmp_path / "none.png")
    with pytest.raises(ArgumentError, match="threshold must be in 0 to below 1, got threshold=2"):
        drawings.draw_skeleton(tmp_path / "out.png", threshold=2)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for name, colour in (("blue", 2), ("red", 0)):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        for number in range(5):
            pixels = generator.integers(0, 100, (30, 40, 3), np.uint8)
            pixels[..., colour] += 150
            Image.fromarray(pixels).save(tmp_path / "photographs" / name / f"{number}.png")
    return tmp_path / "photographs"


@pytest.mark.usefixtures("undrawn", "one_thread")
def test_alexnet_on_a_folder_of_photographs(photographs: Path, tmp_path: Path) -> None:
    options = alexnet.Options(
        images=str(photographs), epochs=1, width=0.05, batch_size=4, augment=True, norm_before_pool=True, towers=1
    )
    folder, summary = alexnet.train_alexnet(options, tmp_path / "run")
    assert list(summary["classes"]) == ["blue", "red"]
    assert not (folder / "images").exists()
    with pytest.raises(FileError, match="nowhere: there is no such folder"):
        alexnet.train_alexnet(alexnet.Options(images="nowhere"), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_image_folder(photographs: Path) -> None:
    (x, y), (x_test, y_test), classes = data.image_folder(photographs, size=24, seed=3)
    assert (classes, y.tolist(), y_test.tolist()) == (("blue", "red"), [0] * 4 + [1] * 4, [0, 1])
    assert x.shape == (8, 3, 24, 24)
    batch = x[np.array([0, 7, 2])]
    assert (batch.shape, batch.dtype) == ((3, 3, 24, 24), np.float32)
    assert 0 <= batch.min() < batch.max() <= 1
    assert batch[0, 2].mean() > batch[0, 0].mean()  # blue
    assert batch[1, 0].mean() > batch[1, 2].mean()  # red
    assert not set(x.paths) & set(x_test.paths)
    np.testing.assert_array_equal(x[2:3], batch[2:])
    same = ImageFiles(x.paths[:1], 30)[:]
    with Image.open(x.paths[0]) as image:  # the shorter side is 30 already: the middle, unchanged
        np.testing.assert_allclose(same[0] * 255, np.asarray(image, np.float32)[:, 5:35].transpose(2, 0, 1), atol=1e-4)


def test_a_folder_that_is_split_already(photographs: Path) -> None:
    (photographs / "test").mkdir()
    (photographs / "train").mkdir()
    for part in ("train", "test"):
        for name in ("blue", "red"):
            (photographs / part / name).mkdir()
    for number in range(5):
        for name in ("blue", "red"):
            target = photographs / ("test" if number == 0 else "train") / name / f"{number}.png"
            (photographs / name / f"{number}.png").rename(target)
    (_, y), (_, y_test), classes = data.image_folder(photographs, size=24)
    assert (len(y), len(y_test), classes) == (8, 2, ("blue", "red"))
    (photographs / "test" / "blue").rename(photographs / "test" / "green")
    with pytest.raises(FileError, match=r"only in train \['blue'\], only in test \['green'\]"):
        data.image_folder(photographs)


def test_folders_that_hold_no_classes(photographs: Path, tmp_path: Path) -> None:
    cut = photographs / "red" / "3.png"
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(FileError, match=r"red.3.png: the image cannot be read: .*truncated"):
        ImageFiles([cut], 24)[:]
    (photographs / "green").mkdir()
    with pytest.raises(FileError, match=r"the folders \['green'\] hold no images"):
        data.image_folder(photographs)
    (tmp_path / "one" / "class").mkdir(parents=True)
    with pytest.raises(FileError, match=r"a folder for each of at least two classes, got \['class'\]"):
        data.image_folder(tmp_path / "one")


def test_circles_lie_on_their_rings() -> None:
    (x, y), (x_test, y_test) = data.circles(seed=2, train=101, test=40, inner=0.3, noise=0.01)
    for points, labels in ((x, y), (x_test, y_test)):
        radii = np.hypot(*points.T)
        assert np.abs(radii - np.where(labels == 1, 0.3, 1.0)).max() < 0.06
        assert abs(int((labels == 1).sum()) - len(labels) / 2) <= 0.5
    for wrong, message in (
        ({"train": 1}, "each part needs two points"),
        ({"inner": 1.0}, "inner must lie between 0 and 1, got inner=1.0"),
        ({"noise": -1.0}, "noise must be at least 0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            data.circles(**wrong)
