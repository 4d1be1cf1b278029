"""Pooling of float32 by oneDNN, on the CPU.

Its maximum knows neither NaN nor -inf: where x holds one, :mod:`gpunn.ops.pool.shifted` does the work. The places of
its maxima are those of :mod:`gpunn.ops.pool`.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.cpu.library import NotServed
from gpunn.ops.pool import shifted
from gpunn.ops.pool.geometry import Plan, holds_elements
from gpunn.ops.shared.window import Window

_MAX, _MEAN_OF_ALL, _MEAN_OF_IMAGE = 0x1FF, 0x2FF, 0x3FF
_NANOSECONDS = 0.4  # of an element of x, about
_X, _Y, _PLACE, _GX, _GY = 1, 17, 64, 129, 145


def takes(plan: Plan, x: Array) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated, or the padding is peculiar."""
    if not onednn.takes(x) or cuda.takes(x):
        return False
    return _serves(plan)


@lru_cache(4096)
def _serves(plan: Plan) -> bool:
    if plan.divisor is not None:
        return False
    return onednn.job(prod(plan.x_shape) * _NANOSECONDS, _max_forward, *_settings(plan)) is not None


def max_forward(plan: Plan, x: Array) -> tuple[Array, Array]:
    """The maxima (N, C, *out) and their places."""
    if not x.min() > -np.inf:
        return shifted.max_forward(plan, x)
    y, place = np.empty(plan.y_shape, x.dtype), np.empty(plan.y_shape, plan.place_dtype)
    _run(_max_forward, plan, x, y, place)
    return y, place


def max_backward(plan: Plan, gy: Array, place: Array) -> Array:
    """gx (N, C, *image): each gy added at the element that was its window's maximum."""
    gx = np.empty(plan.x_shape, gy.dtype)
    _run(_max_backward, plan, gy, place, gx)
    return gx


def avg_forward(plan: Plan, x: Array) -> Array:
    """The means (N, C, *out)."""
    y = np.empty(plan.y_shape, x.dtype)
    _run(_avg_forward, plan, x, y)
    return y


def avg_backward(plan: Plan, gy: Array) -> Array:
    """gx (N, C, *image): each gy, divided as its mean was, added over its window."""
    gx = np.empty(plan.x_shape, gy.dtype)
    _run(_avg_backward, plan, gy, gx)
    return gx


def _run(make: Any, plan: Plan, *arrays: Array) -> None:
    onednn.run(prod(plan.x_shape) * _NANOSECONDS, make, _settings(plan), *arrays)


@lru_cache(4096)
def _settings(plan: Plan) -> tuple[Any, ...]:
    """Planes are pooled each for itself: as those of one image, of which oneDNN takes sixteen at a time."""
    planes = prod(plan.x_shape[:2])
    return (1, planes, *plan.image), (1, planes, *plan.out), plan.window, plan.count_include_pad, plan.place_dtype


class _Problem:
    """The layouts and settings that forward and backward share."""

    def __init__(self, x: Any, y: Any, window: Window, count_padding: bool, place_dtype: Any) -> None:
        if not holds_elements(window, x[2:], y[2:]):
            raise NotServed("a window that lies in the padding alone")
        after = window.behind(x[2:], y[2:])
        overhang = any(end > pad for end, (_, pad) in zip(after, window.pads, strict=True))
        if count_padding and overhang:
            raise NotServed("a mean that counts the padding, and not what is beyond it")
        self.x, self.y, self.place = onednn.Layout(x), onednn.Layout(y), onednn.Layout(y, place_dtype)
        self.mean = _MEAN_OF_ALL if count_padding else _MEAN_OF_IMAGE
        before = [before for before, _ in window.pads]
        dilation = [apart - 1 for apart in window.dilation]
        self.geometry = [onednn.dims(each) for each in (window.stride, window.kernel, dilation, before, after)]

    def forward(self, algorithm: int) -> onednn.Description:
        return onednn.Description("pooling_forward", onednn.FORWARD, algorithm, self.x, self.y, *self.geometry)

    def backward(self, algorithm: int) -> onednn.Description:
        hint = self.forward(algorithm)
        return onednn.Description("pooling_backward", algorithm, self.x, self.y, *self.geometry, hint)


def _max_forward(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    own = problem.forward(_MAX)
    if not own.has(_PLACE, problem.place):
        raise NotServed("places in a format of its own")
    given = (_X, problem.x, False), (_Y, problem.y, True)
    return onednn.Job(own, [*given, (_PLACE, problem.place, True)])


def _max_backward(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    given = (_GY, problem.y, False), (_PLACE, problem.place, False)
    return onednn.Job(problem.backward(_MAX), [*given, (_GX, problem.x, True)])


def _avg_forward(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    arguments = [(_X, problem.x, False), (_Y, problem.y, True)]
    return onednn.Job(problem.forward(problem.mean), arguments)


def _avg_backward(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    arguments = [(_GY, problem.y, False), (_GX, problem.x, True)]
    return onednn.Job(problem.backward(problem.mean), arguments)
