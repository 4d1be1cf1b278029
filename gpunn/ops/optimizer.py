"""One step of an optimizer on flat arrays, in place: p of parameters, g of their gradients, and the running states.

    sgd        v = momentum v + G;  p -= lr v, or p -= lr (G + momentum v) with nesterov
    rmsprop    s = alpha s + (1 - alpha) G^2;  d = G / (sqrt(s) + eps);  v = momentum v + d;  p -= lr v
               centered: m = alpha m + (1 - alpha) G, and sqrt(s - m^2) in place of sqrt(s)
    adagrad    s = s + G^2;  p -= lr / (1 + (t - 1) lr_decay) G / (sqrt(s) + eps)
    adadelta   s = rho s + (1 - rho) G^2;  d = sqrt(u + eps) / sqrt(s + eps) G;  u = rho u + (1 - rho) d^2;  p -= lr d

with ``G = g + weight_decay p`` and t the number of this step, from 1. All arrays have one length and dtype, but for
float16 p the states are float32 and g may be, and the step is computed in float32. g is left as it was. Each function
returns the arrays that it changed. Adam and its kin are in :mod:`gpunn.ops.optimizer_adam`. Sources: Polyak 1964,
Nesterov 1983 (in PyTorch's form, with lr outside v); Tieleman and Hinton 2012, Graves 2013 (centered); Duchi, Hazan and
Singer 2011; Zeiler 2012.

CUDA: ``kernels/optimizer.cu``, one launch. Without it: a few operations on blocks that fit into the CPU's cache.
"""

from __future__ import annotations

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer_launch import check_step, in_blocks, launch


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
    xp = check_step(op, p, g, **states)
    if cuda.takes(p):
        arrays = [p, g, v if states else p]
        launch("sgd", arrays, (lr, momentum, weight_decay), np.int32(nesterov))
        return (p, *states.values())

    def update(p: Array, g: Array, v: Array | None = None) -> None:
        if weight_decay:
            g = g + weight_decay * p
        if v is not None:
            v *= momentum
            v += g
            g = g + momentum * v if nesterov else v
        p -= lr * g

    return in_blocks(xp, update, p, g, *states.values())


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
    xp = check_step(op, p, g, **states)
    if cuda.takes(p):
        arrays = [p, g, s, m if centered else s, v if momentum else s]
        launch("rmsprop", arrays, (lr, alpha, 1 - alpha, eps, weight_decay, momentum), np.int32(centered))
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

    return in_blocks(xp, update, p, g, *states.values())


def adagrad_step(
    p: Array,
    g: Array,
    s: Array,
    steps: int,
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> tuple[Array, ...]:
    """Adagrad; s is the sum of the squares of all gradients, ``steps`` counts this step, from 1.

    >>> p, s = np.array([1.0]), np.zeros(1)
    >>> _ = adagrad_step(p, np.array([5.0]), s, steps=1, lr=0.1)
    >>> round(p.item(), 6), s
    (0.9, array([25.]))
    """
    xp = check_step("adagrad_step", p, g, steps, s=s)
    rate = lr / (1 + (steps - 1) * lr_decay)
    if cuda.takes(p):  # RMSprop that forgets nothing, and weighs each square by 1
        launch("rmsprop", [p, g, s, s, s], (rate, 1, 1, eps, weight_decay, 0), np.int32(False))
        return p, s

    def update(p: Array, g: Array, s: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        s += g * g
        p -= rate * g / (xp.sqrt(s) + eps)

    return in_blocks(xp, update, p, g, s)


def adadelta_step(
    p: Array,
    g: Array,
    s: Array,
    u: Array,
    lr: float = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
) -> tuple[Array, ...]:
    """Adadelta; s and u are the running means of the squares of the gradients and of the steps before ``lr``.

    >>> p, s, u = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> _ = adadelta_step(p, np.array([5.0]), s, u, rho=0.75, eps=0.75)
    >>> round(p.item(), 6), s
    (-0.636634, array([6.25]))
    """
    xp = check_step("adadelta_step", p, g, s=s, u=u)
    if cuda.takes(p):
        launch("adadelta", [p, g, s, u], (lr, rho, 1 - rho, eps, weight_decay))
        return p, s, u

    def update(p: Array, g: Array, s: Array, u: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        s *= rho
        s += (1 - rho) * g * g
        d = xp.sqrt((u + eps) / (s + eps)) * g
        u *= rho
        u += (1 - rho) * d * d
        p -= lr * d

    return in_blocks(xp, update, p, g, s, u)
