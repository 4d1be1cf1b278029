"""The figures: what is drawn, and that the files are pictures."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image

import gpunn
from gpunn import plot
from gpunn.errors import ArgumentError, DtypeError, FileError, GpunnError, ShapeError
from gpunn.plot import figure as page

METRICS = [
    {"epoch": i, "train_loss": 2.0 * 0.8**i, "test_loss": 2.1 * 0.8**i, "test_accuracy": 1 - 0.9 * 0.8**i}
    for i in range(1, 31)
]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that are drawn while the test runs."""
    drawn = []
    save = page.save

    def keep(figure: Any, path: Any) -> None:
        drawn.append(figure)
        save(figure, path)

    monkeypatch.setattr(page, "save", keep)
    return drawn


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures, which are not drawn."""
    kept: list[Any] = []
    monkeypatch.setattr(page, "save", lambda sheet, path: kept.append(sheet))
    return kept


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
        assert axes.get_ylabel() in ("loss", "accuracy (%)")
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "test"]
    assert not any(legend.get_window_extent().overlaps(axes.get_window_extent()) for axes in (loss, accuracy))


@pytest.mark.parametrize(
    ("losses", "scale"),
    [
        ([0.5], "linear"),
        ([0.5, 9.0], "linear"),
        ([0.5, 11.0], "log"),
        ([1e-9], "log"),
        ([0.0], "linear"),
        ([0.0, 1e-9], "symlog"),  # 0 has no logarithm
        ([-3.0, 1e9], "linear"),
        ([1e19], "log"),
        ([1e307], "log"),
        ([4e18, 3e9, 7e3], "log"),
        ([1e-320, 1e308], "log"),
    ],
)
def test_the_axis_fits_the_losses(losses: list[float], scale: str, sheets: list[Any]) -> None:
    metrics = [{"epoch": n, "train_loss": loss, "test_loss": 0.5} for n, loss in enumerate(losses, 1)]
    sheet = plot.curves(metrics)
    assert sheets == [sheet]
    (axes,) = sheet.axes
    assert axes.get_yscale() == scale
    assert all(line.get_marker() == "o" for line in axes.lines)  # a single epoch is a visible point
    (bottom, top), shown = axes.get_ylim(), [0.5, *(min(loss, 1e200) for loss in losses)]
    assert bottom < min(shown) <= max(shown) < top
    if scale == "linear":
        assert top - bottom < 1.2 * max(max(shown) - min(shown), 0.5)
    if scale == "log" and max(shown) < 1e200:  # no further than they are, however many decades that is
        assert np.log10(min(shown) / bottom) == pytest.approx(np.log10(top / max(shown)))
        assert top / max(shown) < (max(shown) / min(shown)) ** 0.06
        ticks = [tick for tick in axes.get_yticks() if bottom <= tick <= top]
        assert len(ticks) >= 2, ticks


@pytest.mark.parametrize(("value", "crosses"), [(np.nan, [(1, 2.0)]), (np.inf, [(1, 2.0)]), (3.0, [(2, 3.0)])])
def test_a_run_that_diverged_is_shown_as_such(value: float, crosses: list[Any], sheets: list[Any]) -> None:
    metrics = [{"epoch": 1, "train_loss": 2.0}, {"epoch": 2, "train_loss": value}]
    plot.curves(metrics, diverged=[""] if np.isfinite(value) else [])
    plot.curves({"a": metrics, "b": METRICS}, diverged=["a"] if np.isfinite(value) else [])
    for sheet, name in zip(sheets, ("diverged", "a diverged"), strict=True):
        marked = [line for line in sheet.axes[0].lines if line.get_marker() == "X"]
        assert [(*line.get_xdata(), *line.get_ydata()) for line in marked] == crosses
        assert name in [text.get_text() for text in sheet.legends[0].get_texts()]


def test_a_run_without_a_finite_value(tmp_path: Path) -> None:
    plot.curves([{"epoch": 1, "train_loss": np.nan, "test_accuracy": 0.5}], tmp_path / "curves.png")
    assert_picture(tmp_path / "curves.png")


@pytest.mark.parametrize("ending", [".svg", ".pdf", ".jpg", ".png", ""])
def test_a_figure_has_the_format_of_its_name(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"Kurven für uns{ending}"
    plot.curves(METRICS[:2], path)
    begins = {".svg": b"<?xml", ".pdf": b"%PDF", ".jpg": b"\xff\xd8\xff", ".png": b"\x89PNG", "": b"\x89PNG"}
    written = path.read_bytes()
    assert written.startswith(begins[ending])
    plot.curves(METRICS[:2], path)
    assert path.read_bytes() == written
    with pytest.raises(ArgumentError, match=r"plot: path must be the name of a file, got path=\['left', 'right'\]"):
        plot.pictures(np.ones((2, 1, 3, 3)), ["left", "right"])  # type: ignore[arg-type]
    with pytest.raises(FileError, match=r"c\.doc: a figure is written as .png, .svg, .*not as .doc"):
        plot.curves(METRICS[:2], tmp_path / "c.doc")


def test_a_notebook_shows_figures(figures: list[Any]) -> None:
    """Each function returns one; no file is written, and pyplot is not needed."""
    points = np.array([[0.0, 0.0], [1.0, 1.0]])
    surface = plot.surface(lambda p: p[:, 0], points, 5)
    drawn = [
        plot.curves(METRICS),
        plot.lines({"a": ([0], [1])}),
        plot.panels({"a": {"a": ([0], [1])}}),
        plot.confusion(np.eye(2, dtype=int)),
        plot.filters(np.ones((1, 1, 3, 3))),
        plot.feature_maps(np.ones((1, 3, 3))),
        plot.misclassified(np.ones((2, 1, 3, 3)), [0, 1], [1, 1]),
        plot.pictures(np.ones((2, 1, 3, 3))),
        plot.activation_statistics({"a": np.ones(2)}),
        plot.gradient_flow({"a": np.ones(2)}),
        plot.decision_surface(surface, points, LABELS[:2]),
    ]
    assert [id(each) for each in drawn] == [id(each) for each in figures]
    assert all(each._repr_png_().startswith(b"\x89PNG") for each in drawn[3:4])
    film = plot.animate_decision_surface([("", surface)], points, LABELS[:2])
    assert film._repr_html_().startswith('<img alt="film" src="data:image/gif;base64,R0lGOD')


def test_pictures_of_tensors_are_those_of_their_arrays() -> None:
    x = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)
    labels = np.array([0, 1])
    for draw in (
        lambda of: plot.filters(of(x)),
        lambda of: plot.feature_maps(of(x[0])),
        lambda of: plot.pictures(of(x)),
        lambda of: plot.misclassified(of(x), of(labels), of(labels[::-1].copy())),
        lambda of: plot.confusion(of(x[0, 0])),
        lambda of: plot.activation_statistics({"op": of(x)}),
        lambda of: plot.gradient_flow({"0.weight": of(x)}),
    ):
        of_arrays, of_tensors = (
            [text.get_text() for text in sheet.findobj(Text)]
            + [image.get_array().tolist() for image in sheet.findobj(AxesImage)]
            for sheet in map(draw, (np.asarray, gpunn.tensor))
        )
        assert of_arrays == of_tensors
    for draw in (plot.filters, plot.confusion, plot.pictures):
        with pytest.raises(DtypeError, match=r"must be a NumPy or CuPy array, got type='list'"):
            draw([[1.0, 2.0]])
    with pytest.raises(
        ArgumentError, match=r"gradient_flow: arrays must be given as {name: array}, got type='ndarray'"
    ):
        plot.gradient_flow(x)  # type: ignore[arg-type]


def test_curves_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="at least one epoch"):
        plot.curves([], tmp_path / "curves.png")
    with pytest.raises(ArgumentError, match="curves: each of metrics must tell its epoch, a number, got metrics="):
        plot.curves([{"train_loss": 1.0}])


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
    with pytest.raises(GpunnError, match=r"pip install .*\[train\]"):
        plot.curves(METRICS, tmp_path / "curves.png")


@pytest.mark.slow
def test_neither_pyplot_nor_a_display_is_touched(tmp_path: Path) -> None:
    code = (
        "import sys; from gpunn import plot; assert 'matplotlib' not in sys.modules;"
        f"plot.curves([{METRICS[0]!r}], {str(tmp_path / 'c.png')!r}); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_several_runs_share_a_panel_for_each_quantity(figures: list[Any], tmp_path: Path) -> None:
    plot.curves({"LSTM": METRICS[:5], "GRU": METRICS[5:10]}, tmp_path / "curves.png")
    loss, accuracy = figures[0].axes
    assert [line.get_label() for line in loss.lines] == ["LSTM, training", "LSTM, test", "GRU, training", "GRU, test"]
    assert [line.get_label() for line in accuracy.lines] == ["LSTM, test", "GRU, test"]
    looks = {(line.get_color(), line.get_linestyle()) for line in loss.lines}
    assert len(looks) == 4


@pytest.mark.parametrize("epochs", [5, 30])
def test_each_of_many_runs_has_a_look_of_its_own(epochs: int, sheets: list[Any]) -> None:
    metrics = [{"epoch": epoch, "train_loss": 1.0, "test_loss": 1.0} for epoch in range(1, epochs + 1)]
    (axes,) = plot.curves({str(run): metrics for run in range(20)}).axes
    looks = {(line.get_color(), line.get_linestyle(), line.get_marker()) for line in axes.lines}
    assert len(looks) == len(axes.lines) == 40
    assert {line.get_linestyle() for line in axes.lines if line.get_label().endswith("test")} == {"--"}


def test_curves_in_bits_per_character(figures: list[Any], tmp_path: Path) -> None:
    metrics = [{"epoch": i, "train_loss": 1.0, "test_bits_per_character": 4.0 / i} for i in (1, 2)]
    plot.curves(metrics, tmp_path / "curves.png")
    loss, bits = figures[0].axes
    assert (loss.get_ylabel(), bits.get_ylabel()) == ("loss", "bits/character")
    assert "2.00 at the end" in bits.get_title()
    np.testing.assert_array_equal(bits.lines[0].get_ydata(), [4.0, 2.0])


def test_curves_have_the_validation(figures: list[Any], tmp_path: Path) -> None:
    records = [
        {"epoch": e, "train_loss": 2 / e, "validation_loss": 3 / e, "validation_accuracy": e / 4} for e in (1, 2)
    ]
    plot.curves(records, tmp_path / "curves.png")
    loss, accuracy = figures[0].axes
    assert {line.get_label(): line.get_ydata().tolist() for line in loss.lines} == {
        "training": [2.0, 1.0], "validation": [3.0, 1.5]
    }  # fmt: skip
    assert accuracy.get_title() == "Validation accuracy, 50.00 % at the end"


def test_curves_without_a_known_quantity(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"accuracy or bits_per_character.*got names=\['epoch', 'speed'\]"):
        plot.curves([{"epoch": 1, "speed": 3.0}], tmp_path / "curves.png")


def test_lines(figures: list[Any], tmp_path: Path) -> None:
    plot.lines(
        {"a": ([0, 1], [1.0, 10.0]), "b": ([0, 2], [2.0, 3.0])}, tmp_path / "l.png", "step", "norm", "T", log=True
    )
    assert_picture(tmp_path / "l.png")
    (axes,) = figures[0].axes
    assert [line.get_label() for line in axes.lines] == ["a", "b"]
    assert len({line.get_color() for line in axes.lines}) == len({line.get_linestyle() for line in axes.lines}) == 2
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(), axes.get_yscale()) == ("step", "norm", "T", "log")
    with pytest.raises(ShapeError, match="x and y of 'a' must have one length, got x=1, y=2"):
        plot.lines({"a": ([0], [1, 2])}, tmp_path / "l.png", "x", "y")
    with pytest.raises(ArgumentError, match="at least one curve"):
        plot.lines({}, tmp_path / "l.png", "x", "y")


def test_activation_statistics(figures: list[Any], tmp_path: Path) -> None:
    layers = {"conv": np.array([1.0, 3.0]), "relu": np.array([0.0, 0.0, 0.0, 2.0])}
    plot.activation_statistics(layers, tmp_path / "a.png")
    assert_picture(tmp_path / "a.png")
    spread, zeros = figures[0].axes
    assert [t.get_text() for t in spread.get_yticklabels()] == ["conv", "relu"]
    np.testing.assert_allclose(np.asarray(spread.containers[0].lines[0].get_xdata(), float), [2.0, 0.5])
    assert [bar.get_width() for bar in zeros.patches] == [0.0, 75.0]
    with pytest.raises(ArgumentError, match="none without values"):
        plot.activation_statistics({"empty": np.zeros(0)}, tmp_path / "a.png")


@pytest.mark.parametrize(("last", "scale"), [(1.0, "log"), (0.0, "symlog")])
def test_gradient_flow(last: float, scale: str, figures: list[Any], tmp_path: Path) -> None:
    plot.gradient_flow({"first": np.array([3.0, -4.0]), "last": np.array([last])}, tmp_path / "g.png")
    assert_picture(tmp_path / "g.png")
    (axes,) = figures[0].axes
    maximum, mean = axes.lines
    np.testing.assert_allclose(maximum.get_xdata(), [4.0, last])
    np.testing.assert_allclose(mean.get_xdata(), [12.5**0.5, last])
    assert axes.get_xscale() == scale
    with pytest.raises(ArgumentError, match="gradient_flow: there must be at least one array"):
        plot.gradient_flow({}, tmp_path / "g.png")


POINTS, LABELS = np.array([[-1.0, 0.0], [1.0, 0.0], [0.5, 1.0]]), np.array([0, 1, 1])


def ramp(points: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * points[:, 0]


def test_the_surface_covers_the_points() -> None:
    surface = plot.surface(ramp, POINTS, 11)
    left, right, bottom, top = surface.extent
    np.testing.assert_allclose((left, right, bottom, top), (-1.2, 1.2, -0.1, 1.1))
    np.testing.assert_allclose(surface.probability[4], 0.5 + 0.5 * np.linspace(-1.2, 1.2, 11))
    with pytest.raises(ShapeError, match=r"points must be \(N, 2\), got shape=\(3, 3\)"):
        plot.surface(ramp, np.ones((3, 3)))
    with pytest.raises(ShapeError, match="one probability for each point"):
        plot.surface(lambda p: p, POINTS)


def test_decision_surface(figures: list[Any], tmp_path: Path) -> None:
    plot.decision_surface(plot.surface(ramp, POINTS, 20), POINTS, LABELS, tmp_path / "s.png", "step 3")
    assert_picture(tmp_path / "s.png")
    axes = figures[0].axes[0]
    assert axes.get_title() == "step 3"
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["class 0", "class 1"]
    np.testing.assert_array_equal(axes.collections[1].get_offsets(), POINTS[LABELS == 1])
    assert (axes.get_xlim(), axes.get_ylim()) == (pytest.approx((-1.2, 1.2)), pytest.approx((-0.1, 1.1)))
    plot.decision_surface(plot.surface(ramp, POINTS, 20), POINTS * 4, LABELS, tmp_path / "s.png")
    (left, right), (bottom, top) = figures[1].axes[0].get_xlim(), figures[1].axes[0].get_ylim()
    x, y = 4 * POINTS.T  # points that the surface does not cover are seen
    assert left < x.min() < x.max() < right
    assert bottom < y.min() < y.max() < top


@pytest.mark.slow
def test_the_animation_has_every_frame(tmp_path: Path) -> None:
    frames = [(f"step {k}", plot.surface(lambda p, k=k: ramp(p * k), POINTS, 12)) for k in range(3)]
    plot.animate_decision_surface(frames, POINTS, LABELS, tmp_path / "s.gif")
    with Image.open(tmp_path / "s.gif") as image:
        assert (image.format, image.n_frames) == ("GIF", 3)
        shown = []
        for number, frame in enumerate(frames):
            image.seek(number)
            shown.append(np.asarray(image.convert("RGB"), float))
            plot.animate_decision_surface([frame], POINTS, LABELS, tmp_path / "one.gif")
            with Image.open(tmp_path / "one.gif") as alone:
                np.testing.assert_array_equal(shown[-1], alone.convert("RGB"))  # nothing is left of those before
    assert all(np.abs(a - b).mean() > 1 for a, b in itertools.pairwise(shown))
    with pytest.raises(ArgumentError, match="at least one frame"):
        plot.animate_decision_surface([], POINTS, LABELS, tmp_path / "s.gif")
    with pytest.raises(FileError, match="the figure cannot be written"):
        plot.animate_decision_surface(frames, POINTS, LABELS, tmp_path / "nowhere" / "s.gif")


@pytest.mark.parametrize(("shape", "tiles"), [((5, 1, 3, 3), 5), ((4, 2, 3, 3), 8), ((6, 3, 5, 5), 6)])
def test_filters(shape: tuple[int, ...], tiles: int, figures: list[Any], tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    plot.filters(weight, tmp_path / "f.png")
    assert_picture(tmp_path / "f.png")
    images = figures[0].axes[0].images
    assert len(images) == tiles
    if shape[1] != 3:
        np.testing.assert_array_equal(images[1].get_array(), weight.reshape(-1, 3, 3)[1])
        assert images[0].get_clim() == (-np.abs(weight).max(), np.abs(weight).max())
    else:
        assert images[0].get_array().shape == (5, 5, 3)
    with pytest.raises(ShapeError, match=r"weight must be \(K, C, KH, KW\)"):
        plot.filters(weight[0], tmp_path / "f.png")


def test_feature_maps(figures: list[Any], tmp_path: Path) -> None:
    maps = np.arange(5 * 4 * 4.0).reshape(5, 4, 4)
    plot.feature_maps(maps, tmp_path / "m.png", most=3)
    images = figures[0].axes[0].images
    assert len(images) == 3
    assert {image.get_clim() for image in images} == {(0.0, 79.0)}
    with pytest.raises(ShapeError, match=r"maps must be \(C, H, W\)"):
        plot.feature_maps(maps[0], tmp_path / "m.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_misclassified(channels: int, figures: list[Any], tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((4, channels, 6, 6))
    plot.misclassified(images, [0, 1, 1, 0], [0, 0, 1, 1], tmp_path / "w.png", ["cat", "dog"])
    assert_picture(tmp_path / "w.png")
    assert figures[0].get_suptitle() == "2 of 4 wrong"
    assert figures[0].axes[0].get_xlim()[1] < 3  # inches: two panels, and no room for more
    axes = figures[0].axes[0]
    assert len(axes.images) == 2
    assert [text.get_text() for text in axes.texts] == ["dog, called cat", "cat, called dog"]
    with pytest.raises(ShapeError, match="a label and a prediction for each image, got images=4, labels=1"):
        plot.misclassified(images, [0], [0, 0, 1, 1], tmp_path / "w.png", ["cat", "dog"])


def test_tiles_lie_in_rows_and_names_over_them(figures: list[Any], tmp_path: Path) -> None:
    images = np.zeros((5, 1, 4, 6))
    images[:, :, 0, :3] = 1  # white at the top left
    plot.pictures(images, tmp_path / "p.png", [f"{i}\nof 5" for i in range(5)], "five", columns=3)
    axes = figures[0].axes[0]
    extents = [image.get_extent() for image in axes.images]
    assert len(extents) == len(axes.texts) == 5
    middles = []
    for (left, right, bottom, top), text in zip(extents, axes.texts, strict=True):
        assert 0 < left < right < axes.get_xlim()[1]
        assert 0 < top < bottom < axes.get_ylim()[0]
        assert (right - left) / (bottom - top) == pytest.approx(6 / 4)
        assert text.get_position() == (pytest.approx((left + right) / 2), pytest.approx(top, abs=0.05))
        assert text.get_text() == f"{len(middles)}\nof 5"
        middles.append(((left + right) / 2, (bottom + top) / 2))
    across, down = np.transpose(middles)
    np.testing.assert_allclose(across[3:], across[:2])
    assert across[0] < across[1] < across[2]
    assert down[0] == down[1] == down[2] < down[3] == down[4]
    assert extents[3][3] - extents[0][2] > 0.3  # room for two lines
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture.convert("L"), float)
    size, place = figures[0].get_size_inches() * page.DPI, axes.get_position()
    for left, right, bottom, top in extents:
        for x, y, shade in ((0.25, 0.125, 255), (0.75, 0.125, 0), (0.25, 0.875, 0)):
            column = place.x0 * size[0] + (left + x * (right - left)) * page.DPI
            row = size[1] - place.y1 * size[1] + (top + y * (bottom - top)) * page.DPI
            assert pixels[int(row), int(column)] == shade


def test_a_large_picture_has_a_pixel_for_a_pixel_and_no_more_room_than_it_needs(sheets: list[Any]) -> None:
    width, height = plot.pictures(np.zeros((2, 1, 300, 900)), names=["a", "b"], columns=2).get_size_inches()
    assert 2 * 900 / page.DPI < width < 1.1 * 2 * 900 / page.DPI
    assert 300 / page.DPI < height < 300 / page.DPI + 1
    assert plot.pictures(np.zeros((8, 1, 9, 9000))).get_figwidth() == pytest.approx(16)


def test_nothing_misclassified(figures: list[Any], tmp_path: Path) -> None:
    images = np.zeros((2, 1, 4, 4))
    plot.misclassified(images, [0, 1], [0, 1], tmp_path / "w.png", ["cat", "dog"])
    assert figures[0].get_suptitle() == "0 of 2 wrong"
    assert not figures[0].axes


def test_pictures_of_two_channels(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match=r"and some pixels, got shape=\(2, 1, 0, 3\)"):
        plot.pictures(np.zeros((2, 1, 0, 3)), tmp_path / "p.png")
    with pytest.raises(ShapeError, match="with 1 or 3 channels"):
        plot.pictures(np.zeros((1, 2, 4, 4)), tmp_path / "p.png")
    with pytest.raises(ArgumentError, match="names must name each image, got names=1, images=2"):
        plot.pictures(np.zeros((2, 1, 4, 4)), tmp_path / "p.png", ["one"])
