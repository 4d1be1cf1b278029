import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import activation as ops


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def tanh_gelu(v):
    return 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))


# name: (operation, settings, formula, slopes at -infinity and at infinity)
FUNCTIONS = {
    "silu": ("silu", (), lambda v: v * sigmoid(v), (0, 1)),
    "gelu": ("gelu", (), lambda v: v * 0.5 * math.erfc(-v / math.sqrt(2)), (0, 1)),
    "gelu by tanh": ("gelu", ("tanh",), tanh_gelu, (0, 1)),
    "softplus": ("softplus", (), lambda v: math.log1p(math.exp(v)), (0, 1)),
    "softplus, sharp": ("softplus", (2.5, 3.0), lambda v: v if 2.5 * v > 3 else math.log1p(math.exp(2.5 * v)) / 2.5,
                        (0, 1)),
    "elu": ("elu", (), lambda v: v if v > 0 else math.exp(v) - 1, (0, 1)),
    "elu of alpha": ("elu", (0.3,), lambda v: v if v > 0 else 0.3 * (math.exp(v) - 1), (0, 1)),
    "selu": ("selu", (), lambda v: 1.05070098735548 * (v if v > 0 else 1.673263242354377 * (math.exp(v) - 1)),
             (0, 1.05070098735548)),
}  # fmt: skip
CASES = pytest.mark.parametrize(("name", "settings", "scalar", "slopes"), FUNCTIONS.values(), ids=FUNCTIONS.keys())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_scalar_formula(run_xp, name, settings, scalar, slopes, dtype, rng):
    for shape in ((), (0,), (1,), (7, 5), (2, 3, 4)):
        x = rng.uniform(-8, 8, shape).astype(dtype)
        y = run_xp(getattr(ops, name), x, *settings)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        oracles.assert_close(y, np.vectorize(scalar, otypes=[float])(x.astype(np.float64)))


@CASES
def test_backward_is_the_directional_difference(run_xp, name, settings, scalar, slopes, rng):
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    for shape in ((7, 5), ()):
        x = np.asarray(rng.uniform(0.1, 3, shape) * rng.choice([-1, 1], shape))  # away from the corner of elu
        oracles.assert_gradient(
            lambda v: run_xp(forward, v, *settings), lambda gy, x=x: run_xp(backward, gy, x, *settings), x, rng
        )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_far_arguments_neither_overflow_nor_lose_nan(run_xp, name, settings, scalar, slopes, dtype):
    top = float(np.finfo(dtype).max)
    below, factor = scalar(-700.0), slopes[1]
    x = np.array([-np.inf, -top, -2e4, 2e4, top / 2, np.inf, np.nan], dtype)
    y = run_xp(getattr(ops, name), x, *settings)
    np.testing.assert_allclose(y, [below] * 3 + [2e4 * factor, top / 2 * factor, np.inf, np.nan], 2e-3, atol=1e-300)
    gx = run_xp(getattr(ops, f"{name}_backward"), np.ones(7, dtype), x, *settings)
    np.testing.assert_allclose(gx, [slopes[0]] * 3 + [slopes[1]] * 3 + [np.nan], 2e-3)


@pytest.mark.parametrize("far", [1e15, 1e20, 3e38, np.inf])
@CASES
def test_a_far_argument_alone(run_xp, name, settings, scalar, slopes, far):
    x, one = np.array([far], np.float32), np.ones(1, np.float32)
    for end, sign in enumerate((-1, 1)):
        gx = run_xp(getattr(ops, f"{name}_backward"), one, sign * x, *settings)
        np.testing.assert_allclose(gx, slopes[end], 1e-6)
    if name != "selu" or far < 3e38:
        np.testing.assert_allclose(run_xp(getattr(ops, name), x, *settings), slopes[1] * x, 1e-6)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 1e20, -1e20, 3e38, -3e38])
@pytest.mark.parametrize(("name", "settings"), [("relu", ()), ("silu", ()), ("gelu", ()), ("gelu", ("tanh",))])
@pytest.mark.parametrize("size", [(3, 7), (63, 257), (128, 256)])
def test_one_odd_argument_among_many(run_xp, name, settings, odd, size, rng):
    x, ones = rng.standard_normal(size).astype(np.float32), np.ones(size, np.float32)
    x[size[0] // 2, 5] = odd
    far = (odd, 1) if odd > 0 else (0, 0)
    if odd != odd:
        far = (odd, 1 if name == "relu" else odd)
    y = run_xp(getattr(ops, name), x, *settings)
    gx = run_xp(getattr(ops, f"{name}_backward"), ones, y if name == "relu" else x, *settings)
    for actual, own in ((y, far[0]), (gx, far[1])):
        np.testing.assert_allclose(actual[size[0] // 2, 5], np.float32(own), 1e-6)
        assert np.isfinite(np.delete(actual, size[0] // 2 * size[1] + 5)).all()


def test_small_values_keep_their_digits(run_xp):
    # exp(-30), about 1e-13: a difference with 1 would leave three digits of it.
    x, one, small = np.array([-30.0]), np.ones(1), math.exp(-30)
    np.testing.assert_allclose(run_xp(ops.silu, x), -30 * small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.softplus, x), small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.elu_backward, one, x), small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.softplus_backward, one, x), small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.silu_backward, one, x), small * -29, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.gelu, np.array([-10.0])), -10 * 0.5 * math.erfc(10 / math.sqrt(2)), 1e-12)
    np.testing.assert_allclose(run_xp(ops.elu, np.array([-1e-12])), -1e-12, rtol=1e-11)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("name", "settings"), [("silu", ()), ("gelu", ()), ("gelu", ("tanh",))])
def test_a_derivative_formed_beside_the_function_is_the_same(run_xp, name, settings, dtype, rng):
    x = np.concatenate([rng.normal(0, 3, 200), [-np.inf, -2e4, 0, 2e4, np.inf, np.nan]]).astype(dtype)
    gy = rng.standard_normal(x.shape).astype(dtype)
    forward, together, backward = (getattr(ops, name + end) for end in ("", "_kept", "_backward"))

    def both(x, gy):
        y, kept = together(x, *settings)
        return y, backward(gy, x, *settings, kept=kept)

    y, gx = run_xp(both, x, gy)
    np.testing.assert_array_equal(y, run_xp(forward, x, *settings))
    np.testing.assert_array_equal(gx, run_xp(backward, gy, x, *settings))


@CASES
def test_non_contiguous_arrays_are_read_right(run_xp, name, settings, scalar, slopes, rng):
    x, gy = rng.standard_normal((2, 6, 9))[:, ::2, ::3].transpose(0, 2, 1)
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    np.testing.assert_array_equal(run_xp(forward, x, *settings), run_xp(forward, x.copy(), *settings))
    expected = run_xp(backward, gy.copy(), x.copy(), *settings)
    np.testing.assert_array_equal(run_xp(backward, gy, x, *settings), expected)


def test_errors_name_rule_and_values():
    x = np.ones(3)
    for name in ("silu", "gelu", "softplus", "elu", "selu"):
        with pytest.raises(DtypeError, match=f"{name}: x must be a floating array, got dtype='int64'"):
            getattr(ops, name)(np.arange(3))
        with pytest.raises(ShapeError, match=rf"{name}_backward: gy must have shape \(3,\), got shape=\(1,\)"):
            getattr(ops, f"{name}_backward")(np.ones(1), x)
    with pytest.raises(ArgumentError, match='gelu: approximate is "none" or "tanh", got approximate=\'erf\''):
        ops.gelu(x, "erf")
    with pytest.raises(ArgumentError, match="softplus: beta must be above 0, got beta=0"):
        ops.softplus(x, 0)


@pytest.mark.peer("silu", "gelu", "softplus", "elu", "selu")
@pytest.mark.parametrize("name", ["silu", "gelu", "softplus", "elu", "selu"])
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, rng.choice([0.1, 1, 10]), rng.integers(0, 6, rng.integers(0, 4)))
        settings = {
            "gelu": {"approximate": str(rng.choice(["none", "tanh"]))},
            "softplus": {"beta": float(rng.uniform(0.2, 3)), "threshold": float(rng.choice([1, 5, 20]))},
            "elu": {"alpha": float(rng.uniform(-1, 2))},
        }.get(name, {})
        ours = lambda v, s=settings: getattr(F, name)(v, **s)  # noqa: E731
        theirs = lambda v, s=settings: getattr(torch.nn.functional, name)(v, **s)  # noqa: E731
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x], where=f"{seed=} {settings}")
