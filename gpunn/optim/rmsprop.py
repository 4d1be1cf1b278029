"""RMSprop: steps divided by a running root mean square of the gradient."""

from __future__ import annotations

from collections.abc import Iterable

from gpunn.backend import Array
from gpunn.ops.optimizer import rmsprop_step
from gpunn.optim.optimizer import Optimizer, check_range
from gpunn.tensor import Tensor


class RMSprop(Optimizer):
    """``s = alpha s + (1 - alpha) g^2;  p -= lr g / (sqrt(s) + eps)``, with ``g`` the gradient plus ``weight_decay p``.

    ``centered=True`` divides by the standard deviation, ``sqrt(s - m^2)`` with ``m = alpha m + (1 - alpha) g``. With
    momentum the quotient is summed, ``v = momentum v + g / (...);  p -= lr v``. Sources: Tieleman and Hinton 2012,
    "Neural networks for machine learning", lecture 6.5; Graves 2013 (centered).

    >>> import gpunn
    >>> p = gpunn.tensor([1.0], requires_grad=True)
    >>> optimizer = RMSprop([p], lr=0.1, alpha=0.75)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.8
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        super().__init__(parameters, lr)
        check_range("RMSprop", "alpha", alpha, 1.0)
        check_range("RMSprop", "eps", eps)
        check_range("RMSprop", "weight_decay", weight_decay)
        check_range("RMSprop", "momentum", momentum, 1.0)
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self._square = self._state()
        self._mean = self._state() if centered else None
        self._velocity = self._state() if momentum else None

    def update(self, p: Array, g: Array, part: slice, steps: int) -> None:
        m, v = (None if state is None else state[part] for state in (self._mean, self._velocity))
        settings = (self.lr, self.alpha, self.eps, self.weight_decay, self.momentum, self.centered)
        rmsprop_step(p, g, self._square[part], m, v, *settings)
