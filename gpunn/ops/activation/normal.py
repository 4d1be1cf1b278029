"""The normal distribution's Phi(x), the probability that a standard normal number is below x, on arrays.

    Phi(-x) = exp(-x^2 / 2) q(x / sqrt(2)) / (2 + 4 x / sqrt(2))   for x >= 0        Phi(x) = 1 - Phi(-x)

NumPy has no error function. ``q(u) = (1 + 2 u) exp(u^2) erfc(u)`` varies only between 1 and 1.29 for u >= 0, and is a
polynomial in ``(u - 3) / (u + 3)``. Source of the form: Shepherd and Laframboise 1981, "Chebyshev approximation of
(1 + 2x) exp(x^2) erfc x in 0 <= x < infinity". The coefficients are of the interpolation in 64 Chebyshev points,
computed with 40 digits and cut off after degree 23: what is left out is below 4e-15. The relative error of Phi is that
of the exponential: the rounding of x^2.
"""

from __future__ import annotations

import math
from typing import Any

from gpunn.backend import Array

_Q = (
    9.862533510345188e-10, -3.181354143496937e-09, -1.3312919661038455e-08, 2.7843881265502278e-08,
    1.0183620603842678e-07, -1.2054142286489392e-07, -6.166011460398717e-07, 3.3669790806407616e-07,
    3.4723709449771673e-06, -7.187883834404269e-07, -2.010054226852561e-05, 4.94412434222366e-06,
    0.0001250993424583729, -0.00010515831297813128, -0.0007798322696543306, 0.0018886900977441495,
    0.0025293918156939696, -0.023770514891530075, 0.0683080273440099, -0.11927366341676002, 0.1296451587027594,
    -0.04756229435342038, -0.13562110612458117, 1.2530080582697296,
)  # fmt: skip


def normal_cdf(xp: Any, x: Array) -> Array:
    """Phi of each element, for finite x of less than 1e150.

    >>> import numpy as np
    >>> normal_cdf(np, np.array([-1.0, 0.0, 1.0])).round(4).tolist()
    [0.1587, 0.5, 0.8413]
    """
    u = abs(x) * math.sqrt(0.5)
    t = (u - 3) / (u + 3)
    q = xp.full_like(t, _Q[0])
    for coefficient in _Q[1:]:
        q *= t
        q += coefficient
    below = xp.exp(-0.5 * x * x) * q / (2 + 4 * u)
    return below + (x > 0) * (1 - 2 * below)
