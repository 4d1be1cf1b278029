"""What a trainer measures after each epoch on data that the model does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gpunn.backend import Array, is_array, to_cpu
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, check, fail
from gpunn.nn import Module
from gpunn.train.evaluation import measuring
from gpunn.train.loss import OfOutputs, described, mean_and_count, outputs_and_targets
from gpunn.train.metrics import accuracy, top_k_accuracy

Metric = Callable[[Any, Any], float]
"""``metric(targets, outputs)``, of NumPy arrays of all examples, in scikit-learn's order."""

_BATCH_SIZE = 256


def _class_accuracy(targets: Array, outputs: Array) -> float:
    """Of classes (N,) and their scores (N, C), or the probability of class 1, (N, 1)."""
    binary = outputs.ndim == 2 and outputs.shape[1] == 1
    return accuracy(targets, (outputs[:, 0] > 0.5).astype(targets.dtype) if binary else outputs.argmax(1))


METRICS: dict[str, Metric] = {"accuracy": _class_accuracy, "top_5_accuracy": top_k_accuracy}
"""Those that are known by their names."""


class Validation:
    """Measures ``model`` on ``data``: arrays ``(x, y)``, or a loader, or what else gives batches again and again.

    Called, it gives ``validation_loss``, the mean of ``loss(batch)`` over the examples, and each of ``metrics`` as
    ``validation_<name>``, in evaluation mode and without a tape.

    >>> from gpunn import functional as F
    >>> from gpunn.nn import Flatten
    >>> scores, labels = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32), np.array([0, 1, 1])
    >>> model = Flatten()
    >>> validation = Validation(model, OfOutputs(model, F.cross_entropy), (scores, labels), ["accuracy"])
    >>> {name: round(value, 3) for name, value in validation().items()}
    {'validation_loss': 0.794, 'validation_accuracy': 0.667}
    """

    def __init__(
        self,
        model: Module,
        loss: Callable[[Any], Any],
        data: Iterable[Any],
        metrics: Mapping[str, Metric] | Sequence[str] = (),
    ) -> None:
        self._model, self._loss = model, loss
        check_data("validation", data)
        rule = "validation must give its batches again in every epoch, as a DataLoader does"
        check(iter(data) is not data, ArgumentError, "Trainer", rule, validation=type(data).__name__)
        self._data = DataLoader(ArrayDataset(*data), _BATCH_SIZE, seed=0) if is_arrays(data) else data
        if not isinstance(metrics, Mapping):
            names = [metrics] if isinstance(metrics, str) else list(metrics)
            for name in names:
                known = ", ".join(METRICS)
                rule = (
                    f"metrics that are known by name are {known}; give others as {{name: function(targets, outputs)}}"
                )
                check(name in METRICS, ArgumentError, "Trainer", rule, metric=name)
            metrics = {name: METRICS[name] for name in names}
        rule = "validation_loss is the mean of the loss: a metric needs another name"
        check("loss" not in metrics, ArgumentError, "Trainer", rule, metrics=list(metrics))
        self.metrics = dict(metrics)
        self.names = ["validation_loss", *(f"validation_{name}" for name in self.metrics)]

    def __call__(self) -> dict[str, float]:
        total, examples = 0.0, 0.0
        seen: list[tuple[Array, Array]] = []
        of_outputs = self._loss.loss if self.metrics and isinstance(self._loss, OfOutputs) else None
        with measuring(self._model):
            for batch in self._data:
                if self.metrics:
                    outputs, targets = outputs_and_targets(self._model, batch)
                    seen.append((to_cpu(targets), to_cpu(outputs.data)))
                given = self._loss(batch) if of_outputs is None else of_outputs(outputs, targets)
                mean, count = mean_and_count(given, batch)
                total, examples = total + float(mean.item()) * float(count), examples + float(count)
        check(examples > 0, ArgumentError, "Trainer", "validation must have at least one example", examples=examples)
        found = {"validation_loss": total / examples}
        if seen:
            whole = [np.concatenate(parts) for parts in zip(*seen, strict=True)]
            for name, metric in self.metrics.items():
                found[f"validation_{name}"] = _number(name, metric(*whole))
        return found


def _number(metric: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        fail(ArgumentError, "Trainer", "a metric must give one number", metric=metric, given=described(value))


def check_data(name: str, data: Any) -> None:
    """Raise ArgumentError for what is neither arrays nor batches."""
    lists = isinstance(data, tuple) and any(isinstance(part, list) for part in data)
    fits = not lists and not is_array(data) and not isinstance(data, str) and hasattr(data, "__iter__")
    rule = f"{name} must be a tuple of arrays, (x, y), or a loader of batches"
    given = f"({', '.join(type(part).__name__ for part in data)})" if lists else type(data).__name__
    check(fits, ArgumentError, "Trainer", rule, **{name: given})


def is_arrays(data: Any) -> bool:
    """Whether that is a tuple of arrays, or of what stands for them, as the files of an image folder do."""
    return isinstance(data, tuple) and len(data) > 0 and all(hasattr(part, "ndim") for part in data)
