"""How a training went: its curves, and where a classifier errs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.plot import figure as page
from gpunn.plot.figure import COLOURS, STYLES, Path

Metrics = Sequence[Mapping[str, Any]]
Numbers = Sequence[float] | np.ndarray[Any, Any]
Series = Mapping[str, tuple[Numbers, Numbers]]

_HIGHEST = 1e300  # of a loss that is drawn: ten times as much must be a number, too
_SETS = {"train": "training", "test": "test"}
# What is measured: the label of its axis, and the factor that brings it into that unit.
_QUANTITIES = {
    "loss": ("loss", 1.0),
    "accuracy": ("accuracy (%)", 100.0),
    "bits_per_character": ("bits per character", 1.0),
}


def curves(metrics: Metrics | Mapping[str, Metrics], path: Path) -> None:
    """Draw what was measured over the epochs into the PNG file ``path``: a panel for each quantity.

    ``metrics`` holds a mapping an epoch, as the lines of a run's metrics.jsonl: ``epoch``, and numbers named
    ``train_`` or ``test_`` and ``loss``, ``accuracy`` or ``bits_per_character``. Several runs are compared when they
    are given as ``{label: metrics}``, and need not have all quantities. Losses have a logarithmic axis.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "curves.png")
    >>> curves([{"epoch": 1, "train_loss": 2.3, "test_loss": 2.2, "test_accuracy": 0.3}], path)

    Raises ArgumentError where there is no epoch to draw, FileError if ``path`` cannot be written.
    """
    runs = metrics if isinstance(metrics, Mapping) else {"": metrics}
    drawn = len(runs) > 0 and all(len(run) > 0 for run in runs.values())
    check(drawn, ArgumentError, "curves", "metrics must hold at least one epoch", metrics=metrics)
    named = {(part, quantity) for run in runs.values() for part in _SETS for quantity in _QUANTITIES
             if f"{part}_{quantity}" in run[0]}  # fmt: skip
    quantities = [quantity for quantity in _QUANTITIES if any(quantity == q for _, q in named)]
    rule = "metrics must hold a loss, an accuracy or bits per character of train_ or test_"
    check(bool(quantities), ArgumentError, "curves", rule, names=sorted(next(iter(runs.values()))[0]))
    sheet = page.figure(width=4.5 * len(quantities), height=4.0)
    for axes, quantity in zip(sheet.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        _panel(axes, runs, quantity, [part for part in _SETS if (part, quantity) in named])
    page.save(sheet, path)


def _panel(axes: Any, runs: Mapping[str, Metrics], quantity: str, parts: list[str]) -> None:
    unit, factor = _QUANTITIES[quantity]
    last_epoch = max(record["epoch"] for run in runs.values() for record in run)
    marker = "o" if max(map(len, runs.values())) <= 20 else ""  # a single epoch has no line, so it needs a point
    drawn: list[float] = []
    for number, (label, run) in enumerate(runs.items()):
        for part in parts:
            # One run: a colour for each set. Several: a colour for each run; the style says which set it is.
            colour = COLOURS[(number if len(runs) > 1 else list(_SETS).index(part)) % len(COLOURS)]
            measured = [record for record in run if f"{part}_{quantity}" in record]
            if not measured:  # runs of different recipes
                continue
            values = [factor * record[f"{part}_{quantity}"] for record in measured]
            name = f"{label}, {_SETS[part]}" if label else _SETS[part]
            style = STYLES[list(_SETS).index(part)]
            epochs = [record["epoch"] for record in measured]
            axes.plot(epochs, values, marker=marker, color=colour, linestyle=style, label=name, markersize=4)
            drawn += values
    if quantity == "loss":
        axes.set(xlabel="epoch", ylabel=unit, title="Loss")
        if any(0 < value < math.inf for value in drawn):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")  # 0.1, not 10 to the -1
            axes.yaxis.set_minor_formatter("")
            shown = [min(max(value, 1e-6), _HIGHEST) for value in drawn if math.isfinite(value)]
            axes.set_ylim(10.0 ** math.floor(math.log10(min(shown))), 10.0 ** math.ceil(math.log10(max(shown)) + 1e-9))
    else:
        name = quantity.replace("_", " ").capitalize()
        axes.set(xlabel="epoch", ylabel=unit, title=_title(name, unit, factor, runs, quantity, parts[-1]))
    axes.legend()
    axes.grid(alpha=0.3)
    axes.set_xlim(0, last_epoch + 1)
    axes.xaxis.get_major_locator().set_params(integer=True)


def _title(name: str, unit: str, factor: float, runs: Mapping[str, Metrics], quantity: str, part: str) -> str:
    if len(runs) > 1:
        return name
    value = factor * next(iter(runs.values()))[-1][f"{part}_{quantity}"]
    percent = " %" if unit.endswith("(%)") else ""
    whose = "Test " if part == "test" else ""
    return f"{(whose + name.lower()).capitalize()}, {value:.2f}{percent} at the end"


def lines(series: Series, path: Path, xlabel: str, ylabel: str, title: str = "", log: bool = False) -> None:
    """Draw curves ``{label: (x, y)}`` on one pair of axes into the PNG file ``path``; ``log`` is for the y axis.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "lines.png")
    >>> lines({"square": ([0, 1, 2], [0, 1, 4])}, path, "x", "y")

    Raises ArgumentError where there is no curve, ShapeError if x and y differ in length.
    """
    check(len(series) > 0, ArgumentError, "lines", "there must be at least one curve", series=series)
    sheet = page.figure(width=6.0, height=4.0)
    axes = sheet.subplots()
    for number, (label, (x, y)) in enumerate(series.items()):
        check(len(x) == len(y), ShapeError, "lines", f"x and y of {label!r} must have one length", x=len(x), y=len(y))
        style = STYLES[number % len(STYLES)]
        axes.plot(x, y, color=COLOURS[number % len(COLOURS)], linestyle=style, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log else "linear")
    axes.legend()
    axes.grid(alpha=0.3)
    page.save(sheet, path)


def panels(panels: Mapping[str, Series], path: Path, xlabel: str, ylabel: str) -> None:
    """Draw ``{title: {label: (x, y)}}`` as small panels side by side into the PNG file ``path``.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "panels.png")
    >>> panels({"square": {"y": ([0, 1, 2], [0, 1, 4]), "slope": ([0, 1, 2], [0, 2, 4])}}, path, "x", "y")

    Raises ArgumentError where there is no panel.
    """
    check(len(panels) > 0, ArgumentError, "panels", "there must be at least one panel", panels=panels)
    columns = min(5, len(panels))
    rows = -(-len(panels) // columns)
    sheet = page.figure(width=2.6 * columns, height=2.4 * rows)
    grid = sheet.subplots(rows, columns, squeeze=False, sharex=True)
    for number, axes in enumerate(grid.flat):
        axes.axis("on" if number < len(panels) else "off")
    for axes, (title, series) in zip(grid.flat, panels.items(), strict=False):
        for number, (label, (x, y)) in enumerate(series.items()):
            style = STYLES[number % len(STYLES)]
            axes.plot(x, y, color=COLOURS[number % len(COLOURS)], linestyle=style, label=label)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axes.label_outer()
        axes.grid(alpha=0.3)
    grid.flat[0].legend(fontsize=8)
    page.save(sheet, path)


def confusion(matrix: np.ndarray[Any, Any], path: Path, classes: Sequence[str]) -> None:
    """Draw a confusion matrix into the PNG file ``path``.

    ``matrix[i, j]`` is the number of examples of class i (rows: the truth) that were called class j (columns).
    Only the errors are coloured: the diagonal would outshine them.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "confusion.png")
    >>> confusion(np.array([[9, 1], [0, 10]]), path, ["cat", "dog"])

    Raises ShapeError unless the matrix is square with a row per class, FileError if ``path`` cannot be written.
    """
    n = len(classes)
    check(matrix.shape == (n, n), ShapeError, "confusion", f"matrix must be {n}×{n}", shape=matrix.shape)
    errors = np.where(np.eye(n, dtype=bool), 0, matrix)
    shown = np.ma.masked_equal(errors, 0)  # masked cells stay white
    sheet = page.figure(width=1.6 + 0.5 * n, height=1.4 + 0.5 * n)
    axes = sheet.subplots()
    axes.imshow(shown, cmap="Oranges", vmin=0, vmax=2 * max(1, errors.max()))  # 2: light enough for black numbers
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color=COLOURS[0] if row == column else "black")
    right = int(np.trace(matrix))
    axes.set(xlabel="predicted", ylabel="true", title=f"{right} of {int(matrix.sum())} right")
    axes.set_xticks(range(n), labels=classes)
    axes.set_yticks(range(n), labels=classes)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.85")
    axes.tick_params(which="both", length=0)
    page.save(sheet, path)
