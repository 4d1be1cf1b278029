"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.optim.optimizer import Optimizer, check_names
from gpunn.optim.schedule.base import Schedule, check_optimizer, read_count
from gpunn.optim.schedule.cycles import Cycle


class _Several(Schedule):
    """The base of the schedules made of others, whose own steps are fixed: what they are part of counts."""

    def __init__(self, optimizer: Optimizer, schedulers: Sequence[Schedule], last_epoch: int = -1) -> None:
        op = type(self).__name__
        check(len(schedulers) > 0, ArgumentError, op, "there must be at least one schedule")
        for schedule in schedulers:
            fits = isinstance(schedule, Schedule) and schedule.optimizer is optimizer
            rule = "each schedule must be a function of the step, and of this optimizer"
            check(fits, ArgumentError, op, rule, schedule=type(schedule).__name__)
        self._schedules = list(schedulers)
        for schedule in schedulers:
            schedule.leave()
        super().__init__(optimizer, last_epoch)

    def state_dict(self) -> dict[str, Any]:
        """t, and the states of the schedules, by the names ``schedules.<number>.<name>``."""
        state: dict[str, Any] = {"steps": self.steps}
        for number, schedule in enumerate(self._schedules):
            state |= {f"schedules.{number}.{name}": value for name, value in schedule.state_dict().items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        op = type(self).__name__
        check_names(op, self.state_dict(), state)
        steps = read_count(op, "steps", state["steps"])
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


class SequentialLR(_Several):
    """One of ``schedulers`` after the other: the next from each of ``milestones`` on, which is its t = 0.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> warmup = gpunn.optim.lr_scheduler.LinearLR(sgd, 0.25, total_iters=3)
    >>> cosine = gpunn.optim.lr_scheduler.CosineAnnealingLR(sgd, T_max=4)
    >>> schedule, rates = SequentialLR(sgd, [warmup, cosine], milestones=[3]), [0.25]
    >>> for _ in range(5):
    ...     schedule.step()
    ...     rates.append(round(sgd.lr, 6))
    >>> rates
    [0.25, 0.5, 0.75, 1.0, 0.853553, 0.5]
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[Schedule], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        for name, given in (("schedulers", schedulers), ("milestones", milestones)):
            several = isinstance(given, Collection)
            check(several, ArgumentError, "SequentialLR", f"{name} must be a list", type=type(given).__name__)
        increasing = all(a < b for a, b in zip([0, *milestones], milestones, strict=False))
        rule = "milestones must increase from above 0, one fewer than the schedules"
        fits = increasing and len(milestones) == len(schedulers) - 1
        check(fits, ArgumentError, "SequentialLR", rule, milestones=milestones, schedules=len(schedulers))
        self._milestones = list(milestones)
        super().__init__(optimizer, schedulers, last_epoch)

    def _at(self, t: int) -> tuple[Schedule, int]:
        """The schedule of step t, and its own t."""
        number = bisect_right(self._milestones, t)
        return self._schedules[number], t - [0, *self._milestones][number]

    def through(self, number: int, t: int, base: float) -> float:
        schedule, own = self._at(t)
        if own == t:
            return schedule.through(number, own, base)
        return schedule.after(number, own, base, partial(self.through, number, t - own - 1, base))

    def check(self, t: int) -> None:
        schedule, own = self._at(t)
        schedule.check(own)

    def accompany(self, t: int) -> None:
        schedule, own = self._at(t)
        schedule.accompany(own)


class ChainedScheduler(_Several):
    """All of ``schedulers`` at once: the L of each is the rate that those before it in the list give.

    They go on from the step where they are, and one ``step()`` counts for all of them. Schedules made for one optimizer
    are a chain anyway: this one is for code that steps one object.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> constant = gpunn.optim.lr_scheduler.ConstantLR(sgd, factor=0.5, total_iters=2)
    >>> falling = gpunn.optim.lr_scheduler.ExponentialLR(sgd, gamma=0.5)
    >>> schedule, rates = ChainedScheduler([constant, falling]), [0.5]
    >>> for _ in range(3):
    ...     schedule.step()
    ...     rates.append(sgd.lr)
    >>> rates
    [0.5, 0.25, 0.25, 0.125]
    """

    def __init__(self, schedulers: Sequence[Schedule], optimizer: Optimizer | None = None) -> None:
        several = isinstance(schedulers, Sequence)
        rule = "schedulers must be a list"
        check(several, ArgumentError, "ChainedScheduler", rule, type=type(schedulers).__name__)
        for schedule in schedulers[1:]:
            rule = "a cycle has rates of its own: it must be the first"
            cycle = isinstance(schedule, Cycle)
            check(not cycle, ArgumentError, "ChainedScheduler", rule, schedule=type(schedule).__name__)
        given = getattr(schedulers[0], "optimizer", None) if schedulers and optimizer is None else optimizer
        check_optimizer("ChainedScheduler", given)
        assert given is not None
        super().__init__(given, schedulers)

    def through(self, number: int, t: int, base: float) -> float:
        for schedule in self._schedules:
            base = schedule.through(number, schedule.steps + t, base)
        return base

    def check(self, t: int) -> None:
        for schedule in self._schedules:
            schedule.check(schedule.steps + t)

    def accompany(self, t: int) -> None:
        for schedule in self._schedules:
            schedule.accompany(schedule.steps + t)
