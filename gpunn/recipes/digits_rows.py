"""Many to one: read the 8 rows of a handwritten digit one after the other, with an RNN, an LSTM and a GRU side by side.

The run folder holds

- ``config.json``: the options of the run;
- ``metrics.jsonl``: a line an epoch and cell, written as the epoch ends;
- ``checkpoints/``: those of each cell, from which ``gpunn resume`` goes on;
- ``summary.json``: what the run came to, with ``status`` ``"finished"``, ``"interrupted"`` or ``"diverged"``;
- ``model.safetensors``: the weights of the three, at the end of the last whole epoch of each;
- ``curves.png``, of the three, once each has an epoch to draw.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import functional as F
from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray, random_generator
from gpunn.checkpoint import save_weights
from gpunn.data import ArrayDataset, DataLoader, digits, jitter
from gpunn.data.digits import CLASSES
from gpunn.models import SequenceClassifier
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.classifier import measures
from gpunn.recipes.inputs import digit_images
from gpunn.recipes.options import option
from gpunn.recipes.run import Follow, OnEpoch, OnStep
from gpunn.runs.folder import write_json, write_text
from gpunn.runs.loaded import Answer, Loaded, Measured, answers, read_weights, tally
from gpunn.tensor import Tensor, tensor
from gpunn.train import Checkpoint, Evaluation, Record, Trainer, evaluate, evaluation

CELLS = ("rnn", "lstm", "gru")
FILES = ("config.json", "metrics.jsonl", "checkpoints", "summary.json", "model.safetensors", "curves.png")
_NEEDS = ("sklearn", "matplotlib", "safetensors")


@dataclass(frozen=True)
class Options(base.TrainingOptions):
    """The options of a run; ``seed`` draws the split, the weights, the order of the batches and the jitter."""

    command: ClassVar[str] = "train digits-rows"
    epochs: int = option(60, "Passes over the training images.", least=1)
    batch_size: int = option(32, "Images per training step.", least=1)
    lr: float = option(0.01, "Highest learning rate, above 0.", positive=True)
    hidden_size: int = option(64, "Hidden units of each recurrent layer.", least=1)
    workers: int = option(0, "Threads that make batches ahead; the same batches with any number.", least=0)


class Readers(nn.Module):
    """The three classifiers, each 8 rows of 8 pixels → cell → 10 classes; x (N, 8, 8) to the logits of each."""

    def __init__(self, hidden_size: int, seed: int) -> None:
        for cell in CELLS:
            generator = random_generator(seed)
            setattr(self, cell, SequenceClassifier(8, hidden_size, 10, cell=cell, generator=generator))

    def forward(self, x: Any) -> tuple[Any, ...]:
        return tuple(self[cell](x) for cell in CELLS)

    def __getitem__(self, cell: str) -> SequenceClassifier:
        return dict(self.named_children())[cell]  # type: ignore[return-value]


def train_digits_rows(
    options: Options,
    out: str | os.PathLike[str] | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    resume: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Run the recipe; return the run folder, and what its summary.json holds.

    Arguments, Ctrl-C and errors are those of :func:`gpunn.recipes.digits.train_digits`. Each cell sees the same
    batches in the same order, an epoch in turn; the same options give the same weights, byte for byte, on one machine.
    """
    run.check_packages(Options.command, _NEEDS)
    device = run.choose_device(Options.command, options.device, options.emulate)
    # Products of this size gain nothing from more.
    with (
        run.begin("digits-rows", options, device, out, FILES, resume) as (folder, config),
        run.computing(device, options.emulate, threads=1),
    ):
        return _run(options, config, folder, on_step, on_epoch)


def data(options: Options, device: str) -> list[tuple[Array, Array]]:
    """Training and test data, on ``device``; images without their channel are sequences of rows."""
    return [(asarray(x[:, 0], device), asarray(y, device)) for x, y in digits(options.seed)]


def _by_measure(results: dict[str, Evaluation]) -> dict[str, dict[str, float]]:
    by_cell = {cell: measures(result) for cell, result in results.items()}
    return {name: {cell: by_cell[cell][name] for cell in by_cell} for name in measures(next(iter(results.values())))}


def load(options: Options, folder: Path) -> Loaded:
    """Open a run; raises FileError if ``folder`` holds no weights of it. Each cell answers for itself."""
    device = run.choose_device(options.command, options.device, options.emulate)
    models = Readers(options.hidden_size, options.seed).to(device)
    weights = read_weights(models, folder, CELLS)
    example = asarray(np.zeros((1, 8, 8), np.float32), device)
    computing = run.computing(device, options.emulate, threads=1)

    @computing
    def measured() -> Measured:
        x, y = data(options, device)[1]
        results = {cell: evaluate(models[cell], x, y) for cell in CELLS}
        given = {cell: [CLASSES[label] for label in result.predictions.tolist()] for cell, result in results.items()}
        return Measured(_by_measure(results), {cell: tally(CLASSES, y, given[cell]) for cell in CELLS})

    @computing
    def predict(path: Path) -> list[Answer]:
        images, several = digit_images(path)
        rows = {cell: F.softmax(evaluation.predict(models[cell], images[:, 0], device=device)) for cell in CELLS}
        by_cell = [answers(CLASSES, rows[cell], several, cell) for cell in CELLS]
        return [answer for of_one in zip(*by_cell, strict=True) for answer in of_one]

    return Loaded(models, weights, example, CLASSES, measured, predict)


def _run(
    options: Options, config: dict[str, Any], folder: Path, on_step: OnStep | None, on_epoch: OnEpoch | None
) -> tuple[Path, dict[str, Any]]:
    device = config["device"]
    train, test = data(options, device)
    models = Readers(options.hidden_size, options.seed).to(device)
    trainers: dict[str, Trainer] = {}

    def after_step(step: int, steps: int, loss: float) -> None:
        if on_step is not None:
            on_step(sum(trainer.step for trainer in trainers.values()), len(CELLS) * steps, loss)

    def keep_records() -> list[Record]:
        by_epoch = zip_longest(*([{"cell": cell} | r for r in trainer.records] for cell, trainer in trainers.items()))
        records = [record for epoch in by_epoch for record in epoch if record is not None]
        write_text(folder / "metrics.jsonl", "".join(json.dumps(record) + "\n" for record in records))
        return records

    def trainer_of(cell: str) -> Trainer:
        def after_epoch(record: Record) -> None:
            keep_records()
            if on_epoch is not None:
                on_epoch({"cell": cell} | record)

        def loss(batch: tuple[Array, Array]) -> tuple[Tensor, int]:
            rows, labels = batch
            return F.cross_entropy(models[cell](tensor(rows)), labels), len(labels)

        def moved(batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
            return jitter(batch[0][:, None], generator)[:, 0], batch[1]

        adam = optim.Adam(models[cell].parameters(), lr=options.lr)
        loader = DataLoader(
            ArrayDataset(*train),
            options.batch_size,
            shuffle=True,
            seed=options.seed,
            augment=moved,
            workers=options.workers,
        )
        steps = options.epochs * len(loader)
        saving = Checkpoint(folder / "checkpoints" / cell, about=config)
        following = Follow(steps, after_step, after_epoch)
        schedule = run.WarmupCosine(adam, steps)
        trainer = Trainer(
            models[cell],
            adam,
            loader,
            loss,
            measure=lambda: measures(evaluate(models[cell], *test)),
            schedule=schedule,
            precision=options.precision,
            callbacks=[following, saving],
        )
        saving.resume(trainer)
        return trainer

    trainers |= {cell: trainer_of(cell) for cell in CELLS}

    def in_turn() -> None:
        for epoch in range(1, options.epochs + 1):
            for trainer in trainers.values():
                trainer.run(epoch)

    outcome = run.finish(in_turn)
    save_weights(models, folder / "model.safetensors")  # first: it cannot be computed again
    results = {cell: evaluate(models[cell], *test) for cell in CELLS}
    if keep_records() and all(trainer.records for trainer in trainers.values()):
        plot.curves({cell.upper(): trainer.records for cell, trainer in trainers.items()}, folder / "curves.png")
    summary = outcome.summary | {
        **_by_measure(results),
        "parameters": {cell: sum(p.size for p in models[cell].parameters()) for cell in CELLS},
        "seconds": sum(trainer.seconds for trainer in trainers.values()),
        "epochs": min(trainer.epoch for trainer in trainers.values()),
        "steps": sum(trainer.step for trainer in trainers.values()),
        "device": device,
        "emulate": options.emulate,
        "versions": run.versions("scikit-learn"),
    }
    write_json(folder / "summary.json", summary)  # last: a run whose status is "finished" is complete
    run.raise_if_diverged(outcome, folder)
    return folder, summary


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints.

    >>> headline({"status": "finished", "test_accuracy": {"rnn": 0.5, "gru": 1.0}, "epochs": 2, "seconds": 1.25})
    'test accuracy RNN 50.00%, GRU 100.00% after 2 epochs, 1.2 s'
    """
    found = ", ".join(f"{cell.upper()} {value:.2%}" for cell, value in summary["test_accuracy"].items())
    return run.headline(f"test accuracy {found}", summary)
