"""A schedule that waits for a measure to stop getting better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.optim.group import plain
from gpunn.optim.optimizer import Optimizer, check_names, check_range
from gpunn.optim.schedule.base import chain_of, check_least, check_optimizer, rates_of, read_count


class ReduceLROnPlateau:
    """Multiplies the learning rates by ``factor`` when a metric has not become better for ``patience`` steps.

    ``step(metric)`` is usually called after each epoch. Better means, with ``mode="min"``, below ``best - threshold
    |best|``, or with ``threshold_mode="abs"`` below ``best - threshold``; ``mode="max"`` likewise above. (PyTorch has
    ``best (1 - threshold)``: there a metric that stays at a number below 0 is better each time.) NaN is never better.
    After a reduction ``cooldown`` steps are not counted. No rate falls below ``min_lr`` (one for all groups, or one for
    each), and a change of at most ``eps`` is not made. Other schedules of the optimizer go on from the reduced
    rate, but for those that set it at each step.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = ReduceLROnPlateau(sgd, factor=0.5, patience=1)
    >>> for loss in (3.0, 2.0, 2.0, 2.0):
    ...     schedule.step(loss)
    >>> sgd.lr
    0.5
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        op = "ReduceLROnPlateau"
        check(mode in ("min", "max"), ArgumentError, op, "mode must be one of min, max", mode=mode)
        known = threshold_mode in ("rel", "abs")
        check(known, ArgumentError, op, "threshold_mode must be one of rel, abs", threshold_mode=threshold_mode)
        check_range(op, "factor", factor, 1.0)
        check_optimizer(op, optimizer)
        self.optimizer = optimizer
        self._sign = 1 if mode == "min" else -1
        self._factor, self._threshold, self._relative = factor, threshold, threshold_mode == "rel"
        self._patience, self._cooldown = (
            check_least(op, "patience", patience, 0),
            check_least(op, "cooldown", cooldown, 0),
        )
        self._least_rates, self._eps = rates_of(op, "min_lr", min_lr, optimizer.groups), eps
        self.best, self._bad, self._resting = self._sign * math.inf, 0, 0

    def step(self, metric: float) -> None:
        """Judge the metric, and reduce the learning rates if it is time."""
        rule = "metric must be a number, or a tensor without dimensions"
        scalar = isinstance(metric, Real) or getattr(metric, "shape", None) == ()
        check(scalar, ArgumentError, "ReduceLROnPlateau", rule, metric=metric)
        metric = float(metric)
        margin = self._threshold * (abs(self.best) if self._relative else 1.0)
        # The margin of an infinite best is no number: anything finite is better.
        reached = self.best - self._sign * margin if math.isfinite(self.best) else self.best
        if self._sign * metric < self._sign * reached:
            self.best, self._bad = metric, 0
        else:
            self._bad += 1
        if self._resting:
            self._resting, self._bad = self._resting - 1, 0
        if self._bad > self._patience:
            self._resting, self._bad = self._cooldown, 0
            for number, (group, least) in enumerate(zip(self.optimizer.groups, self._least_rates, strict=True)):
                rate = group["lr"]
                lower = max(rate * self._factor, least)
                if rate - lower > self._eps:
                    group.schedule("lr", lower)
                    chain = chain_of(self.optimizer, number)
                    if not chain.links:
                        chain.base = lower
                    chain.begin(lower)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups."""
        return [group["lr"] for group in self.optimizer.groups]

    def state_dict(self) -> dict[str, Any]:
        """The best metric, and the numbers of bad steps and of steps left of the cooldown.

        The learning rates themselves are in the state of the optimizer.
        """
        return {"best": self.best, "bad_steps": self._bad, "cooldown_steps": self._resting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a :meth:`state_dict`; if something does not fit, change nothing."""
        op = "ReduceLROnPlateau"
        check_names(op, self.state_dict(), state)
        best = plain(state["best"])
        check(isinstance(best, int | float), ArgumentError, op, "best must be a number", best=best)
        bad, resting = (read_count(op, name, state[name]) for name in ("bad_steps", "cooldown_steps"))
        self.best, self._bad, self._resting = float(best), bad, resting
