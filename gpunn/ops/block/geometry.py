"""The settings of a fused block: its plan."""

from __future__ import annotations

from typing import Literal, NamedTuple

from gpunn.ops.norm import AlphaMode, LrnPlan, lrn_plan
from gpunn.ops.pool import Plan as PoolPlan
from gpunn.ops.pool import max_plan
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.plans import planned
from gpunn.ops.shared.window import Pair

Order = Literal["pool_lrn", "lrn_pool"]


class Plan(NamedTuple):
    """A block over x (N, C, H, W), checked: the pooling and the normalisation, each with the shape that it meets."""

    op: str
    pool: PoolPlan
    lrn: LrnPlan


@planned
def plan(
    order: Order,
    x_shape: Size,
    kernel_size: Pair = 3,
    stride: Pair | None = 2,
    padding: Pair = 0,
    size: int = 5,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 2.0,
    alpha_mode: AlphaMode = "sum",
) -> Plan:
    """The plan of a block whose operations come in ``order``; the defaults are AlexNet's.

    >>> plan("pool_lrn", (1, 96, 55, 55)).pool.y_shape
    (1, 96, 27, 27)

    Raises what :func:`gpunn.ops.pool.max_plan` and :func:`gpunn.ops.norm.lrn_plan` do.
    """
    op = f"bias_relu_{order}"
    pool = max_plan(2, x_shape, kernel_size, stride, padding, 1, False, op)
    normalised = pool.y_shape if order == "pool_lrn" else pool.x_shape
    return Plan(op, pool, lrn_plan(normalised, size, alpha, beta, k, alpha_mode, op))
