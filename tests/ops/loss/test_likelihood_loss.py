import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops
from gpunn.ops.activation.softmax import log_softmax


def draw_nll(rng, dtype=np.float64):
    """Logarithms, classes, weight, and the other settings."""
    more = tuple(rng.integers(1, 4, rng.integers(0, 3)))
    classes = int(rng.integers(1, 7))
    x = log_softmax(rng.normal(0, 2, (int(rng.integers(1, 6)), classes, *more)), 1).astype(dtype)
    weight = rng.uniform(0.1, 2, classes).astype(dtype) if rng.random() < 0.5 else None
    target = rng.integers(0, classes, (len(x), *more))
    ignored = int(rng.choice([-100, -1, 9]))
    target.reshape(-1)[1:][rng.random(target.size - 1) < 0.3] = ignored
    return x, target, weight, {"ignore_index": ignored, "reduction": str(rng.choice(["mean", "sum", "none"]))}


def naive_nll(x, target, weight, ignore_index, reduction):
    losses, divisor = np.zeros(target.shape), 0.0
    for place in np.ndindex(target.shape):
        t = target[place]
        if t != ignore_index:
            w = 1.0 if weight is None else float(weight[t])
            losses[place] = -w * float(x[(place[0], t, *place[1:])])
            divisor += w
    return np.asarray({"none": losses, "sum": losses.sum(), "mean": losses.sum() / divisor}[reduction])


def draw_kl(rng, dtype=np.float64):
    """Logarithms, target, reduction, log_target."""
    shape = tuple(rng.integers(1, 5, rng.integers(1, 4)))
    x, t = log_softmax(rng.normal(0, 2, (2, *shape))).astype(dtype)
    log_target = bool(rng.random() < 0.5)
    return x, t if log_target else np.exp(t), str(rng.choice(["mean", "sum", "none", "batchmean"])), log_target


def naive_kl(x, target, reduction, log_target):
    losses = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        t = math.exp(target[place]) if log_target else float(target[place])
        losses[place] = t * (math.log(t) - float(x[place])) if t > 0 else 0
    total = losses.sum()
    return np.asarray({"none": losses, "sum": total, "mean": losses.mean(), "batchmean": total / len(x)}[reduction])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_forward_is_the_naive_loop(run_xp, dtype):
    for seed in run_xp.seeds(30):
        x, target, weight, settings = draw_nll(np.random.default_rng(seed), dtype)
        y = run_xp(ops.nll_loss, x, target, weight, **settings)
        assert y.dtype == dtype
        oracles.assert_close(y, naive_nll(x, target, weight, **settings), x.size)
        x, target, reduction, log_target = draw_kl(np.random.default_rng(seed), dtype)
        y = run_xp(ops.kl_div, x, target, reduction, log_target)
        assert y.dtype == dtype
        wide = x.astype(float), target.astype(float)
        oracles.assert_close(y, naive_kl(*wide, reduction, log_target), 4 * x.size)


def test_backward_is_the_directional_difference(run_xp, rng):
    for seed in run_xp.seeds(30):
        x, target, weight, settings = draw_nll(np.random.default_rng(seed))
        both, given = (ops.nll_loss, ops.nll_loss_backward), (x, target, weight)
        oracles.assert_gradient_of_argument(run_xp, *both, given, 0, rng, **settings)
        given = draw_kl(np.random.default_rng(seed))
        for number, backward in enumerate((ops.kl_div_backward, ops.kl_div_backward_target)):
            oracles.assert_gradient_of_argument(run_xp, ops.kl_div, backward, given, number, rng)


@pytest.mark.parametrize("log_target", [False, True])
def test_a_target_of_probability_0_adds_nothing(run_xp, log_target):
    x, p = np.array([[-np.inf, 0.0], [-1.0, -2.0]]), np.array([[0.0, 1.0], [0.0, 0.5]])
    with np.errstate(divide="ignore"):
        target = np.log(p) if log_target else p
    y = run_xp(ops.kl_div, x, target, "none", log_target)
    np.testing.assert_allclose(y, [[0, 0], [0, 0.5 * (math.log(0.5) + 2)]])
    gx = run_xp(ops.kl_div_backward, np.ones((2, 2)), x, target, "none", log_target)
    np.testing.assert_allclose(gx, -p)


def test_a_row_that_does_not_count_may_hold_anything(run_xp):
    x, target = np.array([[-np.inf, np.nan], [-1.0, -2.0], [-np.inf, -3.0]]), np.array([-100, 1, 0])
    weight = np.array([0.0, 2.0])
    assert run_xp(ops.nll_loss, x, target, weight) == 2
    gx = run_xp(ops.nll_loss_backward, np.ones(()), x, target, weight)
    np.testing.assert_array_equal(gx, [[0, 0], [0, -1], [0, 0]])


def test_every_target_ignored(run_xp):
    x, target = np.zeros((2, 3)), np.array([-100, -100])
    assert np.isnan(run_xp(ops.nll_loss, x, target))
    assert run_xp(ops.nll_loss, x, target, reduction="sum") == 0
    assert not run_xp(ops.nll_loss_backward, np.ones(()), x, target).any()


def test_empty_and_non_contiguous_arrays(run_xp, rng):
    x, gy = log_softmax(rng.standard_normal((9, 12, 4))).transpose(1, 0, 2)[::2], rng.standard_normal((12, 4))[::2]
    target = rng.integers(0, 9, (12, 4))[::2]
    packed = x.copy(), target.copy()
    np.testing.assert_array_equal(
        run_xp(ops.nll_loss, x, target, reduction="none"), run_xp(ops.nll_loss, *packed, reduction="none")
    )
    np.testing.assert_array_equal(
        run_xp(ops.nll_loss_backward, gy, x, target, reduction="none"),
        run_xp(ops.nll_loss_backward, gy.copy(), *packed, reduction="none"),
    )
    np.testing.assert_array_equal(run_xp(ops.kl_div, x, x, "none", True), np.zeros(x.shape))
    nothing, none = np.zeros((0, 3)), np.zeros(0, int)
    assert np.isnan(run_xp(ops.nll_loss, nothing, none))
    assert run_xp(ops.nll_loss_backward, np.ones(()), nothing, none).shape == (0, 3)
    assert np.isnan(run_xp(ops.kl_div, nothing, nothing, "batchmean"))
    assert run_xp(ops.kl_div, nothing, nothing, "sum") == 0


def test_errors_name_rule_and_values():
    x, target = np.zeros((2, 3)), np.zeros(2, int)
    with pytest.raises(DtypeError, match="nll_loss: target must hold integer classes, got dtype='float64'"):
        ops.nll_loss(x, np.zeros(2))
    with pytest.raises(ArgumentError, match=r"nll_loss: target must lie in 0 to 2 .*got target=3, row=1"):
        ops.nll_loss(x, np.array([0, 3]))
    with pytest.raises(ShapeError, match=r"nll_loss: target must hold one class .*got target=\(3,\), x=\(2, 3\)"):
        ops.nll_loss(x, np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"nll_loss: x must have the dimensions \(N, C\) or .*got shape=\(2,\)"):
        ops.nll_loss(x[:, 0], target)
    with pytest.raises(ShapeError, match=r"nll_loss: weight must have shape \(3,\), got shape=\(2,\)"):
        ops.nll_loss(x, target, np.ones(2))
    with pytest.raises(ArgumentError, match="nll_loss: reduction is"):
        ops.nll_loss(x, target, reduction="batchmean")
    with pytest.raises(ShapeError, match=r"nll_loss_backward: gy must have shape \(2,\), got shape=\(\)"):
        ops.nll_loss_backward(np.ones(()), x, target, reduction="none")
    with pytest.raises(ArgumentError, match="kl_div: reduction is .* or \"batchmean\", got reduction='all'"):
        ops.kl_div(x, x, "all")
    with pytest.raises(ShapeError, match=r"kl_div: x and target must have one shape, got x=\(2, 3\), target=\(2,\)"):
        ops.kl_div(x, np.zeros(2))
    with pytest.raises(ArgumentError, match="kl_div: probabilities must not be negative, got least=-0.5"):
        ops.kl_div(x, x - 0.5)
    assert ops.kl_div(np.zeros(()), np.ones(()), "batchmean") == 0


@pytest.mark.peer("nll_loss")
def test_nll_loss_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        x, target, weight, settings = draw_nll(np.random.default_rng(seed))
        ours = lambda v, t, w, s=settings: F.nll_loss(v, t, w, **s)  # noqa: E731
        theirs = lambda v, t, w, s=settings: torch.nn.functional.nll_loss(v, t, w, **s)  # noqa: E731
        where = f"{seed=} {x.shape} {weight is None=} {settings}"
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x], [target, weight], where=where)


@pytest.mark.peer("kl_div")
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss")  # PyTorch's advice
def test_kl_div_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        x, target, reduction, log_target = draw_kl(np.random.default_rng(seed))
        settings = {"reduction": reduction, "log_target": log_target}
        ours = lambda v, t, s=settings: F.kl_div(v, t, **s)  # noqa: E731
        theirs = lambda v, t, s=settings: torch.nn.functional.kl_div(v, t, **s)  # noqa: E731
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x, target], where=f"{seed=} {x.shape} {settings}")
