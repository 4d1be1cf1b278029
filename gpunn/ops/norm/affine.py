"""Normalisation of a channel as a factor and a term, and what its gradient takes from the statistics."""

from __future__ import annotations

from typing import NamedTuple

from gpunn.backend import Array, get_array_module


class Affine(NamedTuple):
    """``y = scale (x - mean) + shift``, each (C,); ``root`` is sqrt(var + eps), ``scale`` is weight / root.

    >>> import numpy as np
    >>> affine = Affine(*np.float32([[1], [0.5], [0], [2]]))
    >>> [float(a[0]) for a in affine.through(np.float32([8]), np.float32([16]), 4, training=True)]
    [2.0, 1.0]
    """

    mean: Array
    scale: Array
    shift: Array
    root: Array

    def through(self, sum_g: Array, sum_gx: Array, count: int, training: bool) -> tuple[Array, Array]:
        """a and b of ``gx = scale (g - a - b (x - mean))``: the mean of g, and a share of the distance to the mean.

        ``sum_g`` and ``sum_gx`` are the sums over the ``count`` values of a channel of g and of ``g (x - mean)``.
        Outside training the statistics are constants, and both are 0.
        """
        if not training:
            zeros = get_array_module(sum_g).zeros_like(sum_g)
            return zeros, zeros
        return sum_g / count, sum_gx / (self.root * self.root) / count
