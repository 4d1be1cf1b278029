"""One step of an optimizer on flat arrays, in place: p of parameters, g of their gradients, and the running states.

    sgd        v = momentum v + G;  p -= lr v, or p -= lr (G + momentum v) with nesterov
    adam       m = b1 m + (1 - b1) G;  v = b2 v + (1 - b2) G^2
               p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
    rmsprop    s = alpha s + (1 - alpha) G^2;  d = G / (sqrt(s) + eps);  v = momentum v + d;  p -= lr v
               centered: m = alpha m + (1 - alpha) G, and sqrt(s - m^2) in place of sqrt(s)

with ``G = g + weight_decay p``. All arrays have one length and dtype, but for float16 p and g the states are float32,
and the step is computed in float32. g is left as it was. Each function returns the arrays that it changed. Sources:
Polyak 1964, Nesterov 1983 (in PyTorch's form, with lr outside v); Kingma and Ba 2015; Tieleman and Hinton 2012, Graves
2013 (centered).

CUDA: ``kernels/optimizer.cu``, one launch. Without it: a few operations on blocks that fit into the CPU's cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, operands
from gpunn.errors import ArgumentError, DtypeError, check
from gpunn.ops.vector import WIDEST, vector
from gpunn.ops.window import check_shape


def sgd_step(
    p: Array,
    g: Array,
    v: Array | None,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, ...]:
    """Gradient descent; the velocity v may be None without momentum.

    >>> p, v = np.array([1.0]), np.array([2.0])
    >>> _ = sgd_step(p, np.array([3.0]), v, lr=0.1, momentum=0.5)
    >>> p, v
    (array([0.6]), array([4.]))
    """
    op = "sgd_step"
    check(v is not None or momentum == 0, ArgumentError, op, "momentum needs the velocity v", momentum=momentum)
    states = {} if momentum == 0 else {"v": v}
    xp = _check(op, p, g, **states)
    if cuda.takes(p):
        arrays = [p, g, v if states else p]
        _launch("sgd", arrays, [*_reals(p, lr, momentum), np.int32(nesterov), *_reals(p, weight_decay)])
        return (p, *states.values())

    def update(p: Array, g: Array, v: Array | None = None) -> None:
        if weight_decay:
            g = g + weight_decay * p
        if v is not None:
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        p -= lr * g

    return _in_blocks(xp, update, p, g, *states.values())


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    steps: int,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> tuple[Array, ...]:
    """Adam; m and v are the running means of the gradient and of its square, ``steps`` counts this step, from 1.

    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> _ = adam_step(p, np.array([5.0]), m, v, steps=1, lr=0.1)
    >>> round(p.item(), 6)
    0.9
    """
    op = "adam_step"
    xp = _check(op, p, g, m=m, v=v)
    check(steps >= 1, ArgumentError, op, "steps must be at least 1", steps=steps)
    b1, b2 = betas
    step, root = lr / (1 - b1**steps), (1 - b2**steps) ** 0.5
    if cuda.takes(p):
        _launch("adam", [p, g, m, v], _reals(p, step, root, b1, 1 - b1, b2, 1 - b2, eps, weight_decay))
        return p, m, v

    def update(p: Array, g: Array, m: Array, v: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * g * g
        p -= step * m / (xp.sqrt(v) / root + eps)

    return _in_blocks(xp, update, p, g, m, v)


def rmsprop_step(
    p: Array,
    g: Array,
    s: Array,
    m: Array | None = None,
    v: Array | None = None,
    lr: float = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> tuple[Array, ...]:
    """RMSprop; s and m are the running means of the squares and of the gradients, v the velocity.

    m is needed with ``centered`` only, v with momentum only.

    >>> p, s = np.array([1.0]), np.zeros(1)
    >>> _ = rmsprop_step(p, np.array([5.0]), s, lr=0.1, alpha=0.75)
    >>> round(p.item(), 6), s
    (0.8, array([6.25]))
    """
    op = "rmsprop_step"
    check(m is not None or not centered, ArgumentError, op, "centered needs the mean m", centered=centered)
    check(v is not None or momentum == 0, ArgumentError, op, "momentum needs the velocity v", momentum=momentum)
    states = {"s": s} | ({"m": m} if centered else {}) | ({"v": v} if momentum else {})
    xp = _check(op, p, g, **states)
    if cuda.takes(p):
        arrays = [p, g, s, m if centered else s, v if momentum else s]
        _launch("rmsprop", arrays, [*_reals(p, lr, alpha, 1 - alpha, eps, weight_decay, momentum), np.int32(centered)])
        return (p, *states.values())

    def update(p: Array, g: Array, s: Array, *rest: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        s *= alpha
        s += (1 - alpha) * g * g
        variance = s
        if centered:
            m = rest[0]
            m *= alpha
            m += (1 - alpha) * g
            variance = xp.maximum(s - m * m, 0)  # rounding can leave less than 0
        d = g / (xp.sqrt(variance) + eps)
        if momentum:
            v = rest[-1]
            v *= momentum
            v += d
            d = v
        p -= lr * d

    return _in_blocks(xp, update, p, g, *states.values())


def _check(op: str, p: Array, g: Array, **states: Array) -> Any:
    xp = operands(op, p=p, g=g)
    if states:
        operands(op, **states)
        operands(op, **({"p": p} if p.dtype != np.float16 else {}), **states)
    for name, array in {"p": p, "g": g, **states}.items():
        check_shape(op, name, array, (p.size,))
        rule = f"{name} must be contiguous, as it is changed in place"
        check(array.flags.c_contiguous, ArgumentError, op, rule, strides=array.strides)
    wanted = accumulation_dtype(p.dtype)
    for name, array in states.items():
        check(array.dtype == wanted, DtypeError, op, f"{name} must be {wanted} for {p.dtype} p", dtype=str(array.dtype))
    return xp


# ---- without the kernel ---------------------------------------------------------------------------------------------

_BLOCK = 1 << 15
"""Elements that a CPU core's cache holds of each array while a step passes over them several times."""


def _in_blocks(xp: Any, update: Callable[..., None], p: Array, g: Array, *states: Array) -> tuple[Array, ...]:
    block = _BLOCK if xp is np else max(1, p.size)
    for start in range(0, p.size, block):
        part = slice(start, start + block)
        wide = p[part].astype(accumulation_dtype(p.dtype), copy=False)
        update(wide, g[part].astype(wide.dtype, copy=False), *(s[part] for s in states))
        if wide.dtype != p.dtype:
            p[part] = wide
    return (p, *states)


# ---- with the kernel ------------------------------------------------------------------------------------------------

_THREADS = 256


def _reals(p: Array, *values: float) -> list[Any]:
    return [p.dtype.type(value) for value in values]


def _launch(kernel: str, arrays: list[Array], scalars: list[Any]) -> None:
    p = arrays[0]
    if p.size == 0:
        return
    index = cuda.index_type(p.size)
    width = WIDEST // p.dtype.itemsize
    macros: dict[str, str | int] = {"DTYPE": cuda.c_type(p), "INDEX": index, "VECTOR": width}
    head, packs = _packs(arrays, width)
    count = np.int32 if index == "int" else np.int64
    blocks = -(-(p.size - packs * (width - 1)) // _THREADS)
    sizes = [count(p.size), count(head), count(packs)]
    cuda.launch("optimizer.cu", kernel, macros, (blocks,), (_THREADS,), [*arrays, *sizes, *scalars])


def _packs(arrays: list[Array], width: int) -> tuple[int, int]:
    """Where the first 16-byte pack starts, and how many there are; none if the arrays start at different offsets."""
    for head in range(width):
        if vector(width, *(a[head:] for a in arrays)) == width:
            return head, max(0, arrays[0].size - head) // width
    return 0, 0
