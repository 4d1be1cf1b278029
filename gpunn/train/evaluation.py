"""What a model makes of data it has not seen, and the measure of a classifier on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, to_cpu, use_device
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ShapeError, check
from gpunn.tensor import no_grad, tensor


class Evaluation(NamedTuple):
    """From :func:`evaluate`: the mean loss, the share of right answers in [0, 1], each example's class, int64 (N,)."""

    loss: float
    accuracy: float
    predictions: np.ndarray[Any, np.dtype[np.int64]]


class Objective(NamedTuple):
    """What a classifier is trained for: the loss of an output, and the classes that it stands for.

    ``loss(output, labels)`` is the mean over the examples; ``decide(output)`` takes and gives arrays. :func:`evaluate`
    takes one.
    """

    loss: Callable[[Any, Array], Any]
    decide: Callable[[Array], Array]


def _binary_loss(probability: Any, labels: Array) -> Any:
    return F.binary_cross_entropy(probability, labels.astype(probability.dtype)[:, None])


MULTICLASS = Objective(F.cross_entropy, lambda logits: logits.argmax(axis=1))
"""Logits (N, C), one for each class: cross entropy, and the largest wins."""

BINARY = Objective(_binary_loss, lambda probability: (probability[:, 0] > 0.5).astype(np.int64))
"""The probability of class 1, (N, 1): binary cross entropy, and more than a half is class 1."""


def predict(
    model: nn.Module, x: Array, batch_size: int = 256, device: str | None = None
) -> np.ndarray[Any, np.dtype[Any]]:
    """What ``model`` makes of inputs x (N, ...), (N, ...), in evaluation mode, without a tape, as a NumPy array.

    Each batch is moved to ``device``, where the model is; None leaves it where x is.

    >>> from gpunn.nn import ReLU
    >>> predict(ReLU(), np.array([[-1.0], [2.0]])).tolist()
    [[0.0], [2.0]]

    Raises ShapeError for no inputs at all.
    """
    check(len(x) > 0, ShapeError, "predict", "x must not be empty", x=x.shape)
    data = DataLoader(ArrayDataset(x), batch_size, seed=0, device=device)
    on_device = nullcontext() if device is None else use_device(device)
    with on_device, measuring(model):
        return np.concatenate([to_cpu(model(tensor(part)).data) for part in data])


def evaluate(
    model: nn.Module, x: Array, y: Array, batch_size: int = 256, objective: Objective = MULTICLASS, workers: int = 0
) -> Evaluation:
    """Measure a classifier on inputs x (N, ...) and integer labels y (N,), in evaluation mode, without a tape.

    ``workers`` threads read the inputs ahead.

    >>> from gpunn.nn import Flatten
    >>> scores = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32)
    >>> result = evaluate(Flatten(), scores, np.array([0, 1, 1]))
    >>> round(result.accuracy, 3), result.predictions.tolist()
    (0.667, [0, 1, 0])

    Raises ShapeError for x and y of different lengths, or of none.
    """
    check(len(y) > 0, ShapeError, "evaluate", "x and y must not be empty", x=x.shape, y=y.shape)
    total, predictions = 0.0, []
    with measuring(model):
        for part, labels in DataLoader(ArrayDataset(x, y), batch_size, seed=0, workers=workers):
            output = model(tensor(part))
            total += float(objective.loss(output, labels).item()) * len(labels)
            predictions.append(to_cpu(objective.decide(output.data)))
    given = np.concatenate(predictions)
    return Evaluation(total / len(y), float((given == to_cpu(y)).mean()), given)


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """A context in which ``model`` is in evaluation, nothing is recorded, and overflow is no warning."""
    with model.evaluating(), no_grad(), np.errstate(over="ignore", invalid="ignore"):
        yield
