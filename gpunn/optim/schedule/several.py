"""Schedules made of schedules: one after the other, or all at once."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.optim.optimizer import Optimizer, check_dict
from gpunn.optim.schedule.base import Schedule, check_optimizer, check_state, rates_of, read_count


class _Several(Schedule):
    """The base of the schedules made of others."""

    def _take(self, schedulers: Sequence[Schedule], optimizer: Optimizer) -> None:
        op = type(self).__name__
        check(len(schedulers) > 0, ArgumentError, op, "there must be at least one schedule")
        for schedule in schedulers:
            fits = isinstance(schedule, Schedule) and schedule.optimizer is optimizer
            rule = "each schedule must be a function of the step, and of this optimizer"
            check(fits, ArgumentError, op, rule, schedule=type(schedule).__name__)
        self._schedules = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        """The states of the schedules, by the names ``schedules.<number>.<name>``."""
        state: dict[str, Any] = {}
        for number, schedule in enumerate(self._schedules):
            state |= {f"schedules.{number}.{name}": value for name, value in schedule.state_dict().items()}
        return state

    @contextmanager
    def _loading(self, state: Mapping[str, Any]) -> Iterator[None]:
        """Load the states of the schedules; after an error take it back."""
        before = [schedule.state_dict() for schedule in self._schedules]
        try:
            for number, schedule in enumerate(self._schedules):
                prefix = f"schedules.{number}."
                own = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
                schedule.load_state_dict(own)
            yield
        except Exception:
            for schedule, own in zip(self._schedules, before, strict=True):
                schedule.load_state_dict(own)
            raise


class SequentialLR(_Several):
    """One of ``schedulers`` after the other: the next from each of ``milestones`` on, which is its t = 0.

    Each begins at its own first rate, but for :class:`MultiplicativeLR`. In a chain it sets the rate when it is made
    and at the milestones, and between them does what the schedule of then does.

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

    commutes = False

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
        self._take(schedulers, optimizer)
        for schedule in schedulers:
            schedule.leave()
        self.walks = any(schedule.walks for schedule in schedulers)
        super().__init__(optimizer, last_epoch)

    def _at(self, t: int) -> tuple[Schedule, int]:
        """The schedule of step t, and its own t."""
        number = bisect_right(self._milestones, t)
        return self._schedules[number], t - [0, *self._milestones][number]

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        first, last = bisect_right(self._milestones, start), bisect_right(self._milestones, t)
        for place in range(first, last + 1):
            schedule, begin = self._schedules[place], self._milestones[place - 1] if place else 0
            own = (self._milestones[place] - 1 if place < last else t) - begin
            if start >= begin:
                rate = schedule.onward(number, start - begin, own, rate) if own > start - begin else rate
            elif place:
                rate = schedule.enter(number, own, rate)
            else:
                rate = schedule.onward(number, -1, own, self.base[number])
        return rate

    def check(self, t: int) -> None:
        schedule, own = self._at(t)
        schedule.check(own)

    def accompany(self, t: int) -> None:
        schedule, own = self._at(t)
        schedule.accompany(own)

    def state_dict(self) -> dict[str, Any]:
        """What :class:`Schedule` has, and the states of the schedules, by the names ``schedules.<number>.<name>``."""
        return Schedule.state_dict(self) | super().state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        op = "SequentialLR"
        check_dict(op, state)
        known = self.state_dict().keys() - ({"base"} - state.keys())  # which states had not from the beginning
        check_state(op, known, state)
        try:
            with self._loading(state):
                base = state.get("base", tuple(chain.base for chain in self._chains))
                self._resume(state, rates_of(op, "base", base, self.optimizer.groups))
        except Exception:
            self._pass_on()
            self._go(self.steps)
            raise
        for t in (*(end - 1 for end in self._milestones if end <= self.steps), self.steps):
            self.accompany(t)  # what one leaves stays behind it


class ChainedScheduler(_Several):
    """All of ``schedulers``, which one ``step()`` moves, one after the other.

    They go on from the step where they are. Schedules made for one optimizer are a chain anyway: this one is for code
    that steps one object. ``steps`` and ``base`` are those of the first.

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
        given = getattr(schedulers[0], "optimizer", None) if schedulers and optimizer is None else optimizer
        check_optimizer("ChainedScheduler", given)
        assert given is not None
        self.optimizer = given
        self._take(schedulers, given)
        self.steps, self.base = schedulers[0].steps, schedulers[0].base
        self.commutes = all(schedule.commutes for schedule in schedulers)
        self.walks = not self.commutes

    def step(self) -> None:
        for schedule in self._schedules:
            schedule.check(schedule.steps + 1)
        for schedule in self._schedules:
            schedule.step()
        self.steps = self._schedules[0].steps

    def leave(self) -> None:
        for schedule in self._schedules:
            schedule.leave()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        op = "ChainedScheduler"
        check_dict(op, state)
        check_state(op, self.state_dict().keys() | ({"steps"} & state.keys()), state)
        own = dict(state)
        if "steps" in own:  # a state from when it counted for them
            count = read_count(op, "steps", own.pop("steps"))
            for name in (f"schedules.{number}.steps" for number in range(len(self._schedules))):
                own[name] = read_count(op, name, own[name]) + count
        with self._loading(own):
            self.steps, self.base = self._schedules[0].steps, self._schedules[0].base

    # ---- in a SequentialLR, which counts for it -------------------------------------------------------------------

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        if self.commutes:
            for schedule in self._schedules:
                rate = schedule.onward(number, start, t, rate)
            return rate
        for each in range(int(start), int(t)):
            for schedule in self._schedules:
                rate = schedule.onward(number, each, each + 1, rate)
        return rate

    def enter(self, number: int, t: float, rate: float) -> float:
        rate = self._schedules[0].enter(number, 0, rate)
        for schedule in self._schedules[1:]:
            rate = schedule.onward(number, -1, 0, rate)
        return self.onward(number, 0, t, rate)

    def check(self, t: int) -> None:
        for schedule in self._schedules:
            schedule.check(t)

    def accompany(self, t: int) -> None:
        for schedule in self._schedules:
            schedule.accompany(t)
