"""The figures: what is drawn, and that the files are pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpunn import plot
from gpunn.errors import ArgumentError, FileError, GpunnError, ShapeError

METRICS = [
    {"epoch": i, "train_loss": 2.0 * 0.8**i, "test_loss": 2.1 * 0.8**i, "test_accuracy": 1 - 0.9 * 0.8**i}
    for i in range(1, 31)
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn while the test runs."""
    drawn = []
    save = plot._save

    def keep(figure: Any, path: Any) -> None:
        drawn.append(figure)
        save(figure, path)

    monkeypatch.setattr(plot, "_save", keep)
    return drawn


def assert_picture(path: Path) -> None:
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        assert len(image.getcolors(1 << 24)) > 5  # not an empty page


def test_curves_show_the_numbers(figures: list[Any], tmp_path: Path) -> None:
    plot.curves(METRICS, tmp_path / "curves.png")
    assert_picture(tmp_path / "curves.png")
    loss, accuracy = figures[0].axes
    lines = {line.get_label(): line for line in loss.lines}
    for label, name in (("training", "train_loss"), ("test", "test_loss")):
        np.testing.assert_array_equal(lines[label].get_xdata(), range(1, 31))
        np.testing.assert_array_equal(lines[label].get_ydata(), [m[name] for m in METRICS])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [100 * m["test_accuracy"] for m in METRICS])
    assert lines["training"].get_color() != lines["test"].get_color()
    assert lines["training"].get_linestyle() != lines["test"].get_linestyle()
    for axes in (loss, accuracy):
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel() in ("cross entropy", "accuracy (%)")
        assert axes.get_legend() is not None


@pytest.mark.parametrize("loss", [1e-9, 0.0, 1.0, 10.0, 3e4])  # 0: has no logarithm; 1 and 10: end points of decades
def test_a_single_epoch_is_a_visible_point(loss: float, figures: list[Any], tmp_path: Path) -> None:
    record = {"epoch": 1, "train_loss": loss, "test_loss": 0.5, "test_accuracy": 1.0}
    plot.curves([record], tmp_path / "curves.png")
    axes = figures[0].axes[0]
    assert all(line.get_marker() == "o" for line in axes.lines)
    bottom, top = axes.get_ylim()
    assert 0 < bottom < 0.5 < top
    assert loss <= top


def test_curves_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least one epoch"):
        plot.curves([], tmp_path / "curves.png")


def test_confusion_writes_every_count(figures: list[Any], tmp_path: Path) -> None:
    matrix = np.array([[7, 0, 1], [0, 5, 12], [0, 0, 0]])
    plot.confusion(matrix, tmp_path / "confusion.png", ["a", "b", "c"])
    assert_picture(tmp_path / "confusion.png")
    (axes,) = figures[0].axes
    written = {tuple(map(round, text.get_position()[::-1])): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "7", (0, 2): "1", (1, 1): "5", (1, 2): "12"}  # (row, column), zeros left out
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", "b", "c"]
    assert axes.get_title() == "12 of 25 right"


def test_confusion_without_an_error(tmp_path: Path) -> None:
    plot.confusion(np.eye(2, dtype=int), tmp_path / "confusion.png", ["a", "b"])
    assert_picture(tmp_path / "confusion.png")


def test_confusion_of_another_shape(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"matrix must be 3×3, got shape=\(2, 2\)"):
        plot.confusion(np.eye(2, dtype=int), tmp_path / "confusion.png", ["a", "b", "c"])


def test_unwritable_path(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"nowhere.*the figure cannot be written: No such file"):
        plot.curves(METRICS, tmp_path / "nowhere" / "curves.png")


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(GpunnError, match=r'pip install "gpunn\[train\]"'):
        plot.curves(METRICS, tmp_path / "curves.png")


def test_neither_pyplot_nor_a_display_is_touched(tmp_path: Path) -> None:
    code = (
        "import sys; from gpunn import plot; assert 'matplotlib' not in sys.modules;"
        f"plot.curves([{METRICS[0]!r}], {str(tmp_path / 'c.png')!r}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
