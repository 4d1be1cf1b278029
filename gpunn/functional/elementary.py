"""Differentiable elementary functions, element by element; see :mod:`gpunn.ops.array.elementary`."""

from __future__ import annotations

from typing import Any

from gpunn.backend import Array, is_array
from gpunn.casting import in_float32, in_widest
from gpunn.functional.record import Input, X, Y, differentiable, kept, raw
from gpunn.ops.array import elementary as ops
from gpunn.ops.array.arithmetic import pair
from gpunn.tensor import Tensor, wrapped


def _elementary(name: str, x: Any) -> Any:
    xd = raw(x)
    y = ops.of_each(name, xd)
    return differentiable(y, (x,), lambda gy, _: (ops.of_each_backward(name, gy, xd, y),))


def _of_pair(name: str, a: Any, b: Any) -> Any:
    x, y = pair(name, *kept(a, b))
    inputs = [array if not is_array(raw(given)) else given for given, array in ((a, x), (b, y))]
    result = ops.of_pair(name, x, y)
    return differentiable(result, inputs, lambda gy, needs: ops.of_pair_backward(name, gy, x, y, needs))


def _unrecorded(y: Array, x: Any) -> Any:
    return wrapped(y) if isinstance(x, Tensor) else y


# ---- of one array ----------------------------------------------------------------------------------------------------


@in_float32
def acos(x: X) -> X:
    """The angle from 0 to pi whose cosine is x; NaN outside of -1 to 1.

    >>> import numpy as np
    >>> acos(np.array([1.0])).tolist()
    [0.0]
    """
    return _elementary("acos", x)


def acosh(x: X) -> X:
    """The number of at least 0 whose hyperbolic cosine is x; NaN below 1.

    >>> import numpy as np
    >>> acosh(np.array([1.0])).tolist()
    [0.0]
    """
    return _elementary("acosh", x)


@in_float32
def asin(x: X) -> X:
    """The angle from -pi/2 to pi/2 whose sine is x; NaN outside of -1 to 1.

    >>> import numpy as np
    >>> asin(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("asin", x)


def asinh(x: X) -> X:
    """The number whose hyperbolic sine is x.

    >>> import numpy as np
    >>> asinh(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("asinh", x)


def atan(x: X) -> X:
    """The angle from -pi/2 to pi/2 whose tangent is x.

    >>> import numpy as np
    >>> atan(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("atan", x)


def atanh(x: X) -> X:
    """The number whose hyperbolic tangent is x; infinite at -1 and 1, NaN beyond.

    >>> import numpy as np
    >>> atanh(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("atanh", x)


def ceil(x: X) -> X:
    """The least whole number of at least x; the gradient is 0.

    >>> import numpy as np
    >>> ceil(np.array([1.2, -1.2])).tolist()
    [2.0, -1.0]
    """
    return _elementary("ceil", x)


def cos(x: X) -> X:
    """The cosine of x, in radians.

    >>> import numpy as np
    >>> cos(np.array([0.0])).tolist()
    [1.0]
    """
    return _elementary("cos", x)


@in_float32
def cosh(x: X) -> X:
    """The hyperbolic cosine ``(exp(x) + exp(-x)) / 2``.

    >>> import numpy as np
    >>> cosh(np.array([0.0])).tolist()
    [1.0]
    """
    return _elementary("cosh", x)


def erf(x: X) -> X:
    """The error function ``2 / sqrt(pi)`` times the integral of ``exp(-t^2)`` from 0 to x.

    >>> import numpy as np
    >>> erf(np.array([0.0, 1.0])).round(4).tolist()
    [0.0, 0.8427]
    """
    return _elementary("erf", x)


def erfc(x: X) -> X:
    """``1 - erf(x)``, exact where that rounds to 0.

    >>> import numpy as np
    >>> [f"{v:.4g}" for v in erfc(np.array([0.0, 10.0]))]
    ['1', '2.088e-45']
    """
    return _elementary("erfc", x)


def exp2(x: X) -> X:
    """``2^x``.

    >>> import numpy as np
    >>> exp2(np.array([3.0])).tolist()
    [8.0]
    """
    return _elementary("exp2", x)


@in_float32
def expm1(x: X) -> X:
    """``exp(x) - 1``, exact where x is nearly 0.

    >>> import numpy as np
    >>> expm1(np.array([0.0, 1e-20])).tolist()
    [0.0, 1e-20]
    """
    return _elementary("expm1", x)


def floor(x: X) -> X:
    """The largest whole number of at most x; the gradient is 0.

    >>> import numpy as np
    >>> floor(np.array([1.2, -1.2])).tolist()
    [1.0, -2.0]
    """
    return _elementary("floor", x)


@in_float32
def log10(x: X) -> X:
    """The logarithm to base 10; -inf at 0 and NaN below it, with NumPy's warning.

    >>> import numpy as np
    >>> log10(np.array([100.0])).tolist()
    [2.0]
    """
    return _elementary("log10", x)


@in_float32
def log1p(x: X) -> X:
    """``log(1 + x)``, exact where x is nearly 0.

    >>> import numpy as np
    >>> log1p(np.array([0.0, 1e-20])).tolist()
    [0.0, 1e-20]
    """
    return _elementary("log1p", x)


@in_float32
def log2(x: X) -> X:
    """The logarithm to base 2; -inf at 0 and NaN below it, with NumPy's warning.

    >>> import numpy as np
    >>> log2(np.array([8.0])).tolist()
    [3.0]
    """
    return _elementary("log2", x)


@in_float32
def reciprocal(x: X) -> X:
    """``1 / x``.

    >>> import numpy as np
    >>> reciprocal(np.array([4.0])).tolist()
    [0.25]
    """
    return _elementary("reciprocal", x)


@in_float32
def rsqrt(x: X) -> X:
    """``1 / sqrt(x)``.

    >>> import numpy as np
    >>> rsqrt(np.array([4.0])).tolist()
    [0.5]
    """
    return _elementary("rsqrt", x)


def sign(x: X) -> X:
    """-1, 0 or 1; the gradient is 0.

    >>> import numpy as np
    >>> sign(np.array([-2.0, 0.0, 5.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    return _elementary("sign", x)


def sin(x: X) -> X:
    """The sine of x, in radians.

    >>> import numpy as np
    >>> sin(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("sin", x)


@in_float32
def sinh(x: X) -> X:
    """The hyperbolic sine ``(exp(x) - exp(-x)) / 2``.

    >>> import numpy as np
    >>> sinh(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("sinh", x)


def square(x: X) -> X:
    """``x^2``.

    >>> import numpy as np
    >>> square(np.array([-3.0])).tolist()
    [9.0]
    """
    return _elementary("square", x)


@in_float32
def tan(x: X) -> X:
    """The tangent of x, in radians.

    >>> import numpy as np
    >>> tan(np.array([0.0])).tolist()
    [0.0]
    """
    return _elementary("tan", x)


def trunc(x: X) -> X:
    """The whole number next to x towards 0; the gradient is 0.

    >>> import numpy as np
    >>> trunc(np.array([1.7, -1.7])).tolist()
    [1.0, -1.0]
    """
    return _elementary("trunc", x)


def round(x: X, decimals: int = 0) -> X:
    """The nearest number of ``decimals`` digits, of two the one whose last digit is even; the gradient is 0.

    >>> import numpy as np
    >>> round(np.array([0.5, 1.5, 2.26])).tolist()
    [0.0, 2.0, 2.0]
    """
    return differentiable(ops.round(raw(x), decimals), (x,), lambda gy, _: (gy * 0,))


def nan_to_num(x: X, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> X:
    """``nan`` in the place of NaN, and of infinities the numbers given, or the largest and least of the dtype.

    What is replaced has the gradient 0.

    >>> import numpy as np
    >>> nan_to_num(np.array([np.nan, np.inf, 1.0]), posinf=9.0).tolist()
    [0.0, 9.0, 1.0]
    """
    xd = raw(x)
    y = ops.nan_to_num(xd, nan, posinf, neginf)
    return differentiable(y, (x,), lambda gy, _: (ops.nan_to_num_backward(gy, xd),))


def isnan(x: X) -> X:
    """Booleans: where x is no number.

    >>> import numpy as np
    >>> isnan(np.array([1.0, np.nan])).tolist()
    [False, True]
    """
    return _unrecorded(ops.isnan(raw(x)), x)


def isinf(x: X) -> X:
    """Booleans: where x is infinite.

    >>> import numpy as np
    >>> isinf(np.array([1.0, -np.inf])).tolist()
    [False, True]
    """
    return _unrecorded(ops.isinf(raw(x)), x)


def isfinite(x: X) -> X:
    """Booleans: where x is neither infinite nor NaN.

    >>> import numpy as np
    >>> isfinite(np.array([1.0, -np.inf, np.nan])).tolist()
    [True, False, False]
    """
    return _unrecorded(ops.isfinite(raw(x)), x)


# ---- of two arrays, and of three ------------------------------------------------------------------------------------


@in_widest
def atan2(a: Input[Y], b: Input[Y]) -> Y:
    """The angle from -pi to pi of the point with height a and width b; shapes broadcast.

    >>> import numpy as np
    >>> atan2(np.array([0.0]), np.array([2.0])).tolist()
    [0.0]
    """
    return _of_pair("atan2", a, b)


@in_widest
def fmod(a: Input[Y] | float, b: Input[Y] | float) -> Y:
    """What a leaves when it is divided by b, with the sign of a; shapes broadcast. One may be a number.

    >>> import numpy as np
    >>> fmod(np.array([-5.0]), 3.0).tolist()
    [-2.0]
    """
    return _of_pair("fmod", a, b)


@in_widest
def hypot(a: Input[Y], b: Input[Y]) -> Y:
    """``sqrt(a^2 + b^2)``, without overflow; shapes broadcast.

    >>> import numpy as np
    >>> hypot(np.array([3.0]), np.array([4.0])).tolist()
    [5.0]
    """
    return _of_pair("hypot", a, b)


@in_widest
def logaddexp(a: Input[Y], b: Input[Y]) -> Y:
    """``log(exp(a) + exp(b))``, without overflow; shapes broadcast.

    >>> import numpy as np
    >>> logaddexp(np.array([1000.0]), np.array([0.0])).tolist()
    [1000.0]
    """
    return _of_pair("logaddexp", a, b)


@in_widest
def floor_divide(a: Input[Y] | float, b: Input[Y] | float) -> Y:
    """How often b goes into a, rounded down: ``floor(a / b)``; shapes broadcast. One may be a number.

    It is ``(a - remainder(a, b)) / b``, as in Python; the rounded quotient may be larger: 0.1 goes into 1 nine times.
    The gradient is 0.

    >>> import numpy as np
    >>> floor_divide(np.array([-5.0, 1.0]), np.array([3.0, 0.1])).tolist()
    [-2.0, 9.0]
    """
    return _of_pair("floor_divide", a, b)


@in_widest
def remainder(a: Input[Y] | float, b: Input[Y] | float) -> Y:
    """What a leaves when it is divided by b, with the sign of b; shapes broadcast. One may be a number.

    >>> import numpy as np
    >>> remainder(np.array([-5.0]), 3.0).tolist()
    [1.0]
    """
    return _of_pair("remainder", a, b)


@in_float32
def pow(a: Input[Y] | float, b: Input[Y] | float) -> Y:
    """``a^b``, element by element; shapes broadcast, one of them may be a number.

    >>> import numpy as np
    >>> pow(np.array([2.0, 3.0]), 2).tolist()
    [4.0, 9.0]
    """
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        base: Any = a  # whose operator it is
        return base**b
    x, y = pair("pow", raw(a), raw(b))
    return x**y


@in_widest
def lerp(a: Input[Y], b: Input[Y], weight: Input[Y] | float) -> Y:
    """``a + weight (b - a)``: from a to b as the weight goes from 0 to 1; shapes broadcast.

    >>> import numpy as np
    >>> lerp(np.array([0.0]), np.array([4.0]), 0.25).tolist()
    [1.0]
    """
    ad, bd, wd = kept(a, b, weight)
    x, y = pair("lerp", ad, bd)
    _, w = pair("lerp", x, wd)
    inputs = [array if not is_array(raw(given)) else given for given, array in ((a, x), (b, y), (weight, w))]
    result = ops.lerp(x, y, w)
    return differentiable(result, inputs, lambda gy, needs: ops.lerp_backward(gy, x, y, w, needs))
