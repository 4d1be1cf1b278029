"""Adagrad: steps divided by the root of the sum of all squared gradients."""

from __future__ import annotations

from typing import Unpack

from gpunn.ops.optimizer import adagrad_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class Adagrad(Optimizer):
    """``s = s + g^2;  p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)``.

    ``g`` is the gradient plus ``weight_decay p``; s begins at ``initial_accumulator_value``.
    Source: Duchi, Hazan and Singer 2011.

    >>> from gpunn.testing import descent
    >>> descent(Adagrad, lr=0.1)
    [0.9, 0.8331, 0.7805]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-2, lr_decay: float = 0.0, weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
        }
        super().__init__(params, settings, **common)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"sum": settings["initial_accumulator_value"]}

    def update(self, part: Part, settings: Settings) -> None:
        own = {name: value for name, value in settings.items() if name != "initial_accumulator_value"}
        adagrad_step(part.p, part.g, part.states["sum"], part.steps, **own)
