"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from typing import Unpack

from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer import sgd_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class SGD(Optimizer):
    """``v = momentum v + g;  p -= lr v``, with ``g`` the gradient plus ``weight_decay p``.

    ``nesterov=True`` looks one step ahead: ``p -= lr (g + momentum v)``. Without momentum, plain gradient descent.
    Sources: Polyak 1964; Nesterov 1983; Sutskever et al. 2013 (in PyTorch's form, with lr outside v).

    >>> from gpunn.testing import descent
    >>> descent(SGD, lr=0.1)
    [0.8, 0.64, 0.512]
    """

    def __init__(
        self, parameters: Parameters, lr: float = 1e-3, momentum: float = 0.0, *, weight_decay: float = 0.0,
        nesterov: bool = False, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
        super().__init__(parameters, settings, **common)

    def check_settings(self, settings: Settings) -> None:
        super().check_settings(settings)
        momentum = settings["momentum"]
        fits = momentum > 0 or not settings["nesterov"]
        check(fits, ArgumentError, "SGD", "nesterov needs momentum", momentum=momentum)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"velocity": 0.0} if settings["momentum"] else {}

    def update(self, part: Part, settings: Settings) -> None:
        sgd_step(part.p, part.g, part.states.get("velocity"), **settings)
