"""What all figures share: an empty page, the colours, the legend, and writing the file."""

from __future__ import annotations

import errno
import functools
import io
import math
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from gpunn.backend import check_array, to_cpu
from gpunn.errors import ArgumentError, FileError, PackageError, check, install_command
from gpunn.files import write_atomically
from gpunn.graph import raw

# Okabe and Ito's palette without its yellow, which is faint on white. Lines that share a figure also differ in style.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
DPI = 150

Path = str | os.PathLike[str]


FORMATS = {".png": "png", ".svg": "svg", ".pdf": "pdf", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}
"""The endings of the files that a figure can be written to; without one it is a PNG."""


def figure(width: float, height: float, fitted: bool = True) -> Any:
    """An empty page of ``width`` by ``height`` inches; if ``fitted``, margins are found when it is drawn."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageError(f"plot: figures are drawn by matplotlib ({error}): {install_command('train')}") from error
    return _shown(Figure)(figsize=(width, height), layout="constrained" if fitted else None)


@functools.cache
def _shown(figure: Any) -> Any:
    """matplotlib's class of figures, which a notebook shows without pyplot."""

    class Figure(figure):  # type: ignore[misc]
        def _repr_png_(self) -> bytes:
            drawn = io.BytesIO()
            self.savefig(drawn, dpi=DPI, format="png")
            return drawn.getvalue()

    return Figure


def array(op: str, /, **named: Any) -> np.ndarray[Any, Any]:
    """The named array, of NumPy or CuPy or of a Tensor, as one of NumPy.

    >>> from gpunn import tensor
    >>> array("filters", weight=tensor([1.0, 2.0], requires_grad=True))
    array([1., 2.], dtype=float32)

    Raises DtypeError for anything else.
    """
    ((name, given),) = named.items()
    x = raw(given)
    check_array(op, **{name: x})
    return to_cpu(x)


def legend(sheet: Any, panels: Iterable[Any]) -> None:
    """Say below the ``panels``, where it hides no data, what their lines are; the page grows by as much."""
    labelled: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        labelled |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in labelled}
    if not labelled:
        return
    widest = 0.5 + 0.08 * max(map(len, labelled))  # inches
    columns = max(1, min(len(labelled), int(sheet.get_figwidth() / widest)))
    rows = math.ceil(len(labelled) / columns)
    columns = math.ceil(len(labelled) / rows)  # they are filled one by one
    sheet.set_figheight(sheet.get_figheight() + 0.1 + 0.2 * rows)
    look = {"ncols": columns, "fontsize": 9, "frameon": False, "handlelength": 3.0}
    sheet.legend(labelled.values(), labelled.keys(), loc="outside lower center", **look)


def ticks(axis: Any, low: float, high: float) -> None:
    """Give a logarithmic axis from ``low`` to ``high`` numbers as they are said, three a decade where it has few."""
    from matplotlib.ticker import LogLocator

    if high / low < 1000:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")  # 0.1, not 10 to the -1
    axis.set_minor_formatter("")


def save(page: Any, path: Path | None) -> None:
    """Write the page into a file of the format that its name ends in; without ``path`` nothing is written."""
    from matplotlib.text import Text

    for text in page.findobj(Text):
        # A name of a file may have bytes that are no letters, and Python's stand-ins for them cannot be drawn.
        text.set_text(text.get_text().encode("utf-8", "replace").decode())
    if path is not None:
        from matplotlib import rc_context

        kind = kind_of(path)
        # Neither the time nor names drawn at random: the same figure gives the same bytes.
        about = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
        with rc_context({"svg.hashsalt": "gpunn"}):
            write(lambda file: page.savefig(file, dpi=DPI, format=kind, metadata=about), path)


def kind_of(path: Path) -> str:
    """The format that the name of a file ends in; raises FileError for one that is not written.

    >>> kind_of("curves.png"), kind_of("curves"), kind_of("curves.PDF")
    ('png', 'png', 'pdf')
    """
    ending = _target(path).suffix.lower()
    if ending and ending not in FORMATS:
        raise FileError(f"{path}: a figure is written as {', '.join(FORMATS)}, not as {ending}")
    return FORMATS.get(ending, "png")


def write(draw: Callable[[io.BytesIO], object], path: Path) -> None:
    """Write what ``draw(file)`` writes to ``path``, whole or not at all; raises FileError if it cannot be written."""
    target = _target(path)
    drawn = io.BytesIO()
    draw(drawn)
    try:
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        write_atomically(target, drawn.getbuffer())
    except OSError as error:
        raise FileError(f"{path}: the figure cannot be written: {error.strerror or error}") from error


def _target(path: Path) -> pathlib.Path:
    check(isinstance(path, (str, os.PathLike)), ArgumentError, "plot", "path must be the name of a file", path=path)
    return pathlib.Path(path)
