"""Adam: adaptive moment estimation."""

from __future__ import annotations

from collections.abc import Iterable

from gpunn.backend import Array
from gpunn.ops.optimizer import adam_step
from gpunn.optim.optimizer import Optimizer, check_range
from gpunn.tensor import Tensor


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2;  p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    with ``g`` the gradient plus ``weight_decay p`` and t the number of steps. Source: Kingma and Ba 2015.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0], requires_grad=True)
    >>> optimizer = Adam([p], lr=0.1)
    >>> (p * p).sum().backward()
    >>> optimizer.step()
    >>> round(p.item(), 4)
    0.9
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, lr)
        for beta in betas:
            check_range("Adam", "beta", beta, 1.0)
        check_range("Adam", "eps", eps)
        check_range("Adam", "weight_decay", weight_decay)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self._mean, self._square = self._state(), self._state()

    def update(self, p: Array, g: Array, part: slice, steps: int) -> None:
        settings = (self.lr, self.betas, self.eps, self.weight_decay)
        adam_step(p, g, self._mean[part], self._square[part], steps, *settings)
