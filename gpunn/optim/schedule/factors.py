"""Schedules that multiply the learning rate by a function of t."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

from gpunn.errors import ArgumentError, DtypeError, check
from gpunn.optim.optimizer import Optimizer, check_range
from gpunn.optim.schedule.base import Schedule, Setter, check_least, check_optimizer


class _Factor(Schedule):
    """The base of the schedules that multiply the rate by a :meth:`factor`."""

    def factor(self, t: float) -> float:
        """The rate at t over L."""
        raise NotImplementedError

    def rate(self, t: int, base: float) -> float:
        return base * self.factor(t)

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        if start < 0:
            return rate * self.factor(t)
        before, now = self.factor(start), self.factor(t)
        if before == now:
            return rate
        return rate * (now / before) if before else self.base[number] * now


class _Powers(_Factor):
    """The base of those that multiply it by ``gamma`` from time to time."""

    _gamma: float

    def count(self, t: float) -> int:
        """How often until t."""
        raise NotImplementedError

    def factor(self, t: float) -> float:
        return float(self._gamma ** self.count(t))

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        if start < 0:
            return rate * self.factor(t)
        return rate * float(self._gamma ** (self.count(t) - self.count(start)))


class StepLR(_Powers):
    """``L gamma^floor(t / step_size)``: the rate falls every ``step_size`` steps.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = StepLR(sgd, step_size=2, gamma=0.5)
    >>> for _ in range(5):
    ...     schedule.step()
    >>> sgd.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        self._step_size, self._gamma = check_least("StepLR", "step_size", step_size, 1), gamma
        check_range("StepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def count(self, t: float) -> int:
        return int(t // self._step_size)


class MultiStepLR(_Powers):
    """``L gamma^n``, n the number of ``milestones`` up to t.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = MultiStepLR(sgd, milestones=[1, 4], gamma=0.5)
    >>> for _ in range(4):
    ...     schedule.step()
    >>> sgd.lr
    0.25
    """

    def __init__(
        self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        rule = "milestones must be a list of integers"
        several = isinstance(milestones, Collection)
        check(several, ArgumentError, "MultiStepLR", rule, milestones=milestones)
        self._milestones = sorted(check_least("MultiStepLR", "milestones", milestone, 0) for milestone in milestones)
        self._gamma = gamma
        check_range("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def count(self, t: float) -> int:
        return bisect_right(self._milestones, t)


class ExponentialLR(_Powers):
    """``L gamma^t``.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = ExponentialLR(sgd, gamma=0.5)
    >>> for _ in range(3):
    ...     schedule.step()
    >>> sgd.lr
    0.125
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self._gamma = gamma
        check_range("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def count(self, t: float) -> int:
        return int(t)


class LinearLR(_Factor):
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
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_range("LinearLR", "start_factor", start_factor)
        check_range("LinearLR", "end_factor", end_factor)
        self._from, self._to = start_factor, end_factor
        self._length = check_least("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def factor(self, t: float) -> float:
        return self._from + (self._to - self._from) * min(t, self._length) / self._length


class ConstantLR(_Factor):
    """``L factor`` for the first ``total_iters`` steps, then L.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule, rates = ConstantLR(sgd, factor=0.5, total_iters=2), [sgd.lr]
    >>> for _ in range(3):
    ...     schedule.step()
    ...     rates.append(sgd.lr)
    >>> rates
    [0.5, 0.5, 1.0, 1.0]
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1 / 3, total_iters: int = 5, last_epoch: int = -1) -> None:
        check_range("ConstantLR", "factor", factor)
        check(factor <= 1, ArgumentError, "ConstantLR", "factor must be from 0 to 1", factor=factor)
        self._factor, self._length = factor, check_least("ConstantLR", "total_iters", total_iters, 0)
        super().__init__(optimizer, last_epoch)

    def factor(self, t: float) -> float:
        return self._factor if t < self._length else 1.0


class PolynomialLR(_Factor):
    """``L (1 - t / total_iters)^power``, and 0 after ``total_iters`` steps.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = PolynomialLR(sgd, total_iters=4, power=2.0)
    >>> for _ in range(2):
    ...     schedule.step()
    >>> sgd.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        self._length, self._power = check_least("PolynomialLR", "total_iters", total_iters, 1), power
        check_range("PolynomialLR", "power", power)
        super().__init__(optimizer, last_epoch)

    def factor(self, t: float) -> float:
        return float((1 - min(t, self._length) / self._length) ** self._power)


Factor = Callable[[int], float]


class LambdaLR(Setter):
    """``L lr_lambda(t)``; ``lr_lambda`` is a function, or one for each group. It is not in the :meth:`state_dict`.

    In a chain each step sets this rate anew, whatever the other schedules made of it.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = LambdaLR(sgd, lambda t: 1 / (1 + t))
    >>> schedule.step()
    >>> sgd.lr
    0.5
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1) -> None:
        self._factors = _factors("LambdaLR", optimizer, lr_lambda)
        super().__init__(optimizer, last_epoch)

    def set_rate(self, number: int, t: float) -> float:
        return self.base[number] * self._factors[number](cast(int, t))


class MultiplicativeLR(Schedule):
    """``L lr_lambda(1) lr_lambda(2) ... lr_lambda(t)``; ``lr_lambda`` is a function, or one for each group.

    In a :class:`SequentialLR` behind another it goes on from the last rate of that: times ``lr_lambda(0)``, too.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=1.0)
    >>> schedule = MultiplicativeLR(sgd, lambda t: 0.5)
    >>> for _ in range(2):
    ...     schedule.step()
    >>> sgd.lr
    0.25
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Factor | Sequence[Factor], last_epoch: int = -1) -> None:
        self._factors = _factors("MultiplicativeLR", optimizer, lr_lambda)
        # Of each group the product of the factors behind a t, up to another.
        self._products = [(0, 0, 1.0) for _ in self._factors]
        super().__init__(optimizer, last_epoch)

    def onward(self, number: int, start: float, t: float, rate: float) -> float:
        first, last = max(int(start), 0), int(t)
        begin, end, product = self._products[number]
        if begin != first or end > last:
            end, product = first, 1.0
        for each in range(end + 1, last + 1):
            product *= self._factors[number](each)
        self._products[number] = (first, last, product)
        return rate * product

    def enter(self, number: int, t: float, rate: float) -> float:
        return self.onward(number, 0, t, rate * self._factors[number](0))


def _factors(op: str, optimizer: Optimizer, given: Factor | Sequence[Factor]) -> list[Factor]:
    """The function of each group."""
    check_optimizer(op, optimizer)
    groups = len(optimizer.groups)
    functions: list[Any] = list(given) if isinstance(given, list | tuple) else [given] * groups
    rule = f"lr_lambda must be one function, or one for each of {groups} groups"
    check(len(functions) == groups, ArgumentError, op, rule, functions=len(functions))
    for function in functions:
        check(callable(function), DtypeError, op, "lr_lambda must be a function", type=type(function).__name__)
    return functions
