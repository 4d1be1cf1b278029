"""Adafactor: steps divided by a root mean square that is kept as a row and a column."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, get_array_module
from gpunn.errors import ArgumentError, check
from gpunn.optim.group import Part, Settings, Shape
from gpunn.optim.optimizer import Common, Optimizer, Parameters, check_range


class Adafactor(Optimizer):
    """Steps relative to the size of a parameter, and divided by a mean square that costs little memory.

        p -= lr weight_decay p;  w = t^beta2_decay;  r += w (mean(g^2, -1) - r);  c += w (mean(g^2, -2) - c)
        u = g / max(sqrt(r c / max(mean(r), eps[0])), eps[0])
        p -= max(eps[1], rms(p)) min(lr, 1 / sqrt(t)) u / max(1, rms(u) / d)

    with ``rms(x) = sqrt(mean(x^2))``, the last two axes as rows and columns, and p before the decay in ``rms(p)``. A
    parameter of fewer axes has its whole mean square in place of ``r c / ...``. ``eps[0]`` of None is the eps of the
    dtype. Source: Shazeer and Stern 2018 (in PyTorch's form: lr bounds the relative step).

    >>> from gpunn.testing import descent
    >>> descent(Adafactor, lr=0.1)
    [0.9, 0.8142, 0.7399]
    """

    def __init__(
        self, params: Parameters, lr: float = 1e-2, beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: float = 0.0,
        **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay}
        super().__init__(params, settings, **common)

    def check_settings(self, settings: Settings) -> None:
        op, eps = "Adafactor", settings["eps"]
        check(isinstance(eps, tuple) and len(eps) == 2, ArgumentError, op, "eps must be two numbers", eps=eps)
        check_range(op, "eps", 0.0 if eps[0] is None else eps[0])
        check_range(op, "eps", eps[1])
        decay, d = settings["beta2_decay"], settings["d"]
        falls = isinstance(decay, int | float) and decay <= 0
        check(falls, ArgumentError, op, "beta2_decay must be at most 0", beta2_decay=decay)
        super().check_settings({name: v for name, v in settings.items() if name not in ("eps", "beta2_decay")})
        check(d >= 1, ArgumentError, op, "d must be at least 1", d=d)

    def states(self, settings: Settings) -> dict[str, float]:
        return {"row": 0.0, "column": 0.0, "square": 0.0}

    def state_shape(self, kind: str, shape: Shape) -> Shape | None:
        if kind == "square":
            return shape if len(shape) < 2 else None
        if len(shape) < 2:
            return None
        return (*shape[:-1], 1) if kind == "row" else (*shape[:-2], 1, shape[-1])

    def update(self, part: Part, settings: Settings) -> None:
        cuda.refuse_capture("Adafactor", "it has no kernel, and its settings would stay as they are")
        at = dict.fromkeys(part.states, 0)
        for place, shape in part.pieces():
            states = {}
            for kind, state in part.states.items():
                if (own := self.state_shape(kind, shape)) is not None:
                    size = int(np.prod(own))
                    states[kind] = state[at[kind] : at[kind] + size].reshape(own)
                    at[kind] += size
            if place.stop > place.start:
                _move(part.p[place], part.g[place].reshape(shape), states, part.steps, settings)


def _move(p: Array, g: Array, states: dict[str, Array], steps: int, settings: Settings) -> None:
    xp, lr, weight = get_array_module(g), settings["lr"], steps ** settings["beta2_decay"]
    wide = p.astype(g.dtype).reshape(g.shape)
    least, smallest = settings["eps"]
    least = float(np.finfo(g.dtype).eps) if least is None else least
    relative = xp.maximum(_rms(xp, wide), smallest) * min(lr, steps**-0.5)
    if settings["weight_decay"]:
        wide *= 1 - lr * settings["weight_decay"]
    square = g * g
    if g.ndim > 1:
        row, column = states["row"], states["column"]
        row += weight * (square.mean(-1, keepdims=True) - row)
        column += weight * (square.mean(-2, keepdims=True) - column)
        estimate = row * column / xp.maximum(row.mean(-2, keepdims=True), least)
    else:
        estimate = states["square"]
        estimate += weight * (square - estimate)
    u = g / xp.sqrt(xp.maximum(estimate, least * least))
    wide -= relative / xp.maximum(_rms(xp, u) / settings["d"], 1) * u
    p[...] = wide.ravel()


def _rms(xp: Any, x: Array) -> Array:
    return xp.sqrt((x * x).mean())
