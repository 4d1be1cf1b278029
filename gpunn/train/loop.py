"""The training loop: of classifiers with integer labels, and of anything that has a loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, to_cpu
from gpunn.data import batches
from gpunn.errors import ArgumentError, TrainingError, check
from gpunn.tensor import Tensor, no_grad, tensor


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


class Objective(NamedTuple):
    """What a classifier is trained for: the loss of an output, and the classes that it stands for.

    ``loss(output, labels)`` is the mean over the examples; ``decide(output)`` takes and gives arrays.
    """

    loss: Callable[[Any, Array], Any]
    decide: Callable[[Array], Array]


def _binary_loss(probability: Any, labels: Array) -> Any:
    return F.binary_cross_entropy(probability, labels.astype(probability.dtype)[:, None])


MULTICLASS = Objective(F.cross_entropy, lambda logits: logits.argmax(axis=1))
"""Logits (N, C), one for each class: cross entropy, and the largest wins."""

BINARY = Objective(_binary_loss, lambda probability: (probability[:, 0] > 0.5).astype(np.int64))
"""The probability of class 1, (N, 1): binary cross entropy, and more than a half is class 1."""


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
    objective: Objective = MULTICLASS,
    test_batch_size: int = 256,
) -> Iterator[EpochRecord]:
    """Train on shuffled minibatches, by default with cross entropy, and yield a record after each epoch.

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

    def loss(batch: tuple[Array, Array]) -> tuple[Tensor, int]:
        x, y = batch
        if augment is not None:
            x = augment(x, generator)
        return objective.loss(model(tensor(x)), y), len(y)

    def test_loss() -> tuple[float, float]:
        return evaluate(model, *test, test_batch_size, objective)[:2]

    return fit_loss(
        model,
        optimizer,
        lambda: batches(*train, batch_size, generator),
        loss,
        test_loss,
        epochs=epochs,
        on_step=on_step,
    )


Batch = TypeVar("Batch")


def fit_loss(
    model: nn.Module,
    optimizer: Optimizer,
    each_batch: Callable[[], Iterable[Batch]],
    loss: Callable[[Batch], tuple[Tensor, int]],
    test: Callable[[], tuple[float, float]],
    *,
    epochs: int,
    on_step: Callable[[int, float], None] | None = None,
) -> Iterator[EpochRecord]:
    """Train with any loss, and yield a record after each epoch; :func:`fit` says what happens at an error.

    ``each_batch()`` gives the batches of an epoch, ``loss(batch)`` the mean loss of one, to go back through, and how
    many examples it is the mean of. ``test()`` gives the loss and the accuracy on the test examples.

    >>> from gpunn import nn, optim
    >>> model = nn.Linear(1, 1)
    >>> sgd = optim.SGD(model.parameters(), lr=0.1)
    >>> x = np.ones((1, 1), np.float32)
    >>> square = lambda x: ((model(x) ** 2.0).sum(), 1)
    >>> records = list(fit_loss(model, sgd, lambda: [x] * 50, square, lambda: (0.0, 1.0), epochs=1))
    >>> len(records), round(abs(model(x).item()), 3)
    (1, 0.0)
    """
    check(epochs >= 1, ArgumentError, "fit", "epochs must be at least 1", epochs=epochs)
    step = 0
    good = model.state_dict()  # a copy
    for epoch in range(1, epochs + 1):
        start = time.perf_counter()
        total, examples = 0.0, 0
        try:
            model.train()
            for batch in each_batch():
                step += 1
                value, count = _step(optimizer, loss, batch)
                _check_finite(value, "training", step, epoch)
                total += value * count
                examples += count
                if on_step is not None:
                    on_step(step, value)
            test_loss, accuracy = test()
            _check_finite(test_loss, "test", step, epoch)
        except BaseException:
            model.load_state_dict(good)
            raise
        good = model.state_dict()
        yield EpochRecord(epoch, total / examples, test_loss, accuracy, time.perf_counter() - start)


def _step(optimizer: Optimizer, loss: Callable[[Batch], tuple[Tensor, int]], batch: Batch) -> tuple[float, int]:
    with np.errstate(over="ignore", invalid="ignore"):  # a loss that overflows is reported by _check_finite
        y, count = loss(batch)
        value = float(y.item())
        if math.isfinite(value):
            optimizer.zero_grad()
            y.backward()
            optimizer.step()
    return value, count


def _check_finite(loss: float, which: str, step: int, epoch: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"fit: the {which} loss is {loss} at step {step} (epoch {epoch}); "
            "the model is back in its last good state: try a smaller learning rate"
        )


def evaluate(
    model: nn.Module, x: Array, y: Array, batch_size: int = 256, objective: Objective = MULTICLASS
) -> Evaluation:
    """Measure a classifier on inputs x (N, ...) and integer labels y (N,), in evaluation mode, without a tape.

    >>> from gpunn.nn import Flatten
    >>> scores = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32)
    >>> result = evaluate(Flatten(), scores, np.array([0, 1, 1]))
    >>> round(result.accuracy, 3), result.predictions.tolist()
    (0.667, [0, 1, 0])
    """
    total, predictions = 0.0, []
    with model.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
        for part, labels in batches(x, y, batch_size):
            output = model(tensor(part))
            total += float(objective.loss(output, labels).item()) * len(labels)
            predictions.append(to_cpu(objective.decide(output.data)))
    given = np.concatenate(predictions)
    return Evaluation(total / len(y), float((given == to_cpu(y)).mean()), given)
