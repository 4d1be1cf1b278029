"""Alpha dropout, forward and backward, which keeps mean 0 and variance 1 as SELU does.

    y = a x + a A p where an element is kept, else -a A (1 - p)        A = 1.7581,  a = 1 / sqrt((1 - p) (1 + p A^2))
    gx = a gy where it is kept, else 0

-A is the limit of SELU at -infinity, to which dropped elements are set before all are brought back to mean 0 and
variance 1. Which are kept is decided as by :func:`gpunn.ops.dropout.dropout`, of each element, or of each channel of x
(N, C, ...) as a whole. p = 0 gives x and p = 1 zeros. float16 is computed in float32. Source: Klambauer et al. 2017,
"Self-normalizing neural networks".
"""

from __future__ import annotations

import math

import numpy as np

from gpunn.backend import Array, accumulation_dtype, get_array_module, operands
from gpunn.errors import ShapeError, check
from gpunn.ops.activation.smooth import SELU_ALPHA, SELU_SCALE
from gpunn.ops.dropout import check_probability, dropout
from gpunn.ops.dropout.drawn import Key

_LOW = SELU_ALPHA * SELU_SCALE


def kept_elements(op: str, x: Array, p: float, key: Key, by_channel: bool = False) -> Array:
    """True where an element of x is kept; with ``by_channel`` of shape (N, C, 1, ...), for whole channels.

    >>> kept_elements("alpha_dropout", np.zeros(6), 0.5, key=1).tolist()
    [False, True, False, False, True, False]
    """
    xp = operands(op, x=x)
    check_probability(op, p)
    check(not by_channel or x.ndim > 1, ShapeError, op, "x must have at least the 2 dimensions (N, C)", shape=x.shape)
    shape = x.shape[:2] if by_channel else x.shape
    kept = dropout(xp.ones(shape, x.dtype), p, key) > 0
    return kept.reshape(*shape, *(1,) * (x.ndim - 2)) if by_channel else kept


def alpha_dropout(x: Array, p: float, kept: Array) -> Array:
    """x with what is not ``kept`` at the low value, and all of it rescaled.

    >>> alpha_dropout(np.array([1.0, 2.0]), 0.5, np.array([True, False])).round(4).tolist()
    [1.6656, -0.7792]
    """
    xp, scale = get_array_module(x, kept), _scale(p)
    wide = x.astype(accumulation_dtype(x.dtype), copy=False)
    with np.errstate(invalid="ignore"):  # scale 0, of p = 1, times infinity
        y = xp.where(kept, scale * wide + scale * _LOW * p, -scale * _LOW * (1 - p))
    return xp.asarray(y).astype(x.dtype, copy=False)


def alpha_dropout_backward(gy: Array, p: float, kept: Array) -> Array:
    """The gradient with respect to x."""
    xp = get_array_module(gy, kept)
    with np.errstate(invalid="ignore"):
        return xp.asarray(xp.where(kept, _scale(p) * gy, 0)).astype(gy.dtype, copy=False)


def _scale(p: float) -> float:
    return 0.0 if p == 1 else 1 / math.sqrt((1 - p) * (1 + p * _LOW**2))
