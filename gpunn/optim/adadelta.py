"""Adadelta: steps as long as the last steps were, with no unit of their own."""

from __future__ import annotations

from typing import Unpack

from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer import adadelta_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class Adadelta(Optimizer):
    """``s = rho s + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(s + eps) g;  u = rho u + (1 - rho) d^2;  p -= lr d``.

    ``g`` is the gradient plus ``weight_decay p``. Source: Zeiler 2012.

    >>> from gpunn.testing import descent
    >>> descent(Adadelta, rho=0.75)
    [0.998, 0.9959, 0.9936]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6,
        weight_decay: float = 0.0, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings, **common)

    def check_settings(self, settings: Settings) -> None:
        super().check_settings(settings)
        check(settings["rho"] <= 1, ArgumentError, "Adadelta", "rho must be from 0 to 1", rho=settings["rho"])

    def states(self, settings: Settings) -> dict[str, float]:
        return {"square": 0.0, "change": 0.0}

    def update(self, part: Part, settings: Settings) -> None:
        adadelta_step(part.p, part.g, part.states["square"], part.states["change"], **settings)
