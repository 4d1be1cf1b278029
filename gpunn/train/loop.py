"""The training loop, for classifiers with integer labels."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, to_cpu
from gpunn.data import batches
from gpunn.errors import ArgumentError, TrainingError, check
from gpunn.tensor import no_grad, tensor


class EpochRecord(NamedTuple):
    """What an epoch came to; losses are means over the examples, ``seconds`` is its wall time."""

    epoch: int
    train_loss: float
    test_loss: float
    test_accuracy: float
    seconds: float


class Evaluation(NamedTuple):
    """The mean loss, the share of right answers in [0, 1], and the class given to each example, int64 (N,)."""

    loss: float
    accuracy: float
    predictions: np.ndarray[Any, np.dtype[np.int64]]


class Optimizer(Protocol):
    """What the loop needs of an optimizer; see :mod:`gpunn.optim`."""

    def zero_grad(self) -> None: ...
    def step(self) -> None: ...


def fit(
    model: nn.Module,
    optimizer: Optimizer,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    *,
    epochs: int,
    batch_size: int,
    generator: np.random.Generator,
    augment: Callable[[Array, np.random.Generator], Array] | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Iterator[EpochRecord]:
    """Train on shuffled minibatches with cross entropy, and yield a record after each epoch.

    ``train`` and ``test`` are ``(x, y)``: images (N, ...) of a floating dtype, integer labels (N,).
    ``generator`` gives the order of the examples, and the randomness of ``augment(x, generator)``, which may change
    each training batch. ``on_step(step, loss)`` is called after each step, counted from 1 over all epochs; it is the
    place to change the learning rate.

    >>> from gpunn import nn, optim
    >>> from gpunn.backend import random_generator
    >>> g = random_generator(0)
    >>> x, y = np.eye(3, dtype=np.float32), np.arange(3)
    >>> model = nn.Linear(3, 3, generator=g)
    >>> sgd = optim.SGD(model.parameters(), lr=1.0)
    >>> [r.test_accuracy for r in fit(model, sgd, (x, y), (x, y), epochs=40, batch_size=2, generator=g)][-1]
    1.0

    Raises TrainingError, which says at which step, when a loss is not finite. Whatever stops an epoch (that error,
    Ctrl-C), the model goes back to its last good state: the end of the last whole epoch, or the state it came in.
    """
    check(epochs >= 1, ArgumentError, "fit", "epochs must be at least 1", epochs=epochs)
    step = 0
    good = model.state_dict()  # a copy
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        total = 0.0
        try:
            model.train()
            for x, y in batches(*train, batch_size, generator):
                step += 1
                if augment is not None:
                    x = augment(x, generator)
                loss = _step(model, optimizer, x, y)
                _check_finite(loss, "training", step, epoch)
                total += loss * len(y)
                if on_step is not None:
                    on_step(step, loss)
            result = evaluate(model, *test)
            _check_finite(result.loss, "test", step, epoch)
        except BaseException:
            model.load_state_dict(good)
            raise
        good = model.state_dict()
        seconds = time.perf_counter() - start
        yield EpochRecord(epoch, total / len(train[1]), result.loss, result.accuracy, seconds)


def _step(model: nn.Module, optimizer: Optimizer, x: Array, y: Array) -> float:
    with np.errstate(over="ignore", invalid="ignore"):  # a loss that overflows is reported by _check_finite
        loss = F.cross_entropy(model(tensor(x)), y)
        value = float(loss.item())
        if math.isfinite(value):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return value


def _check_finite(loss: float, which: str, step: int, epoch: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"fit: the {which} loss is {loss} at step {step} (epoch {epoch}); "
            "the model is back in its last good state: try a smaller learning rate"
        )


def evaluate(model: nn.Module, x: Array, y: Array, batch_size: int = 256) -> Evaluation:
    """Measure a classifier on images x (N, ...) and integer labels y (N,), in evaluation mode, without a tape.

    >>> from gpunn.nn import Flatten
    >>> scores = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32)
    >>> result = evaluate(Flatten(), scores, np.array([0, 1, 1]))
    >>> round(result.accuracy, 3), result.predictions.tolist()
    (0.667, [0, 1, 0])
    """
    total, predictions = 0.0, []
    with model.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for part, labels in batches(x, y, batch_size):
            logits = model(tensor(part))
            total += float(F.cross_entropy(logits, labels).item()) * len(labels)
            predictions.append(to_cpu(logits.data).argmax(axis=1))
    given = np.concatenate(predictions)
    return Evaluation(total / len(y), float((given == to_cpu(y)).mean()), given)
