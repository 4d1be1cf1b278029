"""Schedules that go up and down: cosines, and cycles between two rates, with the momentum against them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from gpunn.errors import ArgumentError, check, check_number
from gpunn.optim.group import plain
from gpunn.optim.optimizer import Optimizer, check_range
from gpunn.optim.schedule.base import Schedule, Setter, check_least, check_optimizer, check_state, rates_of


class CosineAnnealingLR(Schedule):
    """``eta_min + (L - eta_min) (1 + cos(pi t / T_max)) / 2``: down to ``eta_min`` in ``T_max`` steps, then up again.

    Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts" (without the restarts).

    In a chain a step goes a part of the way between the rate that there is and ``eta_min``, which it reaches at
    ``T_max``, and goes up again towards L.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = CosineAnnealingLR(sgd, T_max=4)
    >>> for _ in range(2):
    ...     schedule.step()
    >>> round(sgd.lr, 6)
    0.5
    """

    commutes = False

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        self._period, self._least = check_least("CosineAnnealingLR", "T_max", T_max, 1), eta_min
        check_range("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def rate(self, t: int, base: float) -> float:
        return self._least + (base - self._least) * self._height(t)

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        period, base = self._period, self.base[number]
        if start < 0:
            if rate == base:
                return self.rate(int(t), base)
            start = 0
        bottom = period * (2 * math.ceil((start / period - 1) / 2) + 1)  # the first from the start on
        if start <= bottom < t:
            if bottom > start:
                rate, start = self._least, bottom
            last = bottom + (int(t) - 1 - bottom) // (2 * period) * 2 * period
            if last > bottom:
                rate, start = self._least, last
            rate, start = rate + (base - self._least) * self._height(start + 1), start + 1
        if start == t:
            return rate
        return self._least + (rate - self._least) * (self._height(t) / self._height(start))

    def _height(self, t: float) -> float:
        """From 1 at the top to 0 at the bottom."""
        return (1 + math.cos(math.pi * t / self._period)) / 2


class CosineAnnealingWarmRestarts(Setter):
    """``eta_min + (L - eta_min) (1 + cos(pi s / T)) / 2``, with s the steps since the last restart, and back to L.

    In a chain each step sets this rate anew, whatever the other schedules made of it.
    T is ``T_0`` at first, and ``T_mult`` times as long after each restart. ``step(epoch)`` goes to that t, which may
    lie between two integers. Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm
    restarts".

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule, rates = CosineAnnealingWarmRestarts(sgd, T_0=2, T_mult=2), [sgd.lr]
    >>> for _ in range(4):
    ...     schedule.step()
    ...     rates.append(round(sgd.lr, 4))
    >>> rates
    [1.0, 0.5, 1.0, 0.8536, 0.5]
    """

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        op = "CosineAnnealingWarmRestarts"
        self._first, self._times = check_least(op, "T_0", T_0, 1), check_least(op, "T_mult", T_mult, 1)
        self._least, self._fraction = eta_min, 0.0
        check_range(op, "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def set_rate(self, number: int, t: float) -> float:
        since, period = t, self._first
        if self._times == 1:
            since %= period
        while since >= period:
            since, period = since - period, period * self._times
        return self._least + (self.base[number] - self._least) * (1 + math.cos(math.pi * since / period)) / 2

    @property
    def place(self) -> float:
        return self.steps + self._fraction

    def step(self, epoch: float | None = None) -> None:
        """Count a step, or go to t = ``epoch``, and set the learning rates."""
        if epoch is None:
            super().step()
            return
        check_range("CosineAnnealingWarmRestarts", "epoch", epoch)
        self.settle()
        before, self._fraction = self._fraction, epoch - math.floor(epoch)
        try:
            self.advance(math.floor(epoch))
        except BaseException:
            self._fraction = before
            raise

    def state_dict(self) -> dict[str, Any]:
        """t, an integer and a fraction, and L."""
        return super().state_dict() | {"fraction": self._fraction}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        op = "CosineAnnealingWarmRestarts"
        check_state(op, self.state_dict(), state)
        fraction = plain(state["fraction"])
        check_range(op, "fraction", fraction, 1.0)
        before, self._fraction = self._fraction, fraction
        try:
            super().load_state_dict({name: value for name, value in state.items() if name != "fraction"})
        except BaseException:
            self._fraction = before
            raise


class Cycle(Setter):
    """The base of the schedules whose rates are their own, and not a function of L; they may move the momentum, too.

    ``base``, of each group, is what the rates are computed from. A subclass has :meth:`set_rate` and
    :meth:`momentum_of`.
    """

    base: tuple[float, ...] = ()

    def __init__(self, optimizer: Optimizer, last_epoch: int, momenta: tuple[Any, Any] | None) -> None:
        op = type(self).__name__
        check_optimizer(op, optimizer)
        self._momenta: list[tuple[float, float]] = []  # of each group the least and the largest; of none, none moves
        if momenta is not None:
            holds = any(name in group.settings for group in optimizer.groups for name in ("momentum", "betas"))
            rule = "cycle_momentum needs an optimizer with momentum or betas"
            check(holds, ArgumentError, op, rule, optimizer=type(optimizer).__name__)
            names = ("base_momentum", "max_momentum")
            both = (rates_of(op, name, each, optimizer.groups) for name, each in zip(names, momenta, strict=True))
            self._momenta = list(zip(*both, strict=True))
        super().__init__(optimizer, last_epoch)

    def momentum_of(self, number: int, t: float) -> float:
        """The momentum of a group at t."""
        raise NotImplementedError

    def accompany(self, t: int) -> None:
        for number, group in enumerate(self.optimizer.groups if self._momenta else ()):
            momentum = self.momentum_of(number, t)
            name = "betas" if "betas" in group.settings else "momentum"
            group.schedule(name, (momentum, group["betas"][1]) if name == "betas" else momentum)


class CyclicLR(Cycle):
    """Up from ``base_lr`` to ``max_lr`` in ``step_size_up`` steps, down again in ``step_size_down``, and so on.

    By its ``mode`` the peaks are equally high (``"triangular"``), half as high above ``base_lr`` in each cycle
    (``"triangular2"``), or shrink by ``gamma^t`` (``"exp_range"``). ``scale_fn`` instead of a mode is a function of the
    number of the cycle, from 1, or with ``scale_mode="iterations"`` of t. ``cycle_momentum`` moves the momentum (of
    Adam and its kin, the first of ``betas``) against the rate, between ``max_momentum`` and ``base_momentum``. Rates
    and momenta are one for all groups, or one for each; the rates that the user set are not used. In a chain each step
    sets its rate anew; if it is the first, ``base_lr`` is the L of the others. Source: Smith 2017, "Cyclical learning
    rates for training neural networks".

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], momentum=0.9)
    >>> schedule, rates = CyclicLR(sgd, base_lr=1.0, max_lr=3.0, step_size_up=2, mode="triangular2"), [sgd.lr]
    >>> for _ in range(7):
    ...     schedule.step()
    ...     rates.append(sgd.lr)
    >>> rates
    [1.0, 2.0, 3.0, 2.0, 1.0, 1.5, 2.0, 1.5]

    Raises ArgumentError with ``cycle_momentum`` for an optimizer without a momentum.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.8,
        max_momentum: float | Sequence[float] = 0.9,
        last_epoch: int = -1,
    ) -> None:
        op = "CyclicLR"
        check_optimizer(op, optimizer)
        check(
            scale_fn is not None or mode in _MODES,
            ArgumentError,
            op,
            f"mode must be one of {', '.join(_MODES)}",
            mode=mode,
        )
        rule = "scale_mode must be one of cycle, iterations"
        check(scale_mode in ("cycle", "iterations"), ArgumentError, op, rule, scale_mode=scale_mode)
        check_range(op, "gamma", gamma)
        up = check_least(op, "step_size_up", step_size_up, 1)
        self._length = up + (up if step_size_down is None else check_least(op, "step_size_down", step_size_down, 0))
        self._up = up
        rule = "scale_fn must be a function"
        check(scale_fn is None or callable(scale_fn), ArgumentError, op, rule, type=type(scale_fn).__name__)
        self._scale: Callable[[float], float] = scale_fn or partial(_MODES[mode], gamma)
        self._by_steps = scale_mode == "iterations" if scale_fn else mode == "exp_range"
        self.base = rates_of(op, "base_lr", base_lr, optimizer.groups)
        self._tops = rates_of(op, "max_lr", max_lr, optimizer.groups)
        self._leads = [group.chain is None or not group.chain.links for group in optimizer.groups]
        super().__init__(optimizer, last_epoch, (base_momentum, max_momentum) if cycle_momentum else None)

    def left_base(self, number: int, base: float) -> float:
        return self.base[number] if self._leads[number] else base

    def _height(self, t: float) -> float:
        """How far up it is, from 0 to 1 in the first cycle."""
        cycle, within = divmod(t, self._length)
        share = within / self._up if within <= self._up else (self._length - within) / (self._length - self._up)
        return share * self._scale(t if self._by_steps else cycle + 1)

    def set_rate(self, number: int, t: float) -> float:
        return self.base[number] + (self._tops[number] - self.base[number]) * self._height(t)

    def momentum_of(self, number: int, t: float) -> float:
        low, high = self._momenta[number]
        return high - (high - low) * self._height(t)


def _equal(gamma: float, cycle: float) -> float:
    return 1.0


def _halved(gamma: float, cycle: float) -> float:
    return float(0.5 ** (cycle - 1))


_MODES: dict[str, Callable[[float, float], float]] = {
    "triangular": _equal,
    "triangular2": _halved,
    "exp_range": math.pow,
}


class OneCycleLR(Cycle):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to ``max_lr / (div_factor final_div_factor)``.

    The way up takes the share ``pct_start`` of the ``total_steps``, or of ``epochs`` times ``steps_per_epoch``; with
    ``three_phase`` the way back to the first rate takes as long, and the rest leads to the last one.
    ``anneal_strategy`` is ``"cos"`` or ``"linear"``.
    ``cycle_momentum`` moves the momentum (of Adam and its kin, the first of ``betas``) against the rate, between
    ``max_momentum`` and ``base_momentum``. ``max_lr`` is one for all groups, or one for each; the rates that the user
    set are not used. In a chain each step sets its rate anew, and ``max_lr / div_factor`` is the L of those made after
    it. At ``total_steps``, one step after the last, all stays as it is. Source: Smith and Topin 2018,
    "Super-convergence".

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], momentum=0.9)
    >>> schedule = OneCycleLR(sgd, max_lr=1.0, total_steps=11, pct_start=0.5)
    >>> round(sgd.lr, 6), sgd.groups[0]["momentum"]
    (0.04, 0.95)

    Raises ArgumentError for a step beyond ``total_steps``, and with ``cycle_momentum`` for an optimizer without a
    momentum.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        op = "OneCycleLR"
        check_optimizer(op, optimizer)
        if total_steps is None:
            given = epochs is not None and steps_per_epoch is not None
            rule = "total_steps must be given, or both epochs and steps_per_epoch"
            check(given, ArgumentError, op, rule, epochs=epochs, steps_per_epoch=steps_per_epoch)
            both = {"epochs": epochs, "steps_per_epoch": steps_per_epoch}
            total_steps = math.prod(check_least(op, name, value or 0, 1) for name, value in both.items())
        total = self._total = check_least(op, "total_steps", total_steps, 1)
        numbers = {"pct_start": pct_start, "div_factor": div_factor, "final_div_factor": final_div_factor}
        check_number(op, **numbers)
        check(0 <= pct_start <= 1, ArgumentError, op, "pct_start must be from 0 to 1", pct_start=pct_start)
        rule = f"anneal_strategy must be one of {', '.join(_ANNEAL)}"
        check(anneal_strategy in _ANNEAL, ArgumentError, op, rule, anneal_strategy=anneal_strategy)
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            check(0 < value < math.inf, ArgumentError, op, f"{name} must be above 0 and finite", **{name: value})
        self._anneal = _ANNEAL[anneal_strategy]
        first, last = 1 / div_factor, 1 / div_factor / final_div_factor
        # Of each phase: the step where it ends, the factors of max_lr between which it goes, and whether the momenta at
        # its ends are the largest.
        self._phases = [(pct_start * total - 1, (first, 1.0), (True, False))]
        if three_phase:
            self._phases += [(2 * pct_start * total - 2, (1.0, first), (False, True))]
        final = ((first, last), (True, True)) if three_phase else ((1.0, last), (False, True))
        self._phases.append((total - 1, *final))
        self.base = rates_of(op, "max_lr", max_lr, optimizer.groups)
        super().__init__(optimizer, last_epoch, (base_momentum, max_momentum) if cycle_momentum else None)

    def set_rate(self, number: int, t: float) -> float:
        phase, progress = self._phase(t)
        return self.base[number] * self._anneal(*phase[1], progress)

    def momentum_of(self, number: int, t: float) -> float:
        phase, progress = self._phase(t)
        start, end = (self._momenta[number][largest] for largest in phase[2])
        return self._anneal(start, end, progress)

    def check(self, t: int) -> None:
        rule = "there are no more steps: total_steps was too few"
        check(t <= self._total, ArgumentError, "OneCycleLR", rule, step=t, total_steps=self._total)

    def left_base(self, number: int, base: float) -> float:
        return self.base[number] * self._phases[0][1][0]

    def _phase(self, t: float) -> tuple[tuple[float, tuple[float, float], tuple[bool, bool]], float]:
        """The phase of step t, and the share of it that has passed."""
        start = 0.0
        for phase in self._phases:
            end = phase[0]
            if t <= end or phase is self._phases[-1]:
                break
            start = end
        return phase, min((t - start) / (end - start), 1.0) if end > start else 1.0


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _linear(start: float, end: float, progress: float) -> float:
    return start * (1 - progress) + end * progress


_ANNEAL: dict[str, Callable[[float, float, float], float]] = {"cos": _cosine, "linear": _linear}
