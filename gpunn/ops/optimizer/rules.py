"""One step of an optimizer on flat arrays, in place: p of parameters, g of their gradients, and the running states.

    sgd        v = momentum v + G;  p -= lr v, or p -= lr (G + momentum v) with nesterov
    rmsprop    s = alpha s + (1 - alpha) G^2;  d = G / (sqrt(s) + eps);  v = momentum v + d;  p -= lr v
               centered: m = alpha m + (1 - alpha) G, and sqrt(s - m^2) in place of sqrt(s)
    adagrad    s = s + G^2;  p -= lr / (1 + (t - 1) lr_decay) G / (sqrt(s) + eps)
    adadelta   s = rho s + (1 - rho) G^2;  d = sqrt(u + eps) / sqrt(s + eps) G;  u = rho u + (1 - rho) d^2;  p -= lr d

with ``G = g + weight_decay p`` and t the number of this step, from 1. All arrays have one length and dtype, but for
float16 p the states are float32 and g may be, and the step is computed in float32. g is left as it was. Each function
returns the arrays that it changed. Adam and its kin are in :mod:`gpunn.ops.optimizer.adam`. Sources: Polyak 1964,
Nesterov 1983 (in PyTorch's form, with lr outside v); Tieleman and Hinton 2012, Graves 2013 (centered); Duchi, Hazan and
Singer 2011; Zeiler 2012.

The ways to compute are :mod:`gpunn.ops.optimizer.kernel` and :mod:`gpunn.ops.optimizer.arrays`; for gradient descent
also :mod:`gpunn.ops.optimizer.onednn`.
"""

from __future__ import annotations

from types import ModuleType

from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer import arrays, kernel, onednn
from gpunn.ops.optimizer.checks import check_step
from gpunn.ops.shared.routes import route

ROUTES: tuple[ModuleType, ...] = (kernel, arrays)
SGD_ROUTES: tuple[ModuleType, ...] = (kernel, onednn, arrays)


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

    >>> import numpy as np
    >>> p, v = np.array([1.0]), np.array([2.0])
    >>> _ = sgd_step(p, np.array([3.0]), v, lr=0.1, momentum=0.5)
    >>> p, v
    (array([0.6]), array([4.]))
    """
    op = "sgd_step"
    check(v is not None or momentum == 0, ArgumentError, op, "momentum needs the velocity v", momentum=momentum)
    states = {} if momentum == 0 else {"v": v}
    check_step(op, p, g, **states)
    route(SGD_ROUTES, p).sgd(p, g, states.get("v"), lr, momentum, nesterov, weight_decay)
    return (p, *states.values())


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

    >>> import numpy as np
    >>> p, s = np.array([1.0]), np.zeros(1)
    >>> _ = rmsprop_step(p, np.array([5.0]), s, lr=0.1, alpha=0.75)
    >>> round(p.item(), 6), s
    (0.8, array([6.25]))
    """
    op = "rmsprop_step"
    check(m is not None or not centered, ArgumentError, op, "centered needs the mean m", centered=centered)
    check(v is not None or momentum == 0, ArgumentError, op, "momentum needs the velocity v", momentum=momentum)
    states = {"s": s} | ({"m": m} if centered else {}) | ({"v": v} if momentum else {})
    check_step(op, p, g, **states)
    settings = lr, alpha, eps, weight_decay, momentum
    route(ROUTES, p).rmsprop(p, g, s, m if centered else None, v if momentum else None, *settings)
    return (p, *states.values())


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

    >>> import numpy as np
    >>> p, s = np.array([1.0]), np.zeros(1)
    >>> _ = adagrad_step(p, np.array([5.0]), s, steps=1, lr=0.1)
    >>> round(p.item(), 6), s
    (0.9, array([25.]))
    """
    check_step("adagrad_step", p, g, steps, s=s)
    rate = lr / (1 + (steps - 1) * lr_decay)
    route(ROUTES, p).adagrad(p, g, s, rate, eps, weight_decay)
    return p, s


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

    >>> import numpy as np
    >>> p, s, u = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> _ = adadelta_step(p, np.array([5.0]), s, u, rho=0.75, eps=0.75)
    >>> round(p.item(), 6), s
    (-0.636634, array([6.25]))
    """
    check_step("adadelta_step", p, g, s=s, u=u)
    route(ROUTES, p).adadelta(p, g, s, u, lr, rho, eps, weight_decay)
    return p, s, u
