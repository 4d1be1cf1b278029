"""Elementary functions: values against Python's, slopes in tests/test_functional.py, both against PyTorch."""

import math
import operator

import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import array as ops

SPREAD, UNIT, POSITIVE, FROM_1 = (-3.0, 3.0), (-0.99, 0.99), (0.1, 9.0), (1.1, 9.0)
EACH = {
    "acos": (math.acos, UNIT), "acosh": (math.acosh, FROM_1), "asin": (math.asin, UNIT), "asinh": (math.asinh, SPREAD),
    "atan": (math.atan, SPREAD), "atanh": (math.atanh, UNIT), "ceil": (math.ceil, SPREAD), "cos": (math.cos, SPREAD),
    "cosh": (math.cosh, SPREAD), "erf": (math.erf, SPREAD), "erfc": (math.erfc, SPREAD), "exp2": (math.exp2, SPREAD),
    "expm1": (math.expm1, SPREAD), "floor": (math.floor, SPREAD), "log10": (math.log10, POSITIVE),
    "log1p": (math.log1p, UNIT), "log2": (math.log2, POSITIVE), "reciprocal": (lambda v: 1 / v, POSITIVE),
    "rsqrt": (lambda v: 1 / math.sqrt(v), POSITIVE), "sign": (lambda v: (v > 0) - (v < 0), SPREAD),
    "sin": (math.sin, SPREAD), "sinh": (math.sinh, SPREAD), "square": (lambda v: v * v, SPREAD),
    "tan": (math.tan, (-1.5, 1.5)), "trunc": (math.trunc, SPREAD), "round": (round, SPREAD),
}  # fmt: skip
PAIRS = {
    "atan2": math.atan2, "fmod": math.fmod, "hypot": math.hypot, "remainder": operator.mod, "pow": operator.pow,
    "floor_divide": operator.floordiv,
    "logaddexp": lambda a, b: math.log(math.exp(a) + math.exp(b)),
}  # fmt: skip


@pytest.mark.parametrize("name", EACH)
def test_each_element_is_what_python_computes(run_xp, name, rng):
    function, bounds = EACH[name]
    for shape in ((3, 5), (), (0, 2)):
        for dtype in (np.float64, np.float32, np.float16):
            x = np.asarray(rng.uniform(*bounds, shape), dtype).T
            y = run_xp(getattr(F, name), x)
            assert y.dtype == dtype
            expected = np.array([function(float(v)) for v in x.ravel()], np.float64).reshape(x.shape)
            oracles.assert_close(y, expected)


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_are_what_python_computes(run_xp, name, rng):
    for dtype in (np.float64, np.float32, np.float16):
        a, b = rng.uniform(-3, 3, (3, 1)).astype(dtype), rng.uniform(0.5, 3, (2, 1, 4)).astype(dtype)
        a = abs(a) if name == "pow" else a
        y = run_xp(getattr(F, name), a, b)
        assert y.dtype == dtype
        spread = [each.ravel() for each in np.broadcast_arrays(a, b)]
        expected = np.array([PAIRS[name](float(p), float(q)) for p, q in zip(*spread, strict=True)])
        oracles.assert_close(y, expected.reshape(2, 3, 4))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_error_function_keeps_its_digits(run_xp, dtype):
    """At 0, where the two forms meet, and where the complement is nearly 0."""
    x = np.concatenate([10.0 ** np.arange(-30, 0), np.linspace(0.4, 0.6, 41), np.linspace(0.6, 9, 100)]).astype(dtype)
    x = np.concatenate([-x, x])
    for name, rounding in (("erf", 4), ("erfc", 8 * 81)):  # that of x^2 goes into the exponential
        y = run_xp(getattr(F, name), x)
        expected = np.array([getattr(math, name)(float(v)) for v in x])
        error = abs(y - expected) / np.maximum(abs(expected), np.finfo(dtype).tiny)
        # In float32 the quotient of polynomials is off by 6e-9 besides.
        assert error[abs(expected) > 4 * np.finfo(dtype).tiny].max() < rounding * np.finfo(dtype).eps, name


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.peer(*EACH, *PAIRS, "nan_to_num", "isnan", "isinf", "isfinite")
def test_special_values_match_pytorch():
    torch = pytest.importorskip("torch")
    special = [0.0, -0.0, 0.5, -0.5, 1, -1, 1.5, 2.5, -3.7, 1e-30, 1e30, math.inf, -math.inf, math.nan]
    for dtype in (np.float64, np.float32):
        x = np.array(special, dtype)
        for name in [*EACH, "nan_to_num", "isnan", "isinf", "isfinite"]:
            _assert_same(torch, name, x[:-1] if name == "sign" else x)  # PyTorch's sign of NaN is 0
        for name in PAIRS:
            _assert_same(torch, name, x[:-5, None], x[2:-5])


def _assert_same(torch, name, *arrays):
    ours, theirs = (
        [tensor(a, requires_grad=True) for a in arrays],
        [torch.tensor(a, requires_grad=True) for a in arrays],
    )
    y, peer = getattr(F, name)(*ours), getattr(torch, name)(*theirs)
    eps = np.finfo(arrays[0].dtype).eps
    np.testing.assert_allclose(y.data, peer.detach().numpy(), rtol=32 * eps, atol=eps, err_msg=name)
    if peer.requires_grad and name != "floor_divide":  # of which PyTorch has no gradient
        y.backward(np.ones(y.shape, y.dtype))
        peer.backward(torch.ones_like(peer))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a.grad, b.grad.numpy(), rtol=64 * eps, atol=eps, err_msg=name)


def test_what_division_leaves_has_the_slope_of_the_whole_quotient(run_xp):
    """Where the rounded quotient is another: 1 / 0.1 is 10, and 0.1 goes into 1 nine times; and beside infinities."""

    def slopes(a, b):
        pair = [tensor(each, requires_grad=True) for each in (a, b)]
        getattr(F, name)(*pair).backward((a == a) * 1.0)
        return pair[1].grad

    a, b = np.array([1.0, -1.0, 0.6, -0.25]), np.array([0.1, 0.1, 0.2, np.inf])
    for name, expected in (("fmod", [-9, 9, -2, 0]), ("remainder", [-9, 10, -2, 1])):
        np.testing.assert_array_equal(run_xp(slopes, a, b), expected, name)


def test_interpolation_ends_at_its_ends(run_xp):
    for dtype in (np.float64, np.float32, np.float16):
        a, b, w = (np.array(values, dtype) for values in ([6e4, 6e4, 2], [1, 1, 3], [1, 0, 0.75]))
        assert run_xp(F.lerp, a, b, w).tolist() == [1, 6e4, 2.75]
    leaves = [tensor(np.full(3, v, np.float16), requires_grad=True) for v in (1, 2)]
    F.lerp(*leaves, 0.1).backward(np.full(3, 0.3, np.float16))
    expected = [np.float16(np.float32(np.float16(0.3)) * np.float32(w)) for w in (1 - np.float16(0.1), np.float16(0.1))]
    assert [leaf.grad[0] for leaf in leaves] == expected


def test_the_logarithm_of_a_sum_has_slopes_beside_infinity(run_xp):
    def slopes(a, b):
        pair = [tensor(each, requires_grad=True) for each in (a, b)]
        F.logaddexp(*pair).backward((a == a) * 1.0)
        return [leaf.grad.tolist() for leaf in pair]

    assert slopes(np.array([np.inf, 1.0, -np.inf]), np.array([0.0, np.inf, 2.0])) == [[1, 0, 0], [0, 1, 1]]


def test_integers_stay_what_they_are_where_that_makes_sense():
    x = np.array([-2, 0, 3])
    assert [getattr(F, name)(x).tolist() for name in ("sign", "square", "floor", "round")] == [
        [-1, 0, 1], [4, 0, 9], [-2, 0, 3], [-2, 0, 3],
    ]  # fmt: skip
    assert F.sign(x > 0).tolist() == [False, False, True]
    assert F.remainder(x, 2).tolist() == [0, 0, 1]
    assert F.round(np.array([1234]), -2).tolist() == [1200]
    assert F.nan_to_num(x).tolist() == x.tolist()
    with pytest.raises(DtypeError, match="sin: x must be a floating array, got dtype='int64'"):
        F.sin(x)


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    with pytest.raises(ShapeError, match=r"atan2: shapes must broadcast, got a=\(2, 3\), b=\(2,\)"):
        F.atan2(x, np.ones(2))
    with pytest.raises(DtypeError, match="lerp: operands must have one dtype, got a='float64', b='float32'"):
        F.lerp(x, x, np.ones(3, np.float32))
    with pytest.raises(ShapeError, match=r"lerp: shapes must broadcast, got a=\(3,\), b=\(1,\), weight=\(2, 1, 2\)"):
        ops.lerp(x[0], np.ones(1), np.ones((2, 1, 2)))
    with pytest.raises(DtypeError, match=r"fmod: one of the operands must be an array, got types=\['int', 'float'\]"):
        F.fmod(2, 3.0)
    assert F.hypot(x.sum(), x.sum()).dtype == np.float64  # NumPy's numbers are arrays without dimensions
    with pytest.raises(ArgumentError, match="nan_to_num: posinf must be a number, got posinf='a'"):
        F.nan_to_num(x, posinf="a")
    assert {"sin", "erf"} <= ops.RULES.keys()
