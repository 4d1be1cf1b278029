"""Activations of float32 by oneDNN, on the CPU: those in which its errors are roundings of numbers about 1.

Its ELU and softplus lose the digits near 0, its ReLU, but for the gradient, and hardsigmoid give numbers for NaN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.shared.chunks import chunks, each_thread

_FROM_Y = 0x100  # the algorithms whose derivative is taken from the output
_ALGORITHMS = {  # and the alpha of it: of SiLU, x sigmoid(alpha x), and ReLU, alpha x below 0
    "sigmoid": (_FROM_Y + 4, 0.0), "tanh": (_FROM_Y + 1, 0.0), "relu": (0x20, 0.0),
    "gelu": (0x31, 0.0), "gelu, tanh": (0x2B, 0.0), "silu": (0x2C, 1.0),
}  # fmt: skip
_BETA = 0.0  # they have no other setting
_OF_Y = ("sigmoid", "tanh", "relu")  # their gradients are taken from y; whatever x is does them no harm
_FAR = 1e12  # beyond, the others overflow on their way
_BLOCK_BYTES = 4 << 20  # what is looked through for such x is still in a cache when it is computed with
_NANOSECONDS = 0.5  # of an element, about
_WORTH_THREADS = 1 << 19  # elements
_LEAST_SIZE = 1024  # below, the call takes longer than NumPy's
_X, _OTHER, _Y, _GX, _GY = 1, 2, 17, 129, 145
_LOGISTIC, _ADD, _MULTIPLY = 0x29, 0x1FFF0, 0x1FFF1
_ZERO = np.zeros(1, np.float32)


def takes(x: Array) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated."""
    return onednn.takes(x, pays=x.size >= _LEAST_SIZE) and not cuda.takes(x)


def forward(name: str, x: Array) -> Array | None:
    """The function ``name`` of each element; None where this is not its way, or an element is too far from 0."""
    if not takes(x):
        return None
    y, x = np.empty(x.shape, x.dtype), np.ascontiguousarray(x)
    return y if _in_blocks(_forward, name, x, y) else None


def backward(name: str, gy: Array, data: Array, usual: bool = False) -> Array | None:
    """The gradient with respect to x, where ``data`` is y or x; None as in :func:`forward`.

    ``usual`` says that this computed with ``data``, which so holds nothing that is too far.
    """
    if not takes(data):
        return None
    gx, data, gy = np.empty(gy.shape, gy.dtype), np.ascontiguousarray(data), np.ascontiguousarray(gy)
    return gx if _in_blocks(_backward, name, data, gy, gx, usual=usual) else None


def gated(x: Array, out: Array) -> bool:
    """Write x times its sigmoid, of a small block of an array that this takes; False if x holds NaN or is too far."""
    job = onednn.job(x.size * _NANOSECONDS, _gated, x.size)
    if job is None or not (x.flags.c_contiguous and _is_near(x)):
        return False
    job(x, _ZERO, x, out)
    return True


def _in_blocks(make: Any, name: str, *arrays: Array, usual: bool = False) -> bool:
    """Whether the first of the arrays could be computed with."""
    if usual or name in _OF_Y:
        _run(make, name, *arrays)
        return True
    flat = [a.reshape(-1) for a in arrays]
    for part in chunks(np, flat[0].size, flat[0].itemsize, on_cpu=_BLOCK_BYTES):
        if not _is_near(flat[0][part]):
            return False
        _run(make, name, *[a[part] for a in flat])
    return True


def _is_near(x: Array) -> bool:
    return bool(x.min() > -_FAR and x.max() < _FAR)


def _run(make: Any, name: str, *arrays: Array) -> None:
    size, settings = arrays[0].size, _ALGORITHMS[name]
    if make is _forward:
        onednn.run(size * _NANOSECONDS, make, (*settings, size), *arrays)
        return
    # In threads of ours: of oneDNN's own, none but the caller has the stack where the gradients are fast.
    flat = [a.reshape(-1) for a in arrays]

    def block(part: slice) -> None:
        own = [a[part] for a in flat]
        onednn.run(0, make, (*settings, own[0].size), *own)

    each_thread(block, size, pays=size > _WORTH_THREADS)


def _forward(algorithm: int, alpha: float, size: int) -> onednn.Job:
    flat = onednn.Layout((size,))
    return onednn.Job(_described(algorithm, alpha, flat), [(_X, flat, False), (_Y, flat, True)])


def _gated(size: int) -> onednn.Job:
    """Nothing is added to x, of that the sigmoid is taken, and multiplied with x."""
    flat, none = onednn.Layout((size,)), onednn.Layout((1,))
    own = onednn.Description("binary", _ADD, flat, none, flat, then=[(_LOGISTIC, None), (_MULTIPLY, flat)])
    others = (_OTHER, none, False), (onednn.argument_of_step(1), flat, False)
    return onednn.Job(own, [(_X, flat, False), *others, (_Y, flat, True)])


def _backward(algorithm: int, alpha: float, size: int) -> onednn.Job:
    flat = onednn.Layout((size,))
    own = onednn.Description(
        "eltwise_backward", algorithm, flat, flat, flat, alpha, _BETA, _described(algorithm, alpha, flat)
    )
    data = _Y if algorithm >= _FROM_Y else _X
    return onednn.Job(own, [(data, flat, False), (_GY, flat, False), (_GX, flat, True)])


def _described(algorithm: int, alpha: float, flat: onednn.Layout) -> onednn.Description:
    return onednn.Description("eltwise_forward", onednn.FORWARD, algorithm, flat, flat, alpha, _BETA)
