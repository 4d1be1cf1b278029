"""The activations of straight pieces, of exponentials and quotients, and draws from classes."""

import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import manual_seed, nn, tensor
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, ShapeError
from gpunn.ops import activation as ops

# name: (settings, formula, values at -infinity and at infinity, slopes there)
FUNCTIONS = {
    "hardtanh": ((-0.5, 2.0), lambda v: min(max(v, -0.5), 2), (-0.5, 2), (0, 0)),
    "hardswish": ((), lambda v: v * min(max(v + 3, 0), 6) / 6, (0, math.inf), (0, 1)),
    "threshold": ((0.5, -2.0), lambda v: v if v > 0.5 else -2, (-2, math.inf), (0, 1)),
    "hardshrink": ((0.7,), lambda v: v if abs(v) > 0.7 else 0, (-math.inf, math.inf), (1, 1)),
    "softshrink": ((0.7,), lambda v: math.copysign(max(abs(v) - 0.7, 0), v), (-math.inf, math.inf), (1, 1)),
    "softsign": ((), lambda v: v / (1 + abs(v)), (-1, 1), (0, 0)),
    "tanhshrink": ((), lambda v: v - math.tanh(v), (-math.inf, math.inf), (1, 1)),
    "logsigmoid": ((), lambda v: -math.log1p(math.exp(-v)), (-math.inf, 0), (1, 0)),
    "mish": ((), lambda v: v * math.tanh(math.log1p(math.exp(v))), (0, math.inf), (0, 1)),
    "celu": ((2.5,), lambda v: v if v > 0 else 2.5 * math.expm1(v / 2.5), (-2.5, math.inf), (0, 1)),
}
CASES = pytest.mark.parametrize("name", FUNCTIONS)


def backward(name):
    """The gradient's function, and its settings."""
    settings = FUNCTIONS[name][0]
    own = {"softshrink": "hardshrink"}.get(name, name)
    return getattr(ops, f"{own}_backward"), settings[:1] if name == "threshold" else settings


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_scalar_formula(run_xp, name, dtype, rng):
    settings, scalar, *_ = FUNCTIONS[name]
    for shape in ((), (0,), (7, 5)):
        x = rng.uniform(-8, 8, shape).astype(dtype)
        y = run_xp(getattr(ops, name), x, *settings)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        oracles.assert_close(y, np.vectorize(scalar, otypes=[float])(x.astype(np.float64)))


@CASES
def test_backward_is_the_directional_difference(run_xp, name, rng):
    function, settings = backward(name)
    for shape in ((7, 5), ()):
        x = np.asarray(rng.uniform(0.8, 1.9, shape) * rng.choice([-2, 1], shape))  # away from the corners
        oracles.assert_gradient(
            lambda v: run_xp(getattr(ops, name), v, *FUNCTIONS[name][0]),
            lambda gy, x=x: run_xp(function, gy, x, *settings), x, rng,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_far_arguments_neither_overflow_nor_lose_nan(run_xp, name, dtype):
    settings, _, ends, slopes = FUNCTIONS[name]
    top = float(np.finfo(dtype).max)
    x = np.array([-np.inf, -top, top, np.inf, np.nan], dtype)
    far = [end if math.isfinite(end) else math.copysign(top, end) for end in ends]
    y = run_xp(getattr(ops, name), x, *settings)
    np.testing.assert_allclose(y, [ends[0], *far, ends[1], np.nan], 2e-3)
    function, settings = backward(name)
    gx = run_xp(function, np.ones(5, dtype), x, *settings)
    nan = 1 if name in ("hardtanh", "threshold", "hardshrink", "softshrink") else np.nan
    np.testing.assert_allclose(gx, [slopes[0]] * 2 + [slopes[1]] * 2 + [nan], 2e-3, atol=1e-7)


def test_small_values_keep_their_digits(run_xp):
    x, small = np.array([-30.0]), math.exp(-30)
    np.testing.assert_allclose(run_xp(ops.mish, x), -30 * small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.mish_backward, np.ones(1), x), -29 * small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.logsigmoid, -x), -small, rtol=1e-12)
    np.testing.assert_allclose(run_xp(ops.logsigmoid_backward, np.ones(1), -x), small, rtol=1e-12)


def test_slopes_that_are_learned_or_drawn(run_xp, rng):
    x, gy = rng.standard_normal((2, 3, 4, 5))
    for weight, wide in ((np.array(0.3), 0.3), (np.array([0.3]), 0.3), (np.arange(4.0), np.arange(4.0)[:, None])):
        y = run_xp(ops.prelu, x, weight)
        np.testing.assert_array_equal(y, np.where(x > 0, x, wide * x))
        np.testing.assert_array_equal(run_xp(ops.prelu_backward_x, gy, x, weight), np.where(x > 0, gy, wide * gy))
        each = np.where(x > 0, 0, gy * x).sum((0, 2))
        found = run_xp(ops.prelu_backward_weight, gy, x, weight)
        np.testing.assert_allclose(found, each if weight.size > 1 else np.full(weight.shape, each.sum()), rtol=1e-12)
    y = F.rrelu(x, 0.2, 0.4, True, generator=random_generator(3))
    slopes = (y / x)[x <= 0]
    assert ((slopes >= 0.2) & (slopes <= 0.4)).all()
    assert len(set(slopes)) == len(slopes)
    np.testing.assert_array_equal(y[x > 0], x[x > 0])
    np.testing.assert_array_equal(nn.RReLU(0.2, 0.4, generator=random_generator(3))(x), y)
    leaf = tensor(x, requires_grad=True)
    F.rrelu(leaf, 0.2, 0.4, True, generator=random_generator(3)).backward(gy)
    np.testing.assert_allclose(leaf.grad, gy * np.where(x > 0, 1, y / x), rtol=1e-12)
    np.testing.assert_array_equal(nn.RReLU(0.2, 0.4).eval()(x), F.leaky_relu(x, (0.2 + 0.4) / 2))
    manual_seed(5)
    first = F.rrelu(x, training=True)
    manual_seed(5)
    np.testing.assert_array_equal(F.rrelu(x, training=True), first)


def test_draws_follow_their_probabilities():
    logits = np.broadcast_to(np.log([0.1, 0.2, 0.7]), (4000, 3))
    hard = F.gumbel_softmax(logits, hard=True, generator=random_generator(1))
    assert np.unique(hard).tolist() == [0, 1]
    np.testing.assert_allclose(hard.mean(0), [0.1, 0.2, 0.7], atol=0.03)  # four times the deviation of 4000 draws
    soft = F.gumbel_softmax(logits, 0.5, generator=random_generator(1))
    np.testing.assert_array_equal(soft.argmax(1), hard.argmax(1))
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-12)
    leaves = [tensor(logits[:5], requires_grad=True) for _ in range(2)]
    for leaf, each in zip(leaves, (False, True), strict=True):
        F.gumbel_softmax(leaf, 0.5, each, generator=random_generator(1)).backward(np.arange(15.0).reshape(5, 3))
    np.testing.assert_array_equal(leaves[0].grad, leaves[1].grad)


def test_softmax_of_another_dtype():
    x = tensor(np.float32([[0, 1], [2, 0]]), requires_grad=True)
    for function in (F.softmax, F.log_softmax, F.softmin):
        y = function(x, 1, dtype=np.float64)
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y.data, function(np.float64(x.data), 1))
        assert function(np.array([1, 2]), dtype="float32").dtype == np.float32
        y.sum().backward()
        assert x.grad.dtype == np.float32


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    for call, kind, message in (
        (lambda: ops.hardtanh(x, 2, 1), ArgumentError, "hardtanh: min_val must be at most max_val, got min_val=2"),
        (lambda: ops.softshrink(x, -1), ArgumentError, "softshrink: lambd must be at least 0, got lambd=-1"),
        (lambda: ops.celu(x, 0), ArgumentError, "celu: alpha must not be 0, got alpha=0"),
        (lambda: ops.glu(x), ShapeError, r"glu: x must have an even number .* axis, got axis=-1, shape=\(2, 3\)"),
        (lambda: ops.prelu(x, np.ones(2)), ShapeError, r"prelu: weight must be one .* got weight=\(2,\), x=\(2, 3\)"),
        (lambda: ops.prelu(x, np.ones((1, 1))), ShapeError, r"prelu: weight must be one .* got weight=\(1, 1\), x="),
        (lambda: F.rrelu(x, 0.3, 0.1), ArgumentError, "rrelu: lower must be at most upper, got lower=0.3, upper=0.1"),
        (lambda: F.gumbel_softmax(x, 0), ArgumentError, "gumbel_softmax: tau must be above 0, got tau=0"),
        (lambda: nn.Softmax2d()(x), ShapeError, r"Softmax2d: x must be \(N, C, H, W\) or .* got shape=\(2, 3\)"),
        (lambda: nn.PReLU(0), ArgumentError, "PReLU: num_parameters must be an integer of at least 1"),
    ):
        with pytest.raises(kind, match=message):
            call()


def drawn(rng):
    """Settings for each function, in PyTorch's order."""
    low, high = sorted(rng.choice([-2, -1, -0.5, 0.5, 1, 3], 2, replace=False).tolist())
    lambd = float(rng.choice([0, 0.5, 1]))
    axis = int(rng.integers(-3, 3))
    return {
        "hardtanh": (low, high), "threshold": (low, high), "hardshrink": (lambd,), "softshrink": (lambd,),
        "celu": (float(rng.choice([-2, 0.5, 3])),), "glu": (axis,), "softmin": (axis,), "rrelu": (low, high),
    }  # fmt: skip


OTHERS = (*FUNCTIONS, "relu6", "glu", "softmin", "rrelu", "prelu")


@pytest.mark.peer(*OTHERS)
@pytest.mark.parametrize("name", OTHERS)
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    ours, theirs = (getattr(place, name) for place in (F, torch.nn.functional))
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shape = rng.integers(0, 6, rng.integers(0, 4)) if name in FUNCTIONS else rng.integers(1, 4, 3) * 2
        x = rng.normal(0, rng.choice([0.1, 1, 10]), shape)
        if seed % 2:
            x = np.round(2 * x) / 2  # corners, and ties
        x = np.asarray(x)
        arrays = [x, rng.standard_normal(rng.choice([1, shape[1]]))] if name == "prelu" else [x]
        settings = drawn(rng).get(name, ())
        agreement.assert_agrees(run_xp, torch, ours, theirs, arrays, settings, f"{seed=} {name} {settings}")


@pytest.mark.peer("gumbel_softmax")
def test_gumbel_softmax_matches_pytorch(monkeypatch):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x, tau, axis = rng.standard_normal((2, 3, 4)), float(rng.uniform(0.3, 3)), int(rng.integers(-3, 3))
        noise = random_generator(seed).gumbel(size=x.shape)
        monkeypatch.setattr(torch.Tensor, "exponential_", lambda _, noise=noise: torch.tensor(np.exp(-noise)))
        leaf, own = torch.tensor(x, requires_grad=True), tensor(x, requires_grad=True)
        hard = bool(seed % 2)
        expected = torch.nn.functional.gumbel_softmax(leaf, tau, hard, dim=axis)
        y = F.gumbel_softmax(own, tau, hard, axis, random_generator(seed))
        np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
        expected.backward(torch.tensor(noise))
        y.backward(noise)
        np.testing.assert_allclose(own.grad, leaf.grad.numpy(), rtol=1e-9, atol=1e-11)
