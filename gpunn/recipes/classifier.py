"""The training of a classifier, as several recipes do it: the loop, the weights, the measures, the summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpunn import nn
from gpunn.backend import Array, device_of
from gpunn.checkpoint import save_weights
from gpunn.data import ArrayDataset, DataLoader
from gpunn.functional import softmax
from gpunn.optim import Optimizer
from gpunn.recipes import run
from gpunn.recipes.run import Follow, OnEpoch, OnStep, Outcome
from gpunn.runs.loaded import Answer, Loaded, Measured, answers, read_weights, tally
from gpunn.tensor import tensor
from gpunn.train import MULTICLASS, Checkpoint, Evaluation, JsonLines, Objective, Record, Trainer, evaluate, evaluation


class Trained(NamedTuple):
    """How the training went, its records, the measure on the test data, and the start of the summary."""

    outcome: Outcome
    records: list[Record]
    result: Evaluation
    summary: dict[str, Any]


def train_classifier(
    model: nn.Module,
    optimizer: Optimizer,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    folder: Path,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    config: dict[str, Any],
    workers: int = 0,
    augment: Callable[[Array, np.random.Generator], Array] | None = None,
    objective: Objective = MULTICLASS,
    precision: str = "fp32",
    test_batch_size: int = 256,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train with :class:`gpunn.recipes.run.WarmupCosine`, keep the weights and measure the end.

    Writes metrics.jsonl, checkpoints/ and model.safetensors into ``folder``, and goes on from its newest checkpoint if
    it has one, which must be of the same ``config``. Ctrl-C and a loss that is not finite end the training early; the
    model is then as it was after the last whole epoch, or when it was taken up.
    """

    def moved(batch: tuple[Array, Array], generator: np.random.Generator) -> tuple[Array, Array]:
        return batch[0] if augment is None else augment(batch[0], generator), batch[1]

    data = DataLoader(ArrayDataset(*train), batch_size, shuffle=True, seed=seed, augment=moved, workers=workers)
    steps = epochs * len(data)
    saving = Checkpoint(folder / "checkpoints", about=config)

    def loss(batch: tuple[Array, Array]) -> tuple[Any, int]:
        x, y = batch
        return objective.loss(model(tensor(x)), y), len(y)

    trainer = Trainer(
        model,
        optimizer,
        data,
        loss,
        measure=lambda: measures(evaluate(model, *test, test_batch_size, objective, workers)),
        schedule=run.WarmupCosine(optimizer, steps),
        precision=precision,
        callbacks=[JsonLines(folder / "metrics.jsonl"), Follow(steps, on_step, on_epoch), saving],
    )
    saving.resume(trainer)
    outcome = run.finish(lambda: trainer.run(epochs))
    save_weights(model, folder / "model.safetensors")  # first: it cannot be computed again
    result = evaluate(model, *test, test_batch_size, objective, workers)
    in_epochs = sum(record["seconds"] for record in trainer.records)
    summary = outcome.summary | {
        **measures(result),
        "parameters": sum(p.data.size for p in model.parameters()),
        "seconds": trainer.seconds,
        "samples_per_second": len(trainer.records) * len(train[1]) / in_epochs if trainer.records else None,
        "epochs": trainer.epoch,
        "steps": trainer.step,
    }
    return Trained(outcome, trainer.records, result, summary)


def measures(found: Evaluation) -> dict[str, float]:
    """The measures of a classifier, by their names in a record and in a summary."""
    return {"test_accuracy": found.accuracy, "test_loss": found.loss}


def load_classifier(
    model: nn.Module,
    folder: Path,
    classes: Sequence[str],
    example: Array,
    test: Callable[[], tuple[Array, Array]],
    read: Callable[[Path], tuple[Array, bool]],
    computing: Callable[..., Any],
    *,
    objective: Objective = MULTICLASS,
    test_batch_size: int = 256,
    probabilities: Callable[[Array], Array] = softmax,
) -> Loaded:
    """Open a run of :func:`train_classifier`; ``model`` gets its weights.

    ``test()`` gives the test data, ``read(path)`` the inputs of a file and whether it can hold several; with
    ``probabilities(output)`` an output becomes a probability for each of the ``classes``. ``computing`` is a decorator,
    :func:`gpunn.recipes.run.computing`, of what computes.
    """
    weights = read_weights(model, folder)

    @computing
    def measured() -> Measured:
        x, labels = test()
        found = evaluate(model, x, labels, test_batch_size, objective)
        given = [classes[label] for label in found.predictions.tolist()]
        return Measured(measures(found), {"": tally(classes, labels, given)})

    @computing
    def predict(path: Path) -> list[Answer]:
        x, several = read(path)
        rows = probabilities(evaluation.predict(model, x, test_batch_size, device_of(example)))
        return answers(classes, rows, several)

    return Loaded(model, weights, example, tuple(classes), measured, predict)


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints of a classifier's run.

    >>> headline({"status": "finished", "test_accuracy": 0.5, "epochs": 2, "seconds": 1.25})
    'test accuracy 50.00% after 2 epochs, 1.2 s'
    """
    return run.headline(f"test accuracy {summary['test_accuracy']:.2%}", summary)
