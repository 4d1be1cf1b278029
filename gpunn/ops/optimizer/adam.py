"""One step of Adam and its kin on flat arrays, in place: p of parameters, g of their gradients, the running means m, v.

    all        m = b1 m + (1 - b1) G;  v = b2 v + (1 - b2) G^2;  M = m / (1 - b1^t);  V = v / (1 - b2^t)
    adam       p -= lr M / (sqrt(V) + eps); amsgrad: the largest v so far in the place of v
    nadam      p -= lr ((1 - mu_t) / (1 - mu_1 ... mu_t) G + mu_{t+1} / (1 - mu_1 ... mu_{t+1}) m) / (sqrt(V) + eps),
               mu_i = b1 (1 - 0.96^(i momentum_decay) / 2)
    radam      p -= lr r M sqrt(1 - b2^t) / (sqrt(v) + eps), where the variance of 1 / sqrt(V) is finite, else p -= lr M
    lamb       d = M / (sqrt(V) + eps) + weight_decay p, with G = g;  p -= lr |p| / |d| d for each parameter by itself

with ``G = g + weight_decay p``, or decoupled ``G = g`` and ``p -= lr weight_decay p`` before the step, and t the number
of this step, from 1. Dtypes and results are as in :mod:`gpunn.ops.optimizer.rules`.
Sources: Kingma and Ba 2015; Reddi, Kale and Kumar 2018 (amsgrad); Loshchilov and Hutter 2019 (decoupled weight decay);
Dozat 2016 (nadam); Liu et al. 2020 (radam); You et al. 2020 (lamb).

They are ways of :mod:`gpunn.ops.optimizer.rules`, too; lamb and amsgrad have no kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from gpunn import cuda
from gpunn.backend import Array
from gpunn.errors import ArgumentError, check
from gpunn.ops.optimizer import arrays
from gpunn.ops.optimizer.checks import check_step
from gpunn.ops.optimizer.rules import ROUTES
from gpunn.ops.shared.lengths import norm
from gpunn.ops.shared.routes import route

Betas = tuple[float, float]


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    steps: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    largest: Array | None = None,
) -> tuple[Array, ...]:
    """Adam; m and v are the running means of the gradient and of its square, ``steps`` counts this step, from 1.

    ``decoupled`` shrinks the parameters by ``lr weight_decay`` instead of adding ``weight_decay p`` to the gradient
    (AdamW). With ``largest``, which becomes the larger of itself and v, that takes the place of v (amsgrad).

    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> _ = adam_step(p, np.array([5.0]), m, v, steps=1, lr=0.1)
    >>> round(p.item(), 6)
    0.9
    """
    more = {} if largest is None else {"largest": largest}
    check_step("adam_step", p, g, steps, m=m, v=v, **more)
    b1, b2 = betas
    settings = lr / (1 - b1**steps), 0.0, _root(b2, steps), betas, eps, *_decay(lr, weight_decay, decoupled)
    if largest is None:
        return _step(p, g, m, v, *settings)
    arrays.amsgrad(p, g, m, v, *settings, largest)
    return p, m, v, largest


def nadam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    steps: int,
    lr: float = 2e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum_decay: float = 4e-3,
    decoupled: bool = False,
) -> tuple[Array, ...]:
    """Adam that looks a step ahead, as Nesterov's momentum does; the arguments are those of :func:`adam_step`.

    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> _ = nadam_step(p, np.array([5.0]), m, v, steps=1, lr=0.1)
    >>> round(p.item(), 6)
    0.894355
    """
    check_step("nadam_step", p, g, steps, m=m, v=v)
    b1, b2 = betas
    now, ahead = (b1 * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (steps, steps + 1))
    product = b1**steps * _shrinkage(0.96**momentum_decay, steps)
    step, look = lr * ahead / (1 - product * ahead), lr * (1 - now) / (1 - product)
    return _step(p, g, m, v, step, look, _root(b2, steps), betas, eps, *_decay(lr, weight_decay, decoupled))


def _shrinkage(q: float, steps: int) -> float:
    """The product of 1 - q^i / 2 for i from 1 to ``steps``, whatever their number, by the series of its logarithm."""
    logarithm = 0.0
    for k in range(1, 60):  # the terms shrink by 2
        powers = steps if q == 1 else math.expm1(steps * k * math.log(q)) / math.expm1(k * math.log(q))
        logarithm -= (0.5 * q) ** k / k * powers
    return math.exp(logarithm)


def radam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    steps: int,
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, ...]:
    """Adam with its first steps rectified; the arguments are those of :func:`adam_step`.

    >>> import numpy as np
    >>> p, m, v = np.array([1.0]), np.zeros(1), np.zeros(1)
    >>> _ = radam_step(p, np.array([5.0]), m, v, steps=1, lr=0.1)
    >>> round(p.item(), 6)
    0.5
    """
    check_step("radam_step", p, g, steps, m=m, v=v)
    b1, b2 = betas
    step, decay = lr / (1 - b1**steps), _decay(lr, weight_decay, decoupled)
    most = 2 / (1 - b2) - 1
    length = most - 2 * steps * b2**steps / (1 - b2**steps)
    if length <= 5:  # sqrt(v) / infinity + 1 divides by 1
        return _step(p, g, m, v, step, 0.0, math.inf, betas, 1.0, *decay)
    rectified = math.sqrt((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length))
    return _step(p, g, m, v, step * rectified * _root(b2, steps), 0.0, 1.0, betas, eps, *decay)


def lamb_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    steps: int,
    sizes: Sequence[int],
    lr: float = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: float = 1e-6,
    weight_decay: float = 0.01,
) -> tuple[Array, ...]:
    """Adam with steps as long as the parameters are: ``sizes`` says how many elements of p belong to each of them.

    Where p or d is 0 the step is not scaled. The other arguments are those of :func:`adam_step`.

    >>> import numpy as np
    >>> p, m, v = np.array([3.0, 4.0, 0.0]), np.zeros(3), np.zeros(3)
    >>> _ = lamb_step(p, np.array([7.0, 0.0, 7.0]), m, v, 1, [2, 1], lr=0.1, weight_decay=0.0)
    >>> p.round(5).tolist()
    [2.5, 4.0, -0.1]
    """
    op = "lamb_step"
    xp = check_step(op, p, g, steps, m=m, v=v)
    check(sum(sizes) == p.size, ArgumentError, op, "sizes must add up to the length of p", sizes=sizes, length=p.size)
    cuda.refuse_capture(op, "LAMB has no kernel of its own, and its settings would stay as they are")
    d = xp.zeros(m.shape, m.dtype)  # minus the step that Adam takes from 0 with lr = 1
    wide = g.astype(m.dtype, copy=False)
    _step(d, wide, m, v, 1 / (1 - betas[0] ** steps), 0.0, _root(betas[1], steps), betas, eps, 0.0, 0.0)
    start = 0
    for size in sizes:
        part = slice(start, start := start + size)
        own = p[part].astype(m.dtype, copy=False)
        moved = d[part] - weight_decay * own
        length, change = norm(own), norm(moved)
        scaled = (length != 0) & (change != 0)  # NaN is not hidden
        ratio = xp.where(scaled, length / xp.where(scaled, change, 1), 1).astype(m.dtype)
        p[part] = own + lr * ratio * moved
    return p, m, v


def _decay(lr: float, weight_decay: float, decoupled: bool) -> tuple[float, float]:
    """What of p is added to the gradient, and what is taken off p before the step."""
    return (0.0, lr * weight_decay) if decoupled else (weight_decay, 0.0)


def _root(b2: float, steps: int) -> float:
    return math.sqrt(1 - b2**steps)


def _step(
    p: Array, g: Array, m: Array, v: Array, step: float, look: float, root: float, betas: Betas, eps: float,
    weight_decay: float, decay: float,
) -> tuple[Array, ...]:  # fmt: skip
    """``p -= decay p``, then ``p -= (step m + look G) / (sqrt(v) / root + eps)``, with m and v as in all of them."""
    route(ROUTES, p).adam(p, g, m, v, step, look, root, betas, eps, weight_decay, decay)
    return p, m, v
