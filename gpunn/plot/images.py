"""Grids of small pictures: filters, feature maps, and images with what was said of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.backend import to_cpu
from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.graph import raw
from gpunn.plot import figure as page
from gpunn.plot.figure import Path
from gpunn.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Image = np.ndarray[Any, Any] | Tensor
Classes = Sequence[int] | np.ndarray[Any, Any] | Tensor

_WIDEST = 16.0  # inches, of a page that grows with what it shows


def filters(weight: Image, path: Path | None = None, most: int = 96) -> Figure:
    """Draw the filters (K, C, KH, KW) of a convolution, at most ``most`` of them; return the figure.

    Filters over 3 channels are drawn in colour, each stretched to its own range; others as one picture for each
    filter and channel, in one scale around 0. A ``path`` is a file to write.

    >>> filters(np.ones((4, 1, 3, 3))).get_suptitle()
    '4 of 4 filters'

    Raises ShapeError unless the weight has four dimensions and no empty one.
    """
    weight = page.array("filters", weight=weight)
    whole = weight.ndim == 4 and weight.size > 0
    check(whole, ShapeError, "filters", "weight must be (K, C, KH, KW), none of them 0", shape=weight.shape)
    k, c = weight.shape[:2]
    if c == 3:
        low, high = weight.min((1, 2, 3), keepdims=True), weight.max((1, 2, 3), keepdims=True)
        stretched = (weight - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
        tiles, kind = list(stretched[:most].transpose(0, 2, 3, 1)), f"{min(k, most)} of {k} filters"
        return _grid(tiles, path, title=f"{kind}, each in its own range")
    tiles = list(weight.reshape(k * c, *weight.shape[2:])[:most])
    limit = float(np.abs(weight).max()) or 1.0
    of = f"{len(tiles)} of {k} filters × {c} channels" if c > 1 else f"{len(tiles)} of {k} filters"
    return _grid(tiles, path, title=of, cmap="PuOr", limits=(-limit, limit), bar="weight")


def feature_maps(maps: Image, path: Path | None = None, most: int = 64) -> Figure:
    """Draw the maps (C, H, W) that a layer made of one image, all in one scale; return the figure.

    A ``path`` is a file to write.

    >>> feature_maps(np.ones((4, 3, 3))).get_suptitle()
    '4 of 4 feature maps'

    Raises ShapeError unless the maps have three dimensions and no empty one.
    """
    maps = page.array("feature_maps", maps=maps)
    whole = maps.ndim == 3 and maps.size > 0
    check(whole, ShapeError, "feature_maps", "maps must be (C, H, W), none of them 0", shape=maps.shape)
    limits = (float(maps.min()), float(maps.max()))
    title = f"{min(len(maps), most)} of {len(maps)} feature maps"
    return _grid(list(maps[:most]), path, title=title, cmap="viridis", limits=limits, bar="activation")


def misclassified(
    images: Image,
    labels: Classes,
    predictions: Classes,
    path: Path | None = None,
    classes: Sequence[str] | None = None,
    most: int = 25,
) -> Figure:
    """Draw the images (N, C, H, W), C 1 or 3, whose prediction is wrong, at most ``most``; return the figure.

    ``classes`` are numbers unless they are named. A ``path`` is a file to write.

    >>> misclassified(np.ones((2, 1, 4, 4)), [0, 1], [0, 0], classes=["cat", "dog"]).get_suptitle()
    '1 of 2 wrong'

    With nothing wrong the page says so. Raises ShapeError unless there is a label and a prediction for each image.
    """
    images, labels, predictions = (
        page.array("misclassified", images=images),
        to_cpu(raw(labels)),
        to_cpu(raw(predictions)),
    )
    one_each = len(images) == len(labels) == len(predictions)
    rule = "there must be a label and a prediction for each image"
    sizes = {"images": len(images), "labels": len(labels), "predictions": len(predictions)}
    check(one_each, ShapeError, "misclassified", rule, **sizes)
    wrong = [i for i, (true, said) in enumerate(zip(labels, predictions, strict=True)) if true != said]
    called = str if classes is None else classes.__getitem__
    names = [f"{called(labels[i])}, called {called(predictions[i])}" for i in wrong[:most]]
    shown = f"{len(wrong)} of {len(images)} wrong" + (f", the first {most}" if len(wrong) > most else "")
    return pictures(images[wrong[:most]], path, names, title=shown)


def pictures(
    images: Image, path: Path | None = None, names: Sequence[str] = (), title: str = "", columns: int = 0
) -> Figure:
    """Draw images (N, C, H, W), C 1 or 3, with a name over each; return the figure. A ``path`` is a file to write.

    >>> pictures(np.ones((2, 1, 4, 4)), names=["left", "right"], title="Two").get_suptitle()
    'Two'

    Raises ShapeError for another number of channels or no pixels, ArgumentError unless there is a name for each image
    or none.
    """
    images = page.array("pictures", images=images)
    drawable = images.ndim == 4 and images.shape[1] in (1, 3) and 0 not in images.shape[2:]
    rule = "images must be (N, C, H, W) with 1 or 3 channels and some pixels"
    check(drawable, ShapeError, "pictures", rule, shape=images.shape)
    named = len(names) in (0, len(images))
    check(named, ArgumentError, "pictures", "names must name each image", names=len(names), images=len(images))
    grey = images.shape[1] == 1
    tiles = list(images[:, 0] if grey else images.transpose(0, 2, 3, 1))
    limits = (float(images.min(initial=0)), float(images.max(initial=1)))
    if not grey:
        tiles = [(tile - limits[0]) / (limits[1] - limits[0]) for tile in tiles]
    return _grid(tiles, path, title, names, "gray", limits, columns=columns)


def _grid(
    tiles: list[Image],
    path: Path | None,
    title: str = "",
    names: Sequence[str] = (),
    cmap: str = "gray",
    limits: tuple[float, float] = (0.0, 1.0),
    bar: str = "",
    columns: int = 0,
) -> Figure:
    columns = max(1, min(len(tiles), columns or max(4, math.ceil(math.sqrt(len(tiles))))))
    rows = math.ceil(len(tiles) / columns)
    least, gap = (1.25, 0.12) if names else (0.7, 0.07)
    pixels = max((max(tile.shape[:2]) for tile in tiles), default=1)
    side = max(least, min(gap + pixels / page.DPI, _WIDEST / columns))  # a pixel for each, if the page has room
    high, wide = (
        gap + (side - gap) * max((tile.shape[axis] / max(tile.shape[:2]) for tile in tiles), default=1.0)
        for axis in (0, 1)
    )
    wide = max(wide, least)
    line = 0.15 * max((1 + name.count("\n") for name in names), default=0)
    width, height = wide * columns, (high + line) * rows
    head = 0.35 + 0.15 * (1 + title.count("\n"))
    sheet_width, sheet_height = max(4.0, width + 1.2 * bool(bar)), height + head
    inches = (sheet_width, sheet_height, sheet_width, sheet_height)  # axes are placed in parts of the page
    sheet = page.figure(sheet_width, sheet_height, fitted=False)
    sheet.suptitle(title, fontsize=10, y=1 - head / 2 / sheet_height, va="center")
    if not tiles:
        page.save(sheet, path)
        return sheet
    # All tiles lie on one pair of axes, measured in inches: a pair for each would take most of the time.
    left = (sheet_width - width) / 2 if not bar else 0.0
    axes = sheet.add_axes(np.divide((left, 0, width, height), inches))
    axes.axis("off")
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        middle, bottom = (column + 0.5) * wide, (row + 1) * (high + line) - gap / 2
        inch = (side - gap) / max(tile.shape[:2])  # of a pixel
        half, top = tile.shape[1] * inch / 2, bottom - tile.shape[0] * inch
        extent = (middle - half, middle + half, bottom, top)
        image = axes.imshow(tile, cmap, extent=extent, vmin=limits[0], vmax=limits[1], interpolation="nearest")
        if names:
            axes.text(middle, top - 0.02, names[number], fontsize=7, ha="center", va="bottom")
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="auto")
    if bar:
        long = min(height - 0.3, 3.0)
        place = (width + 0.1, (height - long) / 2, 0.15, long)
        sheet.colorbar(image, sheet.add_axes(np.divide(place, inches)), label=bar)
    page.save(sheet, path)
    return sheet
