"""What :class:`gpunn.train.Trainer` takes for a loss, and what it makes of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gpunn.backend import is_array
from gpunn.errors import ArgumentError, check, fail
from gpunn.nn import Module
from gpunn.tensor import Tensor, tensor

Loss = Callable[[Any], Tensor | tuple[Tensor, int]] | Callable[[Any, Any], Tensor]
"""Of a batch, ``loss(batch)``, or of the model's outputs, ``loss(outputs, targets)``: the mean, to go back through.

The first may also give of how many examples that is the mean.
"""


class OfOutputs:
    """The loss of a batch ``(x, y)``, or ``(x1, x2, y)``: ``loss(model(x), y)``.

    >>> import numpy as np
    >>> from gpunn import functional as F
    >>> from gpunn.nn import ReLU
    >>> loss = OfOutputs(ReLU(), F.mse_loss)
    >>> loss((np.array([-1.0, 2.0]), np.array([0.0, 4.0]))).item()
    2.0
    """

    def __init__(self, model: Module, loss: Callable[[Any, Any], Tensor]) -> None:
        self.model, self.loss = model, loss

    def __call__(self, batch: Any) -> Tensor:
        outputs, targets = outputs_and_targets(self.model, batch)
        return self.loss(outputs, targets)


def of_batches(loss: Loss, model: Module) -> Callable[[Any], Any]:
    """``loss`` as a function of a batch: one with two parameters that must be given is of outputs and targets.

    >>> from gpunn import functional as F
    >>> from gpunn.nn import ReLU
    >>> of_batches(lambda batch: F.relu(batch).mean(), ReLU())(tensor([2.0])).item()
    2.0
    >>> type(of_batches(F.cross_entropy, ReLU())).__name__
    'OfOutputs'
    """
    given: Any = loss
    rule = "loss must be a function, such as gpunn.functional.cross_entropy"
    check(callable(given), ArgumentError, "Trainer", rule, loss=given)
    count = _parameters(given)
    rule = "loss must be a function of a batch, or of outputs and targets"
    check(count <= 2, ArgumentError, "Trainer", rule, parameters=count)
    return OfOutputs(model, given) if count == 2 else given


def _parameters(function: Any) -> int:
    """How many a call must give by their place; 1 where that cannot be told."""
    try:
        all_of_them = inspect.signature(function.forward if isinstance(function, Module) else function).parameters
    except (TypeError, ValueError):
        return 1
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in by_place and p.default is inspect.Parameter.empty for p in all_of_them.values())


def outputs_and_targets(model: Module, batch: Any) -> tuple[Tensor, Any]:
    """What ``model`` makes of all arrays of a batch but the last, and the last."""
    pair = isinstance(batch, tuple | list) and len(batch) >= 2
    rule = "for a loss of outputs and targets, and for metrics, a batch must be (inputs, targets)"
    check(pair, ArgumentError, "Trainer", rule, batch=described(batch))
    *inputs, targets = batch
    outputs = model(*[tensor(x) if is_array(x) else x for x in inputs])
    rule = "for a loss of outputs and targets, and for metrics, the model must give one Tensor"
    check(isinstance(outputs, Tensor), ArgumentError, "Trainer", rule, outputs=described(outputs))
    return outputs, targets


def mean_and_count(given: Any, batch: Any) -> tuple[Tensor, int]:
    """The mean loss, and of how many examples: ``given`` if it says so, else of as many as the batch has."""
    if isinstance(given, Tensor):
        given = given, count_examples(batch)
    pair = isinstance(given, tuple | list) and len(given) == 2 and isinstance(given[0], Tensor)
    if not pair or given[0].size != 1:
        rule = "loss must give the mean over a batch, a Tensor of one number, or that and of how many examples it is"
        fail(ArgumentError, "Trainer", rule, loss=described(given))
    return given[0], given[1]


def count_examples(batch: Any) -> int:
    """The length of the first axis of the first array in a batch.

    >>> import numpy as np
    >>> count_examples((np.zeros((8, 2)), np.zeros(8))), count_examples({"pixels": np.zeros((4, 2))})
    (8, 4)
    """
    first = batch
    while isinstance(first, tuple | list | Mapping) and len(first) > 0:
        first = next(iter(first.values() if isinstance(first, Mapping) else first))
    shape: tuple[int, ...] = getattr(first, "shape", ())
    rule = "of this batch it is not known how many examples it has: let loss give (mean, how many)"
    check(len(shape) > 0, ArgumentError, "Trainer", rule, batch=described(batch))
    return shape[0]


def described(value: Any) -> str:
    """The type, and the shape of an array."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(described, value))})"
    return type(value).__name__ + (str(list(value.shape)) if isinstance(value, Tensor) or is_array(value) else "")
