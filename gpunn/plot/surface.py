"""What a classifier of points in the plane answers everywhere, once and as it learns."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gpunn.errors import ArgumentError, PackageError, ShapeError, check, install_command
from gpunn.plot import figure as page
from gpunn.plot.figure import COLOURS, Path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Predict = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


class Surface(NamedTuple):
    """The probability of class 1 over a square grid, and the extent (left, right, bottom, top) that the grid covers."""

    probability: np.ndarray[Any, Any]
    extent: tuple[float, float, float, float]


def surface(predict: Predict, points: np.ndarray[Any, Any], resolution: int = 150) -> Surface:
    """Ask ``predict`` on a grid around ``points`` (N, 2): it takes (M, 2) and gives the probability of class 1, (M,).

    >>> surface(lambda p: p[:, 0], np.array([[0.0, 0.0], [1.0, 1.0]]), 3).probability[0].round(3).tolist()
    [-0.1, 0.5, 1.1]
    """
    check(points.ndim == 2 and points.shape[1] == 2, ShapeError, "surface", "points must be (N, 2)", shape=points.shape)
    low, high = points.min(0), points.max(0)
    margin = 0.1 * (high - low)
    (left, bottom), (right, top) = low - margin, high + margin
    xs, ys = np.linspace(left, right, resolution), np.linspace(bottom, top, resolution)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2).astype(points.dtype)
    probability = np.asarray(predict(grid))
    rule = "predict must give one probability for each point"
    check(probability.shape == (len(grid),), ShapeError, "surface", rule, got=probability.shape, points=len(grid))
    return Surface(probability.reshape(resolution, resolution), (left, right, bottom, top))


class Film:
    """A film of figures, ``gif`` (bytes), which a notebook shows.

    >>> Film(b"GIF89a;")._repr_html_()
    '<img alt="film" src="data:image/gif;base64,R0lGODlhOw==">'
    """

    def __init__(self, gif: bytes) -> None:
        self.gif = gif

    def _repr_html_(self) -> str:
        return f'<img alt="film" src="data:image/gif;base64,{base64.b64encode(self.gif).decode()}">'


def decision_surface(
    of: Surface, points: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], path: Path | None = None, title: str = ""
) -> Figure:
    """Draw the probability of class 1 over the plane, with ``points`` (N, 2) of two classes; return the figure.

    The line is where the probability is one half. A ``path`` is a file to write.

    >>> points, labels = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 1])
    >>> drawn = decision_surface(surface(lambda p: p[:, 0] > 0.5, points), points, labels)
    """
    sheet, show = _sheet(points, labels)
    show(of, title)
    page.save(sheet, path)
    return sheet


def animate_decision_surface(
    frames: Iterable[tuple[str, Surface]],
    points: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    path: Path | None = None,
    seconds_per_frame: float = 0.15,
) -> Film:
    """Draw ``frames``, pairs of a title and a surface, as an animated GIF; the last frame stays two seconds.

    Returns the film; a ``path`` is a file to write.

    >>> points, labels = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 1])
    >>> frames = [(f"step {k}", surface(lambda p: p[:, 0] * k, points)) for k in (0, 1)]
    >>> animate_decision_surface(frames, points, labels).gif[:6]
    b'GIF89a'

    Raises ArgumentError where there is no frame, FileError if ``path`` cannot be written.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise PackageError(f"plot: a GIF is written by Pillow ({error}): {install_command('train')}") from error
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    pictures = []
    sheet, show = _sheet(points, labels)
    sheet.set_dpi(80)
    canvas: Any = FigureCanvasAgg(sheet)
    fitted = None
    for title, each in frames:
        show(each, title)
        room = title.count("\n"), each.extent
        # To find the margins takes longer than to draw: they stay as long as they fit.
        sheet.set_layout_engine("none" if room == fitted else "constrained")
        canvas.draw()
        fitted = room
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        pictures.append(Image.fromarray(pixels).quantize(64))  # one frame of 64 colours is a tenth of the bytes
    check(len(pictures) > 0, ArgumentError, "animate_decision_surface", "there must be at least one frame")
    durations = [round(1000 * seconds_per_frame)] * (len(pictures) - 1) + [2000]
    film: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": durations, "loop": 0}
    drawn = io.BytesIO()
    pictures[0].save(drawn, format="GIF", **film)
    if path is not None:
        page.write(lambda file: file.write(drawn.getbuffer()), path)
    return Film(drawn.getvalue())


def _sheet(points: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> tuple[Any, Callable[[Surface, str], None]]:
    """A page with the points, and a function that draws a surface below them in the place of the one before."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("classes", ["#F0AD7B", "#FFFFFF", "#7FB9DB"])  # paler than the points
    sheet = page.figure(width=5.6, height=4.6)
    axes = sheet.subplots()
    image = axes.imshow(np.zeros((1, 1)), origin="lower", cmap=colours, vmin=0, vmax=1)
    for label, colour, marker in ((0, COLOURS[1], "o"), (1, COLOURS[0], "^")):
        x, y = points[labels == label].T
        look = {"c": colour, "marker": marker, "edgecolors": "black", "linewidths": 0.4}
        axes.scatter(x, y, s=14, label=f"class {label}", **look)
    axes.set(xlabel="x₁", ylabel="x₂")
    page.legend(sheet, [axes])
    sheet.colorbar(image, ax=axes, label="probability of class 1")
    lines: list[Any] = []

    def show(of: Surface, title: str) -> None:
        while lines:
            lines.pop().remove()
        image.set(data=of.probability, extent=of.extent)
        if of.probability.min() < 0.5 < of.probability.max():
            look = {"colors": "black", "linewidths": 1}
            lines.append(axes.contour(of.probability, levels=[0.5], extent=of.extent, origin="lower", **look))
        axes.set(title=title, xlim=_limits(of.extent[:2], points[:, 0]), ylim=_limits(of.extent[2:], points[:, 1]))

    return sheet, show


def _limits(extent: tuple[float, float], points: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Those of the surface, and where points lie beyond them a twentieth more than they need."""
    low, high = min(extent[0], points.min(initial=extent[0])), max(extent[1], points.max(initial=extent[1]))
    margin = (high - low) / 20
    return low - margin * (low < extent[0]), high + margin * (high > extent[1])
