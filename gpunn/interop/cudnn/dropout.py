"""Dropout, by :mod:`gpunn.ops.dropout`."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.backend import Array, random_generator
from gpunn.interop.cudnn.arrays import on_device
from gpunn.ops import dropout as ops


class DropoutStates:
    """Where the random numbers of dropout come from: a generator that begins at ``seed``.

    ``handle`` is taken, and not read. The masks are those of :func:`gpunn.functional.dropout`, the same on every
    device, and others than cuDNN's.

    >>> states = DropoutStates(None, seed=0)
    >>> space, y = states.forward(None, np.ones(6), 0.5)
    >>> bool((states.backward(None, np.ones(6), 0.5, space) == y).all())
    True
    """

    def __init__(self, handle: object, seed: int) -> None:
        self.ratio = 0.0
        self.generator = random_generator(seed)

    def set_dropout_ratio(self, dropout_ratio: float) -> None:
        """Set the probability with which the recurrent nets drop what one layer gives the next."""
        ops.check_probability("cudnn.DropoutStates", dropout_ratio)
        self.ratio = dropout_ratio

    def forward(self, handle: object, x: Array, dropout_ratio: float) -> tuple[Any, Array]:
        """What :meth:`backward` needs, and x, of which each element is 0 with probability ``dropout_ratio``."""
        self.set_dropout_ratio(dropout_ratio)
        with on_device("cudnn.DropoutStates", x=x):
            key = ops.dropout_key(x, lambda: int(self.generator.integers(2**64, dtype=np.uint64)))
            return key, ops.dropout(x, dropout_ratio, key)

    def backward(self, handle: object, dy: Array, dropout_ratio: float, reserve_space: Any) -> Array:
        """The gradient with respect to x: dy through the mask of the call of :meth:`forward`."""
        self.set_dropout_ratio(dropout_ratio)
        with on_device("cudnn.DropoutStates", dy=dy):
            return ops.dropout_backward(dy, dropout_ratio, reserve_space)
