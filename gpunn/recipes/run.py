"""What the recipes share: options, device, the run folder and its files, the learning rate, and how a run can end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import gpunn
from gpunn.backend import check_device, default_device, use_device
from gpunn.cuda import emulate as emulation
from gpunn.cuda.emulator.build import host_compiler
from gpunn.errors import ArgumentError, FileError, PackageError, TrainingError

# ---- before a run --------------------------------------------------------------------------------------------------


def check_packages(command: str, packages: Sequence[str]) -> None:
    """Raise PackageError, with the command that mends it, unless all of ``packages`` can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageError(f'{command}: {", ".join(missing)} not installed: pip install "gpunn[train]"')


def choose_device(command: str, device: str | None, emulate: bool) -> str:
    """The device to compute on, by default the default one, if it and a compiler for ``emulate`` can be used."""
    chosen = check_device(device) if device is not None else default_device()
    if emulate and chosen != "cpu":
        raise ArgumentError(f"{command}: the emulator takes arrays of the CPU, got device={chosen!r}")
    if emulate:
        host_compiler()  # raises CompileError, while there is no folder yet, where there is none
    return chosen


@contextlib.contextmanager
def computing(device: str, emulate: bool, threads: int = 1) -> Iterator[None]:
    """A context that computes on ``device``, emulated if asked, with ``threads`` BLAS threads.

    A fixed number of threads: the order of sums in a product, so every byte of the weights, depends on it.
    """
    from threadpoolctl import threadpool_limits

    with use_device(device), threadpool_limits(threads, "blas"), emulation() if emulate else contextlib.nullcontext():
        yield


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The learning rate after ``step`` of ``steps`` steps: up to ``peak`` over a fifth, then down half a cosine.

    >>> [round(learning_rate(step, 10, 1.0), 3) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, for the cosine.
    """
    warm = 0.2 * steps
    if step < warm:
        return peak * step / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


# ---- the folder ----------------------------------------------------------------------------------------------------


def new_folder(recipe: str, out: str | os.PathLike[str] | None, files: Sequence[str]) -> Path:
    """Make the run folder, by default ``runs/<recipe>-<date>-<time>``; an existing one is taken if it has no ``files``.

    Raises FileError if it cannot be made, or holds a run.
    """
    if out is None:
        return _default_folder(Path("runs"), recipe)
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [name for name in files if (folder / name).exists()]
    except OSError as error:
        raise _unwritable(folder, error) from error
    if there:
        raise FileError(f"{folder}: holds a run already ({there[0]}); choose another --out, or remove that folder")
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


def write_text(path: Path, content: str) -> None:
    """Write a text file of the run; raises FileError if it cannot be written."""
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` as JSON; raises FileError if it cannot be written."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def append_line(path: Path, content: dict[str, Any]) -> None:
    """Add ``content`` as one line of JSON; raises FileError if it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path}: the run cannot be written there: {error.strerror or error}")


def versions(*packages: str) -> dict[str, str]:
    """The versions of gpunn, Python, NumPy and ``packages``.

    >>> list(versions())
    ['gpunn', 'python', 'numpy']
    """
    installed = {name: importlib.metadata.version(name) for name in ("numpy", *packages)}
    return {"gpunn": gpunn.__version__, "python": platform.python_version()} | installed


# ---- the training --------------------------------------------------------------------------------------------------


class EpochLike(Protocol):
    """A record of an epoch: a NamedTuple with at least these fields, of numbers that JSON can hold."""

    @property
    def seconds(self) -> float: ...
    def _asdict(self) -> dict[str, Any]: ...


Record = TypeVar("Record", bound=EpochLike)


class Outcome(NamedTuple, Generic[Record]):
    """How a training ended: its records, ``"finished"``, ``"interrupted"`` or ``"diverged"``, and its wall time."""

    records: list[Record]
    status: str
    error: TrainingError | None
    seconds: float


def follow(
    training: Iterable[Record], folder: Path, on_epoch: Callable[[Record], None] | None = None
) -> Outcome[Record]:
    """Run ``training`` to its end, to Ctrl-C or to a TrainingError; each record becomes a line of metrics.jsonl."""
    records: list[Record] = []
    status, diverged = "finished", None
    start = time.perf_counter()
    try:
        for record in training:
            records.append(record)
            append_line(folder / "metrics.jsonl", record._asdict())
            if on_epoch is not None:
                on_epoch(record)
    except KeyboardInterrupt:
        status = "interrupted"
    except TrainingError as error:
        status, diverged = "diverged", error
    return Outcome(records, status, diverged, time.perf_counter() - start)


def raise_if_diverged(outcome: Outcome[Record], folder: Path) -> None:
    """Raise the TrainingError that ended the training, now that ``folder`` is complete, with its name added."""
    if outcome.error is not None:
        raise TrainingError(f"{outcome.error}; the run is in {folder}") from outcome.error


def headline(figures: str, summary: dict[str, Any]) -> str:
    """The last line of a command: how the run ended, its figures, and how long it took.

    >>> headline("test loss 0.1", {"status": "interrupted", "epochs": 2, "seconds": 1.25})
    'interrupted, test loss 0.1 after 2 epochs, 1.2 s'
    """
    ended = "" if summary["status"] == "finished" else f"{summary['status']}, "
    return f"{ended}{figures} after {summary['epochs']} epochs, {summary['seconds']:.1f} s"
