"""Checks for functions of one's own: gradients against slopes, one backend against another, steps of an optimizer.

>>> import numpy as np, gpunn, gpunn.functional as F
>>> x, w = np.linspace(-1, 1, 6).reshape(2, 3), np.linspace(0.5, 2, 3)
>>> gpunn.testing.check_gradients(lambda x, w: F.tanh(x * w), [x, w])
>>> max(gpunn.testing.compare_backends(lambda x, w: F.tanh(x * w), [x, w]).values()) < 1e-10
True
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpunn import cuda
from gpunn.backend import (
    Array,
    asarray,
    device_of,
    get_array_module,
    gpu_count,
    is_array,
    is_floating,
    random_generator,
    to_cpu,
)
from gpunn.errors import ArgumentError, BackendError, DtypeError, GradientError, check, check_sizes, fail
from gpunn.tensor import Tensor, tensor

Function = Callable[..., Any]


# ---- gradients against slopes --------------------------------------------------------------------------------------


def check_gradients(
    f: Function,
    inputs: Sequence[Any],
    *,
    directions: int = 3,
    seed: int = 0,
    step: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-7,
) -> None:
    """Check the gradients of ``f`` at ``inputs``, each along random directions, against differences of its values.

        (s(x + h u) - s(x - h u)) / 2h = grad s(x) . u + O(h^2),        s(x) = sum(g * f(x)),   g and u random

    f takes one Tensor for each of ``inputs`` and returns a Tensor or several; integer results are left out. The inputs
    are float64 arrays or Tensors; what is constant belongs inside f. ``step`` is h, relative to the largest element of
    the input where that is above 1; differences are taken at h and at h/10. A slope may be off by ``rtol`` of itself,
    plus ``atol``, plus the rounding that the differences are bound to have.

    >>> x = np.array([1.0, 2.0])
    >>> check_gradients(lambda x: x * x, [x])
    >>> from gpunn.tensor import record
    >>> def wrong_square(x):
    ...     return record(x.data**2, (x,), lambda gy, needs: (3 * gy * x.data,))
    >>> check_gradients(wrong_square, [x])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gpunn.errors.GradientError: check_gradients: the gradient is wrong, got input=0, direction=0, expected=..., got=...
    >>> check_gradients(lambda x: abs(x - 1), [x])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    gpunn.errors.GradientError: check_gradients: f is not differentiable within step: its slopes to both sides differ...

    Raises GradientError for a wrong gradient, for a point where f has a kink or a jump, for values that are not finite,
    and for an f that gives other values when it is called again; DtypeError for inputs or results that are not float64.
    """
    check_sizes("check_gradients", directions=directions)
    _check_several("check_gradients", inputs)
    arrays = [_float64(number, x) for number, x in enumerate(inputs)]
    generator = random_generator(seed)
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    results = _results(f, leaves)
    values = [y.data.copy() for y in results]
    weights = [_drawn(generator, y) for y in values]
    gradients = _gradients(results, leaves, weights)
    again = _values(f, arrays)
    same = all(np.array_equal(to_cpu(a), to_cpu(b), equal_nan=True) for a, b in zip(values, again, strict=True))
    rule = "f must give the same values each time: let it make its random generator anew from a seed"
    check(same, GradientError, "check_gradients", rule)
    for number, (x, gradient) in enumerate(zip(arrays, gradients, strict=True)):
        for direction in range(directions):
            u = _drawn(generator, x)
            slopes = [_slopes(f, arrays, number, u, h, values, weights, gradient) for h in (step, step / 10)]
            _judge(slopes, rtol, atol, input=number, direction=direction)


def _judge(slopes: list[tuple[float, float, float, float]], rtol: float, atol: float, **place: int) -> None:
    """Compare the slopes ahead and behind, and their mean with the gradient's; see :func:`_slopes`."""
    (ahead, behind, _, _), (near_ahead, near_behind, got, noise) = slopes
    finite = all(map(math.isfinite, (ahead, behind, near_ahead, near_behind, got)))
    rule = "f and its gradient must be finite within step"
    check(finite, GradientError, "check_gradients", rule, **place, ahead=near_ahead, behind=near_behind, gradient=got)
    expected = (near_ahead + near_behind) / 2
    tolerance = atol + noise + rtol * max(abs(expected), abs(got))
    # A smooth f: the slopes differ by its curvature times the step, so ten times less at a tenth of the step.
    gap, near_gap = abs(ahead - behind), abs(near_ahead - near_behind)
    if near_gap > 10 * tolerance and near_gap > gap / 3:
        rule = "f is not differentiable within step: its slopes to both sides differ"
        fail(GradientError, "check_gradients", rule, **place, ahead=near_ahead, behind=near_behind, gradient=got)
    if abs(got - expected) > tolerance:
        fail(GradientError, "check_gradients", "the gradient is wrong", **place, expected=expected, got=got)


def _slopes(
    f: Function, arrays: list[Array], number: int, u: Array, step: float,
    values: list[Array], weights: list[Array], gradient: Array,
) -> tuple[float, float, float, float]:  # fmt: skip
    """The slope of ``s`` along ``u`` ahead and behind, that of the gradient, and how far rounding moves them."""
    x = arrays[number]
    xp = get_array_module(x)
    h = step * max(1.0, float(abs(x).max()) if x.size else 0.0)
    sides = []
    for sign in (1, -1):
        moved = xp.asarray(x + sign * h * u)
        there = _values(f, [*arrays[:number], moved, *arrays[number + 1 :]])
        with np.errstate(invalid="ignore"):  # infinity less infinity is reported as not finite
            change = sum(float(((b - a) * w).sum()) for a, b, w in zip(values, there, weights, strict=True))
        sides.append(sign * change / h)
    size = math.sqrt(sum(float(((a * w) ** 2).sum()) for a, w in zip(values, weights, strict=True)))
    noise = 100 * np.finfo(np.float64).eps * (size + float(abs(gradient * x).sum())) / h
    return sides[0], sides[1], float((gradient * u).sum()), noise


def _check_several(op: str, inputs: Any) -> None:
    several = isinstance(inputs, list | tuple)
    check(several, ArgumentError, op, "inputs must be a list, with one array for each argument of f",
          type=type(inputs).__name__)  # fmt: skip


def _float64(number: int, x: Any) -> Array:
    a = x.data if isinstance(x, Tensor) else np.asarray(x) if isinstance(x, np.generic) else x
    rule = "inputs must be float64 arrays or Tensors: differences need its precision"
    given = {"input": number, "dtype": str(a.dtype)} if is_array(a) else {"input": number, "type": type(a).__name__}
    check(is_array(a) and a.dtype == np.float64, DtypeError, "check_gradients", rule, **given)
    return a


def _drawn(generator: np.random.Generator, like: Array) -> Array:
    """Standard normal numbers of the shape, dtype and device of ``like``."""
    drawn = np.asarray(generator.standard_normal(like.shape), like.dtype)
    return asarray(drawn, device=device_of(like))


def _results(f: Function, leaves: list[Tensor]) -> list[Tensor]:
    """The floating results of ``f``, as Tensors."""
    y = f(*leaves)
    every = list(y) if isinstance(y, tuple | list) else [y]
    for number, one in enumerate(every):
        rule = "f must return Tensors: a raw array has lost its graph"
        check(isinstance(one, Tensor), DtypeError, "testing", rule, result=number, type=type(one).__name__)
    return [one for one in every if is_floating(one.dtype)]


def _values(f: Function, arrays: list[Array]) -> list[Array]:
    results = [y.data for y in _results(f, [tensor(a.copy()) for a in arrays])]
    for number, y in enumerate(results):
        rule = "results must be float64, as the inputs are"
        check(y.dtype == np.float64, DtypeError, "check_gradients", rule, result=number, dtype=str(y.dtype))
    return results


def _gradients(results: list[Tensor], leaves: list[Tensor], weights: list[Array]) -> list[Array]:
    """The gradient of ``sum(weights * results)`` for each leaf: zeros where none arrives."""
    for y, w in zip(results, weights, strict=True):
        if y.requires_grad:
            y.backward(w, retain_graph=True)
    return [get_array_module(leaf.data).zeros_like(leaf.data) if leaf.grad is None else leaf.grad for leaf in leaves]


# ---- one backend against another -----------------------------------------------------------------------------------

# Of the largest element: float32 sums in another order differ by some eps times the root of their length; what is
# computed in float32 and rounded to float16 at the end differs by one rounding.
_TOLERANCES = {"bfloat16": 2e-2, "float16": 2e-3, "float32": 2e-5, "float64": 1e-11}


def compare_backends(
    f: Function, inputs: Sequence[Any], *, seed: int = 0, tolerance: float | None = None
) -> dict[str, float]:
    """Check that ``f`` gives the same results and gradients on NumPy, through the emulated kernels, and on CuPy.

    f takes one Tensor for each of ``inputs`` (arrays or Tensors; floats get gradients) and returns a Tensor or several.
    CuPy is left out where there is no GPU. Each result and each gradient may differ from NumPy's by ``tolerance``
    times its largest element: by default 2e-5 for float32, 1e-11 for float64, 2e-3 for float16, 2e-2 for bfloat16.
    Returns the largest such difference for each backend that was compared.

    >>> import gpunn.functional as F
    >>> x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> compare_backends(lambda x: F.avg_pool2d(x, 2), [x])["emulated"] < 1e-6
    True

    Raises BackendError, which names the backend, the result or gradient, and the largest difference.
    """
    _check_several("compare_backends", inputs)
    arrays = [to_cpu(x.data if isinstance(x, Tensor) else x) for x in inputs]
    expected = _run("numpy", f, arrays, seed)
    backends = ["emulated", "cupy"] if gpu_count() else ["emulated"]
    return {name: _compare(name, expected, _run(name, f, arrays, seed), tolerance) for name in backends}


def _run(backend: str, f: Function, arrays: list[Array], seed: int) -> dict[str, Array]:
    """The results and gradients of ``f``, as NumPy arrays."""
    device = "gpu" if backend == "cupy" else "cpu"
    leaves = [tensor(a.copy(), is_floating(a.dtype), device=device) for a in arrays]
    with cuda.emulate() if backend == "emulated" else contextlib.nullcontext():
        results = _results(f, leaves)
        generator = random_generator(seed)
        gradients = _gradients(results, leaves, [_drawn(generator, y.data) for y in results])
    found = {f"result {number}": to_cpu(y.data) for number, y in enumerate(results)}
    kept = {number: g for number, g in enumerate(gradients) if leaves[number].requires_grad}
    return found | {f"gradient of input {number}": to_cpu(g) for number, g in kept.items()}


def _compare(backend: str, expected: dict[str, Array], found: dict[str, Array], tolerance: float | None) -> float:
    place = {"backend": backend}
    rule = "as many results as on NumPy"
    check(len(expected) == len(found), BackendError, "compare_backends", rule, **place,
          numpy=len(expected), found=len(found))  # fmt: skip
    worst = 0.0
    for name, a in expected.items():
        b = found[name]
        alike = a.shape == b.shape and a.dtype == b.dtype
        kinds = {"numpy": f"{a.shape} {a.dtype}", "found": f"{b.shape} {b.dtype}"}
        check(alike, BackendError, "compare_backends", f"{name} has another shape or dtype", **place, **kinds)
        allowed = _TOLERANCES[str(a.dtype)] if tolerance is None else tolerance
        difference = _difference(a, b)
        rule = f"{name} differs from NumPy's"
        check(
            difference <= allowed, BackendError, "compare_backends", rule, **place, largest=difference, allowed=allowed
        )
        worst = max(worst, difference)
    return worst


def _difference(a: Array, b: Array) -> float:
    """The largest difference over the largest element of ``a``; infinite where one has NaN or infinity alone."""
    a, b = np.float64(a), np.float64(b)
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
        return math.inf
    scale = float(np.abs(a[finite]).max(initial=0))
    largest = float(np.abs(a[finite] - b[finite]).max(initial=0))
    return largest / scale if largest and scale else largest


# ---- steps of an optimizer -----------------------------------------------------------------------------------------


def descent(optimizer: Callable[..., Any], steps: int = 3, **settings: Any) -> list[float]:
    """Where p goes from 1 as ``optimizer``, a class of :mod:`gpunn.optim` or of one's own, minimises p^2.

    The gradient is ``2 p``. One float64 number is the only parameter, ``settings`` are those of the optimizer. Returns
    p after each of ``steps``, rounded to four decimals.

    >>> from gpunn import optim
    >>> descent(optim.SGD, lr=0.25)
    [0.5, 0.25, 0.125]
    >>> descent(optim.SGD, steps=4, lr=0.25, momentum=0.5)
    [0.5, 0.0, -0.25, -0.25]
    """
    check_sizes("descent", steps=steps)
    p = Tensor(np.ones(1), requires_grad=True)
    moved = optimizer([p], **settings)
    path = []
    for _ in range(steps):
        moved.zero_grad()
        (p * p).sum().backward()
        moved.step()
        path.append(round(float(p.data[0]), 4))
    return path
