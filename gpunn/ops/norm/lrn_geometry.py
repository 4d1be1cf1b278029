"""What the settings of local response normalisation mean."""

from __future__ import annotations

from typing import Literal, NamedTuple

from gpunn.ops.shared.checks import Size

AlphaMode = Literal["mean", "sum"]


class LrnPlan(NamedTuple):
    """Normalisation of x (N, C, ...) over ``size`` channels, checked; ``a`` is the factor of the squares."""

    op: str
    x_shape: Size
    size: int
    a: float
    beta: float
    k: float
