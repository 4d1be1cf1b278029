"""RMSprop: steps divided by a running root mean square of the gradient."""

from __future__ import annotations

from typing import Unpack

from gpunn.ops.optimizer import rmsprop_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class RMSprop(Optimizer):
    """``s = alpha s + (1 - alpha) g^2;  p -= lr g / (sqrt(s) + eps)``, with ``g`` the gradient plus ``weight_decay p``.

    ``centered=True`` divides by the standard deviation, ``sqrt(s - m^2)`` with ``m = alpha m + (1 - alpha) g``. With
    momentum the quotient is summed, ``v = momentum v + g / (...);  p -= lr v``. Sources: Tieleman and Hinton 2012,
    "Neural networks for machine learning", lecture 6.5; Graves 2013 (centered).

    >>> from gpunn.testing import descent
    >>> descent(RMSprop, lr=0.1, alpha=0.75)
    [0.8, 0.6643, 0.5552]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(params, settings, **common)

    def states(self, settings: Settings) -> dict[str, float]:
        mean = {"mean": 0.0} if settings["centered"] else {}
        velocity = {"velocity": 0.0} if settings["momentum"] else {}
        return {"square": 0.0} | mean | velocity

    def update(self, part: Part, settings: Settings) -> None:
        square, mean, velocity = (part.states.get(name) for name in ("square", "mean", "velocity"))
        rmsprop_step(part.p, part.g, square, mean, velocity, **settings)
