"""``Schedule``, the base of the schedules that are a function of the number of steps; and what they check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from gpunn.errors import ArgumentError, check
from gpunn.optim.group import Chain, Group, plain
from gpunn.optim.optimizer import Optimizer, check_names, check_range


class Schedule:
    """The base of the schedules that are a function of t; a subclass defines :meth:`rate`.

    ``steps`` is t. It begins at ``last_epoch + 1``: a run that goes on after that many steps, with the optimizer's
    state loaded, may give the number. :meth:`state_dict` holds t and L, and not the other arguments.

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

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_least(type(self).__name__, "last_epoch", last_epoch, -1)
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        self.steps = 0
        self._chains = [chain_of(optimizer, number) for number in range(len(optimizer.groups))]
        for chain in self._chains:
            chain.links.append(self)
        try:
            self.apply(last_epoch + 1)
        except BaseException:
            self.leave()
            raise

    def rate(self, t: int, base: float) -> float:
        """The learning rate at t of a group for which the user, or the schedules made earlier, set ``base``."""
        raise NotImplementedError

    def through(self, number: int, t: int, base: float) -> float:
        """The :meth:`rate` of the group of that ``number``."""
        return self.rate(t, base)

    def after(self, number: int, t: int, base: float, before: Callable[[], float]) -> float:
        """:meth:`through` of a schedule that follows another, which ``before()`` gave the last rate."""
        return self.through(number, t, base)

    def apply(self, t: int) -> None:
        """Go to t, and give the groups their learning rates there."""
        rule = "a group was added to the optimizer after the schedule was made: make the schedule afterwards"
        groups = self.optimizer.groups
        check(len(groups) == len(self._chains), ArgumentError, type(self).__name__, rule, groups=len(groups))
        before, self.steps = self.steps, t
        try:
            self.check(t)
            for group, rate in zip(groups, [chain.rate() for chain in self._chains], strict=True):
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
    def last_epoch(self) -> int:
        """``steps``, by PyTorch's name."""
        return self.steps

    @property
    def base_lrs(self) -> list[float]:
        """``base``, by PyTorch's name."""
        return list(self.base)

    def get_last_lr(self) -> list[float]:
        """The learning rates of the groups."""
        return [group["lr"] for group in self.optimizer.groups]

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
        steps = read_count(op, "steps", state["steps"])
        before, self.base = self.base, rates_of(op, "base", state["base"], self.optimizer.groups)
        try:
            self.apply(steps)
        except BaseException:
            self.base = before
            raise


def chain_of(optimizer: Optimizer, number: int) -> Chain:
    """That of the group of this number; begun at the rate that the user set."""
    group = optimizer.groups[number]
    if group.chain is None:
        group.chain = Chain(number, group.initial_lr)
    return group.chain


def check_optimizer(op: str, optimizer: object) -> None:
    """Check that a schedule is given an optimizer."""
    fits = isinstance(optimizer, Optimizer)
    check(fits, ArgumentError, op, "a schedule is made for an optimizer", type=type(optimizer).__name__)


def check_least(op: str, name: str, value: int, least: int) -> int:
    """``value``, checked to be an integer of at least ``least``."""
    valid = isinstance(value, Integral) and value >= least
    check(valid, ArgumentError, op, f"{name} must be an integer of at least {least}", **{name: value})
    return value


def read_count(op: str, name: str, value: Any) -> int:
    """``value``, of a saved state, as a Python integer of at least 0."""
    number = plain(value)
    fits = isinstance(number, int) and number >= 0
    check(fits, ArgumentError, op, f"{name} must be an integer of at least 0", **{name: number})
    return int(number)


def rates_of(op: str, name: str, value: Any, groups: Sequence[Group]) -> tuple[float, ...]:
    """One number for each group, from one for each or one for all."""
    given = plain(value)
    each = given if isinstance(given, tuple) else (given,) * len(groups)
    rule = f"{name} must be one number, or one for each of {len(groups)} groups"
    check(len(each) == len(groups), ArgumentError, op, rule, **{name: given})
    for number in each:
        check_range(op, name, number)
    return each
