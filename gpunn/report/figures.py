"""The figures of a run: those that it made, and those that its files are enough to draw."""

from __future__ import annotations

import base64
import math
import re
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gpunn import plot
from gpunn.errors import FileError, GpunnError, PackageError, install_command, warn
from gpunn.plot.training import MEASURED
from gpunn.recipes.catalogue import RECIPES
from gpunn.report import about as run
from gpunn.runs import records
from gpunn.runs.folder import CURVES, METRICS, WEIGHTS, check_own, read

FILTERS = "filters.png"

# The page draws the curves itself, and filters.png from the weights: those of other recipes' too, behind their figures.
CAPTIONS = {name: caption for recipe in reversed(RECIPES) for name, caption in recipe.figures.items()}
"""The figures of all recipes, in the order of the page, with their captions."""

_KINDS = {".png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"), ".gif": (b"GIF89a", b";")}
_DRAWN = ("F16", "BF16", "F32", "F64")
_MOST_WEIGHTS, _WIDEST = 2**22, 256  # AlexNet's first convolution has 34,848 weights, its filters 11 pixels a side
_LARGEST = 16 * 2**20  # bytes of a figure that a page takes; those of the recipes have some 100 KiB


def redraw(folder: Path) -> list[Path]:
    """Draw again what the files of a run are enough for, curves.png and filters.png; return the files.

    >>> redraw(Path("runs/digits"))  # doctest: +SKIP
    [PosixPath('runs/digits/curves.png'), PosixPath('runs/digits/filters.png')]

    A record that cannot be read is left out, with a warning that names its line, unless a run that still trains writes
    it. Raises FileError if it is no run, or holds nothing to draw from. The figures that need the data too, as
    confusion.png, stay as the run made them.
    """
    about = run.about(folder)  # an error if it is no run
    check_own(folder, (CURVES, FILTERS))
    drawn = []
    lines = list(records.parse(records.settled(folder)))
    for line in lines:
        if line.problem is not None:
            warn(f"{folder}: {line.problem}; the rest is drawn")
    if curves := _curves(lines):
        plot.curves(curves, folder / CURVES, records.diverged(curves, about["status"]))
        drawn.append(folder / CURVES)
    if draw_filters(folder, folder / FILTERS):
        drawn.append(folder / FILTERS)
    if not drawn:
        nothing = f"{METRICS} has no epoch, and {WEIGHTS} no convolution"
        raise FileError(f"{folder}: nothing to draw from: {nothing}")
    return drawn


def _curves(lines: Iterable[records.Line]) -> Any:
    """The records that can be drawn as curves, by cell where they have one: those with the measures of the first."""
    whole = {}
    for cell, found in records.by_cell(line.record for line in lines if line.problem is None).items():
        names = [name for name, value in found[0].items() if not isinstance(value, str)]
        if "epoch" in names and any(name.startswith(MEASURED) for name in names):
            whole[cell.upper()] = [r for r in found if all(isinstance(r.get(name), int | float) for name in names)]
    return whole.get("") if whole.keys() <= {""} else whole


def draw_filters(folder: Path, path: Path) -> bool:
    """Draw the filters of the run's first convolution into the PNG ``path``; False if it has no weights, or none.

    Raises FileError if the weights cannot be read.
    """
    file = folder / WEIGHTS
    check_own(folder, [file.name])
    if not file.is_file():
        return False
    try:
        import safetensors
    except ImportError as error:
        raise PackageError(f"weights are kept as safetensors ({error}): {install_command('train')}") from error
    try:
        with safetensors.safe_open(file, "numpy") as weights:
            # The file has them in an order of its own; by name, layer 2 comes before layer 10.
            for name in sorted(weights.keys(), key=lambda name: [part.zfill(9) for part in re.split(r"(\d+)", name)]):
                part = weights.get_slice(name)
                shape = part.get_shape()
                if len(shape) == 4 and shape[2] * shape[3] > 1 and all(shape):
                    kind = part.get_dtype()
                    if kind not in _DRAWN or math.prod(shape) > _MOST_WEIGHTS or max(shape[2:]) > _WIDEST:
                        raise FileError(f"{file}: {name!r} is {kind}{shape}, which is not drawn as filters")
                    plot.filters(weights.get_tensor(name), path)
                    return True
    except (safetensors.SafetensorError, OSError, KeyError, TypeError) as error:
        if isinstance(error, GpunnError):
            raise
        raise FileError(f"{file}: not a whole safetensors file: {error}") from error
    return False


def embedded(folder: Path) -> Iterator[run.Json]:
    """The figures for a page: ``name``, ``caption`` and, as a data: URI, ``src``, or the ``problem`` with it.

    Of the files in ``folder`` only those that runs make: whole PNG and GIF images of these names.
    """
    for name, caption in CAPTIONS.items():
        figure = {"name": name, "caption": caption}
        try:
            source = _filters(folder) if name == FILTERS else _image(folder, name)
        except GpunnError as error:
            yield figure | {"problem": str(error)}
        else:
            if source is not None:
                yield figure | {"src": source}


def _filters(folder: Path) -> str | None:
    with tempfile.TemporaryDirectory() as place:
        drawn = draw_filters(folder, Path(place) / FILTERS)
        return _image(Path(place), FILTERS) if drawn else None


def _image(folder: Path, name: str) -> str | None:
    """An image file as a data: URI, None if there is none; raises FileError if it is not a whole one."""
    path = folder / name
    check_own(folder, [name])
    if path.is_symlink() or not path.is_file():  # no run makes links
        return None
    begin, end = _KINDS[path.suffix]
    if path.stat().st_size > _LARGEST:
        raise FileError(f"{path}: an image of over {_LARGEST >> 20} MiB")
    content = read(path, _LARGEST) or b""
    if not content.startswith(begin):
        raise FileError(f"{path}: not a {path.suffix[1:].upper()} image")
    if not content.endswith(end):
        raise FileError(f"{path}: the image is cut short")
    return f"data:image/{path.suffix[1:]};base64,{base64.b64encode(content).decode()}"
