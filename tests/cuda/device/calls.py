"""A table of CuPy's calls that NumPy has too: each is made with arrays of several types and shapes, and compared.

``TABLE`` has, by name, the calls to make: ``linalg.norm`` stands for ``cupy.linalg.norm``, ``ndarray.sum`` for the
method. ``python calls.py [name ...]`` makes them all, or those that are named, and prints the totals.
"""

from __future__ import annotations

import inspect
import io
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One call: its arguments, with NumPy's arrays where it is to have arrays, or what makes the call on a module."""

    label: str
    arguments: tuple[Any, ...] = ()
    keywords: tuple[tuple[str, Any], ...] = ()
    function: Callable[..., Any] | None = None

    def made(self, name: str, xp: Any, convert: Callable[[Any], Any]) -> Any:
        arguments = [deep(convert, a) for a in self.arguments]
        keywords = {key: deep(convert, value) for key, value in self.keywords}
        if self.function is not None:
            return self.function(xp, *arguments, **keywords)
        if name.startswith("ndarray."):
            found = getattr(arguments[0], name.removeprefix("ndarray."))
            return found(*arguments[1:], **keywords) if callable(found) else found
        function = xp
        for part in name.split("."):
            function = getattr(function, part)
        return function(*arguments, **keywords)


def deep(convert: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return convert(value)
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(deep(convert, v) for v in value)
    if isinstance(value, dict):
        return {key: deep(convert, v) for key, v in value.items()}
    return value


# --- arguments --------------------------------------------------------------------------------------------------------

SHAPES = ((37,), (4, 5, 3))
FLOATS = ("float16", "float32", "float64")
REALS = ("int32", "float32", "float64")
NUMBERS = ("int64", "float32", "complex64")
INTEGERS = ("int8", "int32", "uint64")
COUNTS = ("bool", "uint8", "int64")
INEXACT = ("float32", "float64", "complex128")


def data(dtype: str, shape: tuple[int, ...], low: float = -4, high: float = 4, seed: str = "") -> np.ndarray:
    """Numbers in a range, the same in every run; none below zero where the type has none."""
    rng = np.random.default_rng(zlib.crc32(f"{dtype} {shape} {low} {high} {seed}".encode()))
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind in "iu":
        return rng.integers(max(low, 0) if kind == "u" else low, max(high, low + 1), shape).astype(dtype)
    array = rng.uniform(low, high, shape)
    if kind == "c":
        array = array + 1j * rng.uniform(low, high, shape)
    return array.astype(dtype)


Cases = Iterator[Case] | list[Case]
Keywords = tuple[tuple[str, Any], ...]


def unary(dtypes=REALS, low=-4, high=4, shapes=SHAPES, keywords: Keywords = ()) -> Cases:
    return [Case(f"{t} {s}", (data(t, s, low, high),), keywords) for t in dtypes for s in shapes]


def binary(dtypes=REALS, low=-4, high=4, second=None) -> Cases:
    """Two arrays of one shape, and two whose shapes are broadcast."""
    for t in dtypes:
        for a, b in [((37,), (37,)), ((4, 5, 3), (5, 1))]:
            right = data(t, b, *(second or (low, high)), seed="b")
            yield Case(f"{t} {a} {b}", (data(t, a, low, high), right))


def reduction(dtypes=NUMBERS, low=-4, high=4, axes=(None, 1), keywords: Keywords = ()) -> Cases:
    for t in dtypes:
        for axis in axes:
            yield Case(f"{t} axis {axis}", (data(t, (6, 50), low, high),), (("axis", axis), *keywords))
        yield Case(f"{t} one axis", (data(t, (700,), low, high),), keywords)


def with_nans(name: str, more: tuple[Any, ...] = ()) -> Cases:
    for t in FLOATS:
        for axis in (None, 0):
            a = data(t, (6, 50))
            a[a > 3] = np.nan
            yield Case(f"{t} axis {axis}", (a, *more), (("axis", axis),))


def shaped(*more: Any, dtypes=NUMBERS, shapes=((12,), (3, 4), (2, 3, 4)), keywords: Keywords = ()) -> Cases:
    """An array, and further arguments that fit every shape."""
    return [Case(f"{t} {s} {more}", (data(t, s), *more), keywords) for t in dtypes for s in shapes]


def joined(dtypes=NUMBERS, shapes=((4,), (3, 4)), more: tuple[Any, ...] = ()) -> Cases:
    """A list of three arrays."""
    for t in dtypes:
        for s in shapes:
            yield Case(f"{t} {s}", ([data(t, s, seed=str(i)) for i in range(3)], *more))


def on(function: Callable[..., Any], *specs: tuple[str, tuple[int, ...]], low=-4, high=4) -> Cases:
    """What ``function(xp, *arrays)`` makes of arrays; a type of "*" stands for three."""
    for t in NUMBERS if any(spec[0] == "*" for spec in specs) else ("",):
        arrays = tuple(
            data(spec[0] if spec[0] != "*" else t, spec[1], low, high, str(i)) for i, spec in enumerate(specs)
        )
        yield Case(f"{t} {[s[1] for s in specs]}", arrays, function=function)


def plain(*calls: tuple[Any, ...], **keywords: Any) -> Cases:
    """Calls with the arguments as they are."""
    return [Case(str(arguments), arguments, tuple(keywords.items())) for arguments in calls]


def made(function: Callable[..., Any]) -> Cases:
    """What ``function(xp)`` returns."""
    return [Case("", function=function)]


def positive_definite(n: int, dtype: str, batch: tuple[int, ...] = ()) -> np.ndarray:
    a = data(dtype, (*batch, n, n))
    return (a @ a.swapaxes(-1, -2).conj() + n * np.eye(n)).astype(dtype)


def square(dtypes=("float32", "float64", "complex128"), n=5, batch=False) -> Cases:
    for t in dtypes:
        yield Case(f"{t}", (positive_definite(n, t),))
        if batch:
            yield Case(f"{t} batch", (positive_definite(n, t, (3,)),))


def file_of(write: Callable[[Any, str], Any], read: Callable[[Any, str], Any]) -> Cases:
    """What a file holds that was written and read by CuPy, and by NumPy."""

    def both(xp: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            name = str(Path(folder, "file"))
            write(xp, name)
            return read(xp, name)

    return made(both)


# --- the table --------------------------------------------------------------------------------------------------------

TABLE: dict[str, list[Case]] = {}


def add(names: str, cases: Cases) -> None:
    cases = list(cases)
    for name in names.split():
        TABLE[name] = [*TABLE.get(name, []), *cases]


def _elementwise() -> None:
    add("sin cos tan sinh cosh tanh arcsinh asinh arctan atan exp exp2 expm1 cbrt", unary(FLOATS))
    add("deg2rad rad2deg degrees radians fabs floor ceil trunc rint fix sinc i0", unary(FLOATS))
    add("sin cos tan exp sinh cosh tanh arctan arcsinh", unary(("complex64", "complex128"), -1, 1, ((37,),)))
    add("arcsin asin arccos acos", unary(FLOATS, -1, 1))
    add("arctanh atanh", unary(FLOATS, -0.9, 0.9))
    add("arccosh acosh", unary(FLOATS, 1, 5))
    add("log log2 log10 log1p sqrt", unary(FLOATS, 0.1, 5))
    add("log sqrt log10 log2", unary(("complex64", "complex128"), 0.1, 5, ((37,),)))
    add("reciprocal", unary(INEXACT, 0.5, 4))
    add("abs absolute negative positive square sign conj conjugate real imag", unary(NUMBERS))
    add("isnan isinf isfinite nan_to_num", [Case(t, (np.array([1, np.nan, np.inf, -np.inf, 0], t),)) for t in FLOATS])
    add("isneginf isposinf signbit", [Case(t, (np.array([1, -0.0, np.inf, -np.inf], t),)) for t in FLOATS])
    add("angle iscomplex isreal real_if_close", unary(("float32", "complex64", "complex128")))
    add("iscomplexobj isrealobj", unary(("int32", "float64", "complex64"), shapes=((3,),)))
    add(
        "around round",
        [*unary(("float32", "float64", "int32"), -90, 90), *unary(("float64",), keywords=(("decimals", 2),))],
    )
    add("unwrap", unary(("float32", "float64"), -9, 9))
    add("logical_not", unary(("bool", "int32", "float32")))
    add("invert bitwise_not bitwise_invert", unary(COUNTS, 0, 100))
    add("bitwise_count", unary(INTEGERS, 0, 100))
    add("frexp modf", unary(FLOATS))
    add("add subtract multiply", binary(("float16", *NUMBERS, "uint8")[:4]))
    add("divide true_divide", binary(NUMBERS, 1, 9))
    add("floor_divide remainder mod fmod divmod", binary(("int32", "uint8", "float32"), 1, 9))
    add("floor_divide remainder mod fmod", binary(("int32", "float64"), -9, 9, second=(1, 5)))
    add("power pow float_power", binary(("int32", "float32", "complex128"), 1, 4, second=(0, 3)))
    add("arctan2 atan2 hypot copysign nextafter heaviside logaddexp logaddexp2", binary((*FLOATS[1:], "float16")))
    add("maximum minimum fmax fmin", binary(("int8", "float32", "float64")))
    add("equal not_equal less less_equal greater greater_equal", binary(("bool", "int8", "float32"), 0, 3))
    add("logical_and logical_or logical_xor", binary(("bool", "int32", "float64"), 0, 2))
    add("bitwise_and bitwise_or bitwise_xor", binary(COUNTS, 0, 100))
    add(
        "left_shift right_shift bitwise_left_shift bitwise_right_shift",
        binary(("uint8", "int32", "int64"), 0, 100, (0, 5)),
    )
    add("gcd lcm", binary(("uint8", "int32", "int64"), 1, 100))
    add("ldexp", [Case(t, (data(t, (37,)), data("int32", (37,)))) for t in FLOATS])
    add("isclose allclose array_equal array_equiv", binary(("int32", "float32", "float64")))
    add("array_equal array_equiv allclose", [Case("same", (data("float32", (5,)), data("float32", (5,))))])
    add("clip", [Case(t, (data(t, s, 0, 9), 2, 5)) for t in REALS for s in SHAPES])
    add("where", [Case(t, (data("bool", s), data(t, s), data(t, s, seed="b"))) for t in NUMBERS for s in SHAPES])
    add("interp", on(lambda xp, x, a: xp.interp(x, xp.arange(9.0), a), ("float64", (37,)), ("float64", (9,)), high=9))


def _reductions() -> None:
    add("sum prod", reduction(("int8", *NUMBERS), 0.9, 2))
    add("sum prod max min any all argmax", reduction(("float16", "bool"), 0.9, 1.1))
    add("mean", reduction(("int64", "float16", "complex64")))
    add("std var", reduction(("int32", "float32", "complex128")))
    add("max min amax amin ptp argmax argmin", reduction(("uint8", "int64", "float32", "float64")))
    add("any all", reduction(("bool", "int32", "float64"), 0, 2))
    add("count_nonzero", reduction(("bool", "int32", "float64"), 0, 2))
    add("median", reduction(REALS, 0, 90))
    add("average", reduction(NUMBERS))
    add("average", on(lambda xp, a, w: xp.average(a, axis=0, weights=w), ("*", (6, 7)), ("float64", (6,)), low=1))
    add(
        "nansum nanprod nanmean nanstd nanvar nanmax nanmin nanargmax nanargmin nanmedian nancumsum nancumprod",
        with_nans(""),
    )
    add("cumsum cumprod", reduction(("int8", "float32", "complex128"), 0.9, 1.2))
    add(
        "cumulative_sum cumulative_prod",
        [Case(f"{t} {axis}", (data(t, (6, 7), 0.9, 1.2),), (("axis", axis),)) for t in NUMBERS for axis in (0, 1)],
    )
    add(
        "percentile", [Case(f"{t} {q}", (data(t, (6, 50)), q), (("axis", 1),)) for t in REALS for q in (30, [10, 99.5])]
    )
    add("quantile", [Case(f"{t} {q}", (data(t, (6, 50)), q), (("axis", 0),)) for t in REALS for q in (0.3, [0.1, 1])])
    add("trapezoid", reduction(("float32", "float64", "complex64"), axes=(0, 1)))
    add("diff", [*shaped(), *shaped(2), Case("axis", (data("int32", (4, 5)),), (("axis", 0),))])
    add("ediff1d", shaped(dtypes=REALS))
    add("gradient", shaped(dtypes=("float32", "float64", "int32"), shapes=((12,), (3, 4))))
    add("histogram", [Case(f"{t} {b}", (data(t, (500,)), b)) for t in REALS for b in (7, np.linspace(-3, 3, 5))])
    add("histogram2d", on(lambda xp, x, y: xp.histogram2d(x, y, 5), ("float64", (500,)), ("float64", (500,))))
    add("histogramdd", on(lambda xp, x: xp.histogramdd(x, (3, 4, 5)), ("float64", (500, 3))))
    add("bincount", [Case(t, (data(t, (300,), 0, 9),)) for t in ("uint8", "int32", "int64")])
    add("bincount", on(lambda xp, x: xp.bincount(x, x * 0.5, 12), ("int32", (300,)), low=0, high=9))
    add("digitize", [Case(t, (data(t, (37,)), np.array([-2, 0, 1, 3], t))) for t in REALS])
    add("cov corrcoef", [Case(t, (data(t, (4, 50)),)) for t in REALS])
    add(
        "convolve correlate",
        [
            Case(f"{t} {m}", (data(t, (40,)), data(t, (7,))), (("mode", m),))
            for t in NUMBERS
            for m in ("full", "same", "valid")
        ],
    )
    add("apply_along_axis", on(lambda xp, a: xp.apply_along_axis(lambda row: row.sum() * row, 1, a), ("*", (4, 5))))
    add("apply_over_axes", on(lambda xp, a: xp.apply_over_axes(xp.sum, a, [0, 2]), ("*", (4, 5, 3))))


def _shapes() -> None:
    add("ravel transpose permute_dims atleast_1d atleast_2d atleast_3d flip squeeze copy", shaped())
    add("squeeze", [Case(t, (data(t, (1, 3, 1)),)) for t in NUMBERS])
    add("matrix_transpose fliplr", shaped(shapes=((3, 4), (2, 3, 4))))
    add("flipud rot90 tril triu trace diagonal", shaped(shapes=((3, 4), (4, 4))))
    add("diag diagflat", shaped(shapes=((4,), (3, 4))))
    add("reshape resize", [Case(f"{t} {s}", (data(t, s), (2, 6))) for t in NUMBERS for s in ((12,), (3, 4))])
    add("moveaxis rollaxis swapaxes", shaped(0, 1, shapes=((3, 4), (2, 3, 4))))
    add("expand_dims", shaped(0))
    add("broadcast_to", [Case(t, (data(t, (5,)), (4, 5))) for t in NUMBERS])
    add("broadcast_arrays", [Case(t, (data(t, (5,)), data(t, (4, 1)))) for t in NUMBERS])
    add("broadcast_shapes", plain(((3, 1), (1, 4)), ((5,), (2, 5))))
    add("broadcast", on(lambda xp, a, b: xp.broadcast(a, b).shape, ("*", (5,)), ("*", (4, 1))))
    add("roll", [*shaped(3), Case("axes", (data("int32", (4, 5)), (1, 2)), (("axis", (0, 1)),))])
    add("tile", [*shaped(2), *shaped((2, 3))])
    add("repeat", [*shaped(3), Case("axis", (data("float32", (4, 5)), 2), (("axis", 1),))])
    add("concatenate concat stack hstack vstack row_stack dstack column_stack", joined())
    add("row_stack", [])
    add("split array_split hsplit", shaped(2, shapes=((12,), (6, 4))))
    add("vsplit", shaped(2, shapes=((6, 4), (2, 3, 4))))
    add("dsplit", shaped(2, shapes=((2, 3, 4),)))
    add("append", [Case(f"{t} {s}", (data(t, s), data(t, s, seed="b"))) for t in NUMBERS for s in SHAPES])
    add("delete", [*shaped(2), *shaped([1, 2], shapes=((12,),))])
    add(
        "pad",
        [
            *shaped(2, shapes=((12,), (3, 4))),
            *(
                Case(m, (data("float32", (6, 7)), 2), (("mode", m),))
                for m in ("edge", "reflect", "symmetric", "wrap", "mean", "maximum", "linear_ramp")
            ),
        ],
    )
    add("trim_zeros", [Case(t, (np.array([0, 0, 1, 0, 2, 0], t),)) for t in NUMBERS])
    add("tri", plain((3,), (3, 4), (4, 3, 1)))
    add("vander", shaped(shapes=((4,), (6,))))
    add("meshgrid", [Case(t, (data(t, (5,)), data(t, (3,)))) for t in NUMBERS])
    add("kron", [Case(f"{t} {s}", (data(t, s), data(t, s, seed="b"))) for t in NUMBERS for s in ((3,), (2, 3))])
    add("shape ndim size iterable isscalar isfortran", shaped(shapes=((4,), (3, 4))))
    add(
        "ascontiguousarray asfortranarray asarray asanyarray array copy asarray_chkfinite",
        shaped(shapes=((4,), (3, 4))),
    )
    add("require", shaped(None, "C", shapes=((4,), (3, 4))))
    add("astype", [Case(t, (data("float32", (37,), 0, 9), t)) for t in ("int32", "float16", "complex64", "bool")])
    add("zeros_like ones_like", shaped())
    add("empty_like", on(lambda xp, a: (lambda b: (b.shape, b.dtype.name))(xp.empty_like(a)), ("*", (4, 5))))
    add("full_like", shaped(7))
    add("zeros ones", plain((4,), ((3, 4), "int32"), ((2, 0), "complex64")))
    add("empty", made(lambda xp: (xp.empty((3, 4), "f").shape, xp.empty(5, "i").dtype.name)))
    add("full", plain(((3, 4), 7), ((5,), 2.5, "float32"), ((2,), 1j)))
    add("eye", plain((4,), (3, 5), (4, 4, 1)))
    add("identity", plain((4,), (3, "int32"), (2, "complex64")))
    add("arange", plain((7,), (2, 9), (1.0, 3.0, 0.25), (9, 1, -2), (5, None, 1, "float32")))
    add("linspace", plain((0, 1), (2, 5, 7), (-1, 1, 9, False)))
    add("logspace", plain((0, 2), (1, 3, 7)))
    add("indices", plain(((3, 4),), ((2, 3, 4), "int32")))
    add("mask_indices", made(lambda xp: xp.mask_indices(4, xp.triu)))
    add("diag_indices tril_indices triu_indices", plain((4,), (3,)))
    add("diag_indices_from tril_indices_from triu_indices_from", shaped(shapes=((4, 4),)))
    add("ix_", [Case("", (np.array([1, 2]), np.array([0, 3, 4])))])
    add("fromfunction", made(lambda xp: xp.fromfunction(lambda i, j: i * 10 + j, (3, 4), dtype="int32")))
    add("fromiter", made(lambda xp: xp.fromiter((i * i for i in range(7)), "float32")))
    add("bartlett blackman hamming hanning", plain((1,), (8,), (13,)))
    add("kaiser", plain((8, 5), (13, 14.0)))
    add("ndindex", made(lambda xp: [tuple(map(int, i)) for i in xp.ndindex(2, 3)]))


def _indices() -> None:
    at = np.array([3, 0, 0, 2])
    add("take", [*(Case(t, (data(t, (5, 6)), at), (("axis", axis),)) for t in NUMBERS for axis in (None, 0, 1))])
    add(
        "take_along_axis",
        [Case(t, (data(t, (4, 5)), np.argsort(data("float32", (4, 5)), 1)), (("axis", 1),)) for t in NUMBERS],
    )
    add("choose", [Case(t, (data("int32", (5,), 0, 3), data(t, (3, 5)))) for t in NUMBERS])
    add("compress extract", [Case(t, (data("bool", (12,)), data(t, (12,)))) for t in NUMBERS])
    add(
        "select",
        [
            Case(t, ([data("bool", (9,)), data("bool", (9,), seed="c")], [data(t, (9,)), data(t, (9,), seed="b")], 7))
            for t in NUMBERS
        ],
    )
    add("nonzero flatnonzero argwhere", unary(("bool", "int32", "float64"), 0, 2))
    add("piecewise", on(lambda xp, a: xp.piecewise(a, [a < 0, a >= 2], [-1.0, 7.0, 0.5]), ("float64", (37,))))
    add("unravel_index", [Case("", (data("int64", (9,), 0, 60), (3, 4, 5)))])
    add("ravel_multi_index", [Case("", ((data("int64", (9,), 0, 3), data("int64", (9,), 0, 4)), (3, 4)))])

    def changed(change: Callable[..., Any]) -> Callable[..., Any]:
        def function(xp: Any, a: Any, *more: Any) -> Any:
            a = a.copy()
            change(xp, a, *more)
            return a

        return function

    add("put", on(changed(lambda xp, a: xp.put(a, xp.array([1, 7, 11]), xp.array([5, 6, 7]))), ("*", (3, 4))))
    add("place", on(changed(lambda xp, a: xp.place(a, a > 1, xp.array([8, 9], a.dtype))), ("float32", (3, 4))))
    add("putmask", on(changed(lambda xp, a, m: xp.putmask(a, m, a * 2)), ("*", (3, 4)), ("bool", (3, 4))))
    add(
        "copyto",
        on(changed(lambda xp, a, b, m: xp.copyto(a, b, where=m)), ("*", (3, 4)), ("*", (4,)), ("bool", (3, 4))),
    )
    add("fill_diagonal", on(changed(lambda xp, a: xp.fill_diagonal(a, 7)), ("*", (4, 4))))
    add(
        "put_along_axis",
        on(changed(lambda xp, a: xp.put_along_axis(a, xp.array([[1], [0], [2]]), 9, 1)), ("*", (3, 4))),
    )
    add(
        "may_share_memory shares_memory",
        [
            Case(
                "view",
                (data("float32", (12,)),),
                function=lambda xp, a: (bool(xp.may_share_memory(a[3:], a[:5])), bool(xp.shares_memory(a[:3], a[5:]))),
            )
        ],
    )

    add(
        "sort",
        [
            *shaped(dtypes=("uint8", "int64", "float32", "float64", "complex64", "bool", "float16")),
            Case("axis 0", (data("float32", (30, 4)),), (("axis", 0),)),
            *unary(("int32", "float64"), -99, 99, ((3000,),)),
        ],
    )
    add(
        "argsort",
        [
            Case(f"{t} {s}", (np.random.default_rng(0).permutation(int(np.prod(s))).reshape(s).astype(t),))
            for t in ("int32", "float32", "float64")
            for s in ((60,), (6, 10))
        ],
    )
    add(
        "lexsort",
        [
            Case(t, (np.stack([data(t, (40,), 0, 5), np.random.default_rng(0).permutation(40).astype(t)]),))
            for t in REALS
        ],
    )
    add("sort_complex", shaped(dtypes=("float32", "complex64", "complex128"), shapes=((12,),)))
    add(
        "partition",
        [
            Case(
                t,
                (data(t, (60,)), 20),
                function=lambda xp, a, k: (lambda b: (b[k], xp.sort(b[:k]), xp.sort(b[k:])))(xp.partition(a, k)),
            )
            for t in REALS
        ],
    )
    add(
        "argpartition",
        [
            Case(
                t,
                (data(t, (60,)), 20),
                function=lambda xp, a, k: (lambda i: (a[i[k]], xp.sort(a[i[:k]])))(xp.argpartition(a, k)),
            )
            for t in REALS
        ],
    )
    add(
        "searchsorted",
        [
            Case(f"{t} {side}", (np.sort(data(t, (40,))), data(t, (15,), seed="b"), side))
            for t in REALS
            for side in ("left", "right")
        ],
    )
    add(
        "unique unique_all unique_counts unique_inverse",
        [Case(t, (data(t, (50,), 0, 9),)) for t in ("int8", "int64", "float32")],
    )
    add(
        "unique",
        [
            Case(
                t, (data(t, (50,), 0, 9),), (("return_index", True), ("return_inverse", True), ("return_counts", True))
            )
            for t in ("int32", "float64")
        ],
    )
    add("unique", [Case("axis", (data("int32", (30, 2), 0, 3),), (("axis", 0),))])
    add(
        "intersect1d union1d setdiff1d setxor1d isin",
        [Case(t, (data(t, (30,), 0, 20), data(t, (20,), 5, 30))) for t in ("uint8", "int32", "int64")],
    )
    add("packbits", unary(("bool", "uint8"), 0, 2, ((37,), (16,))))
    add("unpackbits", unary(("uint8",), 0, 255, ((5,), (9,))))


def _products() -> None:
    pairs = [((5,), (5,)), ((4, 5), (5,)), ((4, 5), (5, 3))]
    add(
        "dot",
        [Case(f"{t} {a} {b}", (data(t, a), data(t, b))) for t in ("int32", "float16", *INEXACT) for a, b in pairs],
    )
    add(
        "matmul",
        [
            Case(f"{t} {a} {b}", (data(t, a), data(t, b)))
            for t in ("int32", "float16", *INEXACT)
            for a, b in [*pairs, ((2, 4, 5), (2, 5, 3)), ((2, 1, 4, 5), (3, 5, 2))]
        ],
    )
    add(
        "inner",
        [Case(f"{t} {a}", (data(t, a), data(t, b))) for t in NUMBERS for a, b in [((5,), (5,)), ((4, 5), (3, 5))]],
    )
    add("outer vdot", [Case(t, (data(t, (6,)), data(t, (6,), seed="b"))) for t in NUMBERS])
    add("tensordot", [Case(f"{t} {n}", (data(t, (3, 4, 5)), data(t, (4, 5, 2)), n)) for t in NUMBERS for n in (2,)])
    add("cross", [Case(f"{t} {s}", (data(t, s), data(t, s, seed="b"))) for t in NUMBERS for s in ((3,), (5, 3))])
    for subscripts, shapes in {
        "ij,jk->ik": [(4, 5), (5, 3)],
        "ii": [(4, 4)],
        "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
        "i,i->": [(6,), (6,)],
        "ij->ji": [(3, 4)],
        "ij,j,kj->ik": [(3, 4), (4,), (5, 4)],
    }.items():
        add(
            "einsum",
            [
                Case(f"{subscripts} {t}", (subscripts, *(data(t, s, seed=str(i)) for i, s in enumerate(shapes))))
                for t in NUMBERS
            ],
        )
    add("poly", [Case(t, (data(t, (4,)),)) for t in ("float32", "float64")])
    add(
        "poly1d",
        made(
            lambda xp: (lambda p: (p(xp.arange(4.0)), (p * p + p).coeffs, p.order))(xp.poly1d(xp.array([1.0, -3, 2])))
        ),
    )
    add("polyadd polysub polymul", [Case(t, (data(t, (4,), 1), data(t, (3,), 1))) for t in NUMBERS])
    add("polyval", [Case(t, (data(t, (4,)), data(t, (9,)))) for t in NUMBERS])
    add("polyfit", [Case(t, (np.arange(20, dtype=t), data(t, (20,)), 3)) for t in ("float32", "float64")])
    add(
        "roots",
        [
            # CuPy takes polynomials whose companion matrix is symmetric.
            Case(f"{t} {c}", (np.array(c, t),), function=lambda xp, a: xp.sort(xp.roots(a).real))
            for t in ("float64", "float32")
            for c in ([2, -6], [1, 0, -1])
        ],
    )

    add(
        "linalg.norm",
        [
            Case(f"{t} {o}", (data(t, s), o))
            for t in INEXACT
            for s, o in [
                ((9,), None),
                ((9,), 1),
                ((9,), np.inf),
                ((4, 5), "fro"),
                ((4, 5), 1),
                ((4, 5), 2),
                ((4, 5), "nuc"),
            ]
        ],
    )
    add("linalg.det linalg.slogdet linalg.inv linalg.cholesky linalg.pinv", square(batch=True))
    add("linalg.eigvalsh linalg.matrix_rank linalg.cond", square())
    add(
        "linalg.eigvals",
        [
            Case(t, (data(t, (5, 5)),), function=lambda xp, a: xp.sort_complex(xp.linalg.eigvals(a)))
            for t in ("float64", "complex128")
        ],
    )

    def eigenvectors(name: str) -> Callable[..., Any]:
        def function(xp: Any, a: Any) -> Any:
            values, vectors = getattr(xp.linalg, name)(a)
            return xp.abs(a @ vectors - vectors * values).max() < 1e-3, xp.sort(values.real)

        return function

    for name in ("eigh", "eig"):
        add(f"linalg.{name}", [Case(t, (positive_definite(5, t),), function=eigenvectors(name)) for t in INEXACT])
    add(
        "linalg.matrix_power", [Case(f"{t} {n}", (positive_definite(3, t) / 4, n)) for t in INEXACT for n in (3, -2, 0)]
    )
    add(
        "linalg.solve",
        [Case(f"{t} {s}", (positive_definite(5, t), data(t, s))) for t in INEXACT for s in ((5,), (5, 3))],
    )
    add(
        "linalg.lstsq",
        [
            Case(t, (data(t, (9, 4)), data(t, (9, 2))), function=lambda xp, a, b: xp.linalg.lstsq(a, b, rcond=None)[0])
            for t in INEXACT
        ],
    )
    add(
        "linalg.qr",
        [
            Case(
                t,
                (data(t, (6, 4)),),
                function=lambda xp, a: (lambda q, r: (abs(q @ r - a).max() < 1e-4, abs(r)))(*xp.linalg.qr(a)),
            )
            for t in INEXACT
        ],
    )
    add(
        "linalg.svd",
        [
            Case(
                f"{t} {full}",
                (data(t, (6, 4)),),
                function=lambda xp, a, full=full: (
                    lambda u, s, v: (s, abs((u[:, :4] * s) @ v - a).max() < 1e-4, u.shape)
                )(*xp.linalg.svd(a, full)),
            )
            for t in INEXACT
            for full in (True, False)
        ],
    )
    add("linalg.tensorinv", [Case(t, (positive_definite(6, t).reshape(2, 3, 2, 3),)) for t in ("float64",)])
    add(
        "linalg.tensorsolve",
        [Case(t, (positive_definite(6, t).reshape(2, 3, 2, 3), data(t, (2, 3)))) for t in ("float64",)],
    )
    add("linalg.matmul linalg.cross", [Case(t, (data(t, (3, 3)), data(t, (3, 3), seed="b"))) for t in NUMBERS])
    add("linalg.matrix_transpose", shaped(shapes=((3, 4),)))


def _transforms() -> None:
    add(
        "fft.fft fft.ifft fft.ihfft",
        [Case(f"{t} {s}", (data(t, s),)) for t in ("float32", "float64") for s in ((16,), (3, 15))],
    )
    add(
        "fft.fft fft.ifft",
        [
            Case(f"{t} {s} {n}", (data(t, s), n))
            for t in ("complex64", "complex128")
            for s in ((17,), (4, 8))
            for n in (None, 6, 20)
        ],
    )
    add("fft.fft", [Case("axis", (data("complex128", (4, 8)),), (("axis", 0), ("norm", "ortho")))])
    add("fft.rfft", [Case(f"{t} {s}", (data(t, s),)) for t in FLOATS[1:] for s in ((16,), (3, 15))])
    add(
        "fft.irfft fft.hfft",
        [Case(f"{t} {s}", (data(t, s),)) for t in ("complex64", "complex128") for s in ((9,), (3, 8))],
    )
    add(
        "fft.fft2 fft.ifft2 fft.fftn fft.ifftn",
        [Case(f"{t} {s}", (data(t, s),)) for t in ("complex64", "float64") for s in ((4, 6), (2, 4, 5))],
    )
    add("fft.rfft2 fft.rfftn", [Case(f"{t} {s}", (data(t, s),)) for t in FLOATS[1:] for s in ((4, 6), (2, 4, 5))])
    add(
        "fft.irfft2 fft.irfftn",
        [
            Case(f"{t} {s}", (np.fft.rfft2(data("float64", s)).astype(t),))
            for t in ("complex64", "complex128")
            for s in ((4, 6), (2, 4, 6))
        ],
    )
    add("fft.fftshift fft.ifftshift", shaped(shapes=((9,), (4, 5))))
    add("fft.fftfreq fft.rfftfreq", plain((9,), (8, 0.5)))


def _others() -> None:
    add("array2string array_repr array_str", shaped(shapes=((4,), (2, 3))))
    add("base_repr", plain((10, 3), (-255, 16)))
    add("binary_repr", plain((10,), (5, 8)))
    add("format_float_positional format_float_scientific", plain((0.1,), (12345.678,)))
    add("get_printoptions", made(lambda xp: xp.get_printoptions()["precision"]))
    add("printoptions", made(lambda xp: _printed(xp)))
    add("set_printoptions", made(lambda xp: _set_printed(xp)))
    add("can_cast", plain(("int32", "float64"), ("float64", "float32"), ("int64", "int8", "unsafe")))
    add("promote_types", plain(("int32", "float32"), ("uint8", "int8")))
    add("result_type", [Case(t, (data(t, (3,)), data("float32", (2,)))) for t in NUMBERS])
    add("common_type", [Case(t, (data(t, (3,)), data("float32", (2,)))) for t in NUMBERS])
    add("min_scalar_type", plain((10,), (-300,), (1e50,)))
    add("issubdtype", plain((np.float32, np.floating), (np.int32, np.floating)))
    add("isdtype", plain((np.dtype("float32"), "real floating"), (np.dtype("int8"), "unsigned integer")))
    add("mintypecode", plain((["f", "d"],), ("fF",)))
    add("typename", plain(("f",), ("D",)))
    add("show_config", made(_config))
    add("vectorize", on(_vectorized, ("float64", (9,)), ("float64", (9,))))
    add("unique_values", on(lambda xp, a: xp.sort(xp.unique_values(a)), ("*", (50,)), low=0, high=9))
    add("flatiter", on(lambda xp, a: [float(v) for v in a.flat][:5], ("float32", (3, 4))))
    add("ndarray", made(lambda xp: (xp.ndarray((3, 4), "float32").shape, isinstance(xp.zeros(3), xp.ndarray))))
    add("ufunc", made(lambda xp: (isinstance(xp.add, xp.ufunc), xp.add.nin, xp.add.nout)))
    add("dtype", made(lambda xp: xp.dtype("float32").itemsize))
    add("finfo", made(lambda xp: (xp.finfo("float32").eps, xp.finfo("float16").max)))
    add("iinfo", made(lambda xp: (xp.iinfo("int16").max, xp.iinfo("uint8").min)))

    add("save load", file_of(lambda xp, f: xp.save(f + ".npy", xp.arange(7.0)), lambda xp, f: xp.load(f + ".npy")))
    for name in ("savez", "savez_compressed"):
        add(
            name,
            file_of(
                lambda xp, f, name=name: getattr(xp, name)(f + ".npz", a=xp.arange(7.0), b=xp.eye(2)),
                lambda xp, f: [xp.load(f + ".npz")[key] for key in "ab"],
            ),
        )
    add(
        "savetxt loadtxt genfromtxt",
        file_of(lambda xp, f: xp.savetxt(f, xp.eye(3) / 3), lambda xp, f: (xp.loadtxt(f), xp.genfromtxt(f))),
    )
    add("fromfile", file_of(lambda xp, f: np.arange(9, dtype="f").tofile(f), lambda xp, f: xp.fromfile(f, "float32")))
    add("fromstring", plain(("1 2 3.5", "float32", -1, " ")))
    add("frombuffer", plain((b"abcdefgh", "uint8"), (b"abcdefgh", "int32")))
    add("from_dlpack", on(lambda xp, a: xp.from_dlpack(a), ("*", (3, 4))))


def _dumped(xp: Any, name: str) -> None:
    with open(name, "wb") as file:
        xp.arange(5.0).dump(file)


def _vectorized(xp: Any, a: Any, b: Any) -> Any:
    def function(x: Any, y: Any) -> Any:
        return x * y + x if x > y else y

    return xp.vectorize(function)(a, b)


def _printed(xp: Any) -> str:
    with xp.printoptions(precision=2):
        return str(xp.arange(3) / 3)


def _set_printed(xp: Any) -> str:
    before = np.get_printoptions()
    try:
        xp.set_printoptions(precision=3)
        return str(xp.arange(3) / 3)
    finally:
        np.set_printoptions(**before)


def _config(xp: Any) -> bool:
    out, sys.stdout = sys.stdout, io.StringIO()
    try:
        xp.show_config()
        return len(sys.stdout.getvalue()) > 100
    finally:
        sys.stdout = out


def _methods() -> None:
    add(
        "ndarray.sum ndarray.prod ndarray.mean ndarray.std ndarray.var ndarray.cumsum ndarray.cumprod",
        [
            Case(f"{t} {a}", (data(t, (5, 6), 0.9, 1.3), *a))
            for t in ("int32", "float32", "float64")
            for a in ((), (1,))
        ],
    )
    add(
        "ndarray.max ndarray.min ndarray.argmax ndarray.argmin ndarray.all ndarray.any",
        [Case(f"{t} {a}", (data(t, (5, 6)), *a)) for t in ("int8", "float32", "bool") for a in ((), (0,))],
    )
    add(
        "ndarray.T ndarray.mT ndarray.real ndarray.imag ndarray.shape ndarray.size ndarray.ndim ndarray.nbytes "
        "ndarray.strides ndarray.itemsize ndarray.conj ndarray.conjugate ndarray.copy ndarray.flatten ndarray.ravel "
        "ndarray.tolist ndarray.transpose ndarray.squeeze ndarray.nonzero ndarray.tobytes ndarray.trace "
        "ndarray.diagonal ndarray.round",
        shaped(shapes=((3, 4), (4, 4))),
    )
    add("ndarray.reshape", shaped(2, -1))
    add("ndarray.swapaxes", shaped(0, 1, shapes=((3, 4),)))
    add("ndarray.repeat", shaped(2))
    add("ndarray.take", shaped([1, 0, 3]))
    add("ndarray.compress", shaped([True, False, True], shapes=((3,), (4,))))
    add("ndarray.clip", [Case(t, (data(t, (9,), 0, 9), 2, 5)) for t in REALS])
    add(
        "ndarray.astype ndarray.view",
        [
            Case(f"{a} {b}", (data(a, (4, 6), 0, 9), b))
            for a, b in [("float32", "int32"), ("float64", "complex64"), ("int64", "float32"), ("uint8", "bool")][:3]
        ],
    )
    add("ndarray.searchsorted", [Case(t, (np.sort(data(t, (40,))), data(t, (15,), seed="b"))) for t in REALS])
    add("ndarray.dot", [Case(t, (data(t, (4, 5)), data(t, (5, 3)))) for t in NUMBERS])
    add("ndarray.choose", [Case("", (data("int32", (5,), 0, 2), data("float32", (2, 5))))])
    add("ndarray.item", shaped(shapes=((1,), (1, 1))))
    add("ndarray.argsort", [Case(t, (np.random.default_rng(1).permutation(60).astype(t),)) for t in REALS])
    for name, change in {
        "sort": lambda a: a.sort(),
        "fill": lambda a: a.fill(7),
        "put": lambda a: a.put([1, 3], [8, 9]),
        "__setitem__": lambda a: a.__setitem__(slice(1, None, 2), 5),
        "__iadd__": lambda a: a.__iadd__(a),
    }.items():

        def function(xp: Any, a: Any, change: Any = change) -> Any:
            a = a.copy()
            change(a)
            return a

        add(f"ndarray.{name}", [Case(t, (data(t, (9,)),), function=function) for t in REALS])
    keys = {
        "int": 2,
        "slice": slice(1, 4),
        "step": slice(None, None, -2),
        "ellipsis": (..., 1),
        "new axis": (None, 1),
        "list": ([0, 2],),
        "lists": ([0, 2], [1, 3]),
        "mixed": (slice(None), [1, 3]),
        "negative": -1,
    }
    add("ndarray.__getitem__", [Case(f"{t} {k}", (data(t, (5, 6)), key)) for t in NUMBERS for k, key in keys.items()])
    add("ndarray.__getitem__", [Case(f"{t} mask", (data(t, (5, 6)), data("bool", (5, 6)))) for t in NUMBERS])
    add("ndarray.dumps", made(lambda xp: __import__("pickle").loads(xp.arange(5.0).dumps())))
    add("ndarray.dump", file_of(_dumped, lambda xp, f: xp.load(f, allow_pickle=True)))
    add("ndarray.tofile", file_of(lambda xp, f: xp.arange(5.0).tofile(f), lambda xp, f: np.fromfile(f)))
    operators = [
        "add",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "and",
        "or",
        "xor",
        "lshift",
        "rshift",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "radd",
        "rsub",
        "rmul",
        "matmul",
        "rtruediv",
        "rpow",
    ]
    for name in operators:
        types = (
            ("bool", "int32")
            if name in ("and", "or", "xor")
            else ("int32",)
            if "shift" in name
            else ("int32", "float32")
        )
        add(f"ndarray.__{name}__", [Case(t, (data(t, (4, 4), 1, 4), data(t, (4, 4), 1, 4, "b"))) for t in types])
    add("ndarray.__neg__ ndarray.__abs__", shaped())
    add("ndarray.__invert__", unary(("bool", "int32")))
    add("ndarray.__float__ ndarray.__int__ ndarray.__bool__", [Case("", (np.array(3, "int32"),))])
    add(
        "ndarray.__len__ ndarray.__iter__",
        [Case("", (data("float32", (3, 4)),), function=lambda xp, a: (len(a), list(a)))],
    )
    add("ndarray.__complex__", [Case("", (np.array(3 + 1j),))])


for _part in (_elementwise, _reductions, _shapes, _indices, _products, _transforms, _others, _methods):
    _part()


# --- what CuPy documents to be different from NumPy -------------------------------------------------------------------

EXCEPTIONS = {
    "bartlett blackman hamming hanning kaiser": (1e5, "CuPy's kernels take the width of a step as float32"),
    "cumprod nancumprod cumulative_prod prod nanprod": (10, "an error for each of hundreds of factors"),
}
"""By names: how many times the tolerance a result may be off, and why."""
SCALES = {name: scale for names, (scale, _) in EXCEPTIONS.items() for name in names.split()}

# --- comparing --------------------------------------------------------------------------------------------------------

TOLERANCES = {"float16": 4e-3, "float32": 2e-5, "complex64": 4e-5, "float64": 1e-11, "complex128": 1e-11}


def is_number(value: Any) -> bool:
    """Whether a result is a number of Python's, which has no type to compare."""
    return isinstance(value, int | float | complex) and not isinstance(value, np.generic)


def differences(got: Any, expected: Any, scale: float = 1, place: str = "", any_type: bool = False) -> Iterator[str]:
    """What is not the same, in words. Types may differ where ``any_type`` says so."""
    if isinstance(expected, list | tuple) and not isinstance(expected, str):
        if len(got) != len(expected):
            yield f"{place}: {len(got)} results for {len(expected)}"
        for i, (a, b) in enumerate(zip(got, expected, strict=False)):
            yield from differences(a, b, scale, f"{place}[{i}]", any_type)
        return
    if expected is None or isinstance(expected, str | bytes | np.dtype | type):
        if got != expected:
            yield f"{place}: {got!r} for {expected!r}"
        return
    a, b = np.asarray(got.get() if hasattr(got, "get") and hasattr(got, "device") else got), np.asarray(expected)
    if a.shape != b.shape:
        yield f"{place}: shape {a.shape} for {b.shape}"
    elif a.dtype != b.dtype and not (any_type or is_number(got) or is_number(expected)):
        yield f"{place}: type {a.dtype} for {b.dtype}"
    elif b.dtype.kind in "fc":
        tolerance = scale * max(TOLERANCES[b.dtype.name], TOLERANCES.get(a.dtype.name, 0))
        largest = np.abs(b[np.isfinite(b)]).max(initial=0)
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance * min(max(largest, 1e-3), 1e3), equal_nan=True):
            yield f"{place}: {a.ravel()[:6]} for {b.ravel()[:6]}, {np.nanmax(np.abs(a - b), initial=0):.2g} off"
    elif not np.array_equal(a, b):
        yield f"{place}: {a.ravel()[:6]} for {b.ravel()[:6]}"


REFUSALS = ("not served", "not emulated", "emulated device", "not supported by the emul")


@dataclass(frozen=True)
class Outcome:
    verdict: str  # "right", "refused" or "wrong"
    why: str = ""


def said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def tried(name: str, case: Case) -> Outcome:
    """How a call ended. It counts as refused only if the exception says so."""
    import cupy

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected = case.made(name, np, np.copy)
        try:
            got = case.made(name, cupy, cupy.asarray)
            cupy.cuda.Device().synchronize()
            found = [*differences(got, expected, SCALES.get(name.removeprefix("ndarray."), 1))]
        except Exception as error:
            text = said(error)
            return Outcome("refused" if any(words in text for words in REFUSALS) else "wrong", text)
    return Outcome("wrong", "; ".join(found)) if found else Outcome("right")


def names_of_both() -> list[str]:
    """The functions that CuPy and NumPy both have: what the table has to cover."""
    import cupy

    def counts(name: str) -> bool:
        value = getattr(cupy, name)
        is_type = inspect.isclass(value) and issubclass(value, np.generic | BaseException)
        return callable(value) and hasattr(np, name) and not is_type

    return [name for name in dir(cupy) if counts(name)]


def main(names: list[str]) -> int:
    totals = {"right": 0, "refused": 0, "wrong": 0}
    verbose, names = "-v" in names, [name for name in names if name != "-v"]
    start = time.monotonic()
    for name in names or TABLE:
        outcomes = [(case.label, tried(name, case)) for case in TABLE[name]]
        worst = next((v for v in ("wrong", "refused") if any(o.verdict == v for _, o in outcomes)), "right")
        totals[worst] += 1
        if verbose:
            print(name, worst, f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)
        if worst != "right":
            print(f"{name}: {worst}")
            for label, outcome in outcomes:
                if outcome.verdict != "right":
                    print(f"    {label}: {outcome.verdict}: {' '.join(outcome.why.split())[:400]}", flush=True)
    print(f"{sum(totals.values())} calls: " + ", ".join(f"{count} {verdict}" for verdict, count in totals.items()))
    return totals["wrong"]


if __name__ == "__main__":
    from gpunn.cuda import device

    device.start()
    sys.exit(main(sys.argv[1:]) != 0)
