"""Exponential, logarithm, square root and absolute value, element by element, forward and backward.

Results are arrays even without dimensions, where NumPy gives scalars. Outside their range (a negative number's
logarithm or root) they give what NumPy gives, and its warning.
"""

from __future__ import annotations

from gpunn.backend import Array, check_array, get_array_module, is_floating, operands, where
from gpunn.errors import DtypeError, check


def exp(x: Array) -> Array:
    """
    >>> import numpy as np
    >>> exp(np.array([0.0])).tolist()
    [1.0]
    """
    xp = operands("exp", x=x)
    return xp.asarray(xp.exp(x))


def exp_backward(gy: Array, y: Array) -> Array:
    """``gy y``, with y the result."""
    return gy * y


def log(x: Array) -> Array:
    """The natural logarithm.

    >>> import numpy as np
    >>> log(np.array([1.0])).tolist()
    [0.0]
    """
    xp = operands("log", x=x)
    return xp.asarray(xp.log(x))


def log_backward(gy: Array, x: Array) -> Array:
    """``gy / x``."""
    return gy / x


def sqrt(x: Array) -> Array:
    """
    >>> import numpy as np
    >>> sqrt(np.array([4.0])).tolist()
    [2.0]
    """
    xp = operands("sqrt", x=x)
    return xp.asarray(xp.sqrt(x))


def sqrt_backward(gy: Array, y: Array) -> Array:
    """``gy / (2 y)``, with y the result: infinite at 0."""
    return gy / (2 * y)


def abs(x: Array) -> Array:
    """
    >>> import numpy as np
    >>> abs(np.array([-1.0, 2.0])).tolist()
    [1.0, 2.0]
    """
    check_array("abs", x=x)
    real = x.dtype.kind in "biu" or is_floating(x.dtype)
    check(real, DtypeError, "abs", "x must hold real numbers", dtype=str(x.dtype))
    xp = get_array_module(x)
    return xp.asarray(xp.abs(x))


def abs_backward(gy: Array, x: Array) -> Array:
    """``gy sign(x)``: 0 at 0, NaN at NaN."""
    return gy * sign(x)


def sign(x: Array) -> Array:
    """-1, 0 or 1, and NaN where x is: CuPy's own is 0 there.

    >>> import numpy as np
    >>> sign(np.array([-2.0, 0.0, np.nan])).tolist()
    [-1.0, 0.0, nan]
    """
    xp = get_array_module(x)
    return where(x == x, xp.sign(x), x)
