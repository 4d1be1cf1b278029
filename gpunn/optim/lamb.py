"""LAMB: Adam with steps as long as the parameters are, for large batches."""

from __future__ import annotations

import math
from typing import Unpack

from gpunn.ops.optimizer.adam import lamb_step
from gpunn.optim.group import Part, Settings
from gpunn.optim.optimizer import Common, Moments, Parameters, moments


class LAMB(Moments):
    """``p -= lr |p| / |d| d`` for each parameter by itself, with ``d = M / (sqrt(V) + eps) + weight_decay p``.

    M and V are the running means of the gradient and of its square, corrected for their bias, as in
    :class:`~gpunn.optim.Adam`. Where p or d is 0 the step is ``lr d``. The rate does not depend on the scale of the
    loss or of a layer. Source: You et al. 2020, "Large batch optimization for deep learning", algorithm 2.

    >>> from gpunn.testing import descent
    >>> descent(LAMB, lr=0.1)
    [0.9, 0.81, 0.729]
    """

    def __init__(
        self, params: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: float = 0.01, **common: Unpack[Common],
    ) -> None:  # fmt: skip
        settings = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings, **common)

    def update(self, part: Part, settings: Settings) -> None:
        sizes = [math.prod(shape) for shape in part.shapes]
        lamb_step(*moments(part), steps=part.steps, sizes=sizes, **settings)
