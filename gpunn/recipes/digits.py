"""Train a LeNet-style network on scikit-learn's handwritten digits, and keep the run in a folder.

The folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch, written as the epoch ends;
- ``checkpoints/``: from which ``gpunn resume`` goes on, after each epoch, and where the run was interrupted;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights at the end of the last whole epoch;
- ``curves.png`` (once there is an epoch to draw), and ``confusion.png`` and ``misclassified.png`` (on the test images).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, random_generator, to_cpu
from gpunn.data import digits, jitter
from gpunn.data.digits import CLASSES
from gpunn.models import lenet
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.classifier import load_classifier, train_classifier
from gpunn.recipes.inputs import digit_images
from gpunn.recipes.options import option
from gpunn.recipes.run import OnEpoch, OnStep
from gpunn.runs.folder import write_json
from gpunn.runs.loaded import Loaded
from gpunn.train import confusion_matrix

FILES = (
    *("config.json", "metrics.jsonl", "checkpoints", "summary.json", "model.safetensors"),
    *("curves.png", "confusion.png", "misclassified.png"),
)
WEIGHT_DECAY = 1e-4  # against over-fitting 1,347 images: as good or better on each of five splits where it was tried
_NEEDS = ("sklearn", "matplotlib", "safetensors")


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run.

    ``seed`` draws the split into training and test images, the weights, the order of the batches and the jitter.
    ``device`` is ``"cpu"``, ``"gpu"`` or ``"gpu:N"``, or None for the default device; with ``emulate`` the arrays stay
    on the CPU and go through the CUDA kernels there.
    """

    command: ClassVar[str] = "train digits"
    epochs: int = option(80, "Passes over the training images.", least=1)
    batch_size: int = option(32, "Images per training step.", least=1)
    lr: float = option(0.005, "Highest learning rate, above 0.", positive=True)
    workers: int = option(0, "Threads that make batches ahead; the same batches with any number.", least=0)


def train_digits(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; return the run folder, and what its summary.json holds.

    ``out`` is the run folder, by default ``runs/digits-<date>-<time>``. ``on_step(step, steps, loss)`` and
    ``on_epoch(record)`` follow the training. The same options give the same weights, byte for byte, on one machine.

    Ctrl-C ends the training early: the folder is completed, with status ``"interrupted"``. With ``resume``, ``out`` is
    the folder of such a run, or of one that was killed, and the result that of a run that was never stopped. Raises
    FileError, before anything is computed, if the folder cannot be written, is in use, holds a run, or one with other
    options to be resumed; TrainingError, after the folder is completed, if the loss became infinite or NaN.
    """
    run.check_packages("train digits", _NEEDS)
    device = run.choose_device("train digits", options.device, options.emulate)
    # One BLAS thread: products of this size gain nothing from more, which on a busy machine only wait for each other.
    with (
        run.begin("digits", options, device, out, FILES, resume) as (folder, config),
        run.computing(device, options.emulate, threads=1),
    ):
        return _run(options, config, folder, on_step, on_epoch)


def network(options: Options, device: str) -> nn.Module:
    """The network before training, on ``device``."""
    return lenet(generator=random_generator(options.seed)).to(device)


def data(options: Options, device: str) -> list[tuple[Array, Array]]:
    """Training and test data, on ``device``."""
    return [(asarray(x, device), asarray(y, device)) for x, y in digits(options.seed)]


def load(options: Options, folder: Path) -> Loaded:
    """Open a run; raises FileError if ``folder`` holds no weights of it."""
    device = run.choose_device(options.command, options.device, options.emulate)
    return load_classifier(
        network(options, device),
        folder,
        CLASSES,
        asarray(np.zeros((1, 1, 8, 8), np.float32), device),
        lambda: data(options, device)[1],
        digit_images,
        run.computing(device, options.emulate, threads=1),
    )


def _run(
    options: Options, config: dict[str, Any], folder: Path, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    device = config["device"]
    train, test = data(options, device)
    model = network(options, device)
    outcome, records, result, summary = train_classifier(
        model,
        optim.Adam(model.parameters(), lr=options.lr, weight_decay=WEIGHT_DECAY),
        train,
        test,
        folder,
        epochs=options.epochs,
        batch_size=options.batch_size,
        seed=options.seed,
        config=config,
        workers=options.workers,
        precision=options.precision,
        augment=jitter,
        on_step=on_step,
        on_epoch=on_epoch,
    )
    images, labels = to_cpu(test[0]), to_cpu(test[1])
    matrix = confusion_matrix(labels, result.predictions, len(CLASSES))
    plot.confusion(matrix, folder / "confusion.png", CLASSES)
    plot.misclassified(images, labels, result.predictions, folder / "misclassified.png", CLASSES)
    if records:
        plot.curves(records, folder / "curves.png")
    summary |= {"device": device, "emulate": options.emulate, "versions": run.versions("scikit-learn")}
    write_json(folder / "summary.json", summary)  # last: a run whose status is "finished" is complete
    run.raise_if_diverged(outcome, folder)
    return folder, summary
