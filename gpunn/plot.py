"""Figures as PNG files, drawn by matplotlib without a display and without pyplot's global state."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpunn.errors import ArgumentError, FileError, PackageError, ShapeError, check

# Two colours of Okabe and Ito's palette, told apart with every kind of colour blindness; the lines differ in
# their markers too.
_BLUE, _ORANGE = "#0072B2", "#D55E00"
_DPI = 150


def curves(metrics: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Draw the losses and the test accuracy over the epochs into the PNG file ``path``.

    ``metrics`` holds a mapping an epoch, with ``epoch``, ``train_loss``, ``test_loss`` and ``test_accuracy``: the
    lines of a run's metrics.jsonl.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "curves.png")
    >>> curves([{"epoch": 1, "train_loss": 2.3, "test_loss": 2.2, "test_accuracy": 0.3}], path)

    Raises ArgumentError where there is no epoch to draw, FileError if ``path`` cannot be written.
    """
    check(len(metrics) > 0, ArgumentError, "curves", "metrics must hold at least one epoch", metrics=metrics)
    figure = _figure(width=9.0, height=4.0)
    loss, accuracy = figure.subplots(1, 2)
    epochs = [record["epoch"] for record in metrics]
    marker = "o" if len(epochs) <= 20 else ""  # a single epoch has no line, so it needs a point
    for name, label, colour, style in (("train_loss", "training", _BLUE, "-"), ("test_loss", "test", _ORANGE, "--")):
        loss.plot(epochs, [record[name] for record in metrics], style + marker, color=colour, label=label, markersize=4)
    loss.set(xlabel="epoch", ylabel="cross entropy", yscale="log", title="Loss")
    loss.yaxis.set_major_formatter("{x:g}")  # 0.1, not 10 to the -1
    loss.yaxis.set_minor_formatter("")
    values = [max(record[name], 1e-6) for record in metrics for name in ("train_loss", "test_loss")]
    loss.set_ylim(10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)) + 1e-9))
    loss.legend()
    percent = [100 * record["test_accuracy"] for record in metrics]
    accuracy.plot(epochs, percent, "--" + marker, color=_ORANGE, label="test", markersize=4)
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", title=f"Test accuracy, {percent[-1]:.2f} % at the end")
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.set_xlim(0, epochs[-1] + 1)
        axes.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def confusion(matrix: np.ndarray[Any, Any], path: str | os.PathLike[str], classes: Sequence[str]) -> None:
    """Draw a confusion matrix into the PNG file ``path``.

    ``matrix[i, j]`` is the number of examples of class i (rows: the truth) that were called class j (columns).
    Only the errors are coloured: the diagonal would outshine them.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "confusion.png")
    >>> confusion(np.array([[9, 1], [0, 10]]), path, ["cat", "dog"])

    Raises ShapeError unless the matrix is square with a row per class, FileError if ``path`` cannot be written.
    """
    n = len(classes)
    check(matrix.shape == (n, n), ShapeError, "confusion", f"matrix must be {n}×{n}", shape=matrix.shape)
    errors = np.where(np.eye(n, dtype=bool), 0, matrix)
    shown = np.ma.masked_equal(errors, 0)  # masked cells stay white
    figure = _figure(width=1.6 + 0.5 * n, height=1.4 + 0.5 * n)
    axes = figure.subplots()
    axes.imshow(shown, cmap="Oranges", vmin=0, vmax=2 * max(1, errors.max()))  # 2: light enough for black numbers
    for (row, column), count in np.ndenumerate(matrix):
        if count:
            axes.text(column, row, str(count), ha="center", va="center", color=_BLUE if row == column else "black")
    right = int(np.trace(matrix))
    axes.set(xlabel="predicted", ylabel="true", title=f"{right} of {int(matrix.sum())} right")
    axes.set_xticks(range(n), labels=classes)
    axes.set_yticks(range(n), labels=classes)
    axes.set_xticks(np.arange(n - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(n - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="0.85")
    axes.tick_params(which="both", length=0)
    _save(figure, path)


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageError(f'plot: figures are drawn by matplotlib ({error}): pip install "gpunn[train]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | os.PathLike[str]) -> None:
    try:
        figure.savefig(path, dpi=_DPI, format="png")
    except OSError as error:
        raise FileError(f"{path}: the figure cannot be written: {error.strerror or error}") from error
