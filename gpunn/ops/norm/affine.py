"""Normalisation of a channel as a factor and a term, and what its gradient takes from the statistics."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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


class Merged(Protocol):
    """A batch of which x is a part, whose other parts are elsewhere: on other ranks."""

    count: int
    """The values of a channel in all of it."""

    def statistics(self, mean: Array, var: Array, count: int) -> tuple[Array, Array]:
        """Mean and variance of all of it, from those of the ``count`` values of each channel here; sets ``count``."""

    def sums(self, sum_g: Array, sum_gx: Array) -> tuple[Array, Array]:
        """The sums over all of it, from those over the part here."""


class Part(Affine):
    """What y is of x, where x is a part of a batch: the gradient takes the sums over all of it.

    All parts take part in that, once, those without values too.

    >>> import numpy as np
    >>> class Twice:
    ...     count = 8
    ...     def sums(self, sum_g, sum_gx):
    ...         return 2 * sum_g, 2 * sum_gx
    >>> part = Part.of(Affine(*np.float32([[1], [0.5], [0], [2]])), Twice())
    >>> [float(a[0]) for a in part.through(np.float32([8]), np.float32([16]), 4, training=True)]
    [2.0, 1.0]
    """

    whole: Merged

    @classmethod
    def of(cls, affine: Affine, whole: Merged) -> Part:
        """``affine`` of a part of ``whole``."""
        part = cls(*affine)
        part.whole = whole
        return part

    def through(self, sum_g: Array, sum_gx: Array, count: int, training: bool) -> tuple[Array, Array]:
        """:meth:`Affine.through` of all parts."""
        return super().through(*self.whole.sums(sum_g, sum_gx), max(self.whole.count, 1), training)
