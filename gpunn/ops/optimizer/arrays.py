"""The steps of optimizers on any array module: a few operations on blocks that fit into a CPU's cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpunn import cuda
from gpunn.backend import Array, accumulation_dtype, get_array_module
from gpunn.ops.shared.chunks import each_block


def takes(p: Array) -> bool:
    """Whatever comes."""
    return True


def in_chunks(update: Callable[..., None], p: Array, g: Array, *states: Array) -> None:
    """Call ``update(p, g, *states)``, which changes p and the states, on blocks of them, in float32 or more.

    On a GPU there is one block.
    """
    cuda.refuse_capture("optimizer", f"this step of {p.dtype} has no kernel, and its settings would stay as they are")

    def block(part: slice) -> None:
        wide = p[part].astype(accumulation_dtype(p.dtype), copy=False)
        update(wide, g[part].astype(wide.dtype, copy=False), *(s[part] for s in states))
        if wide.dtype != p.dtype:
            p[part] = wide

    each_block(get_array_module(p), block, p.size, accumulation_dtype(p.dtype).itemsize)


def sgd(p: Array, g: Array, v: Array | None, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.sgd_step`, changing p and v."""

    def update(p: Array, g: Array, v: Array | None = None) -> None:
        if weight_decay:
            g = g + weight_decay * p
        if v is not None:
            v *= momentum
            v += g
        if v is not None and nesterov:
            step = momentum * v
            step += g
            step *= lr
        else:
            step = lr * (g if v is None else v)
        p -= step

    in_chunks(update, p, g, *(() if v is None else (v,)))


def rmsprop(
    p: Array, g: Array, s: Array, m: Array | None, v: Array | None, lr: float, alpha: float, eps: float,
    weight_decay: float, momentum: float,
) -> None:  # fmt: skip
    """:func:`gpunn.ops.optimizer.rules.rmsprop_step`, changing p and the states that there are."""
    xp, centered, kept = get_array_module(p), m is not None, [a for a in (m, v) if a is not None]

    def update(p: Array, g: Array, s: Array, *rest: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        s *= alpha
        _add_square(xp, s, 1 - alpha, g)
        variance = s
        if centered:
            m = rest[0]
            m *= alpha
            m += (1 - alpha) * g
            variance = xp.maximum(s - m * m, 0)  # rounding can leave less than 0
        root = xp.sqrt(variance)
        root += eps
        d = xp.divide(g, root, out=root)
        if momentum:
            v = rest[-1]
            v *= momentum
            v += d
            p -= lr * v
        else:
            d *= lr
            p -= d

    in_chunks(update, p, g, s, *kept)


def adagrad(p: Array, g: Array, s: Array, rate: float, eps: float, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.adagrad_step`, changing p and s."""
    xp = get_array_module(p)

    def update(p: Array, g: Array, s: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        s += g * g
        p -= rate * g / (xp.sqrt(s) + eps)

    in_chunks(update, p, g, s)


def adadelta(p: Array, g: Array, s: Array, u: Array, lr: float, rho: float, eps: float, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.adadelta_step`, changing p, s and u."""
    xp = get_array_module(p)

    def update(p: Array, g: Array, s: Array, u: Array) -> None:
        if weight_decay:
            g = g + weight_decay * p
        s *= rho
        s += (1 - rho) * g * g
        d = xp.sqrt((u + eps) / (s + eps)) * g
        u *= rho
        u += (1 - rho) * d * d
        p -= lr * d

    in_chunks(update, p, g, s, u)


def adam(
    p: Array, g: Array, m: Array, v: Array, step: float, look: float, root: float, betas: tuple[float, float],
    eps: float, weight_decay: float, decay: float,
) -> None:  # fmt: skip
    """``p -= decay p``, then ``p -= (step m + look G) / (sqrt(v) / root + eps)``, with the new m and v."""
    amsgrad(p, g, m, v, step, look, root, betas, eps, weight_decay, decay, None)


def amsgrad(
    p: Array, g: Array, m: Array, v: Array, step: float, look: float, root: float, betas: tuple[float, float],
    eps: float, weight_decay: float, decay: float, largest: Array | None,
) -> None:  # fmt: skip
    """:func:`adam`; ``largest``, if it is there, becomes the larger of itself and v, and takes the place of v."""
    xp, (b1, b2) = get_array_module(p), betas

    def update(p: Array, g: Array, m: Array, v: Array, largest: Array | None = None) -> None:
        if weight_decay:
            g = g + weight_decay * p
        if decay:
            p -= decay * p
        m *= b1
        moved = (1 - b1) * g
        m += moved
        v *= b2
        _add_square(xp, v, 1 - b2, g)
        xp.multiply(m, step, out=moved)
        if look:
            moved += look * g
        if largest is not None:
            v = xp.maximum(largest, v, out=largest)
        divisor = xp.sqrt(v)
        divisor /= root
        divisor += eps
        moved /= divisor
        p -= moved

    in_chunks(update, p, g, m, v, *(() if largest is None else (largest,)))


def _add_square(xp: Any, s: Array, share: float, g: Array) -> None:
    """``s += share g^2``."""
    square = share * g
    square *= g
    s += square
