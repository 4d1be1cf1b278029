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

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gpunn import nn
from gpunn.backend import Array, asarray, random_generator
from gpunn.data import digits, jitter
from gpunn.data.digits import CLASSES
from gpunn.models import CELLS, SequenceClassifier
from gpunn.recipes import options as base
from gpunn.recipes import run
from gpunn.recipes.inputs import digit_images
from gpunn.recipes.options import option
from gpunn.recipes.run import Follow
from gpunn.recipes.training import Classifier, Trained
from gpunn.runs.loaded import Answer, Confusion, answers
from gpunn.runs.records import write_records
from gpunn.train import Evaluation, Record, Trainer


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


class DigitsRows(Classifier):
    """Each cell sees the same batches in the same order, an epoch in turn, and answers for itself."""

    name = "digits-rows"
    text = "Many to one: the rows of a digit, read by an RNN, an LSTM and a GRU side by side."
    options: Options
    options_type = Options
    needs = ("sklearn", "matplotlib", "safetensors")
    versions = ("scikit-learn",)
    parts = tuple(CELLS)
    classes = CLASSES
    shape = (8, 8)

    @cached_property
    def data(self) -> list[tuple[Array, Array]]:
        """Images without their channel are sequences of rows."""
        return [(asarray(x[:, 0], self.device), asarray(y, self.device)) for x, y in digits(self.options.seed)]

    def network(self) -> Readers:
        return Readers(self.options.hidden_size, self.options.seed).to(self.device)

    def networks(self) -> Iterator[nn.Module]:
        return map(self.network().__getitem__, CELLS)

    def augment(self, batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
        return jitter(batch[0][:, None], generator)[:, 0], batch[1]

    def train(self, model: nn.Module) -> Trained:
        networks = dict(model.named_children())
        trainers: dict[str, Trainer] = {}

        def after_step(step: int, steps: int, loss: float) -> None:
            if self.on_step is not None:
                self.on_step(sum(trainer.step for trainer in trainers.values()), len(CELLS) * steps, loss)

        def keep_records() -> None:
            if not self.first:
                return
            by_cell = ([{"cell": cell} | record for record in trainer.records] for cell, trainer in trainers.items())
            write_records(self.folder, (record for epoch in zip_longest(*by_cell) for record in epoch if record))

        def trainer_of(cell: str) -> Trainer:
            def after_epoch(record: Record) -> None:
                keep_records()
                if self.on_epoch is not None:
                    self.on_epoch({"cell": cell} | record)

            batches = self.batches()
            following = Follow(self.options.epochs * len(batches), after_step, after_epoch)
            return self.trainer(networks[cell], batches, [following], cell)

        def in_turn() -> None:
            for epoch in range(1, self.options.epochs + 1):
                for trainer in trainers.values():
                    trainer.run(epoch)

        trainers |= {cell: trainer_of(cell) for cell in CELLS}
        outcome = run.finish(in_turn)
        keep_records()
        records = {cell.upper(): trainer.records for cell, trainer in trainers.items()}
        facts = {
            "parameters": {cell: sum(p.size for p in networks[cell].parameters()) for cell in CELLS},
            "seconds": sum(trainer.seconds for trainer in trainers.values()),
            "epochs": min(trainer.epoch for trainer in trainers.values()),
            "steps": sum(trainer.step for trainer in trainers.values()),
        }
        return Trained(outcome, records if all(records.values()) else {}, facts)

    def result(self, model: Readers) -> dict[str, Evaluation]:
        return {cell: self.evaluate(model[cell], self.data[1]) for cell in CELLS}

    def results(self, result: dict[str, Evaluation]) -> dict[str, Any]:
        by_cell = {cell: self.measures(each) for cell, each in result.items()}
        return {name: {cell: by_cell[cell][name] for cell in CELLS} for name in by_cell[self.parts[0]]}

    def confusion(self, result: dict[str, Evaluation]) -> dict[str, Confusion]:
        return {cell: self.taken(each) for cell, each in result.items()}

    def read(self, path: Path) -> tuple[Array, bool]:
        images, several = digit_images(path)
        return images[:, 0], several

    def predict(self, model: Readers, path: Path) -> list[Answer]:
        x, several = self.read(path)
        by_cell = [answers(CLASSES, self.rows(model[cell], x), several, cell) for cell in CELLS]
        return [answer for of_one in zip(*by_cell, strict=True) for answer in of_one]

    @classmethod
    def measured(cls, summary: dict[str, Any]) -> str:
        """The accuracy of each cell.

        >>> DigitsRows.measured({"test_accuracy": {"rnn": 0.5, "gru": 1.0}})
        'test accuracy RNN 50.00%, GRU 100.00%'
        """
        found = ", ".join(f"{cell.upper()} {value:.2%}" for cell, value in summary["test_accuracy"].items())
        return f"test accuracy {found}"


train_digits_rows = DigitsRows.run
