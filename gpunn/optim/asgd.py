"""ASGD: gradient descent beside an average of where it has been."""

from __future__ import annotations

from typing import Unpack

from gpunn.backend import Array
from gpunn.ops.optimizer.arrays import in_chunks
from gpunn.optim.group import Part, Settings, Shape
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class ASGD(Optimizer):
    """``p = (1 - lambd eta) p - eta g``, with ``eta = lr / (1 + lambd lr t)^alpha`` of the step before, at first lr.

    ``g`` is the gradient plus ``weight_decay p``, and t the number of steps. The state ``average`` is the mean of p
    from step ``t0 + 1`` on, and p itself before. Source: Polyak and Juditsky 1992, "Acceleration of stochastic
    approximation by averaging".

    >>> from gpunn.testing import descent
    >>> descent(ASGD, lr=0.1)
    [0.8, 0.64, 0.512]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
        weight_decay: float = 0.0, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay}
        super().__init__(params, settings, **common)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"eta": 0.0, "average": 0.0}

    def state_shape(self, kind: str, shape: Shape) -> Shape:
        return () if kind == "eta" else shape

    def update(self, part: Part, settings: Settings) -> None:
        lr, lambd, weight_decay = settings["lr"], settings["lambd"], settings["weight_decay"]
        if part.steps == 1:
            part.states["eta"][...] = lr
        share = 1 / max(1.0, part.steps - 1 - settings["t0"])
        for number, (place, _) in enumerate(part.pieces()):
            eta = part.states["eta"][number : number + 1]

            def move(p: Array, g: Array, average: Array, eta: Array = eta) -> None:
                if weight_decay:
                    g = g + weight_decay * p
                p *= 1 - lambd * eta
                p -= eta * g
                average += share * (p - average)

            in_chunks(move, part.p[place], part.g[place], part.states["average"][place])
        part.states["eta"][...] = lr / (1 + lambd * lr * part.steps) ** settings["alpha"]
