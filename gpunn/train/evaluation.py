"""The measure of a classifier on data it has not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gpunn import functional as F
from gpunn import nn
from gpunn.backend import Array, to_cpu
from gpunn.data import batches
from gpunn.tensor import no_grad, tensor


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
