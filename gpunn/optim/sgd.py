"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable

from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer import sgd_step
from gpunn.optim.optimizer import Optimizer, check_range
from gpunn.tensor import Tensor


class SGD(Optimizer):
    """``v = momentum v + g;  p -= lr v``, with ``g`` the gradient plus ``weight_decay p``.

    ``nesterov=True`` looks one step ahead: ``p -= lr (g + momentum v)``. Without momentum, plain gradient descent.
    Sources: Polyak 1964; Nesterov 1983; Sutskever et al. 2013 (in PyTorch's form, with lr outside v).

    >>> import gpunn
    >>> p = gpunn.tensor([1.0], requires_grad=True)
    >>> optimizer = SGD([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.8
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        check_range("SGD", "momentum", momentum, 1.0)
        check_range("SGD", "weight_decay", weight_decay)
        check(momentum > 0 or not nesterov, ArgumentError, "SGD", "nesterov needs momentum", momentum=momentum)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self._velocity = self._state() if momentum else None

    def update(self, p: Array, g: Array, part: slice, steps: int) -> None:
        v = None if self._velocity is None else self._velocity[part]
        sgd_step(p, g, v, self.lr, self.momentum, self.nesterov, self.weight_decay)
