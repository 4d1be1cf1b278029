"""What the recipes share: options, device, the run folder and its files, the learning rate, and how a run can end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import gpunn
from gpunn.backend import check_device, default_device, use_device
from gpunn.cuda import emulate as emulation
from gpunn.cuda.emulator.build import host_compiler
from gpunn.errors import ArgumentError, FileError, PackageError, TrainingError
from gpunn.files import read_file, within, write_atomically
from gpunn.optim import Optimizer
from gpunn.optim.schedule import Schedule
from gpunn.recipes.lock import locked
from gpunn.train import Callback, Record, Trainer

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


class WarmupCosine(Schedule):
    """:func:`learning_rate`, up to the rate that the optimizer was given.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=2.0)
    >>> schedule = WarmupCosine(sgd, steps=10)
    >>> schedule.step()
    >>> sgd.lr
    1.0
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self._steps = steps
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return learning_rate(t, self._steps, base)


# ---- the folder ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def begin(
    recipe: str,
    options: Any,
    device: str,
    out: str | os.PathLike[str] | None,
    files: Sequence[str],
    resume: bool = False,
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The run folder, and what its config.json holds: the name of the recipe, its options, the device.

    A new folder, or with ``resume`` the folder ``out`` of a run that is not finished; within this context it is kept
    from others that would train in it. Raises FileError if it cannot be used, is in use, has links that lead out of it,
    or was begun with other options, which are named.
    """
    given = asdict(options)
    for name in (each.name for each in fields(options) if each.metadata["path"]):
        given[name] = given[name] and str(Path(given[name]).absolute())  # a run is opened from other folders, too
    config = {"recipe": recipe} | given | {"device": device}
    if not resume:
        folder = new_folder(recipe, out)
        with locked(folder):
            _check_empty(folder, files)
            write_json(folder / "config.json", config)
            yield folder, config
        return
    folder = Path(out or "")
    read_config(folder)  # an error if it is no run: nothing is written then
    check_own(folder, files)
    with locked(folder):
        _check_unfinished(folder, config)
        yield folder, config


def _check_empty(folder: Path, files: Sequence[str]) -> None:
    there = [name for name in files if os.path.lexists(folder / name)]
    if there:
        raise FileError(f"{folder}: holds a run already ({there[0]}); choose another --out, or remove that folder")


def _check_unfinished(folder: Path, config: dict[str, Any]) -> None:
    begun = read_config(folder)
    names = [name for name in {**begun, **config} if begun.get(name) != config.get(name)]
    if names:
        told = "; ".join(f"{name} was {begun.get(name)!r}, and is {config.get(name)!r}" for name in names)
        raise FileError(f"{folder}: begun with other options: {told}")
    if read_json(folder / "summary.json").get("status") == "finished":
        raise FileError(f"{folder}: the run is finished already")


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


def read_config(folder: Path) -> dict[str, Any]:
    """What the config.json of a run folder holds; raises FileError if there is none, or it names no recipe."""
    if folder.is_file():
        raise FileError(f"{folder}: a file, where the folder of a run is wanted")
    config = read_json(folder / "config.json")
    if "recipe" not in config:
        raise FileError(f"{folder}: holds no run that was begun: it lacks a config.json that names a recipe")
    return config


_LARGEST_JSON = 1 << 20  # bytes; those of the recipes have some KiB


def read_json(path: Path) -> dict[str, Any]:
    """What a file in the run folder holds, nothing if it is missing; raises FileError if it is no object of JSON."""
    try:
        content = json.loads(read_file(path, path.parent, _LARGEST_JSON).decode())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # ValueError also of bytes that are no UTF-8
        raise FileError(f"{path}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: not an object of JSON, but {type(content).__name__}")
    return content


# A run that was interrupted and is resumed still has its old summary; its metrics are then younger by more than this,
# in seconds. Less would take a copied folder, whose files are as old as the copy, for a run that goes on.
_YOUNGER = 1.0


def read_summary(folder: Path) -> dict[str, Any]:
    """What the summary.json of a run folder holds, nothing while there is none, or one of before a resumption."""
    summary = read_json(folder / "summary.json")
    return {} if summary.get("status") in ("interrupted", "diverged") and _goes_on(folder) else summary


def _goes_on(folder: Path) -> bool:
    try:
        metrics, summary = ((folder / name).stat().st_mtime for name in ("metrics.jsonl", "summary.json"))
    except OSError:
        return False
    return metrics - summary > _YOUNGER


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


def versions(*packages: str) -> dict[str, str]:
    """The versions of gpunn, Python, NumPy and ``packages``.

    >>> list(versions())
    ['gpunn', 'python', 'numpy']
    """
    installed = {name: importlib.metadata.version(name) for name in ("numpy", *packages)}
    return {"gpunn": gpunn.__version__, "python": platform.python_version()} | installed


# ---- the training --------------------------------------------------------------------------------------------------

OnStep = Callable[[int, int, float], None]
OnEpoch = Callable[[Record], None]


class Follow(Callback):
    """Tells ``on_step(step, steps, loss)`` and ``on_epoch(record)`` of the training."""

    def __init__(self, steps: int, on_step: OnStep | None, on_epoch: OnEpoch | None) -> None:
        self._steps, self._on_step, self._on_epoch = steps, on_step, on_epoch

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if self._on_step is not None:
            self._on_step(trainer.step, self._steps, loss)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        if self._on_epoch is not None:
            self._on_epoch(record)


class Outcome(NamedTuple):
    """How a training ended: ``"finished"``, ``"interrupted"`` or ``"diverged"``, and then the error."""

    status: str
    error: TrainingError | None

    @property
    def summary(self) -> dict[str, Any]:
        """The first lines of summary.json."""
        return {"status": self.status, "error": None if self.error is None else str(self.error)}


def finish(training: Callable[[], object]) -> Outcome:
    """Call ``training``, and say how it ended: at its end, at Ctrl-C or at a TrainingError."""
    try:
        training()
    except KeyboardInterrupt:
        return Outcome("interrupted", None)
    except TrainingError as error:
        return Outcome("diverged", error)
    return Outcome("finished", None)


def raise_if_diverged(outcome: Outcome, folder: Path) -> None:
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
