"""Convolution of float32 by oneDNN, on the CPU: direct convolutions in blocked formats, copies into them included."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn, threads
from gpunn.cpu.library import NotServed
from gpunn.ops.conv.geometry import Plan
from gpunn.ops.shared.checks import Size
from gpunn.ops.shared.window import Window

_DIRECT = 1
_FEW_CHANNELS, _SMALL_IMAGE = 8, 8
_NANOSECONDS = 0.02  # of a product and its sum, about
_X, _W, _B, _Y = 1, 33, 41, 17
_GX, _GW, _GY = 129, 161, 145


def takes(job: str, plan: Plan, x: Array, fused: bool) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated."""
    if not onednn.takes(x, _pays(job, plan, fused)) or cuda.takes(x) or 0 in plan.y_shape or 0 in plan.x_shape:
        return False
    return _serves(job, plan)


@lru_cache(4096)
def _serves(job: str, plan: Plan) -> bool:
    return onednn.job(_work(plan), _JOBS[job], *_settings(plan)) is not None


def _pays(job: str, plan: Plan, fused: bool) -> bool:
    """Whether it is faster than what NumPy does: not where it computes with padding for most of 16 channels, nor, on
    one thread, where filters of one pixel are a product of matrices as the arrays lie. On several, those of BLAS, which
    wait for more products, would take the processor from oneDNN's."""
    if job == "backward_x" and 1 < plan.w_shape[1] <= _FEW_CHANNELS and min(plan.image) > _SMALL_IMAGE:
        return False
    if job == "backward_x" and plan.x_shape[1] == 1:
        return False
    return job == "backward_w" or fused or not plan.is_one_pixel or threads.count() > 1


def forward(plan: Plan, x: Array, w: Array, b: Array | None, relu: bool) -> Array:
    """y (N, K, *out), with the bias b added unless it is None, and cut off at 0 if ``relu``."""
    y = np.empty(plan.y_shape, x.dtype)
    if b is None:
        _run(_forward, plan, x, w, y)
    else:
        _run(_forward_bias, plan, x, w, b, y)
    if relu:
        np.maximum(y, 0, out=y)  # oneDNN's own would make 0 of NaN
    return y


def backward_x(plan: Plan, gy: Array, w: Array) -> Array:
    """gx (N, C, *image)."""
    gx = np.empty(plan.x_shape, gy.dtype)
    _run(_backward_x, plan, gy, w, gx)
    return gx


def backward_w(plan: Plan, gy: Array, x: Array) -> Array:
    """gw (K, C/groups, *kernel)."""
    gw = np.empty(plan.w_shape, gy.dtype)
    _run(_backward_w, plan, gy, x, gw)
    return gw


def _run(make: Any, plan: Plan, *arrays: Array) -> None:
    onednn.run(_work(plan), make, _settings(plan), *arrays)


def _work(plan: Plan) -> float:
    return plan.products * _NANOSECONDS


def _settings(plan: Plan) -> tuple[Any, ...]:
    return plan.x_shape, plan.w_shape, plan.y_shape, plan.window, plan.groups


class _Problem:
    """The layouts and settings that the three passes share."""

    def __init__(self, x: Size, w: Size, y: Size, window: Window, groups: int) -> None:
        w = w if groups == 1 else (groups, w[0] // groups, *w[1:])
        self.x, self.w, self.y, self.b = map(onednn.Layout, (x, w, y, y[1:2]))
        self.free = [onednn.Layout(shape, free=True) for shape in (x, w, y)]
        after = window.behind(x[2:], y[2:])
        if any(pad <= -step for pad, step in zip(after, window.stride, strict=True)):
            raise NotServed("elements that no window reaches, beyond a stride")
        before = [before for before, _ in window.pads]
        dilation = [apart - 1 for apart in window.dilation]
        self.geometry = [onednn.dims(each) for each in (window.stride, dilation, before, after)]

    def forward(self, bias: bool) -> onednn.Description:
        x, w, y = self.free
        b = self.b if bias else None
        return onednn.Description("convolution_forward", onednn.FORWARD, _DIRECT, x, w, b, y, *self.geometry)


def _forward(*settings: Any) -> onednn.Job:
    return _forward_of(False, *settings)


def _forward_bias(*settings: Any) -> onednn.Job:
    return _forward_of(True, *settings)


def _forward_of(bias: bool, *settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    arguments = [(_X, problem.x, False), (_W, problem.w, False)]
    if bias:
        arguments.append((_B, problem.b, False))
    arguments.append((_Y, problem.y, True))
    return onednn.Job(problem.forward(bias), arguments)


def _backward_x(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    x, w, y = problem.free
    hint = problem.forward(False)
    own = onednn.Description("convolution_backward_data", _DIRECT, x, w, y, *problem.geometry, hint)
    arguments = [(_GY, problem.y, False), (_W, problem.w, False)]
    return onednn.Job(own, [*arguments, (_GX, problem.x, True)])


def _backward_w(*settings: Any) -> onednn.Job:
    problem = _Problem(*settings)
    x, w, y = problem.free
    hint = problem.forward(False)
    own = onednn.Description("convolution_backward_weights", _DIRECT, x, w, None, y, *problem.geometry, hint)
    arguments = [(_GY, problem.y, False), (_X, problem.x, False)]
    return onednn.Job(own, [*arguments, (_GW, problem.w, True)])


_JOBS = {"forward": _forward, "backward_x": _backward_x, "backward_w": _backward_w}
