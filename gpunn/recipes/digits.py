"""Train a LeNet-style network on scikit-learn's handwritten digits, and keep the run in a folder.

The folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights at the end of the last whole epoch;
- ``curves.png`` (once there is an epoch to draw) and ``confusion.png`` (on the test images).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gpunn
from gpunn import optim, plot
from gpunn.backend import asarray, check_device, default_device, random_generator, to_cpu, use_device
from gpunn.checkpoint import save_weights
from gpunn.cuda import emulate
from gpunn.cuda.emulator.build import host_compiler
from gpunn.data import digits, jitter
from gpunn.data.digits import CLASSES
from gpunn.errors import ArgumentError, FileError, PackageError, TrainingError, check
from gpunn.models import lenet
from gpunn.train import EpochRecord, evaluate, fit

FILES = ("config.json", "metrics.jsonl", "summary.json", "model.safetensors", "curves.png", "confusion.png")
WEIGHT_DECAY = 1e-4  # against over-fitting 1,347 images: as good or better on each of five splits where it was tried
_NEEDS = ("sklearn", "matplotlib", "safetensors")


@dataclass(frozen=True)
class Options:
    """The options of a run.

    ``seed`` draws the split into training and test images, the weights, the order of the batches and the jitter.
    ``device`` is ``"cpu"``, ``"gpu"`` or ``"gpu:N"``, or None for the default device; with ``emulate`` the arrays stay
    on the CPU and go through the CUDA kernels there.
    """

    epochs: int = 80
    batch_size: int = 32
    lr: float = 0.005
    seed: int = 0
    device: str | None = None
    emulate: bool = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            check(value >= least, ArgumentError, "train digits", f"{name} must be at least {least}", **{name: value})
        check(0 < self.lr < math.inf, ArgumentError, "train digits", "lr must be above 0 and finite", lr=self.lr)


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


def train_digits(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: Callable[[int, int, float], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; return the run folder, and what its summary.json holds.

    ``out`` is the run folder, by default ``runs/digits-<date>-<time>``. ``on_step(step, steps, loss)`` and
    ``on_epoch(record)`` follow the training. The same options give the same weights, byte for byte, on one machine.

    Ctrl-C ends the training early: the folder is completed, with status ``"interrupted"``. Raises FileError, before
    anything is computed, if the folder cannot be written or already holds a run; TrainingError, after the folder
    is completed, if the loss became infinite or NaN.
    """
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageError(f'train digits: {", ".join(missing)} not installed: pip install "gpunn[train]"')
    from threadpoolctl import threadpool_limits

    device = check_device(options.device) if options.device is not None else default_device()
    if options.emulate and device != "cpu":
        raise ArgumentError(f"train digits: the emulator takes arrays of the CPU, got device={device!r}")
    if options.emulate:
        host_compiler()  # raises CompileError, while there is no folder yet, where there is none
    folder = _new_folder(out)
    _write_json(folder / "config.json", asdict(options) | {"device": device})

    # One BLAS thread: products of this size gain nothing from more, which on a busy machine only wait for each other;
    # and the order of the sums, so every byte of the weights, does not depend on the number of cores.
    emulation = emulate() if options.emulate else contextlib.nullcontext()
    with use_device(device), threadpool_limits(1, "blas"), emulation:
        return _run(options, device, folder, on_step, on_epoch)


def _run(
    options: Options,
    device: str,
    folder: Path,
    on_step: Callable[[int, int, float], None] | None,
    on_epoch: Callable[[EpochRecord], None] | None,
) -> tuple[Path, dict[str, Any]]:
    train, test = ((asarray(x, device), asarray(y, device)) for x, y in digits(options.seed))
    generator = random_generator(options.seed)
    model = lenet(generator=generator).to(device)
    steps = options.epochs * math.ceil(len(train[1]) / options.batch_size)
    adam = optim.Adam(model.parameters(), lr=learning_rate(0, steps, options.lr), weight_decay=WEIGHT_DECAY)
    done = 0

    def after_step(step: int, loss: float) -> None:
        nonlocal done
        done = step
        adam.lr = learning_rate(step, steps, options.lr)
        if on_step is not None:
            on_step(step, steps, loss)

    records: list[EpochRecord] = []
    status, diverged = "finished", None
    start = time.perf_counter()
    try:
        for record in fit(
            model,
            adam,
            train,
            test,
            epochs=options.epochs,
            batch_size=options.batch_size,
            generator=generator,
            augment=jitter,
            on_step=after_step,
        ):
            records.append(record)
            _append_line(folder / "metrics.jsonl", record._asdict())
            if on_epoch is not None:
                on_epoch(record)
    except KeyboardInterrupt:
        status = "interrupted"
    except TrainingError as error:
        status, diverged = "diverged", error
    seconds = time.perf_counter() - start
    save_weights(model, folder / "model.safetensors")  # first: it cannot be computed again
    result = evaluate(model, *test)

    in_epochs = sum(record.seconds for record in records)
    summary = {
        "status": status,
        "error": None if diverged is None else str(diverged),
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "parameters": sum(p.data.size for p in model.parameters()),
        "seconds": seconds,
        "samples_per_second": len(records) * len(train[1]) / in_epochs if records else None,
        "epochs": len(records),
        "steps": done,
        "device": device,
        "emulate": options.emulate,
        "versions": {"gpunn": gpunn.__version__, "python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in ("numpy", "scikit-learn")},
    }
    _write_json(folder / "summary.json", summary)
    matrix = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(matrix, (to_cpu(test[1]), result.predictions), 1)
    plot.confusion(matrix, folder / "confusion.png", CLASSES)
    if records:
        plot.curves([record._asdict() for record in records], folder / "curves.png")
    if diverged is not None:
        raise TrainingError(f"{diverged}; the run is in {folder}") from diverged
    return folder, summary


# ---- the folder ----------------------------------------------------------------------------------------------------


def _new_folder(out: str | os.PathLike[str] | None) -> Path:
    """Make the run folder; an existing one is taken if it holds none of a run's files."""
    if out is None:
        return _default_folder(Path("runs"))
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [name for name in FILES if (folder / name).exists()]
    except OSError as error:
        raise _unwritable(folder, error) from error
    if there:
        raise FileError(f"{folder}: holds a run already ({there[0]}); choose another --out, or remove that folder")
    return folder


def _default_folder(runs: Path) -> Path:
    stamp = time.strftime("digits-%Y%m%d-%H%M%S")
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


def _unwritable(path: Path, error: OSError) -> FileError:
    return FileError(f"{path}: the run cannot be written there: {error.strerror or error}")


def _write_json(path: Path, content: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(path, error) from error


def _append_line(path: Path, content: dict[str, Any]) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise _unwritable(path, error) from error
