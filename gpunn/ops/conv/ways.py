"""The table of the ways to convolve, and the three passes by the first of them that takes the arrays.

Signals are images of one row to all of them. The arrays and the plan have been checked.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array
from gpunn.ops.conv import columns, depthwise, onednn, pointwise, runs, shifted, tensor_cores, tiled, warpgroups
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (
    depthwise, onednn, shifted, warpgroups, tensor_cores, pointwise, tiled, runs, columns,
)  # fmt: skip
"""Each has ``takes(job, plan, x, fused)``, and ``forward``, ``backward_x`` and ``backward_w``, the jobs that it takes.

``x`` is the first array of a job; ``fused`` says that a bias is added, or what is below 0 cut off.
"""


def forward(plan: Plan, x: Array, w: Array, b: Array | None = None, relu: bool = False) -> Array:
    if plan.rank == 1:
        return forward(plan.on_one_row, x[:, :, None], w[:, :, None], b, relu)[:, :, 0]
    way = route(ROUTES, "forward", plan, x, relu or b is not None)
    return way.forward(plan, x, w, b, relu)


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    if plan.rank == 1:
        return backward_x(plan.on_one_row, gy[:, :, None], w[:, :, None])[:, :, 0]
    return route(ROUTES, "backward_x", plan, gy, False).backward_x(plan, gy, w)


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    if plan.rank == 1:
        return backward_w(plan.on_one_row, gy[:, :, None], x[:, :, None])[:, :, 0]
    return route(ROUTES, "backward_w", plan, gy, False).backward_w(plan, gy, x)
