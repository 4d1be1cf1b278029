"""The normal distribution's Phi(x), the probability that a standard normal number is below x, on arrays.

    Phi(-x) = exp(-x^2 / 2) r(x)   for x >= 0        Phi(x) = 1 - Phi(-x)

NumPy has no error function. r falls from 1/2 as ``1 / (sqrt(2 pi) x)``. Up to float32 it is a quotient of polynomials,
off by 6e-9 of it at most, from 0 to 15, where Phi(-x) rounds to 0. In float64 it is ``q(u) / (2 + 4 u)``, u = x /
sqrt(2): ``q(u) = (1 + 2 u) exp(u^2) erfc(u)`` varies only between 1 and 1.29, and is a polynomial in ``(u - 3) / (u +
3)``. Source of the form: Shepherd and Laframboise 1981, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x in 0 <= x
< infinity". The coefficients are of the interpolation in 64 Chebyshev points, computed with 40 digits and cut off after
degree 23: what is left out is below 4e-15. The relative error of Phi is also that of the exponential: the rounding of
x^2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpunn.backend import Array

_Q = (
    9.862533510345188e-10, -3.181354143496937e-09, -1.3312919661038455e-08, 2.7843881265502278e-08,
    1.0183620603842678e-07, -1.2054142286489392e-07, -6.166011460398717e-07, 3.3669790806407616e-07,
    3.4723709449771673e-06, -7.187883834404269e-07, -2.010054226852561e-05, 4.94412434222366e-06,
    0.0001250993424583729, -0.00010515831297813128, -0.0007798322696543306, 0.0018886900977441495,
    0.0025293918156939696, -0.023770514891530075, 0.0683080273440099, -0.11927366341676002, 0.1296451587027594,
    -0.04756229435342038, -0.13562110612458117, 1.2530080582697296,
)  # fmt: skip


_OVER = (0.3989465597170906, 3.9269243215518377, 17.671575505041645, 42.19642340371226, 48.02877220449082)
_UNDER = (1.0, 9.843927092198683, 45.2822345547268, 115.80180859507041, 161.03572081406583, 96.05754380407942)


def tail(xp: Any, u: Array) -> tuple[Array, Array]:
    """``exp(-u^2 / 2)`` and r(u), whose product is Phi(-u), for ``0 <= u < 1e4``.

    >>> exponential, r = tail(np, np.array([0.0, 1.0]))
    >>> (exponential * r).round(4).tolist()
    [0.5, 0.1587]
    """
    exponential = xp.multiply(u, -0.5)
    exponential *= u
    xp.exp(exponential, out=exponential)
    if u.dtype != np.float64:
        r = _polynomial(xp, u, _OVER)
        r /= _polynomial(xp, u, _UNDER)
        return exponential, r
    scaled = u * math.sqrt(0.5)
    r = _polynomial(xp, (scaled - 3) / (scaled + 3), _Q)
    r /= 2 + 4 * scaled
    return exponential, r


def _polynomial(xp: Any, x: Array, coefficients: Sequence[float]) -> Array:
    """The polynomial of x with these coefficients, that of the highest power first."""
    y = xp.multiply(x, coefficients[0])
    for coefficient in coefficients[1:-1]:
        y += coefficient
        y *= x
    y += coefficients[-1]
    return y
