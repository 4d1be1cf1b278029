"""Differentiable group and instance normalisation; see :mod:`gpunn.ops.group_norm` for the formula."""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import check_array, get_array_module, operands
from gpunn.casting import in_float32
from gpunn.errors import ArgumentError, ShapeError, check, check_number
from gpunn.functional.batch_norm import batch_norm, check_momentum, check_running, move
from gpunn.functional.record import differentiable, kept, raw
from gpunn.ops import group_norm as ops
from gpunn.ops.window import check_shape


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each group of channels of each example of x (N, C, ...).

    The groups are ``num_groups`` equal runs of channels; weight and bias are (C,).

    >>> import numpy as np
    >>> group_norm(np.array([[1.0, 3.0, 7.0, 5.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """
    return _group_norm(x, num_groups, weight, bias, eps)[0]


def instance_norm(
    x: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each channel of each example of x (N, C, ...).

    With ``use_input_stats`` mean and var are those of the channel in this example; ``running_mean`` and ``running_var``
    (C,), if given, are changed in place to ``(1 - momentum) old + momentum new``, where new is the mean over the
    examples, of the unbiased variance (divided by m - 1). They must be floats then, and a channel of an example must
    have more than one value: of one, the result would be ``bias`` whatever x is. Otherwise mean and var are the running
    ones: that is :func:`batch_norm` outside training.

    >>> import numpy as np
    >>> instance_norm(np.array([[[1.0, 3.0], [7.0, 5.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0], [1.0, -1.0]]]
    """
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    xd = raw(x)
    operands("instance_norm", x=xd)
    check_momentum("instance_norm", momentum)
    check_number("instance_norm", eps=eps)
    check(eps >= 0, ArgumentError, "instance_norm", "eps must be at least 0", eps=eps)
    rule = "x must have at least the 3 dimensions (N, C, L)"
    check(xd.ndim >= 3, ShapeError, "instance_norm", rule, shape=xd.shape)
    count = prod(xd.shape[2:])
    rule = "the statistics of the input need more than one value a channel"
    check(count != 1, ShapeError, "instance_norm", rule, shape=xd.shape)
    statistics = {"running_mean": raw(running_mean), "running_var": raw(running_var)}
    for name, running in statistics.items():
        if running is not None:
            check_array("instance_norm", **{name: running})
            get_array_module(xd, running)  # refuses a mixture of NumPy and CuPy
            check_shape("instance_norm", name, running, xd.shape[1:2])
    check_running("instance_norm", statistics)
    y, mean, var = _group_norm(x, xd.shape[1], weight, bias, eps)
    if xd.size > 0:
        move(running_mean, mean.mean(0), momentum)
        move(running_var, var.mean(0) * (count / (count - 1)), momentum)
    return y


@in_float32
def _group_norm(x: Any, num_groups: int, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    xd, wd, bd = kept(x, weight, bias)
    y, mean, var = ops.group_norm(xd, num_groups, wd, bd, eps)
    settings = (xd, mean, var, num_groups, wd, eps)
    tracked = differentiable(y, (x, weight, bias), lambda gy, _: ops.group_norm_backward(gy, *settings))
    return tracked, mean, var
