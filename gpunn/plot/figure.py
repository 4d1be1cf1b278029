"""What all figures share: an empty page, the colours, and writing the file."""

from __future__ import annotations

import os
from typing import Any

from gpunn.errors import FileError, PackageError

# Okabe and Ito's palette without its yellow, which is faint on white. Lines that share a figure also differ in style.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
DPI = 150

Path = str | os.PathLike[str]


def figure(width: float, height: float) -> Any:
    """An empty page of ``width`` by ``height`` inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageError(f'plot: figures are drawn by matplotlib ({error}): pip install "gpunn[train]"') from error
    return Figure(figsize=(width, height), layout="constrained")


def save(page: Any, path: Path) -> None:
    """Write the page as a PNG file."""
    from matplotlib.text import Text

    for text in page.findobj(Text):
        # A name of a file may have bytes that are no letters, and Python's stand-ins for them cannot be drawn.
        text.set_text(text.get_text().encode("utf-8", "replace").decode())
    try:
        page.savefig(path, dpi=DPI, format="png")
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> FileError:
    """The error for a figure that cannot be written."""
    return FileError(f"{path}: the figure cannot be written: {error.strerror or error}")
