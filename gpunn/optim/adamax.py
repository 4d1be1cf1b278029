"""Adamax: Adam that divides by the largest gradient of late instead of by the root of the mean square."""

from __future__ import annotations

from typing import Unpack

from gpunn.backend import Array, get_array_module
from gpunn.ops.optimizer.arrays import in_chunks
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class Adamax(Optimizer):
    """``m = b1 m + (1 - b1) g;  u = max(b2 u, |g| + eps);  p -= lr / (1 - b1^t) m / u``.

    ``g`` is the gradient plus ``weight_decay p``, and t the number of steps. Source: Kingma and Ba 2015, section 7.1.

    >>> from gpunn.testing import descent
    >>> descent(Adamax, lr=0.1)
    [0.9, 0.8052, 0.7155]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, **common)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"mean": 0.0, "largest": 0.0}

    def update(self, part: Part, settings: Settings) -> None:
        xp, (b1, b2) = get_array_module(part.p), settings["betas"]
        eps, weight_decay, step = settings["eps"], settings["weight_decay"], settings["lr"] / (1 - b1**part.steps)

        def move(p: Array, g: Array, m: Array, u: Array) -> None:
            if weight_decay:
                g = g + weight_decay * p
            m *= b1
            m += (1 - b1) * g
            u *= b2
            xp.maximum(u, xp.abs(g) + eps, out=u)
            p -= step * m / u

        in_chunks(move, part.p, part.g, part.states["mean"], part.states["largest"])
