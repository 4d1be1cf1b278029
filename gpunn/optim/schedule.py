"""Learning rates that change from step to step, with the names, arguments and values of PyTorch's ``lr_scheduler``.

A schedule is made after the optimizer, and its ``step()`` is called after each step of the optimizer, or each epoch:
it counts these calls. t is their number so far; L, for each group of the optimizer, the learning rate that the user
set. Each value is computed from t alone, except by :class:`ReduceLROnPlateau`.

Several schedules of one optimizer form a chain, in the order in which they were made: the L of each is the rate that
those before it give, so that their factors multiply, as in PyTorch. The chain owns the learning rate: what is set by
hand is overwritten by the next step of a schedule, and is the L of those made afterwards, which form a new chain.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.optim.group import Chain, Group, plain
from gpunn.optim.optimizer import Optimizer, check_names, check_range


class Schedule:
    """The base of the schedules that are a function of t; a subclass defines :meth:`rate`.

    ``steps`` is t. :meth:`state_dict` holds t and L, and not the other arguments.

    >>> class Root(Schedule):
    ...     def rate(self, t, base):
    ...         return base / (1 + t) ** 0.5
    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=6.0)
    >>> schedule = Root(sgd)
    >>> for _ in range(8):
    ...     schedule.step()
    >>> sgd.lr
    2.0
    """

    def __init__(self, optimizer: Optimizer) -> None:
        _check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        self.steps = 0
        self._chains = [_chain(optimizer, number) for number in range(len(optimizer.groups))]
        for chain in self._chains:
            chain.links.append(self)
        try:
            self.apply(0)
        except BaseException:
            self.leave()
            raise

    def rate(self, t: int, base: float) -> float:
        """The learning rate at t of a group for which the user, or the schedules made earlier, set ``base``."""
        raise NotImplementedError

    def through(self, number: int, t: int, base: float) -> float:
        """The :meth:`rate` of the group of that ``number``."""
        return self.rate(t, base)

    def apply(self, t: int) -> None:
        """Go to t, and give the groups their learning rates there."""
        before, self.steps = self.steps, t
        try:
            self.check(t)
            for group, rate in zip(self.optimizer.groups, [chain.rate() for chain in self._chains], strict=True):
                group.schedule("lr", rate)
        except BaseException:
            self.steps = before
            raise
        self.accompany(t)

    def check(self, t: int) -> None:
        """Raise ArgumentError if there is no rate at t."""

    def accompany(self, t: int) -> None:
        """Set what moves with the learning rate."""

    def leave(self) -> None:
        """Take no part in the learning rates any more."""
        for chain in self._chains:
            if self in chain.links:
                chain.links.remove(self)

    def step(self) -> None:
        """Count a step, and set the learning rates."""
        self.apply(self.steps + 1)

    @property
    def base(self) -> tuple[float, ...]:
        """L of each group, without what other schedules make of it."""
        return tuple(chain.base for chain in self._chains)

    @base.setter
    def base(self, rates: tuple[float, ...]) -> None:
        for chain, rate in zip(self._chains, rates, strict=True):
            chain.base = rate

    def state_dict(self) -> dict[str, Any]:
        """t and L: an integer and a tuple of numbers."""
        return {"steps": self.steps, "base": self.base}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a :meth:`state_dict`, and set the learning rates; if something does not fit, change nothing."""
        op = type(self).__name__
        check_names(op, {"steps", "base"}, state)
        steps = _count(op, "steps", state["steps"])
        before, self.base = self.base, _rates(op, "base", state["base"], self.optimizer.groups)
        try:
            self.apply(steps)
        except BaseException:
            self.base = before
            raise


class StepLR(Schedule):
    """``L gamma^floor(t / step_size)``: the rate falls every ``step_size`` steps.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = StepLR(sgd, step_size=2, gamma=0.5)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> sgd.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self._step_size, self._gamma = _least("StepLR", "step_size", step_size, 1), gamma
        check_range("StepLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return base * self._gamma ** (t // self._step_size)


class MultiStepLR(Schedule):
    """``L gamma^n``, n the number of ``milestones`` up to t.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = MultiStepLR(sgd, milestones=[1, 4], gamma=0.5)
    >>> for _ in range(4):
    ...     schedule.step()
    >>> sgd.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        self._milestones = sorted(_least("MultiStepLR", "milestones", milestone, 0) for milestone in milestones)
        self._gamma = gamma
        check_range("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return base * self._gamma ** bisect_right(self._milestones, t)


class ExponentialLR(Schedule):
    """``L gamma^t``.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = ExponentialLR(sgd, gamma=0.5)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> sgd.lr
    0.125
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self._gamma = gamma
        check_range("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return base * self._gamma**t


class LinearLR(Schedule):
    """L times a factor that goes from ``start_factor`` to ``end_factor`` in ``total_iters`` steps, and stays: warm-up.

    Unlike PyTorch's, ``start_factor`` may be 0. :class:`SequentialLR` puts another schedule behind it.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = LinearLR(sgd, start_factor=0.5, total_iters=4)
    >>> schedule.step()
    >>> sgd.lr
    0.625
    """

    def __init__(
        self, optimizer: Optimizer, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5
    ) -> None:
        check_range("LinearLR", "start_factor", start_factor)
        check_range("LinearLR", "end_factor", end_factor)
        self._from, self._to = start_factor, end_factor
        self._length = _least("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return base * (self._from + (self._to - self._from) * min(t, self._length) / self._length)


class CosineAnnealingLR(Schedule):
    """``eta_min + (L - eta_min) (1 + cos(pi t / T_max)) / 2``: down to ``eta_min`` in ``T_max`` steps, then up again.

    Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts" (without the restarts).

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = CosineAnnealingLR(sgd, T_max=4)
    >>> for _ in range(2):
    ...     schedule.step()
    >>> round(sgd.lr, 6)
    0.5
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self._period, self._least = _least("CosineAnnealingLR", "T_max", T_max, 1), eta_min
        check_range("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return self._least + (base - self._least) * (1 + math.cos(math.pi * t / self._period)) / 2


class OneCycleLR(Schedule):
    """Up from ``max_lr / div_factor`` to ``max_lr``, then down to ``max_lr / (div_factor final_div_factor)``.

    The way up takes the share ``pct_start`` of the ``total_steps``; with ``three_phase`` the way back to the first rate
    takes as long, and the rest leads to the last one. ``anneal_strategy`` is ``"cos"`` or ``"linear"``.
    ``cycle_momentum`` moves the momentum (of Adam and its kin, the first of ``betas``) against the rate, between
    ``max_momentum`` and ``base_momentum``. ``max_lr`` is one for all groups, or one for each; the rates that the user
    set are not used, so it can only be the first of a chain. At ``total_steps``, one step after the last, all stays as
    it is. Source: Smith and Topin 2018, "Super-convergence".

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], momentum=0.9)
    >>> schedule = OneCycleLR(sgd, max_lr=1.0, total_steps=11, pct_start=0.5)
    >>> round(sgd.lr, 6), sgd.groups[0]["momentum"]
    (0.04, 0.95)

    Raises ArgumentError for a step beyond ``total_steps``, or where it would overwrite the rates of another schedule;
    and with ``cycle_momentum`` for an optimizer without one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float = 0.85,
        max_momentum: float = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        op = "OneCycleLR"
        total = self._total = _least(op, "total_steps", total_steps, 1)
        check(0 <= pct_start <= 1, ArgumentError, op, "pct_start must be from 0 to 1", pct_start=pct_start)
        rule = f"anneal_strategy must be one of {', '.join(_ANNEAL)}"
        check(anneal_strategy in _ANNEAL, ArgumentError, op, rule, anneal_strategy=anneal_strategy)
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            check(0 < value < math.inf, ArgumentError, op, f"{name} must be above 0 and finite", **{name: value})
        holds = any(name in group.settings for group in optimizer.groups for name in ("momentum", "betas"))
        rule = "cycle_momentum needs an optimizer with momentum or betas"
        check(holds or not cycle_momentum, ArgumentError, op, rule, optimizer=type(optimizer).__name__)
        check_range(op, "base_momentum", base_momentum, 1.0)
        check_range(op, "max_momentum", max_momentum, 1.0)
        self._anneal, self._cycle_momentum = _ANNEAL[anneal_strategy], cycle_momentum
        first, last, low, high = 1 / div_factor, 1 / div_factor / final_div_factor, base_momentum, max_momentum
        # Of each phase: the step where it ends, the factors of max_lr between which it goes, the momenta.
        self._phases = [(pct_start * total - 1, (first, 1.0), (high, low))]
        if three_phase:
            self._phases += [(2 * pct_start * total - 2, (1.0, first), (low, high))]
        final = ((first, last), (high, high)) if three_phase else ((1.0, last), (low, high))
        self._phases.append((total - 1, *final))
        self.base = _rates(op, "max_lr", max_lr, optimizer.groups)
        super().__init__(optimizer)

    base: tuple[float, ...] = ()

    def rate(self, t: int, base: float) -> float:
        phase, progress = self._place(t)
        return base * self._anneal(*phase[1], progress)

    def through(self, number: int, t: int, base: float) -> float:
        return self.rate(t, self.base[number])

    def check(self, t: int) -> None:
        rule = "there are no more steps: total_steps was too few"
        check(t <= self._total, ArgumentError, "OneCycleLR", rule, step=t, total_steps=self._total)
        if t > 0 and self in (links := self._chains[0].links):
            rule = "it would overwrite the rates of the schedules made before it: make it first, or set the lr before"
            check(links[0] is self, ArgumentError, "OneCycleLR", rule, first=type(links[0]).__name__)

    def accompany(self, t: int) -> None:
        if not self._cycle_momentum:
            return
        phase, progress = self._place(t)
        momentum = self._anneal(*phase[2], progress)
        for group in self.optimizer.groups:
            name = "betas" if "betas" in group.settings else "momentum"
            group.schedule(name, (momentum, group["betas"][1]) if name == "betas" else momentum)

    def _place(self, t: int) -> tuple[tuple[float, tuple[float, float], tuple[float, float]], float]:
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


class SequentialLR(Schedule):
    """One of ``schedules`` after the other: the next from each of ``milestones`` on, which is its t = 0.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> warmup, cosine = LinearLR(sgd, 0.25, total_iters=3), CosineAnnealingLR(sgd, T_max=4)
    >>> schedule, rates = SequentialLR(sgd, [warmup, cosine], milestones=[3]), [0.25]
    >>> for _ in range(5):
    ...     schedule.step()
    ...     rates.append(round(sgd.lr, 6))
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 0.853553, 0.5]
    """

    def __init__(self, optimizer: Optimizer, schedules: Sequence[Schedule], milestones: Sequence[int]) -> None:
        op = "SequentialLR"
        for schedule in schedules:
            fits = isinstance(schedule, Schedule) and schedule.optimizer is optimizer
            rule = "each schedule must be a function of the step, and of this optimizer"
            check(fits, ArgumentError, op, rule, schedule=type(schedule).__name__)
        increasing = all(a < b for a, b in zip([0, *milestones], milestones, strict=False))
        rule = "milestones must increase from above 0, one fewer than the schedules"
        fits = increasing and len(milestones) == len(schedules) - 1
        check(fits, ArgumentError, op, rule, milestones=milestones, schedules=len(schedules))
        self._schedules, self._milestones = list(schedules), list(milestones)
        for schedule in schedules:
            schedule.leave()
        super().__init__(optimizer)

    def _at(self, t: int) -> tuple[Schedule, int]:
        """The schedule of step t, and its own t."""
        number = bisect_right(self._milestones, t)
        return self._schedules[number], t - [0, *self._milestones][number]

    def through(self, number: int, t: int, base: float) -> float:
        schedule, own = self._at(t)
        return schedule.through(number, own, base)

    def check(self, t: int) -> None:
        schedule, own = self._at(t)
        schedule.check(own)

    def accompany(self, t: int) -> None:
        schedule, own = self._at(t)
        schedule.accompany(own)

    def state_dict(self) -> dict[str, Any]:
        """t, and the states of the schedules, by the names ``schedules.<number>.<name>``."""
        state: dict[str, Any] = {"steps": self.steps}
        for number, schedule in enumerate(self._schedules):
            state |= {f"schedules.{number}.{name}": value for name, value in schedule.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        check_names("SequentialLR", self.state_dict(), state)
        steps = _count("SequentialLR", "steps", state["steps"])
        before = [schedule.state_dict() for schedule in self._schedules]
        try:
            for number, schedule in enumerate(self._schedules):
                prefix = f"schedules.{number}."
                own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
                schedule.load_state_dict(own)
            self.apply(steps)
        except Exception:
            for schedule, own in zip(self._schedules, before, strict=True):
                schedule.load_state_dict(own)
            self.apply(self.steps)
            raise
        self.steps = steps


class ReduceLROnPlateau:
    """Multiplies the learning rates by ``factor`` when a metric has not become better for ``patience`` steps.

    ``step(metric)`` is usually called after each epoch. Better means, with ``mode="min"``, below ``best - threshold
    |best|``, or with ``threshold_mode="abs"`` below ``best - threshold``; ``mode="max"`` likewise above. (PyTorch has
    ``best (1 - threshold)``: there a metric that stays at a number below 0 is better each time.) NaN is never better.
    After a reduction ``cooldown`` steps are not counted. No rate falls below ``min_lr`` (one for all groups, or one for
    each), and a change of at most ``eps`` is not made. Of other schedules of the optimizer, it reduces the L.

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
        _check_optimizer(op, optimizer)
        self.optimizer = optimizer
        self._sign = 1 if mode == "min" else -1
        self._factor, self._threshold, self._relative = factor, threshold, threshold_mode == "rel"
        self._patience, self._cooldown = _least(op, "patience", patience, 0), _least(op, "cooldown", cooldown, 0)
        self._least_rates, self._eps = _rates(op, "min_lr", min_lr, optimizer.groups), eps
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
                    chain = _chain(self.optimizer, number)
                    chain.base = chain.base * (lower / rate) if chain.links else lower

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
        bad, resting = (_count(op, name, state[name]) for name in ("bad_steps", "cooldown_steps"))
        self.best, self._bad, self._resting = float(best), bad, resting


def _chain(optimizer: Optimizer, number: int) -> Chain:
    """That of the group of this number; begun at the rate that the user set."""
    group = optimizer.groups[number]
    if group.chain is None:
        group.chain = Chain(number, group.initial_lr)
    return group.chain


def _check_optimizer(op: str, optimizer: object) -> None:
    """Check that a schedule is given an optimizer."""
    fits = isinstance(optimizer, Optimizer)
    check(fits, ArgumentError, op, "a schedule is made for an optimizer", type=type(optimizer).__name__)


def _least(op: str, name: str, value: int, least: int) -> int:
    valid = isinstance(value, Integral) and value >= least
    check(valid, ArgumentError, op, f"{name} must be an integer of at least {least}", **{name: value})
    return value


def _count(op: str, name: str, value: Any) -> int:
    count = plain(value)
    fits = isinstance(count, int) and count >= 0
    check(fits, ArgumentError, op, f"{name} must be an integer of at least 0", **{name: count})
    return int(count)


def _rates(op: str, name: str, value: Any, groups: Sequence[Group]) -> tuple[float, ...]:
    """One number for each group, from one for each or one for all."""
    given = plain(value)
    rates = given if isinstance(given, tuple) else (given,) * len(groups)
    rule = f"{name} must be one number, or one for each of {len(groups)} groups"
    check(len(rates) == len(groups), ArgumentError, op, rule, **{name: given})
    for rate in rates:
        check_range(op, name, rate)
    return rates
