"""``Schedule``, the base of the schedules that are a function of the number of steps; and what they check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, cast

from gpunn.errors import ArgumentError, check
from gpunn.optim.group import Chain, Group, plain
from gpunn.optim.optimizer import Optimizer, check_dict, check_names, check_range


class Schedule:
    """The base of the schedules that are a function of t; a subclass defines :meth:`rate`.

    ``steps`` is t. It begins at ``last_epoch + 1``: a run that goes on after that many steps, with the optimizer's
    state loaded, may give the number. :meth:`state_dict` holds t and the rates that it goes on from, and not the other
    arguments. In a chain, a step multiplies the rate that there is by ``rate(t, L) / rate(t - 1, L)``.

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

    commutes = True  # with others that do: their steps may be taken in any order
    walks = False  # from t to t, as there is no formula for several steps

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        check_least(type(self).__name__, "last_epoch", last_epoch, -1)
        check_optimizer(type(self).__name__, optimizer)
        self.optimizer = optimizer
        self.steps = 0
        self._chains = [chain_of(optimizer, number) for number in range(len(optimizer.groups))]
        self._bases = tuple(chain.base for chain in self._chains)
        for chain in self._chains:
            chain.settle(self)
        self.since: list[float] = [-1] * len(self._chains)  # of each group's chain
        for chain in self._chains:
            chain.links.append(self)
        try:
            self.apply(last_epoch + 1)
        except BaseException:
            self.leave()
            raise
        self._pass_on()

    def rate(self, t: int, base: float) -> float:
        """The learning rate at t, for a group whose L is ``base``."""
        raise NotImplementedError

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        """The rate at t of the group of that ``number``, which had ``rate`` at ``start``; -1 is before the schedule."""
        if start < 0:
            return self.rate(cast(int, t), rate)
        base = self.base[number]
        before, now = self.rate(cast(int, start), base), self.rate(cast(int, t), base)
        if before == now:
            return rate
        return rate * (now / before) if before else now  # from 0 it begins anew

    def enter(self, number: int, t: float, rate: float) -> float:
        """The rate at t of a schedule that begins behind another, which left ``rate``, in a :class:`SequentialLR`."""
        return self.onward(number, -1, t, self.base[number])

    def left_base(self, number: int, base: float) -> float:
        """L of the schedules that are made after this one; ``base`` was that of those before."""
        return self.base[number]

    @property
    def place(self) -> float:
        """t, or where between two steps it is."""
        return self.steps

    def settle(self) -> None:
        """Get ready for a step."""
        for chain in self._chains:
            if self.walks or len(chain.links) > 1:
                chain.settle(self)

    def _pass_on(self) -> None:
        for number, chain in enumerate(self._chains):
            chain.base = self.left_base(number, chain.base)

    def apply(self, t: int) -> None:
        """Go to t, give the groups their learning rates there, and set what moves with them."""
        self._go(t)
        self.accompany(t)

    def _go(self, t: int) -> None:
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

    def check(self, t: int) -> None:
        """Raise ArgumentError if there is no rate at t."""

    def accompany(self, t: int) -> None:
        """Set what moves with the learning rate."""

    def leave(self) -> None:
        """Take no part in the learning rates any more."""
        for chain in self._chains:
            if self in chain.links:
                chain.links.remove(self)
                if not chain.links:
                    chain.start = chain.base

    def step(self) -> None:
        """Count a step, and set the learning rates."""
        self.advance(self.steps + 1)

    def advance(self, t: int) -> None:
        """Go to t by a step; if there is no rate, change nothing."""
        self.settle()
        self.apply(t)

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
        return self._bases

    @base.setter
    def base(self, rates: tuple[float, ...]) -> None:
        self._bases = rates

    def state_dict(self) -> dict[str, Any]:
        """t and L: an integer and a tuple of numbers; and the ``rate`` of each group at the t ``since``."""
        state: dict[str, Any] = {"steps": self.steps, "base": self.base}
        if not self._linked():
            return state
        return state | {"rate": tuple(chain.start for chain in self._chains), "since": tuple(self.since)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a :meth:`state_dict`, and set the learning rates; if something does not fit, change nothing."""
        op = type(self).__name__
        check_state(op, {"steps", "base"} | ({"rate", "since"} if self._linked() else set()), state)
        self._resume(state, rates_of(op, "base", state["base"], self.optimizer.groups))

    def _resume(self, state: Mapping[str, Any], base: tuple[float, ...]) -> None:
        op, groups = type(self).__name__, self.optimizer.groups
        steps = read_count(op, "steps", state["steps"])
        starts = rates_of(op, "rate", state.get("rate", base), groups)
        since = one_for_each(op, "since", state.get("since", -1), groups)
        fits = all(isinstance(number, int | float) and -1 <= number < steps + 1 for number in since)
        check(fits, ArgumentError, op, "since must be from -1 to steps", since=since, steps=steps)
        before = self.base, self.since, [(chain.base, chain.start) for chain in self._chains]
        self.base, self.since = base, list(since)
        for chain, start in zip(self._chains, starts, strict=True):
            if self in chain.links:
                chain.start = start
        self._pass_on()
        try:
            self._go(steps)
        except BaseException:
            self.base, self.since, chains = before
            for chain, (of_chain, start) in zip(self._chains, chains, strict=True):
                chain.base, chain.start = of_chain, start
            raise
        if self._linked():
            self.accompany(steps)

    def _linked(self) -> bool:
        """Whether it is in the chains itself, and not a part of another schedule."""
        return any(self in chain.links for chain in self._chains)


class Setter(Schedule):
    """The base of the schedules that set the rate: in a chain they forget what the others made of it."""

    commutes = False

    def set_rate(self, number: int, t: float) -> float:
        """The rate of a group at t."""
        raise NotImplementedError

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        return self.set_rate(number, t)

    def advance(self, t: int) -> None:
        self.settle()
        before, self.since = self.since, [-1] * len(self._chains)
        try:
            self.apply(t)
        except BaseException:
            self.since = before
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


def check_state(op: str, known: Iterable[str], state: Mapping[str, Any]) -> None:
    """Check that ``state`` holds the ``known`` names; states from before chains had a start lack ``rate, since``."""
    check_dict(op, state)
    check_names(op, {name for name in known if name in state or name.rpartition(".")[2] not in _LATER}, state)


_LATER = ("rate", "since")


def rates_of(op: str, name: str, value: Any, groups: Sequence[Group]) -> tuple[float, ...]:
    """One number of at least 0 for each group, from one for each or one for all."""
    each = one_for_each(op, name, value, groups)
    for number in each:
        check_range(op, name, number)
    return each


def one_for_each(op: str, name: str, value: Any, groups: Sequence[Group]) -> tuple[Any, ...]:
    """One number for each group, from one for each or one for all."""
    given = plain(value)
    each = given if isinstance(given, tuple) else (given,) * len(groups)
    rule = f"{name} must be one number, or one for each of {len(groups)} groups"
    check(len(each) == len(groups), ArgumentError, op, rule, **{name: given})
    return each
