"""What all figures share: an empty page, the colours, and writing the file."""

from __future__ import annotations

import errno
import io
import os
import pathlib
from collections.abc import Callable
from typing import Any

from gpunn.errors import FileError, PackageError, install_command
from gpunn.files import write_atomically

# Okabe and Ito's palette without its yellow, which is faint on white. Lines that share a figure also differ in style.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
DPI = 150

Path = str | os.PathLike[str]


def figure(width: float, height: float, fitted: bool = True) -> Any:
    """An empty page of ``width`` by ``height`` inches; if ``fitted``, margins are found when it is drawn."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PackageError(f"plot: figures are drawn by matplotlib ({error}): {install_command('train')}") from error
    return Figure(figsize=(width, height), layout="constrained" if fitted else None)


def save(page: Any, path: Path) -> None:
    """Write the page as a PNG file."""
    from matplotlib.text import Text

    for text in page.findobj(Text):
        # A name of a file may have bytes that are no letters, and Python's stand-ins for them cannot be drawn.
        text.set_text(text.get_text().encode("utf-8", "replace").decode())
    write(lambda file: page.savefig(file, dpi=DPI, format="png"), path)


def write(draw: Callable[[io.BytesIO], object], path: Path) -> None:
    """Write what ``draw(file)`` writes to ``path``, whole or not at all; raises FileError if it cannot be written."""
    drawn = io.BytesIO()
    draw(drawn)
    target = pathlib.Path(path)
    try:
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        write_atomically(target, drawn.getbuffer())
    except OSError as error:
        raise FileError(f"{path}: the figure cannot be written: {error.strerror or error}") from error
