"""RAdam: Adam whose first steps are rectified."""

from __future__ import annotations

from typing import Unpack

from gpunn.ops.optimizer.adam import radam_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Moments, Parameters, moments


class RAdam(Moments):
    """Adam whose steps are scaled down as long as few gradients were seen, and not divided at all in the first steps.

    With ``m`` and ``v`` as in :class:`~gpunn.optim.Adam`, ``N = 2 / (1 - b2) - 1``, ``n = N - 2 t b2^t / (1 - b2^t)``:

        p -= lr r (m / (1 - b1^t)) sqrt(1 - b2^t) / (sqrt(v) + eps)  if n > 5, else  p -= lr m / (1 - b1^t)
        r = sqrt((n - 4) (n - 2) N / ((N - 4) (N - 2) n))

    ``decoupled_weight_decay`` takes ``lr weight_decay p`` off p before, instead of adding ``weight_decay p`` to the
    gradient. Source: Liu et al. 2020, "On the variance of the adaptive learning rate and beyond".

    >>> from gpunn.testing import descent
    >>> descent(RAdam, lr=0.1)
    [0.8, 0.6211, 0.4623]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, decoupled_weight_decay: bool = False, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, settings, **common)

    def update(self, part: Part, settings: Settings) -> None:
        numbers = settings["lr"], settings["betas"], settings["eps"], settings["weight_decay"]
        radam_step(*moments(part), part.steps, *numbers, settings["decoupled_weight_decay"])
