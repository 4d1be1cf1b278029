import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops


def reduced(losses, reduction):
    return np.asarray({"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction])


def naive_hinge(x, target, margin, reduction):
    losses = [float(v) if t == 1 else max(0.0, margin - float(v)) for v, t in zip(x.flat, target.flat, strict=True)]
    return reduced(np.reshape(losses, x.shape), reduction)


def naive_margin(x, target, p, margin, weight, reduction):
    losses = np.zeros(len(x))
    for n, t in enumerate(target):
        w = 1.0 if weight is None else float(weight[t])
        others = [c for c in range(x.shape[1]) if c != t]
        losses[n] = w * sum(max(0.0, margin - float(x[n, t]) + float(x[n, c])) ** p for c in others) / x.shape[1]
    return reduced(losses, reduction)


def naive_cosine(x1, x2, target, margin, reduction):
    losses = np.empty(target.shape)
    for place in np.ndindex(target.shape):
        a, b = np.float64(x1[place]), np.float64(x2[place])
        c = math.fsum(a * b) / (math.hypot(*a) * math.hypot(*b))
        losses[place] = 1 - c if target[place] == 1 else max(0.0, c - margin)
    return reduced(losses, reduction)


def draw(rng, dtype=np.float64):
    """For each loss: its differentiable arrays, the target, and the other arguments in their order."""
    reduction = str(rng.choice(["mean", "sum", "none"]))
    shape = tuple(rng.integers(1, 5, rng.integers(0, 4)))
    signs = lambda shape: np.asarray(rng.choice([-1, 1], shape), rng.choice([np.int64, dtype]))  # noqa: E731
    n, classes = rng.integers(1, 6, 2)
    weight = rng.uniform(0, 2, classes).astype(dtype) if rng.random() < 0.5 else None
    vectors = rng.standard_normal((2, *([] if rng.random() < 0.2 else [n]), 3)).astype(dtype)
    margin = float(rng.uniform(-0.5, 1.5))
    return {
        "hinge_embedding_loss": ([np.asarray(rng.normal(0, 2, shape), dtype)], signs(shape), (margin, reduction)),
        "multi_margin_loss": (
            [rng.standard_normal((n, classes)).astype(dtype)], rng.integers(0, classes, n),
            (int(rng.integers(1, 3)), margin, weight, reduction),
        ),
        "cosine_embedding_loss": (list(vectors), signs(vectors.shape[1:-1]), (min(margin, 0.9), reduction)),
    }  # fmt: skip


NAIVE = {"hinge_embedding_loss": naive_hinge, "multi_margin_loss": naive_margin, "cosine_embedding_loss": naive_cosine}
NAMES = pytest.mark.parametrize("name", NAIVE.keys())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@NAMES
def test_forward_is_the_naive_loop(run_xp, name, dtype):
    for seed in run_xp.seeds(30):
        arrays, target, settings = draw(np.random.default_rng(seed), dtype)[name]
        y = run_xp(getattr(ops, name), *arrays, target, *settings)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        oracles.assert_close(y, NAIVE[name](*arrays, target, *settings), arrays[0].size)


@NAMES
def test_backward_is_the_directional_difference(run_xp, name, rng):
    forward, pair = getattr(ops, name), name == "cosine_embedding_loss"
    backward = getattr(ops, f"{name}_backward{'_x1' if pair else ''}")
    for seed in run_xp.seeds(30):
        arrays, target, settings = draw(np.random.default_rng(seed))[name]
        for number in range(len(arrays)):  # the cosine of x1 and x2 is that of x2 and x1
            first, *second = arrays[::-1] if number else arrays
            given = (first, *second, target, *settings)
            oracles.assert_gradient_of_argument(run_xp, forward, backward, given, 0, rng)


def test_corners_have_slope_0(run_xp):
    one = np.ones(1)
    assert not run_xp(ops.hinge_embedding_loss_backward, one, one, np.array([-1]), reduction="none").any()
    x = np.array([[0.0, 1.0, 1.5]])
    gx = run_xp(ops.multi_margin_loss_backward, one, x, np.array([1]), reduction="none")
    np.testing.assert_allclose(gx, [[0, -1 / 3, 1 / 3]])


def test_nan_propagates(run_xp):
    x = np.array([[np.nan, 1.0], [0.0, 1.0]])
    y = run_xp(ops.multi_margin_loss, x, np.array([0, 0]), reduction="none")
    np.testing.assert_array_equal(np.isnan(y), [True, False])
    y = run_xp(ops.hinge_embedding_loss, x, np.array([[1, -1], [1, -1]]), reduction="none")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    y = run_xp(ops.hinge_embedding_loss, x, -np.ones((2, 2)), reduction="none")
    np.testing.assert_array_equal(np.isnan(y), np.isnan(x))
    y = run_xp(ops.cosine_embedding_loss, x, np.ones((2, 2)), np.array([1, 1]), reduction="none")
    np.testing.assert_array_equal(np.isnan(y), [True, False])


def test_empty_and_non_contiguous_arrays(run_xp, rng):
    x1, x2, gy = rng.standard_normal((3, 6, 9))[:, ::2, ::3].transpose(0, 2, 1)
    target, signs = np.array([0, 9, 2, 9, 1, 9])[::2], np.array([1, 0, -1, 0, 1, 0])[::2]
    for name, arguments in (
        ("hinge_embedding_loss", (x1, np.sign(x2))),
        ("multi_margin_loss", (x1, target)),
        ("cosine_embedding_loss", (x1, x2, signs)),
    ):
        packed = [a.copy() for a in arguments]
        forward, pair = getattr(ops, name), name == "cosine_embedding_loss"
        backward = getattr(ops, f"{name}_backward{'_x1' if pair else ''}")
        y = run_xp(forward, *arguments, reduction="none")
        oracles.assert_close(y, run_xp(forward, *packed, reduction="none"), 3)  # CuPy sums in another order
        g = gy[:, 0] if y.ndim == 1 else gy
        gx = run_xp(backward, g, *arguments, reduction="none")
        oracles.assert_close(gx, run_xp(backward, g.copy(), *packed, reduction="none"), 3)
        nothing = [a[:0] for a in arguments]
        assert np.isnan(run_xp(forward, *nothing))
        assert run_xp(forward, *nothing, reduction="sum") == 0
        assert run_xp(backward, np.ones(()), *nothing).shape == (0, 3)


def test_errors_name_rule_and_values():
    x, signs = np.ones((2, 3)), np.array([1, -1])
    with pytest.raises(ArgumentError, match="hinge_embedding_loss: target must be 1 or -1, got target=0"):
        ops.hinge_embedding_loss(x, np.zeros((2, 3), int))
    with pytest.raises(ShapeError, match=r"target must have one answer for each loss, shape \(2, 3\), got target=\(2"):
        ops.hinge_embedding_loss(x, signs)
    with pytest.raises(DtypeError, match="hinge_embedding_loss: target must be a NumPy or CuPy array, got type='list'"):
        ops.hinge_embedding_loss(x, [1, -1])
    with pytest.raises(ArgumentError, match="multi_margin_loss: p must be 1 or 2, got p=3"):
        ops.multi_margin_loss(x, np.zeros(2, int), p=3)
    with pytest.raises(DtypeError, match="multi_margin_loss: target must hold integer classes, got dtype='float64'"):
        ops.multi_margin_loss(x, np.zeros(2))
    with pytest.raises(ArgumentError, match="multi_margin_loss: target must lie in 0 to 2, got target=-100, row=1"):
        ops.multi_margin_loss(x, np.array([0, -100]))
    with pytest.raises(ShapeError, match=r"multi_margin_loss: x must have the 2 dimensions \(N, C\), got shape=\(2,\)"):
        ops.multi_margin_loss(x[:, 0], np.zeros(2, int))
    with pytest.raises(ShapeError, match=r"multi_margin_loss: weight must have shape \(3,\), got shape=\(2,\)"):
        ops.multi_margin_loss(x, np.zeros(2, int), weight=np.ones(2))
    with pytest.raises(ShapeError, match=r"x1 and x2 must both be \(N, D\) or \(D,\), got x1=\(2, 3\), x2=\(3,\)"):
        ops.cosine_embedding_loss(x, x[0], signs)
    with pytest.raises(ArgumentError, match="cosine_embedding_loss: target must be 1 or -1, got target=0.5"):
        ops.cosine_embedding_loss(x, x, np.array([1, 0.5]))
    for name, arguments in (
        ("hinge_embedding_loss", (x, x)),
        ("multi_margin_loss", (x, np.zeros(2, int))),
        ("cosine_embedding_loss", (x, x, signs)),
    ):
        with pytest.raises(ArgumentError, match=f"{name}: reduction is .*got reduction='all'"):
            getattr(ops, name)(*arguments, reduction="all")


@pytest.mark.peer(*NAIVE)
@NAMES
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    keys = ("p", "margin", "weight", "reduction") if name == "multi_margin_loss" else ("margin", "reduction")
    for seed in range(50):
        arrays, target, values = draw(np.random.default_rng(seed))[name]
        settings = dict(zip(keys, values, strict=True))
        weight = settings.pop("weight", None)
        own = {} if weight is None else {"weight": weight}

        def ours(*a, s=settings, own=own):
            return getattr(F, name)(*a[: len(a) - len(own)], **s, **dict(zip(own, a[len(a) - len(own) :], strict=True)))

        def theirs(*a, s=settings, own=own):
            more = dict(zip(own, a[len(a) - len(own) :], strict=True))
            return getattr(torch.nn.functional, name)(*a[: len(a) - len(own)], **s, **more)

        # PyTorch adds 1e-12 to the squares of the lengths in the cosine.
        tolerance = 1e-9 if name == "cosine_embedding_loss" else 1e-11
        where = f"{seed=} {arrays[0].shape} {settings} {weight is None=}"
        agreement.assert_agrees(run_xp, torch, ours, theirs, arrays, [target, *own.values()], where, tolerance)
