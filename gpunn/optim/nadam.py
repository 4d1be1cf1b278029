"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from typing import Unpack

from gpunn.ops.optimizer.adam import nadam_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Moments, Parameters, moments


class NAdam(Moments):
    """Adam that looks one step ahead; ``m`` and ``v`` as in :class:`~gpunn.optim.Adam`, ``V = v / (1 - b2^t)``.

        p -= lr ((1 - mu_t) / (1 - mu_1 ... mu_t) g + mu_{t+1} / (1 - mu_1 ... mu_{t+1}) m) / (sqrt(V) + eps)
        mu_i = b1 (1 - 0.96^(i momentum_decay) / 2)

    ``g`` is the gradient plus ``weight_decay p``, or with ``decoupled_weight_decay`` the gradient, before which
    ``p -= lr weight_decay p``. A change of ``betas`` between steps counts as if it had been so from the first.
    Source: Dozat 2016.

    >>> from gpunn.testing import descent
    >>> descent(NAdam, lr=0.1)
    [0.8944, 0.82, 0.7527]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, settings, **common)

    def update(self, part: Part, settings: Settings) -> None:
        numbers = settings["lr"], settings["betas"], settings["eps"], settings["weight_decay"]
        more = settings["momentum_decay"], settings["decoupled_weight_decay"]
        nadam_step(*moments(part), part.steps, *numbers, *more)
