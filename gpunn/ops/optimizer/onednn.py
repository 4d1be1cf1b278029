"""Gradient descent by oneDNN, on the CPU: ``v = momentum v + g``, then ``p -= lr v``, a call each."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import Array
from gpunn.cpu import onednn
from gpunn.ops.optimizer import arrays

_ADD, _MULTIPLY = 0x1FFF0, 0x1FFF1
_X, _NUMBER, _Y = 1, 2, 17
_NANOSECONDS = 0.2  # of an element, about
_LEAST_SIZE = 1 << 15  # NumPy goes through fewer, which stay in the cache, sooner


def takes(p: Array) -> bool:
    """True for float32 on the CPU where the library is, unless kernels are emulated."""
    if cuda.takes(p) or not onednn.takes(p, pays=p.size >= _LEAST_SIZE):
        return False
    work = p.size * _NANOSECONDS
    return all(onednn.job(work, make, p.size) is not None for make in (_scale_and_add, _add_scaled))


def sgd(p: Array, g: Array, v: Array | None, lr: float, momentum: float, nesterov: bool, weight_decay: float) -> None:
    """:func:`gpunn.ops.optimizer.rules.sgd_step`, changing p and v."""
    if nesterov or weight_decay:
        arrays.sgd(p, g, v, lr, momentum, nesterov, weight_decay)
    else:
        if v is not None:
            _run(_scale_and_add, v, momentum, v, g, v)
        _run(_add_scaled, p, -lr, g if v is None else v, p)


def _run(make: Any, p: Array, number: float, first: Array, *rest: Array) -> None:
    onednn.run(p.size * _NANOSECONDS, make, (p.size,), first, np.array([number], np.float32), *rest)


def _scale_and_add(size: int) -> onednn.Job:
    """``a = number a + b``, of a, the number, b and a."""
    x, own = _times_number(size, lambda x: [(_ADD, x)])
    arguments = [(onednn.argument_of_step(0), x, False), (_Y, x, True)]
    return onednn.Job(own, [(_X, x, False), (_NUMBER, onednn.Layout((1,)), False), *arguments])


def _add_scaled(size: int) -> onednn.Job:
    """``a += number b``, of b, the number and a."""
    x, own = _times_number(size, lambda x: [(onednn.ACCUMULATE, None)])
    return onednn.Job(own, [(_X, x, False), (_NUMBER, onednn.Layout((1,)), False), (_Y, x, True)])


def _times_number(size: int, then: Any) -> tuple[onednn.Layout, onednn.Description]:
    x = onednn.Layout((size,))
    return x, onednn.Description("binary", _MULTIPLY, x, onednn.Layout((1,)), x, then=then(x))
