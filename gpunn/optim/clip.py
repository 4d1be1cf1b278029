"""Limits on gradients, between the backward pass and the step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from gpunn.backend import Array, device_context, get_array_module
from gpunn.errors import ArgumentError, DeviceError, TrainingError, check, check_number
from gpunn.ops.shared.lengths import divisor, largest, power_sum
from gpunn.optim.group import named_tensors
from gpunn.optim.optimizer import check_range
from gpunn.tensor import Tensor


def clip_grad_norm(
    parameters: Iterable[Tensor] | Iterable[tuple[str, Tensor]],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Array:
    """Scale all gradients down together, so that their norm is at most ``max_norm``; return the norm before.

    The norm is ``(sum |g|^norm_type)^(1 / norm_type)`` over the elements of all gradients, or with infinity the largest
    ``|g|``: an array of no axes, in float32 for float16 gradients. The factor is ``max_norm / (norm + 1e-6)`` where
    that is below 1, so a norm of infinity makes the gradients 0, or NaN where they are infinite, and NaN makes all NaN:
    ``error_if_nonfinite`` raises TrainingError instead, and leaves them. Finite gradients are scaled however large they
    are, and a norm above the largest number of its dtype is returned as infinity. Source: Pascanu, Mikolov and Bengio
    2013.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0, 1.0], requires_grad=True)
    >>> (p * gpunn.tensor([3.0, 4.0])).sum().backward()
    >>> float(clip_grad_norm([p], max_norm=1.0)), p.grad.round(3).tolist()
    (5.0, [0.6000000238418579, 0.800000011920929])

    ``max_norm=inf`` only measures. Raises ArgumentError for a negative ``max_norm``, or a ``norm_type`` that is not
    above 0.
    """
    learned = _with_gradients("clip_grad_norm", parameters)
    total, factor = norm_and_factor([p.grad for p in learned], max_norm, norm_type, error_if_nonfinite)
    if factor is not None:
        xp = get_array_module(learned[0].grad)
        with device_context(learned[0].grad), np.errstate(over="ignore", invalid="ignore"):
            for p in learned:
                p.grad = xp.asarray(p.grad * factor, p.dtype)
    return total


def norm_and_factor(
    gradients: list[Array],
    max_norm: float,
    norm_type: float,
    error_if_nonfinite: bool,
    gathered: Callable[[Array], Array] = lambda numbers: numbers,
) -> tuple[Array, Array | None]:
    """The norm of all gradients, and what :func:`clip_grad_norm` multiplies them by; None where it only measures.

    ``gathered`` makes of numbers of these gradients those of the gradients of all ranks.
    """
    op = "clip_grad_norm"
    check_number(op, max_norm=max_norm, norm_type=norm_type)
    check(max_norm >= 0, ArgumentError, op, "max_norm must be at least 0", max_norm=max_norm)
    check(norm_type > 0, ArgumentError, op, "norm_type must be above 0", norm_type=norm_type)
    if not gradients:
        return np.zeros((), np.float32), None
    xp = get_array_module(*gradients)

    def joined(numbers: list[Array]) -> Array:
        """One array of them; CuPy's stack copies a list of addresses to the GPU, which no CUDA graph can hold."""
        made = xp.empty(len(numbers), np.result_type(*(number.dtype for number in numbers)))
        for place, number in enumerate(numbers):
            made[place] = number
        return gathered(made)

    # Infinity times 0, and infinity by infinity, are told by the result.
    with device_context(gradients[0]), np.errstate(over="ignore", invalid="ignore"):
        top = xp.asarray(joined([largest(g) for g in gradients]).max())
        least = divisor(top)
        unit = xp.maximum(least, 1)  # the norm itself may be above the largest number
        if norm_type == math.inf:
            share = top / unit
        else:
            powers = joined([power_sum(g, least, norm_type) for g in gradients]).sum()
            root = xp.sqrt(powers) if norm_type == 2 else powers ** (1 / norm_type)
            share = xp.asarray(root * (least / unit))
        total = xp.asarray(share * unit)
        if error_if_nonfinite and not math.isfinite(float(share)):
            rule = "the norm of the gradients is not finite, and they are as they were"
            check(False, TrainingError, op, rule, norm=float(total))
        if max_norm == math.inf:
            return total, None
        return total, xp.minimum(max_norm / unit / (share + 1e-6 / unit), 1)


def clip_grad_value(parameters: Iterable[Tensor] | Iterable[tuple[str, Tensor]], clip_value: float) -> None:
    """Limit every element of the gradients to ``[-clip_value, clip_value]``; NaN stays NaN.

    >>> import gpunn
    >>> p = gpunn.tensor([1.0, 1.0], requires_grad=True)
    >>> (p * gpunn.tensor([0.5, -4.0])).sum().backward()
    >>> clip_grad_value([p], 1.0)
    >>> p.grad.tolist()
    [0.5, -1.0]

    Raises ArgumentError for a negative ``clip_value``.
    """
    check_range("clip_grad_value", "clip_value", clip_value)
    for p in _with_gradients("clip_grad_value", parameters):
        xp = get_array_module(p.grad)
        with device_context(p.grad):
            p.grad = xp.asarray(xp.clip(p.grad, -clip_value, clip_value), p.dtype)


def _with_gradients(op: str, parameters: Iterable[Tensor] | Iterable[tuple[str, Tensor]]) -> list[Tensor]:
    learned = [p for _, p in named_tensors(op, parameters) if p.grad is not None]
    devices = sorted({p.device for p in learned})
    check(len(devices) < 2, DeviceError, op, "parameters must be on one device", devices=devices)
    return learned
