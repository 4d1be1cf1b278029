"""Activations of float32 by oneDNN, on the CPU: those in which its errors are roundings of numbers about 1.

Its ELU and softplus lose the digits near 0, its hardsigmoid gives numbers for NaN. Its ReLU does that forward, and is
taken for x that is finite throughout. SiLU and GELU overflow on their way where x is infinite or huge, and are NaN or
infinite then; of a NaN they are NaN: where all results are finite they are right, else NumPy computes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.shared.chunks import each_thread
from gpunn.ops.shared.rows_onednn import is_finite

_FROM_Y = 0x100  # the algorithms whose derivative is taken from the output
_ALGORITHMS = {  # and the alpha of it: of SiLU, x sigmoid(alpha x), and ReLU, alpha x below 0
    "sigmoid": (_FROM_Y + 4, 0.0), "tanh": (_FROM_Y + 1, 0.0), "relu": (0x20, 0.0),
    "gelu": (0x31, 0.0), "gelu, tanh": (0x2B, 0.0), "silu": (0x2C, 1.0),
}  # fmt: skip
_BETA = 0.0  # they have no other setting
_OF_Y = ("sigmoid", "tanh", "relu")  # their gradients are taken from y; whatever that is does them no harm
_HUGE = "gelu, tanh"  # it is finite for x of which its gradient is not
_NANOSECONDS = 0.5  # of an element, about
_WORTH_THREADS = 1 << 19  # elements
_LEAST_SIZE = 1024  # below, the call takes longer than NumPy's
# With AVX-512 a processor waits longer for elements that come from memory where there is much to compute for each.
_IN_CACHE = 1 << 18  # elements
_LEAST_OF_RELU = 1 << 18  # the same of its forward pass, with which x is looked through
_X, _OTHER, _Y, _GX, _GY = 1, 2, 17, 129, 145
_LOGISTIC, _ADD, _MULTIPLY = 0x29, 0x1FFF0, 0x1FFF1
_ZERO = np.zeros(1, np.float32)


def takes(x: Array, least: int = _LEAST_SIZE) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated."""
    return onednn.takes(x, pays=x.size >= least) and not cuda.takes(x)


def forward(name: str, x: Array) -> Array | None:
    """The function ``name`` of each element; None where NumPy is to compute it."""
    if not takes(x, _LEAST_OF_RELU if name == "relu" else _LEAST_SIZE):
        return None
    y, x = np.empty(x.shape, x.dtype), np.ascontiguousarray(x)
    work = x.size * _NANOSECONDS
    if name == "relu" and not is_finite(x, work):
        return None

    def block(x: Array, y: Array) -> None:
        if name == "silu":
            onednn.run(0, _gated, (x.size,), x, _ZERO, x, y)
        else:
            onednn.run(0, _forward, (*_ALGORITHMS[name], x.size), x, y)

    _in_threads(block, x, y)
    return y if name in _OF_Y or is_finite(y, work) else None


def backward(name: str, gy: Array, data: Array, usual: bool = False) -> Array | None:
    """The gradient with respect to x, where ``data`` is y or x; None where NumPy is to compute it.

    ``usual`` says that this computed the function of ``data``.
    """
    if not takes(data):
        return None
    gx, data, gy = np.empty(gy.shape, gy.dtype), np.ascontiguousarray(data), np.ascontiguousarray(gy)

    def block(data: Array, gy: Array, gx: Array) -> None:
        onednn.run(0, _backward, (*_ALGORITHMS[name], gx.size), data, gy, gx)

    _in_threads(block, data, gy, gx)
    known = name in _OF_Y or (usual and name != _HUGE)
    return gx if known or is_finite(gx, gx.size * _NANOSECONDS) else None


def _in_threads(work: Callable[..., object], *arrays: Array) -> None:
    """``work`` with the elements of ``arrays``, in each thread with a part of them.

    Each calls oneDNN for itself: where that shares the work out, only the caller's stack lies where it is fast.
    """
    flat = [a.reshape(-1) for a in arrays]
    size = flat[0].size
    each_thread(lambda part: work(*[a[part] for a in flat]), size, pays=size > _WORTH_THREADS)


def _forward(algorithm: int, alpha: float, size: int) -> onednn.Job:
    flat, narrow = onednn.Layout((size,)), size > _IN_CACHE and algorithm == _ALGORITHMS["sigmoid"][0]
    own = onednn.Description("eltwise_forward", *_described(algorithm, alpha, flat), narrow=narrow)
    return onednn.Job(own, [(_X, flat, False), (_Y, flat, True)])


def _gated(size: int) -> onednn.Job:
    """Nothing is added to x, of that the sigmoid is taken, and multiplied with x."""
    flat, none = onednn.Layout((size,)), onednn.Layout((1,))
    own = onednn.Description("binary", _ADD, flat, none, flat, then=[(_LOGISTIC, None), (_MULTIPLY, flat)])
    others = (_OTHER, none, False), (onednn.argument_of_step(1), flat, False)
    return onednn.Job(own, [(_X, flat, False), *others, (_Y, flat, True)])


def _backward(algorithm: int, alpha: float, size: int) -> onednn.Job:
    flat, narrow = onednn.Layout((size,)), size > _IN_CACHE and algorithm < _FROM_Y
    hint = onednn.Description("eltwise_forward", *_described(algorithm, alpha, flat))
    settings = algorithm, flat, flat, flat, alpha, _BETA, hint
    own = onednn.Description("eltwise_backward", *settings, narrow=narrow)
    data = _Y if algorithm >= _FROM_Y else _X
    return onednn.Job(own, [(data, flat, False), (_GY, flat, False), (_GX, flat, True)])


def _described(algorithm: int, alpha: float, flat: onednn.Layout) -> tuple[Any, ...]:
    return onednn.FORWARD, algorithm, flat, flat, alpha, _BETA
