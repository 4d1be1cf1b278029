"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

import math
from typing import Unpack

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.errors import ArgumentError, check, check_number
from gpunn.ops.optimizer import sgd_step
from gpunn.optim.group import Part, Settings, Shape
from gpunn.optim.optimizer import Common, Optimizer, Parameters


class SGD(Optimizer):
    """``v = momentum v + g;  p -= lr v``, with ``g`` the gradient plus ``weight_decay p``.

    ``nesterov=True`` looks one step ahead: ``p -= lr (g + momentum v)``. Without momentum, plain gradient descent.
    With ``dampening``, which may be any number, ``v = momentum v + (1 - dampening) g`` from the second step on.
    Sources: Polyak 1964; Nesterov 1983; Sutskever et al. 2013 (in PyTorch's form, with lr outside v).

    >>> from gpunn.testing import descent
    >>> descent(SGD, lr=0.1)
    [0.8, 0.64, 0.512]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, settings, **common)

    def check_settings(self, settings: Settings) -> None:
        check_number("SGD", dampening=settings["dampening"])
        super().check_settings({name: value for name, value in settings.items() if name != "dampening"})
        momentum, dampening = settings["momentum"], settings["dampening"]
        fits = momentum > 0 or not settings["nesterov"]
        check(fits, ArgumentError, "SGD", "nesterov needs momentum", momentum=momentum)
        fits = dampening == 0 or not settings["nesterov"]
        check(fits, ArgumentError, "SGD", "nesterov takes no dampening", dampening=dampening)

    def states(self, settings: Settings) -> dict[str, float]:
        if not settings["momentum"]:
            return {}
        return {"velocity": 0.0, "begun": 0.0} if settings["dampening"] else {"velocity": 0.0}

    def state_shape(self, kind: str, shape: Shape) -> Shape:
        return () if kind == "begun" else shape  # 1 where the velocity has a step behind it

    def update(self, part: Part, settings: Settings) -> None:
        g, weight_decay = part.g, settings["weight_decay"]
        if "begun" in part.states:
            g, weight_decay = _dampened(part, settings), 0.0
        velocity, momentum = part.states.get("velocity"), settings["momentum"]
        sgd_step(part.p, g, velocity, settings["lr"], momentum, settings["nesterov"], weight_decay)


def _dampened(part: Part, settings: Settings) -> Array:
    """What is added to the velocity."""
    cuda.refuse_capture("SGD", "dampening has no kernel, and the settings would stay as they are")
    xp, begun = get_array_module(part.g), part.states["begun"]
    share = xp.repeat(1 - settings["dampening"] * begun, [math.prod(shape) for shape in part.shapes])
    begun[...] = 1
    share *= part.g + settings["weight_decay"] * part.p.astype(part.g.dtype, copy=False)
    return share
