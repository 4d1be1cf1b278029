import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops


def naive(x, t, weight, reduction, pos_weight=None, logits=False):
    losses = np.empty(x.shape)
    w, v = (np.broadcast_to(1.0 if a is None else np.float64(a), x.shape) for a in (weight, pos_weight))
    for place in np.ndindex(x.shape):
        a = float(x[place])
        yes, no = (-math.log1p(math.exp(-a)), -math.log1p(math.exp(a))) if logits else (math.log(a), math.log1p(-a))
        losses[place] = -w[place] * (v[place] * float(t[place]) * yes + (1 - float(t[place])) * no)
    return np.asarray({"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction])


def draw(rng, dtype=np.float64):
    """Probabilities, logits, targets, weight, pos_weight, reduction."""
    shape = tuple(rng.integers(1, 5, rng.integers(0, 4)))
    targets = rng.choice([0.0, 1.0], shape) if rng.random() < 0.5 else rng.uniform(0, 1, shape)

    def factor():
        narrow = tuple(1 if rng.random() < 0.5 else size for size in shape)[int(rng.integers(0, 2)) :]
        return np.asarray(rng.uniform(0, 3, narrow), dtype) if rng.random() < 0.6 else None

    p, x, t = (np.asarray(a, dtype) for a in (rng.uniform(0.01, 0.99, shape), rng.normal(0, 4, shape), targets))
    return p, x, t, factor(), factor(), str(rng.choice(["mean", "sum", "none"]))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_forward_is_the_naive_loop(run_xp, dtype):
    for seed in run_xp.seeds(30):
        p, x, t, weight, pos_weight, reduction = draw(np.random.default_rng(seed), dtype)
        y = run_xp(ops.binary_cross_entropy, p, t, weight, reduction)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        oracles.assert_close(y, naive(p, t, weight, reduction), p.size)
        y = run_xp(ops.binary_cross_entropy_with_logits, x, t, weight, reduction, pos_weight)
        assert y.dtype == dtype
        oracles.assert_close(y, naive(x.astype(float), t, weight, reduction, pos_weight, True), x.size)


def test_backward_is_the_directional_difference(run_xp, rng):
    for seed in run_xp.seeds(30):
        p, x, t, weight, pos_weight, reduction = draw(np.random.default_rng(seed))
        for name, value, settings in (
            ("binary_cross_entropy", p, (weight, reduction)),
            ("binary_cross_entropy_with_logits", x, (weight, reduction, pos_weight)),
        ):
            forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
            oracles.assert_gradient_of_argument(run_xp, forward, backward, (value, t, *settings), 0, rng)
            middle = np.asarray(0.2 + 0.6 * t)  # so that a step stays within 0 to 1
            backward = getattr(ops, f"{name}_backward_target")
            oracles.assert_gradient_of_argument(run_xp, forward, backward, (value, middle, *settings), 1, rng)


def test_worked_number_of_binary_cross_entropy(run_xp):
    p, logit, one = np.array([0.9]), np.log([9.0]), np.array([1.0])
    np.testing.assert_allclose(run_xp(ops.binary_cross_entropy, p, one), 0.1054, atol=5e-5)
    np.testing.assert_allclose(run_xp(ops.binary_cross_entropy_with_logits, logit, one), 0.1054, atol=5e-5)


def test_certain_probabilities_are_cut_off(run_xp):
    p, t = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(run_xp(ops.binary_cross_entropy, p, t, None, "none"), [0, 0, 100, 100])
    gp = run_xp(ops.binary_cross_entropy_backward, np.ones(4), p, t, None, "none")
    np.testing.assert_allclose(gp, [0, 0, -1e12, 1e12])
    gt = run_xp(ops.binary_cross_entropy_backward_target, np.ones(4), p, t, None, "none")
    np.testing.assert_array_equal(gt, [100, -100, 100, -100])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_far_logits_neither_overflow_nor_round_to_infinity(run_xp, dtype):
    x, t = np.array([1e4, -1e4, 1e4, -1e4], dtype), np.array([1, 0, 0, 1], dtype)
    y = run_xp(ops.binary_cross_entropy_with_logits, x, t, None, "none")
    np.testing.assert_allclose(y, [0, 0, 1e4, 1e4], rtol=1e-3)
    gx = run_xp(ops.binary_cross_entropy_with_logits_backward, np.ones(4, dtype), x, t, None, "none")
    np.testing.assert_array_equal(gx, [0, 0, 1, -1])


def test_nan_propagates(run_xp):
    for name in ("binary_cross_entropy", "binary_cross_entropy_with_logits"):
        for x, t in ((np.array([np.nan, 0.5]), np.ones(2)), (np.array([0.5, 0.5]), np.array([np.nan, 1.0]))):
            y = run_xp(getattr(ops, name), x, t, None, "none")
            np.testing.assert_array_equal(np.isnan(y), [True, False])
            gx = run_xp(getattr(ops, f"{name}_backward"), np.ones(2), x, t, None, "none")
            np.testing.assert_array_equal(np.isnan(gx), [True, False])


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_empty_and_non_contiguous_arrays(run_xp, name, rng):
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    p, t, gy, w = rng.uniform(0, 1, (4, 6, 9))[:, ::2, ::3].transpose(0, 2, 1)
    packed = [a.copy() for a in (p, t, w)]
    np.testing.assert_array_equal(run_xp(forward, p, t, w, "none"), run_xp(forward, *packed, "none"))
    expected = run_xp(backward, gy.copy(), *packed, "none")
    np.testing.assert_array_equal(run_xp(backward, gy, p, t, w, "none"), expected)
    nothing = np.zeros((0, 3))
    assert run_xp(forward, nothing, nothing, None, "sum") == 0
    assert np.isnan(run_xp(forward, nothing, nothing))
    assert run_xp(backward, np.ones(()), nothing, nothing).shape == (0, 3)


@pytest.mark.parametrize("name", ["binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_errors_name_rule_and_values(name):
    function, x = getattr(ops, name), np.full((2, 3), 0.5)
    with pytest.raises(ShapeError, match=rf"{name}: . and target must have one shape, got .=\(2, 3\), target=\(3,\)"):
        function(x, np.ones(3))
    with pytest.raises(DtypeError, match=f"{name}: target must be a floating array, got dtype='int64'"):
        function(x, np.ones((2, 3), int))
    with pytest.raises(ArgumentError, match=f"{name}: target must lie in 0 to 1, got target=-0.5"):
        function(x, np.full((2, 3), -0.5))
    with pytest.raises(ArgumentError, match=f"{name}: target must lie in 0 to 1, got target=2.0"):
        function(x, np.full((2, 3), 2.0))
    for shape in ((2,), (1, 2, 3)):
        with pytest.raises(ShapeError, match=f"{name}: weight must broadcast to the shape of ., got weight="):
            function(x, x, np.ones(shape))
    with pytest.raises(ArgumentError, match=f"{name}: reduction is .*got reduction='all'"):
        function(x, x, None, "all")
    with pytest.raises(ShapeError, match=rf"{name}_backward: gy must have shape \(\), got shape=\(2, 3\)"):
        getattr(ops, f"{name}_backward")(x, x, x)


def test_errors_of_probabilities_and_positive_weights():
    x = np.full((2, 3), 0.5)
    for wrong in (-0.25, 1.5):
        with pytest.raises(ArgumentError, match=f"binary_cross_entropy: p must lie in 0 to 1, got p={wrong}"):
            ops.binary_cross_entropy(np.array([0.5, wrong]), np.zeros(2))
    with pytest.raises(ShapeError, match=r"pos_weight must broadcast to the shape of x, got pos_weight=\(2,\)"):
        ops.binary_cross_entropy_with_logits(x, x, pos_weight=np.ones(2))


@pytest.mark.peer("binary_cross_entropy", "binary_cross_entropy_with_logits")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.functional
    for seed in range(60):
        p, x, t, weight, pos_weight, reduction = draw(np.random.default_rng(seed))
        where = f"{seed=} {x.shape} {weight is None=} {pos_weight is None=} {reduction}"
        agreement.assert_agrees(
            run_xp, torch,
            lambda v, t, w, r=reduction: F.binary_cross_entropy(v, t, w, r),
            lambda v, t, w, r=reduction: theirs.binary_cross_entropy(v, t, w, reduction=r),
            [p, t], [weight], where=where,
        )  # fmt: skip
        agreement.assert_agrees(
            run_xp, torch,
            lambda v, t, w, q, r=reduction: F.binary_cross_entropy_with_logits(v, t, w, r, q),
            lambda v, t, w, q, r=reduction: theirs.binary_cross_entropy_with_logits(v, t, w, reduction=r, pos_weight=q),
            [x, t], [weight, pos_weight], where=where,
        )  # fmt: skip
