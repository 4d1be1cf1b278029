"""The table of the ways to pool over windows, and the four passes by the first of them that takes the arrays.

Signals are images of one row to all of them. The arrays and the plan have been checked.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array
from gpunn.ops.pool import kernel, onednn, shifted
from gpunn.ops.pool.geometry import Plan
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (kernel, onednn, shifted)
"""Each has ``takes(plan, x)``, and ``max_forward``, ``max_backward``, ``avg_forward`` and ``avg_backward``."""


def max_forward(plan: Plan, x: Array) -> tuple[Array, Array]:
    if plan.rank == 1:
        y, place = max_forward(plan.on_one_row, x[:, :, None])
        return y[:, :, 0], place[:, :, 0]
    both: tuple[Array, Array] = route(ROUTES, plan, x).max_forward(plan, x)
    return both


def max_backward(plan: Plan, gy: Array, place: Array) -> Array:
    if plan.rank == 1:
        return max_backward(plan.on_one_row, gy[:, :, None], place[:, :, None])[:, :, 0]
    return route(ROUTES, plan, gy).max_backward(plan, gy, place)


def avg_forward(plan: Plan, x: Array) -> Array:
    if plan.rank == 1:
        return avg_forward(plan.on_one_row, x[:, :, None])[:, :, 0]
    return route(ROUTES, plan, x).avg_forward(plan, x)


def avg_backward(plan: Plan, gy: Array) -> Array:
    if plan.rank == 1:
        return avg_backward(plan.on_one_row, gy[:, :, None])[:, :, 0]
    return route(ROUTES, plan, gy).avg_backward(plan, gy)
