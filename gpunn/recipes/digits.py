"""Train a LeNet-style network on scikit-learn's handwritten digits, and keep the run in a folder.

The folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights at the end of the last whole epoch;
- ``curves.png`` (once there is an epoch to draw) and ``confusion.png`` (on the test images).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpunn import optim, plot
from gpunn.backend import asarray, random_generator, to_cpu
from gpunn.checkpoint import save_weights
from gpunn.data import digits, jitter
from gpunn.data.digits import CLASSES
from gpunn.models import lenet
from gpunn.recipes import run
from gpunn.recipes.run import learning_rate
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
        run.check_options("train digits", self, {"epochs": 1, "batch_size": 1, "seed": 0})


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
    run.check_packages("train digits", _NEEDS)
    device = run.choose_device("train digits", options.device, options.emulate)
    folder = run.new_folder("digits", out, FILES)
    run.write_json(folder / "config.json", asdict(options) | {"device": device})
    # One BLAS thread: products of this size gain nothing from more, which on a busy machine only wait for each other.
    with run.computing(device, options.emulate, threads=1):
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

    training = fit(
        model,
        adam,
        train,
        test,
        epochs=options.epochs,
        batch_size=options.batch_size,
        generator=generator,
        augment=jitter,
        on_step=after_step,
    )
    outcome = run.follow(training, folder, on_epoch)
    records = outcome.records
    save_weights(model, folder / "model.safetensors")  # first: it cannot be computed again
    result = evaluate(model, *test)

    in_epochs = sum(record.seconds for record in records)
    summary = {
        "status": outcome.status,
        "error": None if outcome.error is None else str(outcome.error),
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "parameters": sum(p.data.size for p in model.parameters()),
        "seconds": outcome.seconds,
        "samples_per_second": len(records) * len(train[1]) / in_epochs if records else None,
        "epochs": len(records),
        "steps": done,
        "device": device,
        "emulate": options.emulate,
        "versions": run.versions("scikit-learn"),
    }
    run.write_json(folder / "summary.json", summary)
    matrix = np.zeros((len(CLASSES), len(CLASSES)), int)
    np.add.at(matrix, (to_cpu(test[1]), result.predictions), 1)
    plot.confusion(matrix, folder / "confusion.png", CLASSES)
    if records:
        plot.curves([record._asdict() for record in records], folder / "curves.png")
    run.raise_if_diverged(outcome, folder)
    return folder, summary
