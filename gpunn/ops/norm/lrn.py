"""Local response normalisation across channels, forward and backward.

    s[c] = k + a * sum_{j=c-size//2}^{c+(size-1)//2} x[j]^2        y[c] = x[c] / s[c]^beta

over the channels 0..C-1 that exist; x and y are (N, C, ...). ``alpha_mode="mean"`` takes a = alpha / size (PyTorch,
Caffe, ONNX), ``"sum"`` takes a = alpha. :func:`lrn_plan` says what the settings mean; the other functions take the plan
first. Source: Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 3.3
(k=2, size=5, alpha=1e-4, beta=0.75, "sum").

The ways to compute are :mod:`gpunn.ops.norm.lrn_kernel` and :mod:`gpunn.ops.norm.lrn_shifted`.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.ops.norm import lrn_kernel, lrn_shifted
from gpunn.ops.norm.lrn_geometry import AlphaMode, LrnPlan
from gpunn.ops.shared.checks import Size, check_operands, integer
from gpunn.ops.shared.plans import planned
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (lrn_kernel, lrn_shifted)


@planned
def lrn_plan(
    x_shape: Size,
    size: int,
    alpha: float = 1e-4,
    beta: float = 0.75,
    k: float = 1.0,
    alpha_mode: AlphaMode = "mean",
    op: str = "local_response_norm",
) -> LrnPlan:
    """The plan of a normalisation; ``op`` is what it is called in errors.

    >>> lrn_plan((1, 3, 1, 1), 5, alpha=10.0).a
    2.0

    Raises ShapeError unless x is (N, C, ...), ArgumentError for settings out of range.
    """
    check(len(x_shape) >= 2, ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x_shape)
    integer(op, "size", size, 1)
    check_number(op, alpha=alpha, beta=beta, k=k)
    check(alpha >= 0 and k >= 0, ArgumentError, op, "alpha and k must be at least 0", alpha=alpha, k=k)
    check(alpha_mode in ("mean", "sum"), ArgumentError, op, 'alpha_mode must be "mean" or "sum"', alpha_mode=alpha_mode)
    return LrnPlan(op, x_shape, size, alpha / size if alpha_mode == "mean" else alpha, beta, k)


def local_response_norm(plan: LrnPlan, x: Array) -> Array:
    """Normalise each element by the squares of its ``size`` neighbours across channels.

    >>> import numpy as np
    >>> x = np.ones((1, 3, 1, 1))
    >>> plan = lrn_plan(x.shape, size=3, alpha=1.0, beta=1.0, k=0.0, alpha_mode="sum")
    >>> local_response_norm(plan, x).ravel().round(4).tolist()
    [0.5, 0.3333, 0.5]
    """
    check_operands(plan.op, x=(x, plan.x_shape))
    return route(ROUTES, x).forward(plan, x)


def local_response_norm_backward(plan: LrnPlan, gy: Array, x: Array) -> Array:
    """The gradient with respect to x:

    gx[i] = gy[i] s[i]^-beta - 2 a beta x[i] * sum over the c whose window holds i of gy[c] x[c] s[c]^(-beta-1)
    """
    check_operands(f"{plan.op}_backward", gy=(gy, plan.x_shape), x=(x, plan.x_shape))
    return route(ROUTES, x).backward(plan, gy, x)
