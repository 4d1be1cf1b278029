"""The training of a recipe that keeps its model: the loop, the weights, the measures, the summary, and opening it."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from gpunn import nn, optim, plot
from gpunn.backend import Array, asarray
from gpunn.checkpoint import save_weights
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import FileError, warn
from gpunn.functional import softmax
from gpunn.optim import Optimizer
from gpunn.recipes import run
from gpunn.recipes.options import paths_of
from gpunn.recipes.recipe import Recipe
from gpunn.recipes.run import Follow, Outcome
from gpunn.runs.folder import CHECKPOINTS, CONFIG, CURVES, METRICS, SUMMARY, WEIGHTS
from gpunn.runs.loaded import Answer, Confusion, Loaded, Measured, Written, answers, read_weights, tally
from gpunn.runs.records import by_cell, content, diverged, parse
from gpunn.tensor import Tensor, tensor
from gpunn.train import (
    MULTICLASS,
    Callback,
    Checkpoint,
    Evaluation,
    JsonLines,
    Objective,
    Record,
    Trainer,
    evaluate,
    evaluation,
)


class Labelled(Recipe):
    """A recipe with examples of one ``shape``, and a label for each."""

    shape: ClassVar[tuple[int, ...]]
    objective: ClassVar[Objective] = MULTICLASS

    def zeros(self, size: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        return asarray(np.zeros((size, *self.shape), dtype), self.device), asarray(np.zeros(size, int), self.device)

    def loss(self, network: Any, batch: tuple[Array, Array]) -> tuple[Tensor, int]:
        x, labels = batch
        return self.objective.loss(network(tensor(x)), labels), len(labels)


class Trained(NamedTuple):
    """How the training went, its records (by network, if there are several), and what the summary says of it."""

    outcome: Outcome
    records: Sequence[Record] | Mapping[str, Sequence[Record]]
    facts: dict[str, Any]


class Training(Recipe):
    """A recipe that trains with :class:`gpunn.train.Trainer`, goes on where it was stopped, and keeps its model."""

    makes = (CONFIG, METRICS, CHECKPOINTS, SUMMARY, WEIGHTS, CURVES)
    resumes = True
    distributes = True
    parts: ClassVar[tuple[str, ...]] = ()
    """The children of the model that are trained one by one, each with checkpoints of its own."""
    test_batch_size: ClassVar[int] = 256
    classes: Sequence[str] = ()
    """The names of the classes; none for a model that writes text."""

    def work(self) -> dict[str, Any]:
        model = self.network()
        outcome, records, facts = self.train(model)
        self.error = outcome.error
        if not self.first:
            return outcome.summary | facts
        save_weights(model, self.folder / WEIGHTS)  # first: it cannot be computed again
        result = self.result(model)
        self.keep(model, result)
        if records:
            plot.curves(records, self.folder / CURVES, diverged(records, outcome.status))
        return outcome.summary | self.results(result) | facts

    def train(self, model: nn.Module) -> Trained:
        """Train ``model``, from its newest checkpoint on if it has one, and write metrics.jsonl.

        Ctrl-C and a loss that is not finite end the training early; the model is then as it was after the last whole
        epoch, or when it was taken up.
        """
        data = self.batches()
        steps = self.options.epochs * len(data)
        following = Follow(steps, self.on_step, self.on_epoch)
        trainer = self.trainer(model, data, [JsonLines(self.folder / METRICS), following])
        outcome = run.finish(lambda: trainer.run(self.options.epochs))
        parameters = sum(p.size for p in model.parameters())
        facts = {"parameters": parameters, "seconds": trainer.seconds, **self.speed(trainer)}
        return Trained(outcome, trainer.records, facts | {"epochs": trainer.epoch, "steps": trainer.step})

    def trainer(self, network: nn.Module, data: Any, callbacks: Sequence[Callback], part: str = "") -> Trainer:
        """The trainer of a network, with :class:`gpunn.recipes.run.WarmupCosine`, as its newest checkpoint has it."""
        optimizer = self.optimizer(network)
        paths = paths_of(type(self.options))
        about = {name: value for name, value in self.config.items() if name not in paths}
        saving = Checkpoint(self.folder / CHECKPOINTS / part, about=about)
        trainer = Trainer(
            network,
            optimizer,
            data,
            lambda batch: self.loss(network, batch),
            measure=lambda: self.measures(self.evaluate(network, self.data[1])),
            schedule=run.WarmupCosine(optimizer, self.options.epochs * len(data)),
            precision=self.options.precision,
            callbacks=[*callbacks, saving],
            distributed=self.world,
            shard_optimizer=self.shard_optimizer,
        )
        if not saving.resume(trainer):
            self.on_first(lambda: self._begin_anew(part))
        return trainer

    def _begin_anew(self, part: str) -> None:
        """Say it, if a network is resumed without a checkpoint; FileError where none can be written."""
        for place in (self.folder / CHECKPOINTS, self.folder / CHECKPOINTS / part):
            if os.path.lexists(place) and not place.is_dir():
                raise FileError(f"{place}: a file, where the folder of checkpoints is wanted")
        lines = [line.record for line in parse(content(self.folder)) if line.problem is None]
        epochs = len(by_cell(lines).get(part, ()))
        if epochs > 1:  # of one, who is killed before its checkpoint is whole leaves the record alone
            lost = f"{METRICS} has {epochs} epochs{f' of {part}' * bool(part)}, but there is no checkpoint"
            warn(f"{self.folder}: {lost}; the training begins anew")

    @classmethod
    def load(cls, options: Any, folder: Path) -> Loaded:
        """Open a run; raises FileError if ``folder`` holds no weights of it, or lacks what they need."""
        self = cls(options, run.choose_device(options.command, options.device, options.emulate))
        self.folder = folder
        self.reopen()
        model = self.network()
        weights = read_weights(model, folder, cls.parts)
        example, exporting = self.exporting()

        def measured() -> Measured:
            self.check_data(folder)
            result = self.result(model)
            return Measured(self.results(result), self.confusion(result))

        computing: Any = self.computing
        predict = computing()(partial(self.predict, model))
        classes = tuple(self.classes) or None
        return Loaded(model, weights, example, classes, computing()(measured), predict, exporting)

    @property
    @abstractmethod
    def data(self) -> Any:
        """Training and test data, on the device."""

    def reopen(self) -> None:  # most recipes need no more than their options
        """Read from the folder of a run what the network is made from."""

    @abstractmethod
    def network(self) -> Any:
        """The model before training, on the device."""

    def networks(self) -> Iterator[nn.Module]:
        yield self.network()

    def optimizer(self, network: nn.Module) -> Optimizer:
        return optim.Adam(network.parameters(), lr=self.options.lr)

    def batches(self) -> Any:
        """The batches of an epoch."""
        return DataLoader(
            ArrayDataset(*self.data[0]),
            self.options.batch_size,
            shuffle=True,
            seed=self.options.seed,
            augment=self.augment,
            workers=self.workers,
        )

    @property
    def workers(self) -> int:
        """Threads that make batches ahead."""
        return getattr(self.options, "workers", 0)

    def augment(self, batch: Any, generator: np.random.Generator) -> Any:
        """A batch of training data, changed at random."""
        return batch

    def test_zeros(self, dtype: np.dtype[Any]) -> Any:
        """Test data, all zeros."""
        return self.zeros(self.test_batch_size, dtype)

    @abstractmethod
    def evaluate(self, network: Any, test: Any) -> Any:
        """How a network does on test data."""

    @abstractmethod
    def measures(self, result: Any) -> dict[str, float]:
        """The measures of an evaluation, by their names in a record."""

    def result(self, model: Any) -> Any:
        """How the whole model does on the test data."""
        return self.evaluate(model, self.data[1])

    def results(self, result: Any) -> dict[str, Any]:
        """What the summary says of that."""
        return self.measures(result)

    def confusion(self, result: Any) -> dict[str, Confusion]:
        """What was taken for what, as :class:`gpunn.runs.loaded.Measured` has it."""
        return {}

    def keep(self, model: Any, result: Any) -> None:  # the curves are drawn of every run
        """Write the figures, and what else is kept."""

    def speed(self, trainer: Trainer) -> dict[str, float | None]:
        """How fast it was, for the summary."""
        return {}

    def inputs(self, batch: Any) -> Any:
        """What the model takes of a batch, a tuple if it takes several."""
        return batch[0]

    def exporting(self) -> tuple[Any, dict[str, Any]]:
        """An input of batch 1, and the other settings with which :func:`gpunn.interop.onnx.export` writes the model."""
        return self.inputs(self.zeros(1, np.dtype(np.float32))), {}

    @abstractmethod
    def predict(self, model: Any, path: Path) -> list[Answer] | list[Written]:
        """The answers for a file."""

    @classmethod
    def headline(cls, summary: dict[str, Any]) -> str:
        return run.headline(cls.measured(summary), summary)

    @classmethod
    @abstractmethod
    def measured(cls, summary: dict[str, Any]) -> str:
        """The measure that the command line prints."""


class Classifier(Labelled, Training):
    """A recipe that tells classes apart."""

    def evaluate(self, network: nn.Module, test: tuple[Array, Array]) -> Evaluation:
        return evaluate(network, *test, self.test_batch_size, self.objective, self.workers)

    def measures(self, result: Evaluation) -> dict[str, float]:
        return {"test_accuracy": result.accuracy, "test_loss": result.loss}

    def confusion(self, result: Any) -> dict[str, Confusion]:
        return {"": self.taken(result)}

    def taken(self, result: Evaluation) -> Confusion:
        """What the test data were taken for."""
        return tally(self.classes, self.data[1][1], [self.classes[label] for label in result.predictions.tolist()])

    def speed(self, trainer: Trainer) -> dict[str, float | None]:
        in_epochs = sum(record["seconds"] for record in trainer.records)
        samples = len(trainer.records) * len(self.data[0][1])
        return {"samples_per_second": samples / in_epochs if trainer.records else None}

    @abstractmethod
    def read(self, path: Path) -> tuple[Array, bool]:
        """The examples of a file, and whether it can hold several."""

    def predict(self, model: Any, path: Path) -> list[Answer]:
        x, several = self.read(path)
        return answers(self.classes, self.rows(model, x), several)

    def probabilities(self, output: Array) -> Array:
        """From outputs of the network to a probability for each class, (N, C)."""
        return softmax(output)

    def rows(self, network: nn.Module, x: Array) -> Array:
        """The probabilities (N, C) of the classes."""
        return self.probabilities(evaluation.predict(network, x, self.test_batch_size, self.device))

    @classmethod
    def measured(cls, summary: dict[str, Any]) -> str:
        return f"test accuracy {summary['test_accuracy']:.2%}"
