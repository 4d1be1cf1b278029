"""One pass of training over weighted examples, and the weighted loss of examples held back."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn.backend import Array, asarray, device_of, to_cpu, use_device, use_generator
from gpunn.errors import TrainingError
from gpunn.nn import Module
from gpunn.optim import Optimizer
from gpunn.sklearn.examples import Examples
from gpunn.tensor import Tensor, no_grad, tensor

RowLosses = Callable[[Any, Array], Tensor]
"""The loss of each example, (N,), from the outputs (N, C) and the targets."""


def train_epoch(
    op: str,
    module: Module,
    optimizer: Optimizer,
    examples: Examples,
    row_losses: RowLosses,
    batch_size: int,
    generator: np.random.Generator,
) -> float:
    """Train on every example once and return the mean of their weighted losses; ``generator`` decides the order.

    It is also the default generator of the pass: dropout layers draw from it. Raises TrainingError for a loss that is
    not finite.
    """
    device, total = device_of(examples.x), 0.0
    module.train()
    with use_device(device), use_generator(generator), np.errstate(over="ignore", invalid="ignore"):
        order = asarray(generator.permutation(len(examples)), device=device)
        for start in range(0, len(examples), batch_size):
            batch = examples.take(order[start : start + batch_size])
            loss = (row_losses(module(tensor(batch.x)), batch.target) * batch.weight).mean()
            value = float(loss.item())
            if not math.isfinite(value):
                raise TrainingError(f"{op}: the loss is {value}: try a smaller lr, or scale the features and targets")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += value * len(batch)
    return total / len(examples)


def outputs(module: Module, x: np.ndarray[Any, Any], batch_size: int, device: str) -> np.ndarray[Any, Any]:
    """What ``module`` makes of the rows of x, in evaluation, ``batch_size`` rows at a time on ``device``."""
    with module.evaluating(), no_grad(), use_device(device), np.errstate(over="ignore", invalid="ignore"):
        parts = [
            to_cpu(module(tensor(asarray(x[start : start + batch_size], device=device))).data)
            for start in range(0, len(x), batch_size)
        ]
    return np.concatenate(parts)


def validation_loss(module: Module, examples: Examples, row_losses: RowLosses, batch_size: int, device: str) -> float:
    """The weighted mean loss of ``examples``, which are on the CPU."""
    found = outputs(module, examples.x, batch_size, device)
    with np.errstate(over="ignore", invalid="ignore"):
        losses = row_losses(tensor(found), examples.target).data
    return float(np.average(losses, weights=examples.weight))
