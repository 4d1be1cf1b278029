"""The training of a classifier, as several recipes do it: the loop, the weights, the measures, the summary."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpunn import nn
from gpunn.backend import Array
from gpunn.checkpoint import save_weights
from gpunn.recipes import run
from gpunn.recipes.run import Outcome, learning_rate
from gpunn.train import MULTICLASS, EpochRecord, Evaluation, Objective, evaluate, fit

OnStep = Callable[[int, int, float], None]
OnEpoch = Callable[[EpochRecord], None]


class Optimizer(Protocol):
    """An optimizer whose learning rate can be set."""

    lr: float

    def zero_grad(self) -> None: ...
    def step(self) -> None: ...


class Trained(NamedTuple):
    """How the training went, the measure on the test data, and the start of the summary."""

    outcome: Outcome[EpochRecord]
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
    lr: float,
    generator: np.random.Generator,
    augment: Callable[[Array, np.random.Generator], Array] | None = None,
    objective: Objective = MULTICLASS,
    test_batch_size: int = 256,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Train with :func:`gpunn.recipes.run.learning_rate` up to ``lr``, keep the weights and measure the end.

    Writes metrics.jsonl and model.safetensors into ``folder``; Ctrl-C and a loss that is not finite end the training
    early, and the model is then as it was after the last whole epoch. ``on_step(step, steps, loss)`` follows.
    """
    steps = epochs * math.ceil(len(train[1]) / batch_size)
    done = 0
    optimizer.lr = learning_rate(0, steps, lr)

    def after_step(step: int, loss: float) -> None:
        nonlocal done
        done = step
        optimizer.lr = learning_rate(step, steps, lr)
        if on_step is not None:
            on_step(step, steps, loss)

    training = fit(
        model,
        optimizer,
        train,
        test,
        epochs=epochs,
        batch_size=batch_size,
        generator=generator,
        augment=augment,
        on_step=after_step,
        objective=objective,
        test_batch_size=test_batch_size,
    )
    outcome = run.follow(training, folder, on_epoch)
    save_weights(model, folder / "model.safetensors")  # first: it cannot be computed again
    result = evaluate(model, *test, test_batch_size, objective)
    in_epochs = sum(record.seconds for record in outcome.records)
    summary = {
        "status": outcome.status,
        "error": None if outcome.error is None else str(outcome.error),
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "parameters": sum(p.data.size for p in model.parameters()),
        "seconds": outcome.seconds,
        "samples_per_second": len(outcome.records) * len(train[1]) / in_epochs if outcome.records else None,
        "epochs": len(outcome.records),
        "steps": done,
    }
    return Trained(outcome, result, summary)


def headline(summary: dict[str, Any]) -> str:
    """What the command line prints of a classifier's run.

    >>> headline({"status": "finished", "test_accuracy": 0.5, "epochs": 2, "seconds": 1.25})
    'test accuracy 50.00% after 2 epochs, 1.2 s'
    """
    return run.headline(f"test accuracy {summary['test_accuracy']:.2%}", summary)
