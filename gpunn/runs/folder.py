"""The folder of a run: the names of its files, how it is made and opened, and how a file in it is read and written."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gpunn.errors import FileError
from gpunn.files import read_file, within, write_atomically
from gpunn.runs.lock import locked

CONFIG = "config.json"
"""The options of the run, the name of its recipe, and the device."""

METRICS = "metrics.jsonl"
"""A line an epoch, written as the epoch ends."""

CHECKPOINTS = "checkpoints"
"""The folder from which ``gpunn resume`` goes on; it has one in it for each of several models."""

SUMMARY = "summary.json"
"""What the run came to. It is written last: a run whose status is "finished" is complete."""

WEIGHTS = "model.safetensors"
"""The weights at the end of the last whole epoch."""

CURVES = "curves.png"
"""The measures over the epochs, once there is an epoch to draw."""

SAMPLE = "sample.txt"
"""Text that the model wrote."""

# ---- making and opening --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def begin(
    config: dict[str, Any],
    out: str | os.PathLike[str] | None,
    files: Sequence[str],
    resume: bool = False,
    paths: Sequence[str] = (),
) -> Iterator[Path]:
    """The folder of a run with this config.json, which has the name of the recipe, its options and the device.

    A new folder, or with ``resume`` the folder ``out`` of a run that is not finished; within this context it is kept
    from others that would train in it. ``files`` are those that the run makes. Raises FileError if the folder cannot be
    used, is in use, has links that lead out of it, or was begun with other options, which are named; but files and
    folders, the options ``paths``, may have been moved since.
    """
    if not resume:
        folder = new_folder(config["recipe"], out)
        with locked(folder):
            _check_empty(folder, files)
            write_json(folder / CONFIG, config)
            yield folder
        return
    folder = Path(out or "")
    read_config(folder)  # an error if it is no run: nothing is written then
    check_own(folder, files)
    with locked(folder):
        _check_unfinished(folder, config, paths)
        if any(read_config(folder).get(name) != config.get(name) for name in paths):
            write_json(folder / CONFIG, config)
        yield folder


def _check_empty(folder: Path, files: Sequence[str]) -> None:
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        raise FileError(f"{folder}: holds a run already ({there[0]}); choose another --out, or remove that folder")


def _check_unfinished(folder: Path, config: dict[str, Any], paths: Sequence[str]) -> None:
    begun = read_config(folder)
    names = [name for name in {**begun, **config} if name not in paths and begun.get(name) != config.get(name)]
    if names:
        told = "; ".join(f"{name} was {begun.get(name)!r}, and is {config.get(name)!r}" for name in names)
        raise FileError(f"{folder}: begun with other options: {told}")
    if read_json(folder / SUMMARY).get("status") == "finished":
        raise FileError(f"{folder}: the run is finished already")


def new_folder(recipe: str, out: str | os.PathLike[str] | None) -> Path:
    """Make the run folder, by default ``runs/<recipe>-<date>-<time>``; ``out`` may be there.

    Raises FileError if it cannot be made.
    """
    if out is None:
        return _default_folder(Path("runs"), recipe)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _default_folder(runs: Path, recipe: str) -> Path:
    stamp = time.strftime(f"{recipe}-%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = runs / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if runs.is_dir():
                continue  # another run began in the same second
            raise FileError(f"{runs}: the run folder cannot be made there: it is a file") from None
        except OSError as error:
            raise _unwritable(folder, error) from error
        return folder
    raise FileError(f"{runs}: holds a thousand runs of this second")


def in_folder(runs: Path) -> list[Path]:
    """The folders in ``runs`` that hold a run, by name."""
    return sorted(path.parent for path in runs.glob(f"*/{CONFIG}"))


def name_of(folder: Path) -> str:
    """The name of the folder, as far as it is a text."""
    return os.fsencode(folder.resolve().name).decode(errors="replace")


# ---- reading -------------------------------------------------------------------------------------------------------


def check_own(folder: Path, names: Iterable[str]) -> None:
    """Check that what ``folder`` has of ``names``, and all below, are files and folders that lie inside of it.

    A run may come from elsewhere: nothing outside of its folder is read or written. Raises FileError for a link that
    leads out of it, and for a FIFO, a device or a socket.
    """
    for name in names:
        for path in _with_all_below(folder / name):
            try:
                mode = within(folder, path).stat().st_mode
            except FileNotFoundError:
                continue
            except OSError as error:
                raise FileError(f"{path}: {error.strerror or error}") from error
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise FileError(f"{path}: neither a file nor a folder")


def _with_all_below(path: Path) -> Iterator[Path]:
    """A path and, if it is a folder and no link, all that lies below it."""
    yield path
    for place, folders, files in os.walk(path):
        yield from (Path(place, name) for name in (*folders, *files))


def read(path: Path, most: int) -> bytes | None:
    """What a file in the run folder holds, None if it is missing.

    Raises FileError if it cannot be read, is a link out of the folder, or has more than ``most`` bytes.
    """
    try:
        return read_file(path, path.parent, most)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


_LARGEST_JSON = 1 << 20  # bytes; those of the recipes have some KiB


def read_json(path: Path) -> dict[str, Any]:
    """What a file in the run folder holds, nothing if it is missing; raises FileError if it is no object of JSON."""
    written = read(path, _LARGEST_JSON)
    if written is None:
        return {}
    try:
        content = json.loads(written.decode())
    except (ValueError, RecursionError) as error:  # ValueError also of bytes that are no UTF-8
        raise FileError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: not an object of JSON, but {type(content).__name__}")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """What the config.json of a run folder holds; raises FileError if there is none, or it names no recipe."""
    if folder.is_file():
        raise FileError(f"{folder}: a file, where the folder of a run is wanted")
    config = read_json(folder / CONFIG)
    if "recipe" not in config:
        raise FileError(f"{folder}: holds no run that was begun: it lacks a config.json that names a recipe")
    return config


# ---- writing -------------------------------------------------------------------------------------------------------


def write_text(path: Path, content: str) -> None:
    """Write a text file of the run, whole or not at all; raises FileError if it cannot be written."""
    try:
        write_atomically(path, content.encode())
    except OSError as error:
        raise _unwritable(path, error) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON; raises FileError if it cannot be written."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path}: the run cannot be written there: {error.strerror or error}")
