"""Differentiable alpha dropout; see :mod:`gpunn.ops.dropout.alpha` for the formula."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpunn.functional.dropout import draw_key
from gpunn.functional.record import X, differentiable, raw
from gpunn.ops.dropout import alpha, dropout_key


def alpha_dropout(
    x: X, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: np.random.Generator | None = None
) -> X:
    """In training, drop each element of x with probability ``p``, so that mean 0 and variance 1 stay; else x itself.

    It is for networks with :func:`selu`: what is dropped becomes -1.7581, the least value of that, and all elements
    are brought back to that mean and variance. ``generator`` as for :func:`dropout`; ``inplace`` has no effect.

    >>> import gpunn
    >>> x = np.array([-1.0, 0.0, 1.0])
    >>> alpha_dropout(x, 0.5, True, generator=gpunn.backend.random_generator(0)).round(4).tolist()
    [-0.1072, -0.7792, -0.7792]
    """
    return _alpha_dropout("alpha_dropout", x, p, training, generator, by_channel=False)


def feature_alpha_dropout(
    x: X, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: np.random.Generator | None = None
) -> X:
    """:func:`alpha_dropout` of whole channels of x (N, C, ...): each is kept or dropped as one.

    >>> import gpunn
    >>> y = feature_alpha_dropout(np.ones((1, 4, 2)), 0.5, True, generator=gpunn.backend.random_generator(0))
    >>> y.round(4).tolist()
    [[[1.6656, 1.6656], [-0.7792, -0.7792], [-0.7792, -0.7792], [-0.7792, -0.7792]]]
    """
    return _alpha_dropout("feature_alpha_dropout", x, p, training, generator, by_channel=True)


def _alpha_dropout(
    op: str, x: Any, p: float, training: bool, generator: np.random.Generator | None, by_channel: bool
) -> Any:
    if not training:
        return x
    xd = raw(x)
    kept = alpha.kept_elements(op, xd, p, dropout_key(xd, lambda: draw_key(generator)), by_channel)
    y = alpha.alpha_dropout(xd, p, kept)
    return differentiable(y, (x,), lambda gy, _: (alpha.alpha_dropout_backward(gy, p, kept),))
