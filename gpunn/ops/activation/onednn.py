"""Activations of float32 by oneDNN, on the CPU: those that it computes as exactly as NumPy does, and faster.

Its ELU and softplus lose the digits near 0, its ReLU and hardsigmoid give numbers for NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn

_FROM_Y = 0x100  # the algorithms whose derivative is taken from the output
_ALGORITHMS = {"sigmoid": _FROM_Y + 4, "tanh": _FROM_Y + 1, "gelu": 0x31, "gelu, tanh": 0x2B, "silu": 0x2C}
_ALPHA, _BETA = 1.0, 0.0  # of SiLU, x sigmoid(alpha x); the others have no such settings
_LEAST_SIZE = 1024  # below, the call takes longer than NumPy's
_X, _Y, _GX, _GY = 1, 17, 129, 145


def takes(name: str, x: Array) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated.

    ``x`` is the argument of the function, or the output, where its gradient is taken from that.
    """
    if not onednn.takes(x, pays=x.size >= _LEAST_SIZE) or cuda.takes(x):
        return False
    return name in ("sigmoid", "tanh") or bool(x.min() > -np.inf)  # there the others give NaN


def forward(name: str, x: Array) -> Array:
    """The function ``name`` of each element."""
    y = np.empty(x.shape, x.dtype)
    _run(_forward, name, np.ascontiguousarray(x), y)
    return y


def backward(name: str, gy: Array, data: Array) -> Array:
    """The gradient with respect to x; ``data`` is y or x."""
    gx = np.empty(gy.shape, gy.dtype)
    _run(_backward, name, np.ascontiguousarray(data), np.ascontiguousarray(gy), gx)
    return gx


def _run(make: Any, name: str, *arrays: Array) -> None:
    run = onednn.job(make, _ALGORITHMS[name], arrays[0].size)
    assert run is not None
    run(*arrays)


def _forward(algorithm: int, size: int) -> onednn.Job:
    flat = onednn.Layout((size,))
    return onednn.Job(_described(algorithm, flat), [(_X, flat, False), (_Y, flat, True)])


def _backward(algorithm: int, size: int) -> onednn.Job:
    flat = onednn.Layout((size,))
    own = onednn.Description(
        "eltwise_backward", algorithm, flat, flat, flat, _ALPHA, _BETA, _described(algorithm, flat)
    )
    data = _Y if algorithm >= _FROM_Y else _X
    return onednn.Job(own, [(data, flat, False), (_GY, flat, False), (_GX, flat, True)])


def _described(algorithm: int, flat: onednn.Layout) -> onednn.Description:
    return onednn.Description("eltwise_forward", onednn.FORWARD, algorithm, flat, flat, _ALPHA, _BETA)
