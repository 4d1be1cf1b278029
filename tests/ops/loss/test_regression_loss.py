import agreement
import numpy as np
import oracles
import pytest

from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops


def huber(d, delta):
    return d * d / 2 if abs(d) < delta else delta * (abs(d) - delta / 2)


# name: (operation, settings, loss of one difference)
LOSSES = {
    "mse": ("mse_loss", {}, lambda d: d * d),
    "l1": ("l1_loss", {}, abs),
    "huber": ("huber_loss", {}, lambda d: huber(d, 1.0)),
    "huber of delta": ("huber_loss", {"delta": 0.3}, lambda d: huber(d, 0.3)),
    "smooth l1": ("smooth_l1_loss", {}, lambda d: huber(d, 1.0)),
    "smooth l1 of beta": ("smooth_l1_loss", {"beta": 2.5}, lambda d: huber(d, 2.5) / 2.5),
    "smooth l1 of beta 0": ("smooth_l1_loss", {"beta": 0.0}, abs),
}
CASES = pytest.mark.parametrize(("name", "settings", "scalar"), LOSSES.values(), ids=LOSSES.keys())
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


@REDUCTIONS
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_naive_loop(run_xp, name, settings, scalar, dtype, reduction, rng):
    for shape in ((), (1,), (7,), (3, 5), (2, 3, 4)):
        x, target = (np.asarray(rng.standard_normal(shape), dtype) for _ in range(2))
        y = run_xp(getattr(ops, name), x, target, reduction, **settings)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        losses = np.array([scalar(float(a) - float(b)) for a, b in zip(x.flat, target.flat, strict=True)])
        expected = {"none": losses.reshape(shape), "sum": losses.sum(), "mean": losses.mean()}[reduction]
        oracles.assert_close(y, np.asarray(expected), x.size)


@REDUCTIONS
@CASES
def test_backward_is_the_directional_difference(run_xp, name, settings, scalar, reduction, rng):
    x, target = rng.standard_normal((2, 4, 3))
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    oracles.assert_gradient_of_argument(run_xp, forward, backward, (x, target, reduction), 0, rng, **settings)


def test_worked_number_of_the_squared_error(run_xp):
    assert run_xp(ops.mse_loss, np.array([2.0]), np.array([3.0])) == 1


def test_the_slope_at_0_is_0(run_xp):
    x = np.ones(2)
    for name, settings in (("l1_loss", {}), ("smooth_l1_loss", {"beta": 0.0}), ("huber_loss", {})):
        assert not run_xp(getattr(ops, f"{name}_backward"), np.ones(2), x, x, "none", **settings).any()


def test_large_differences_do_not_overflow_where_the_loss_is_straight(run_xp):
    x, target = np.array([1e200, -1e200, np.inf, np.nan]), np.zeros(4)
    for name in ("l1_loss", "huber_loss", "smooth_l1_loss"):
        y = run_xp(getattr(ops, name), x, target, "none")
        np.testing.assert_allclose(y, [1e200, 1e200, np.inf, np.nan])
        gx = run_xp(getattr(ops, f"{name}_backward"), np.ones(4), x, target, "none")
        np.testing.assert_array_equal(gx, [1, -1, 1, np.nan])


@CASES
def test_empty_and_non_contiguous_arrays(run_xp, name, settings, scalar, rng):
    forward, backward = getattr(ops, name), getattr(ops, f"{name}_backward")
    x, target, gy = rng.standard_normal((3, 6, 9))[:, ::2, ::3].transpose(0, 2, 1)
    np.testing.assert_array_equal(
        run_xp(forward, x, target, "none", **settings), run_xp(forward, x.copy(), target.copy(), "none", **settings)
    )
    np.testing.assert_array_equal(
        run_xp(backward, gy, x, target, "none", **settings),
        run_xp(backward, gy.copy(), x.copy(), target.copy(), "none", **settings),
    )
    nothing = np.zeros((0, 3))
    assert run_xp(forward, nothing, nothing, "sum", **settings) == 0
    assert np.isnan(run_xp(forward, nothing, nothing, **settings))
    assert run_xp(backward, np.ones(()), nothing, nothing, **settings).shape == (0, 3)


def test_float16_is_summed_in_float32():
    x = np.full(70_000, 2, np.float16)
    loss = ops.mse_loss(x, np.zeros_like(x))  # the sum is beyond float16
    assert loss.dtype == np.float16
    assert loss == 4


@CASES
def test_errors_name_rule_and_values(name, settings, scalar):
    x = np.ones((3, 1))
    with pytest.raises(ShapeError, match=rf"{name}: x and target must have one shape, got x=\(3, 1\), target=\(3,\)"):
        getattr(ops, name)(x, np.ones(3))
    with pytest.raises(DtypeError, match=f"{name}: target must be a floating array, got dtype='int64'"):
        getattr(ops, name)(x, np.ones((3, 1), int))
    with pytest.raises(ArgumentError, match=f"{name}: reduction is .*got reduction='batchmean'"):
        getattr(ops, name)(x, x, "batchmean")
    with pytest.raises(ShapeError, match=rf"{name}_backward: gy must have shape \(\), got shape=\(3, 1\)"):
        getattr(ops, f"{name}_backward")(x, x, x)


def test_errors_of_the_settings():
    x = np.ones(2)
    for name in ("huber_loss", "huber_loss_backward"):
        with pytest.raises(ArgumentError, match=f"{name}: delta must be above 0, got delta=0"):
            getattr(ops, name)(*[x] * (2 + name.endswith("backward")), "none", 0)
    for name in ("smooth_l1_loss", "smooth_l1_loss_backward"):
        with pytest.raises(ArgumentError, match=f"{name}: beta must be at least 0, got beta=-1"):
            getattr(ops, name)(*[x] * (2 + name.endswith("backward")), "none", -1)


@pytest.mark.peer("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"])
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x, target = rng.normal(0, 2, (2, *rng.integers(1, 6, rng.integers(1, 4))))
        settings = {"reduction": str(rng.choice(["mean", "sum", "none"]))}
        settings |= {"huber_loss": {"delta": float(rng.uniform(0.1, 3))},
                     "smooth_l1_loss": {"beta": float(rng.choice([0, 0.5, 2]))}}.get(name, {})  # fmt: skip
        both = agreement.both(torch, name, **settings)
        agreement.assert_agrees(run_xp, torch, *both, [x, target], where=f"{seed=} {x.shape} {settings}")
