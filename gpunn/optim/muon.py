"""Muon: momentum made orthogonal, for matrices."""

from __future__ import annotations

import math
from typing import Any, Unpack

from gpunn import cuda
from gpunn.backend import Array
from gpunn.errors import ArgumentError, ShapeError, check, check_sizes
from gpunn.ops.shared.lengths import norm
from gpunn.optim.group import Named, Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters, check_numbers

_SPECIAL = ("ns_coefficients", "ns_steps", "adjust_lr_fn")


class Muon(Optimizer):
    """Steps of about one size in every direction: the momentum with its singular values brought near 1.

        v = momentum v + (1 - momentum) g;  u = (1 - momentum) g + momentum v with nesterov, else v
        p -= lr weight_decay p;  p -= lr a orthogonal(u)

    ``orthogonal(u)`` begins with ``X = u / max(|u|, eps)`` and takes ``ns_steps`` times
    ``X = (a1 + a2 X X^T + a3 (X X^T)^2) X``, with the three ``ns_coefficients``: a Newton-Schulz iteration, on u or,
    if that is higher than wide, its transpose. ``a`` is ``sqrt(max(1, rows / columns))`` for ``adjust_lr_fn`` None or
    ``"original"``, and ``0.2 sqrt(max(rows, columns))`` for ``"match_rms_adamw"``. Computed in the dtype of the states,
    where PyTorch has bfloat16. Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".

    >>> import gpunn
    >>> p = gpunn.tensor([[3.0, 4.0]], requires_grad=True)
    >>> muon = Muon([p], lr=0.5, weight_decay=0.0, ns_coefficients=(1.5, -0.5, 0.0))
    >>> (p * p).sum().backward()
    >>> muon.step()
    >>> p.data.round(4).tolist()
    [[2.700000047683716, 3.5999999046325684]]

    Raises ShapeError for a parameter that is no matrix.
    """

    def __init__(
        self, params: Parameters, lr: float = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
        nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": ns_coefficients,
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, settings, **common)

    def check_settings(self, settings: Settings) -> None:
        check_numbers("Muon", settings, ns_coefficients=3)
        steps, adjust = settings["ns_steps"], settings["adjust_lr_fn"]
        check_sizes("Muon", 0, ns_steps=steps)
        check(steps < 100, ArgumentError, "Muon", "ns_steps must be below 100", ns_steps=steps)
        rule = 'adjust_lr_fn must be None, "original" or "match_rms_adamw"'
        check(adjust in (None, "original", "match_rms_adamw"), ArgumentError, "Muon", rule, adjust_lr_fn=adjust)
        super().check_settings({name: v for name, v in settings.items() if name not in _SPECIAL})

    def check_parameters(self, named: Named) -> None:
        for name, p in named:
            check(p.ndim == 2, ShapeError, "Muon", "parameters must be matrices", parameter=name, shape=p.shape)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"velocity": 0.0}

    def update(self, part: Part, settings: Settings) -> None:
        cuda.refuse_capture("Muon", "it has no kernel, and its settings would stay as they are")
        lr, momentum = settings["lr"], settings["momentum"]
        for place, shape in part.pieces():
            p, v, g = part.p[place], part.states["velocity"][place], part.g[place]
            if not p.size:
                continue
            v *= momentum
            v += (1 - momentum) * g
            u = (1 - momentum) * g + momentum * v if settings["nesterov"] else v
            size = lr * _factor(settings["adjust_lr_fn"], *shape)
            moved = size * _orthogonal(u.reshape(shape), settings).ravel()
            p[...] = (1 - lr * settings["weight_decay"]) * p.astype(v.dtype, copy=False) - moved


def _factor(adjust: str | None, rows: int, columns: int) -> float:
    return 0.2 * math.sqrt(max(rows, columns)) if adjust == "match_rms_adamw" else math.sqrt(max(1, rows / columns))


def _orthogonal(u: Array, settings: Settings) -> Array:
    """A matrix with the singular vectors of u, and singular values near 1."""
    a1, a2, a3 = settings["ns_coefficients"]
    high = u.shape[0] > u.shape[1]
    x: Any = u.T if high else u
    x = x / norm(u).clip(settings["eps"], None)
    for _ in range(settings["ns_steps"]):
        gram = x @ x.T
        x = a1 * x + (a2 * gram + a3 * (gram @ gram)) @ x
    return x.T if high else x
