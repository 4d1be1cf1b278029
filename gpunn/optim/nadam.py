"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from gpunn.ops.optimizer.adam import nadam_step
from gpunn.optim.group import Part, Predicate, Settings
from gpunn.optim.optimizer import Optimizer, Parameters


class NAdam(Optimizer):
    """Adam that looks one step ahead; ``m`` and ``v`` as in :class:`~gpunn.optim.Adam`, ``V = v / (1 - b2^t)``.

        p -= lr ((1 - mu_t) / (1 - mu_1 ... mu_t) g + mu_{t+1} / (1 - mu_1 ... mu_{t+1}) m) / (sqrt(V) + eps)
        mu_i = b1 (1 - 0.96^(i momentum_decay) / 2)

    A change of ``betas`` between steps counts as if it had been so from the first. Source: Dozat 2016.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0], requires_grad=True)
    >>> optimizer = NAdam([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.8944
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        regularise: Predicate | None = None,
    ) -> None:
        settings = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
        }
        super().__init__(parameters, settings, l1, l2, regularise)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"mean": 0.0, "square": 0.0}

    def update(self, part: Part, settings: Settings) -> None:
        s, states = settings, part.states
        arrays = part.p, part.g, states["mean"], states["square"]
        nadam_step(*arrays, part.steps, s["lr"], s["betas"], s["eps"], s["weight_decay"], s["momentum_decay"])
