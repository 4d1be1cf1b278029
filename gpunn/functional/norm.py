"""Differentiable normalisation; see :mod:`gpunn.ops.norm` for the formulas."""

from __future__ import annotations

from math import prod
from typing import Any

from gpunn.backend import accumulation_dtype, check_array, get_array_module, is_floating, operands
from gpunn.casting import in_float32, widened
from gpunn.errors import ArgumentError, DtypeError, ShapeError, check, check_number, fail
from gpunn.functional.record import Input, X, Y, differentiable, kept, mark_changed, raw
from gpunn.ops import norm as ops
from gpunn.ops.norm import AlphaMode
from gpunn.ops.norm.affine import Merged, Part
from gpunn.ops.shared.checks import check_shape, shapes_of
from gpunn.ops.shared.window import Sizes


def batch_norm(
    x: Input[Y],
    running_mean: Any = None,
    running_var: Any = None,
    weight: Input[Y] | None = None,
    bias: Input[Y] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    relu: bool = False,
    *,
    whole: Merged | None = None,
) -> Y:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each channel of x (N, C, ...); then max(., 0) with ``relu``.

    In training mean and var are those of x, and ``running_mean`` and ``running_var`` (C,), if given, are changed in
    place to ``(1 - momentum) old + momentum new``; the running variance takes the unbiased one (divided by m - 1). They
    must be floats then, and a channel must have more than one value: of one, the result would be ``bias`` whatever x
    is. No values at all give an empty result, and change nothing. Otherwise mean and var are the running ones.

    ``whole`` is for :class:`gpunn.distributed.SyncBatchNorm`: in training x then is a part of a batch, whose mean and
    var are taken.

    >>> import numpy as np
    >>> mean, var = np.zeros(1), np.ones(1)
    >>> batch_norm(np.array([[1.0], [3.0]]), mean, var, training=True, eps=0.0).tolist(), mean.tolist(), var.tolist()
    ([[-1.0], [1.0]], [0.2], [1.1])
    """
    x, weight, bias = map(widened, (x, weight, bias))  # not the running statistics, which are changed in place
    xd, wd, bd = kept(x, weight, bias)
    statistics: dict[str, Any] = {}
    for name, running in (("running_mean", running_mean), ("running_var", running_var)):
        if running is not None:
            statistics[name] = raw(running)
    if statistics:
        check_array("batch_norm", **statistics)
    check_number("batch_norm", momentum=momentum)
    if training:
        check_running("batch_norm", statistics)
        mean, var, count = _statistics(xd, whole)
        for name, running in statistics.items():
            get_array_module(mean, running)  # refuses a mixture of NumPy and CuPy
            check_shape("batch_norm", name, running, mean.shape)
    else:
        known = running_mean is not None and running_var is not None
        check(known, ArgumentError, "batch_norm", "outside training running_mean and running_var must be given")
        # Copies: a later call in training changes them in place, and the gradient of this one needs the old values.
        mean, var, count, whole = raw(running_mean).copy(), raw(running_var).copy(), 0, None
    settings = (xd, mean, var, wd, bd, eps, relu)
    y, affine = ops.batch_norm_kept(*settings)
    if whole is not None:
        affine = Part.of(affine, whole)
    if count > 0:
        move(running_mean, mean, momentum)
        move(running_var, var * (count / (count - 1)), momentum)
    return differentiable(y, (x, weight, bias), lambda gy, _: ops.batch_norm_backward(gy, *settings, training, affine))


def _statistics(x: Any, whole: Merged | None) -> tuple[Any, Any, int]:
    """Mean and variance of the channels of x, or of the ``whole`` batch, and how many values of each they are of."""
    xp = operands("batch_norm", x=x)
    if x.ndim > 1 and x.size == 0:
        mean = var = xp.zeros(x.shape[1], accumulation_dtype(x.dtype))
        count = 0
    else:
        mean, var = ops.batch_norm_statistics(x)
        count = x.size // x.shape[1]
    if whole is not None:
        mean, var = whole.statistics(mean, var, count)
        count = whole.count
    if count == 1:
        fail(ShapeError, "batch_norm", "training needs more than one value a channel", shape=x.shape)
    return mean, var, count


def check_running(op: str, statistics: dict[str, Any]) -> None:
    """Check that the running statistics that are there can be changed: integers would be cut off."""
    for name, running in statistics.items():
        if running is not None and not is_floating(running.dtype):
            fail(DtypeError, op, f"{name} must be floats in training", dtype=str(running.dtype))


def move(running: Any, batch: Any, momentum: float) -> None:
    """Change the running statistics, unless None, in place to ``(1 - momentum) running + momentum batch``."""
    if running is None:
        return
    values = raw(running)
    values[...] = (1 - momentum) * values + momentum * batch
    mark_changed(running)


def group_norm(
    x: Input[Y], num_groups: int, weight: Input[Y] | None = None, bias: Input[Y] | None = None, eps: float = 1e-5
) -> Y:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each group of channels of each example of x (N, C, ...).

    The groups are ``num_groups`` equal runs of channels; weight and bias are (C,).

    >>> import numpy as np
    >>> group_norm(np.array([[1.0, 3.0, 7.0, 5.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0, 1.0, -1.0]]
    """
    return _group_norm(x, num_groups, weight, bias, eps)[0]


def instance_norm(
    x: Input[Y],
    running_mean: Any = None,
    running_var: Any = None,
    weight: Input[Y] | None = None,
    bias: Input[Y] | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Y:
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
    check_number("instance_norm", eps=eps, momentum=momentum)
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


@in_float32
def layer_norm(
    x: Input[Y],
    normalized_shape: Sizes,
    weight: Input[Y] | None = None,
    bias: Input[Y] | None = None,
    eps: float = 1e-5,
) -> Y:
    """``weight (x - mean) / sqrt(var + eps) + bias`` for each row of x (..., *normalized_shape).

    A row is what the last axes hold; weight and bias are of ``normalized_shape``.

    >>> import numpy as np
    >>> layer_norm(np.array([[1.0, 3.0], [7.0, 5.0]]), 2, eps=0.0).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    xd, wd, bd = kept(x, weight, bias)
    y, mean, var = ops.layer_norm(xd, normalized_shape, wd, bd, eps)
    settings = (xd, mean, var, normalized_shape, wd, eps)
    return differentiable(y, (x, weight, bias), lambda gy, _: ops.layer_norm_backward(gy, *settings))


@in_float32
def local_response_norm(
    x: X, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, alpha_mode: AlphaMode = "mean"
) -> X:
    """Divide each element of x (N, C, ...) by ``(k + a * sum of squares over size channels) ** beta``.

    ``alpha_mode="mean"`` takes a = alpha / size, ``"sum"`` (the AlexNet paper) a = alpha.

    >>> import numpy as np
    >>> local_response_norm(np.ones((1, 1, 1, 1)), size=5, alpha=1.0, beta=1.0, k=1.0, alpha_mode="sum").item()
    0.5
    """
    xd = raw(x)
    plan = ops.lrn_plan(*shapes_of("local_response_norm", x=xd), size, alpha, beta, k, alpha_mode)
    y = ops.local_response_norm(plan, xd)
    return differentiable(y, (x,), lambda gy, _: (ops.local_response_norm_backward(plan, gy, xd),))


@in_float32
def rms_norm(x: Input[Y], normalized_shape: Sizes, weight: Input[Y] | None = None, eps: float | None = None) -> Y:
    """``weight x / sqrt(mean(x^2) + eps)`` for each row of x (..., *normalized_shape).

    A row is what the last axes hold; weight is of ``normalized_shape``. Without ``eps`` it is the distance from 1 to
    the next number of the dtype, for float16 of float32.

    >>> import numpy as np
    >>> rms_norm(np.array([[1.0, 7.0]]), 2).round(4).tolist()
    [[0.2, 1.4]]
    """
    xd, wd = kept(x, weight)
    y = ops.rms_norm(xd, normalized_shape, wd, eps)
    settings = (xd, normalized_shape, wd, eps)
    return differentiable(y, (x, weight), lambda gy, _: ops.rms_norm_backward(gy, *settings))
