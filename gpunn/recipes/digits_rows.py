"""Many to one: read the 8 rows of a handwritten digit one after the other, with an RNN, an LSTM and a GRU side by side.

The run folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch and cell, written as the epoch ends;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights of the three, at the end of the last whole epoch of each;
- ``curves.png``, of the three, once each has an epoch to draw.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, random_generator
from gpunn.checkpoint import save_weights
from gpunn.data import digits, jitter
from gpunn.models import SequenceClassifier
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.classifier import OnStep
from gpunn.recipes.options import option
from gpunn.train import evaluate, fit

CELLS = ("rnn", "lstm", "gru")
FILES = ("config.json", "metrics.jsonl", "summary.json", "model.safetensors", "curves.png")
_NEEDS = ("sklearn", "matplotlib", "safetensors")


@dataclass(frozen=True)
class Options(base.Options):
    """The options of a run; ``seed`` draws the split, the weights, the order of the batches and the jitter."""

    command: ClassVar[str] = "train digits-rows"
    epochs: int = option(60, "Passes over the training images.", least=1)
    batch_size: int = option(32, "Images per training step.", least=1)
    lr: float = option(0.01, "Highest learning rate, above 0.", positive=True)
    hidden_size: int = option(64, "Hidden units of each recurrent layer.", least=1)


class CellRecord(NamedTuple):
    """What an epoch of one of the three came to."""

    cell: str
    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    seconds: float


class Readers(nn.Module):
    """The three classifiers, each 8 rows of 8 pixels → cell → 10 classes."""

    def __init__(self, hidden_size: int, seed: int) -> None:
        for cell in CELLS:
            generator = random_generator(seed)
            setattr(self, cell, SequenceClassifier(8, hidden_size, 10, cell=cell, generator=generator))

    def __getitem__(self, cell: str) -> SequenceClassifier:
        return dict(self.named_children())[cell]  # type: ignore[return-value]


def train_digits_rows(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: Callable[[CellRecord], None] | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; return the run folder, and what its summary.json holds.

    Arguments, Ctrl-C and errors are those of :func:`gpunn.recipes.digits.train_digits`. Each cell sees the same
    batches in the same order, an epoch in turn; the same options give the same weights, byte for byte, on one machine.
    """
    run.check_packages(Options.command, _NEEDS)
    device = run.choose_device(Options.command, options.device, options.emulate)
    folder = run.new_folder("digits-rows", out, FILES)
    run.write_json(folder / "config.json", asdict(options) | {"device": device})
    with run.computing(device, options.emulate, threads=1):  # products of this size gain nothing from more
        return _run(options, device, folder, on_step, on_epoch)


def _run(
    options: Options, device: str, folder: Path, on_step: OnStep | None, on_epoch: Callable[[CellRecord], None] | None
) -> tuple[Path, dict[str, Any]]:
    (x, y), (x_test, y_test) = ((asarray(x, device), asarray(y, device)) for x, y in digits(options.seed))
    test = x_test[:, 0], y_test  # (N, 1, 8, 8): without the channel, a sequence of rows
    models = Readers(options.hidden_size, options.seed).to(device)
    steps = options.epochs * math.ceil(len(y) / options.batch_size)
    done = 0

    def training(cell: str) -> Iterator[CellRecord]:
        adam = optim.Adam(models[cell].parameters(), lr=0.0)
        generator = random_generator(options.seed)

        def moved(rows: Array, generator: np.random.Generator) -> Array:
            return jitter(rows[:, None], generator)[:, 0]

        def after_step(step: int, loss: float) -> None:
            nonlocal done
            done += 1
            adam.lr = run.learning_rate(step, steps, options.lr)
            if on_step is not None:
                on_step(done, len(CELLS) * steps, loss)

        sizes: dict[str, Any] = {"epochs": options.epochs, "batch_size": options.batch_size}
        for record in fit(
            models[cell], adam, (x[:, 0], y), test, **sizes, generator=generator, augment=moved, on_step=after_step
        ):
            yield CellRecord(cell, *record)

    def in_turn() -> Iterator[CellRecord]:
        each = [training(cell) for cell in CELLS]
        for _ in range(options.epochs):
            yield from map(next, each)

    outcome = run.follow(in_turn(), folder, on_epoch)
    save_weights(models, folder / "model.safetensors")  # first: it cannot be computed again
    results = {cell: evaluate(models[cell], *test) for cell in CELLS}
    summary = {
        "status": outcome.status,
        "error": None if outcome.error is None else str(outcome.error),
        "test_accuracy": {cell: result.accuracy for cell, result in results.items()},
        "test_loss": {cell: result.loss for cell, result in results.items()},
        "parameters": {cell: sum(p.size for p in models[cell].parameters()) for cell in CELLS},
        "seconds": outcome.seconds,
        "epochs": len(outcome.records) // len(CELLS),
        "steps": done,
        "device": device,
        "emulate": options.emulate,
        "versions": run.versions("scikit-learn"),
    }
    run.write_json(folder / "summary.json", summary)
    records = {cell: [r._asdict() for r in outcome.records if r.cell == cell] for cell in CELLS}
    if all(records.values()):
        plot.curves({cell.upper(): of_cell for cell, of_cell in records.items()}, folder / "curves.png")
    run.raise_if_diverged(outcome, folder)
    return folder, summary


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints.

    >>> headline({"status": "finished", "test_accuracy": {"rnn": 0.5, "gru": 1.0}, "epochs": 2, "seconds": 1.25})
    'test accuracy RNN 50.00%, GRU 100.00% after 2 epochs, 1.2 s'
    """
    found = ", ".join(f"{cell.upper()} {value:.2%}" for cell, value in summary["test_accuracy"].items())
    return run.headline(f"test accuracy {found}", summary)
