"""Adam, adaptive moment estimation, and AdamW."""

from __future__ import annotations

from typing import Unpack

from gpunn.ops.optimizer.adam import adam_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Moments, Parameters, moments


class Adam(Moments):
    """Steps scaled by running means of the gradient and of its square.

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    with ``g`` the gradient plus ``weight_decay p`` and t the number of steps. ``amsgrad`` has the largest v so far in
    the place of v. ``decoupled_weight_decay`` makes it :class:`AdamW`. Sources: Kingma and Ba 2015; Reddi, Kale and
    Kumar 2018 (amsgrad).

    >>> from gpunn.testing import descent
    >>> descent(Adam, lr=0.1)
    [0.9, 0.8004, 0.7016]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0.0, amsgrad: bool = False, *, decoupled_weight_decay: bool = False,
        **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, settings, **common)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"mean": 0.0, "square": 0.0, "largest": 0.0} if settings["amsgrad"] else super().states(settings)

    def update(self, part: Part, settings: Settings) -> None:
        numbers = settings["lr"], settings["betas"], settings["eps"], settings["weight_decay"]
        decoupled = settings["decoupled_weight_decay"]
        adam_step(*moments(part), part.steps, *numbers, decoupled, part.states.get("largest"))


class AdamW(Adam):
    """:class:`Adam` with decoupled weight decay: ``p -= lr weight_decay p`` before the step, not in the gradient.

    Source: Loshchilov and Hutter 2019, "Decoupled weight decay regularization".

    >>> from gpunn.testing import descent
    >>> descent(AdamW, lr=0.1, weight_decay=0.5)
    [0.85, 0.7082, 0.575]
    """

    def __init__(
        self, params: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, decoupled_weight_decay=True, **common)
