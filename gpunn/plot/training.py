"""How a training went: its curves, and where a classifier errs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gpunn.errors import ArgumentError, ShapeError, check
from gpunn.plot import figure as page
from gpunn.plot.figure import COLOURS, STYLES, Path
from gpunn.tensor import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Metrics = Sequence[Mapping[str, Any]]
Numbers = Sequence[float] | np.ndarray[Any, Any]
Series = Mapping[str, tuple[Numbers, Numbers]]

_HIGHEST = 1e200  # that is drawn: a tick beyond it must be a number, too
_MARKERS = "os^DvP*"
_WIDE = 20.0  # from here on, as a ratio of the largest value to the smallest, an axis is logarithmic
_SETS = {"train": "training", "test": "test", "validation": "validation"}
MEASURED = tuple(f"{part}_" for part in _SETS)
"""What the names of measures begin with."""

# What is measured: the label of its axis, and the factor that brings it into that unit.
_QUANTITIES = {
    "loss": ("loss", 1.0),
    "accuracy": ("accuracy (%)", 100.0),
    "bits_per_character": ("bits/character", 1.0),
}


def curves(
    metrics: Metrics | Mapping[str, Metrics], path: Path | None = None, diverged: Collection[str] = ()
) -> Figure:
    """Draw what was measured over the epochs: a panel for each quantity; return the figure.

    ``metrics`` holds a mapping an epoch, as the lines of a run's metrics.jsonl: ``epoch``, and numbers named
    ``train_``, ``test_`` or ``validation_`` and ``loss``, ``accuracy`` or ``bits_per_character``. Several runs are
    compared when they are given as ``{label: metrics}``, and need not have all quantities; from the eighth on they have
    colours of those before, and other markers. An axis of losses is logarithmic where they differ by a factor of 20 or
    more. Runs whose labels are in ``diverged`` (``""`` is a single one) end in a cross, as does a curve whose last
    value is not finite.

    >>> drawn = curves([{"epoch": 1, "train_loss": 2.3, "test_loss": 2.2, "test_accuracy": 0.3}])
    >>> [axes.get_ylabel() for axes in drawn.axes]
    ['loss', 'accuracy (%)']

    A ``path`` is a file to write, of the format that its name ends in (PNG, SVG, PDF, JPEG, WebP). Raises
    ArgumentError where there is no epoch to draw, FileError if ``path`` cannot be written.
    """
    runs = metrics if isinstance(metrics, Mapping) else {"": metrics}
    drawn = len(runs) > 0 and all(len(run) > 0 for run in runs.values())
    check(drawn, ArgumentError, "curves", "metrics must hold at least one epoch", metrics=metrics)
    told = all(isinstance(record.get("epoch"), int | float) for run in runs.values() for record in run)
    check(told, ArgumentError, "curves", "each of metrics must tell its epoch, a number", metrics=metrics)
    named = {(part, quantity) for run in runs.values() for part in _SETS for quantity in _QUANTITIES
             if f"{part}_{quantity}" in run[0]}  # fmt: skip
    quantities = [quantity for quantity in _QUANTITIES if any(quantity == q for _, q in named)]
    rule = "metrics must hold a loss, an accuracy or bits_per_character of train_, test_ or validation_"
    check(bool(quantities), ArgumentError, "curves", rule, names=sorted(next(iter(runs.values()))[0]))
    sheet = page.figure(width=4.5 * len(quantities), height=3.8)
    for axes, quantity in zip(sheet.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        _panel(axes, runs, quantity, [part for part in _SETS if (part, quantity) in named], diverged)
    page.legend(sheet, sheet.axes)
    page.save(sheet, path)
    return sheet


def _panel(axes: Any, runs: Mapping[str, Metrics], quantity: str, parts: list[str], diverged: Collection[str]) -> None:
    unit, factor = _QUANTITIES[quantity]
    epochs = [record["epoch"] for run in runs.values() for record in run]
    few = max(map(len, runs.values())) <= 20  # a single epoch has no line, so it needs a point
    finite: list[float] = []
    for number, (label, run) in enumerate(runs.items()):
        turn = number // len(COLOURS)
        marker = _MARKERS[turn % len(_MARKERS)] if few or turn else ""
        for part in parts:
            name = f"{part}_{quantity}"
            measured = [record for record in run if isinstance(record.get(name), int | float)]
            if not measured:  # runs of different recipes
                continue
            place = list(_SETS).index(part)
            # One run: a colour for each set. Several: a colour for each run; the style says which set it is.
            colour = COLOURS[(number if len(runs) > 1 else place) % len(COLOURS)]
            x, y = [record["epoch"] for record in measured], [_shown(factor * record[name]) for record in measured]
            called = f"{label}, {_SETS[part]}" if label else _SETS[part]
            look = {"marker": marker, "markersize": 4, "markevery": None if few else 0.1}
            axes.plot(x, y, color=colour, linestyle=STYLES[place], label=called, **look)
            if label in diverged or not math.isfinite(y[-1]):
                _cross(axes, x, y, colour, f"{label} diverged".strip())
            finite += filter(math.isfinite, y)
    axes.set(xlabel="epoch", ylabel=unit, title=_title(quantity, runs, parts[-1]))
    if finite:
        _fit(axes, finite, log=quantity != "accuracy")
    else:
        axes.text(0.5, 0.5, "no value is finite", ha="center", transform=axes.transAxes)
    axes.grid(alpha=0.3)
    around = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - around, max(epochs) + around)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def _shown(value: float) -> float:
    """What is drawn of a value: a gap where it is not finite."""
    return min(max(value, -_HIGHEST), _HIGHEST) if math.isfinite(value) else math.nan


def _cross(axes: Any, x: Numbers, y: Numbers, colour: str, label: str) -> None:
    """Mark the last finite point of a curve."""
    ends = [at for at, value in enumerate(y) if math.isfinite(value)][-1:]
    look = {"markersize": 9, "markeredgecolor": "black", "color": colour, "zorder": 3}
    axes.plot([x[at] for at in ends], [y[at] for at in ends], "X", label=label, **look)


def _fit(axes: Any, values: Sequence[float], log: bool) -> None:
    """Let the y axis hold the ``values`` with a little room, a logarithmic one where they ask for it."""
    axes.autoscale(False, axis="y")  # beyond 1e308 it would fail
    low, high = min(values), max(values)
    least = min((value for value in values if value > 0), default=0.0)
    if not (log and low >= 0 < least and high / least >= _WIDE):
        room = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
        axes.set_ylim(low - room, high + room)
        return
    if low == 0:  # it has no logarithm
        axes.set_yscale("symlog", linthresh=least)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(-0.2 * least, high * (high / least) ** 0.05)
        return
    room = (high / low) ** 0.05
    axes.set_yscale("log")
    axes.set_ylim(max(low / room, 1e-323), min(high * room, 10 * _HIGHEST))
    page.ticks(axes.yaxis, low, high)


def _title(quantity: str, runs: Mapping[str, Metrics], part: str) -> str:
    unit, factor = _QUANTITIES[quantity]
    name = {"bits_per_character": unit}.get(quantity, quantity)
    value = next(iter(runs.values()))[-1].get(f"{part}_{quantity}")
    if quantity == "loss" or len(runs) > 1 or value is None:
        return name.capitalize()
    percent = " %" if unit.endswith("(%)") else ""
    return f"{f'{_SETS[part]} {name}'.capitalize()}, {factor * value:.2f}{percent} at the end"


def lines(
    series: Series,
    path: Path | None = None,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    log: bool = False,
    diverged: Collection[str] = (),
) -> Figure:
    """Draw curves ``{label: (x, y)}`` on one pair of axes; return the figure. ``log`` is for the y axis.

    Those whose labels are in ``diverged`` end in a cross. A ``path`` is a file to write.

    >>> lines({"square": ([0, 1, 2], [0, 1, 4])}, xlabel="x", ylabel="y").axes[0].get_xlabel()
    'x'

    Raises ArgumentError where there is no curve, ShapeError if x and y differ in length.
    """
    check(len(series) > 0, ArgumentError, "lines", "there must be at least one curve", series=series)
    sheet = page.figure(width=6.0, height=3.8)
    axes = sheet.subplots()
    for number, (label, (x, y)) in enumerate(series.items()):
        check(len(x) == len(y), ShapeError, "lines", f"x and y of {label!r} must have one length", x=len(x), y=len(y))
        style, colour = STYLES[number % len(STYLES)], COLOURS[number % len(COLOURS)]
        axes.plot(x, y, color=colour, linestyle=style, label=label)
        if label in diverged:
            _cross(axes, x, y, colour, f"{label}, diverged")
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    page.legend(sheet, [axes])
    page.save(sheet, path)
    return sheet


def panels(panels: Mapping[str, Series], path: Path | None = None, xlabel: str = "", ylabel: str = "") -> Figure:
    """Draw ``{title: {label: (x, y)}}`` as small panels side by side, each with its own scale; return the figure.

    A ``path`` is a file to write.

    >>> square = {"y": ([0, 1, 2], [0, 1, 4]), "slope": ([0, 1, 2], [0, 2, 4])}
    >>> panels({"square": square}, xlabel="x", ylabel="y").axes[0].get_title()
    'square'

    Raises ArgumentError where there is no panel.
    """
    check(len(panels) > 0, ArgumentError, "panels", "there must be at least one panel", panels=panels)
    columns = min(5, len(panels))
    rows = -(-len(panels) // columns)
    sheet = page.figure(width=max(4.0, 2.4 * columns), height=2.2 * rows)
    for number, (title, series) in enumerate(panels.items(), 1):
        axes = sheet.add_subplot(rows, columns, number)
        for place, (label, (x, y)) in enumerate(series.items()):
            style = STYLES[place % len(STYLES)]
            axes.plot(x, y, color=COLOURS[place % len(COLOURS)], linestyle=style, label=label)
        axes.set_title(title, fontsize=10)
        axes.set(xlabel=xlabel if number > len(panels) - columns else "")
        axes.set(ylabel=ylabel if (number - 1) % columns == 0 else "")
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
    page.legend(sheet, sheet.axes)
    page.save(sheet, path)
    return sheet


def confusion(
    matrix: np.ndarray[Any, Any] | Tensor, path: Path | None = None, classes: Sequence[str] | None = None
) -> Figure:
    """Draw a confusion matrix; return the figure. ``classes`` are numbers unless they are named.

    ``matrix[i, j]`` is the number of examples of class i (rows: the truth) that were called class j (columns).
    Only the errors are coloured: the diagonal would outshine them. A ``path`` is a file to write.

    >>> confusion(np.array([[9, 1], [0, 10]]), classes=["cat", "dog"]).axes[0].get_title()
    '19 of 20 right'

    Raises ShapeError unless the matrix is square with a row per class, FileError if ``path`` cannot be written.
    """
    matrix = page.array("confusion", matrix=matrix)
    names = list(map(str, range(len(matrix)))) if classes is None else list(classes)
    n = len(names)
    check(matrix.shape == (n, n), ShapeError, "confusion", f"matrix must be {n}×{n}", shape=matrix.shape)
    errors = np.where(np.eye(n, dtype=bool), 0, matrix)
    shown = np.ma.masked_equal(errors, 0)  # masked cells stay white
    side = min(0.5, 25 / max(n, 1))  # of a cell, in inches: a thousand classes are a page, too
    longest = max(map(len, names), default=0)
    letters = 0.08 * min(longest, 40)
    sheet = page.figure(width=1.6 + side * n + letters, height=1.4 + side * n + letters * (longest > 4))
    axes = sheet.subplots()
    axes.imshow(shown, cmap="Oranges", vmin=0, vmax=2 * max(1, errors.max()))  # 2: light enough for black numbers
    size = min(10.0, 20 * side)
    for row, column in np.argwhere(matrix):
        colour = COLOURS[0] if row == column else "black"
        count = str(matrix[row, column])
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=size)
    right = int(np.trace(matrix))
    axes.set(xlabel="predicted", ylabel="true", title=f"{right} of {int(matrix.sum())} right")
    axes.set_xticks(range(n), labels=names, rotation=90 if longest > 4 else 0, fontsize=size)
    axes.set_yticks(range(n), labels=names, fontsize=size)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.85", linewidth=1.6 * side)
    axes.tick_params(which="both", length=0)
    page.save(sheet, path)
    return sheet
