"""Rprop: steps that look at the signs of the gradients alone."""

from __future__ import annotations

from typing import Unpack

from gpunn.backend import Array, get_array_module, where
from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer.arrays import in_chunks
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Optimizer, Parameters, check_numbers


class Rprop(Optimizer):
    """``p -= size sign(g)``, with a size of its own for each element, which grows while the sign of g stays.

    ``size`` begins at lr. Where g has the sign that it had in the last step, size is multiplied by ``etas[1]``; where
    it has the other, by ``etas[0]``, and g counts as 0 in this step and as the last one of the next. It stays within
    ``step_sizes``. For gradients of all examples, not of batches. Source: Riedmiller and Braun 1993 (in PyTorch's form,
    which does not take the last step back).

    >>> from gpunn.testing import descent
    >>> descent(Rprop, lr=0.25)
    [0.75, 0.45, 0.09]
    """

    elementwise = True

    def __init__(
        self, params: Parameters, lr: float = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50), **common: Unpack[Common],
    ) -> None:  # fmt: skip
        super().__init__(params, {"lr": lr, "etas": etas, "step_sizes": step_sizes}, **common)

    def check_settings(self, settings: Settings) -> None:
        etas, sizes = check_numbers("Rprop", settings, etas=2, step_sizes=2)
        rule = "etas must be one between 0 and 1, and one above 1"
        check(0 < etas[0] < 1 < etas[1], ArgumentError, "Rprop", rule, etas=etas)
        rule = "step_sizes must be the least and the largest, above 0"
        check(0 < sizes[0] <= sizes[1], ArgumentError, "Rprop", rule, step_sizes=sizes)
        super().check_settings({k: v for k, v in settings.items() if k not in ("etas", "step_sizes")})

    def states(self, settings: Settings) -> dict[str, float]:
        return {"gradient": 0.0, "size": 0.0}

    def update(self, part: Part, settings: Settings) -> None:
        xp, (down, up), (least, most) = get_array_module(part.p), settings["etas"], settings["step_sizes"]
        if part.steps == 1:
            part.states["size"][...] = settings["lr"]

        def move(p: Array, g: Array, last: Array, size: Array) -> None:
            turned = g * last
            size *= where(turned > 0, xp.full_like(size, up), where(turned < 0, xp.full_like(size, down), 1))
            xp.clip(size, least, most, out=size)
            last[...] = where(turned < 0, xp.zeros_like(g), g)
            p -= xp.sign(last) * size

        in_chunks(move, part.p, part.g, part.states["gradient"], part.states["size"])
