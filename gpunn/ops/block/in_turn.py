"""AlexNet's blocks on any array module: the operations one after the other."""

from __future__ import annotations

from gpunn.backend import Array, accumulation_dtype
from gpunn.ops.activation import relu, relu_backward
from gpunn.ops.block.geometry import Plan
from gpunn.ops.norm import local_response_norm, local_response_norm_backward
from gpunn.ops.pool import max_pool, max_pool_backward


def takes(plan: Plan, x: Array) -> bool:
    """Whatever comes."""
    return True


def pool_lrn(plan: Plan, x: Array, b: Array) -> tuple[Array, Array, Array]:
    """(y, pooled, place)."""
    pooled, place = max_pool(plan.pool, relu(x + b[:, None, None]))
    return local_response_norm(plan.lrn, pooled), pooled, place


def pool_lrn_backward(plan: Plan, gy: Array, pooled: Array, place: Array) -> tuple[Array, Array]:
    """gx and gb."""
    g = local_response_norm_backward(plan.lrn, gy, pooled)
    # An element has the gradient of the windows that it is the maximum of: ReLU's slope is the same in all of them.
    gx = max_pool_backward(plan.pool, relu_backward(g, pooled), place)
    return gx, _bias_gradient(gx)


def lrn_pool(plan: Plan, x: Array, b: Array) -> tuple[Array, Array]:
    """(y, place)."""
    return max_pool(plan.pool, local_response_norm(plan.lrn, relu(x + b[:, None, None])))


def lrn_pool_backward(plan: Plan, gy: Array, x: Array, b: Array, place: Array) -> tuple[Array, Array]:
    """gx and gb."""
    r = relu(x + b[:, None, None])
    g = max_pool_backward(plan.pool, gy, place)
    gx = relu_backward(local_response_norm_backward(plan.lrn, g, r), r)
    return gx, _bias_gradient(gx)


def _bias_gradient(gx: Array) -> Array:
    return gx.sum((0, 2, 3), dtype=accumulation_dtype(gx.dtype)).astype(gx.dtype, copy=False)
