"""Losses of an order, of several labels, of triplets, of numbers under a distribution; weights of single elements."""

import math

import agreement
import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops


def reduced(losses, reduction):
    return np.asarray({"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction])


def by_element(formula):
    """A naive loss: the formula of the numbers of some arrays, and of settings; the reduction comes last."""

    def naive(*args):
        *given, reduction = args
        arrays = np.broadcast_arrays(*(np.float64(a) for a in given if isinstance(a, np.ndarray)))
        settings = [a for a in given if not isinstance(a, np.ndarray)]
        losses = [formula(*map(float, each), *settings) for each in zip(*(a.flat for a in arrays), strict=True)]
        return reduced(np.reshape(losses, arrays[0].shape), reduction)

    return naive


def poisson(x, t, log_input, full, eps):
    stirling = t * math.log(t) - t + 0.5 * math.log(2 * math.pi * t) if full and t > 1 else 0
    return (math.exp(x) - t * x if log_input else x - t * math.log(x + eps)) + stirling


def gaussian(x, t, v, full, eps):
    v = max(v, eps)
    return 0.5 * (math.log(v) + (x - t) ** 2 / v) + (0.5 * math.log(2 * math.pi) if full else 0)


def labels(x, target, reduction):
    losses = np.zeros(x.shape[:-1])
    for place in np.ndindex(losses.shape):
        own = target[place].tolist()
        own = own[: own.index(-1)] if -1 in own else own
        others = [c for c in range(x.shape[-1]) if c not in own]
        row = np.float64(x[place])
        losses[place] = sum(max(0.0, 1 - row[j] + row[i]) for j in own for i in others) / len(row)
    return reduced(losses, reduction)


def soft_labels(x, target, weight, reduction):
    each = by_element(lambda x, t, w: w * (t * math.log1p(math.exp(-x)) + (1 - t) * math.log1p(math.exp(x))))
    return reduced(each(x, np.float64(target), np.ones(1) if weight is None else weight, "none").mean(-1), reduction)


NAIVE = {
    "margin_ranking_loss": by_element(lambda a, b, t, margin: max(0.0, margin - t * (a - b))),
    "soft_margin_loss": by_element(lambda x, t: math.log1p(math.exp(-t * x))),
    "multilabel_margin_loss": labels,
    "multilabel_soft_margin_loss": soft_labels,
    "poisson_nll_loss": by_element(poisson),
    "gaussian_nll_loss": by_element(gaussian),
}
NAMES = pytest.mark.parametrize("name", NAIVE)


def draw(seed, dtype=np.float64):
    """For each loss: its differentiable arrays, the constants after them, and the settings."""
    rng = np.random.default_rng(seed)
    reduction = str(rng.choice(["mean", "sum", "none"]))
    shape = tuple(rng.integers(1, 5, rng.integers(1, 4)))
    a, b, t = (rng.standard_normal(shape).astype(dtype) for _ in range(3))
    signs = np.asarray(rng.choice([-1, 1], shape), rng.choice([np.int64, dtype]))
    rows = (*shape[: rng.integers(0, 2)], 6)
    classes = rng.integers(-1 if seed % 2 else 0, 6, rows)
    weight = rng.uniform(0, 2, shape[-1:]).astype(dtype) if seed % 3 else None
    wide = [shape, shape[:-1], (*shape[:-1], 1)]
    var = np.asarray(rng.uniform(-0.5, 2, wide[rng.integers(0, 3)]).clip(0), dtype)
    full, log_input, eps = bool(rng.random() < 0.5), bool(rng.random() < 0.5), float(rng.choice([1e-2, 0.3]))
    counts = {"log_input": log_input, "full": full, "eps": eps}
    return {
        "margin_ranking_loss": ([a, b], [signs], {"margin": float(rng.uniform(-1, 1))}),
        "soft_margin_loss": ([3 * a], [signs], {}),
        "multilabel_margin_loss": ([rng.standard_normal(rows).astype(dtype)], [classes], {}),
        "multilabel_soft_margin_loss": ([a, b], [], {"weight": weight}),
        "poisson_nll_loss": ([a if log_input else abs(a) + dtype(0.1), 3 * abs(t)], [], counts),
        "gaussian_nll_loss": ([a, np.asarray(b[0]) if seed % 2 else b, var], [], {"full": full, "eps": eps}),
    }, reduction  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@NAMES
def test_forward_is_the_naive_loop(run_xp, name, dtype):
    for seed in range(20):
        cases, reduction = draw(seed, dtype)
        arrays, constants, settings = cases[name]
        y = run_xp(getattr(ops, name), *arrays, *constants, **settings, reduction=reduction)
        assert isinstance(y, np.ndarray)
        assert y.dtype == dtype
        given = [*arrays, *constants]
        if name == "gaussian_nll_loss" and given[2].ndim < given[0].ndim:
            given[2] = given[2][..., None]
        expected = NAIVE[name](*given, *settings.values(), reduction)
        np.testing.assert_allclose(y, expected, 100 * np.finfo(dtype).eps, 100 * np.finfo(dtype).eps)


@pytest.mark.peer(*NAIVE)
@NAMES
def test_matches_pytorch(run_xp, name):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        cases, reduction = draw(seed)
        arrays, constants, settings = cases[name]
        weight = settings.pop("weight", None)
        settings["reduction"] = reduction
        ours, theirs = agreement.both(torch, name, **settings)
        if weight is not None:
            constants = [weight]
            ours, theirs = (lambda x, t, w, f=f: f(x, t, weight=w) for f in (ours, theirs))
        agreement.assert_agrees(
            run_xp, torch, ours, theirs, arrays, constants, f"{seed=} {settings} {reduction}", 1e-10
        )


@pytest.mark.peer("triplet_margin_loss", "triplet_margin_with_distance_loss", "mse_loss", "l1_loss", "huber_loss")
def test_triplets_and_weights_match_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shape = tuple(rng.integers(1, 5, rng.integers(1, 3)))
        arrays, weight = list(rng.standard_normal((3, *shape))), rng.uniform(0, 2, shape)
        reduction = str(rng.choice(["mean", "sum", "none"]))
        settings = {"margin": float(rng.uniform(0.1, 3)), "swap": bool(seed % 2), "reduction": reduction}
        where = f"{seed=} {shape} {settings}"
        both = agreement.both(torch, "triplet_margin_loss", p=float(rng.choice([1, 2, 3.5])), **settings)
        agreement.assert_agrees(run_xp, torch, *both, arrays, where=where, tolerance=1e-9)
        for distance in (None, lambda a, b: abs(a - b).sum(-1)):
            both = agreement.both(torch, "triplet_margin_with_distance_loss", distance_function=distance, **settings)
            agreement.assert_agrees(run_xp, torch, *both, arrays, where=where, tolerance=1e-9)
        for name in ("mse_loss", "l1_loss", "huber_loss"):
            ours, theirs = (
                lambda x, t, w, place=place, name=name, reduction=reduction: getattr(place, name)(
                    x, t, reduction=reduction, weight=w
                )
                for place in (F, torch.nn.functional)
            )
            agreement.assert_agrees(run_xp, torch, ours, theirs, arrays[:2], [weight], f"{where} {name}")


def test_single_vectors_and_numpy_functions_of_distance(rng):
    a, p, n = rng.standard_normal((3, 4))
    plain = F.triplet_margin_with_distance_loss(a, p, n, lambda x, y: abs(x - y).sum(), 5.0)
    found = F.triplet_margin_with_distance_loss(tensor(a), tensor(p), tensor(n), lambda x, y: abs(x - y).sum(), 5.0)
    assert plain == found.item()
    assert F.triplet_margin_loss(a, p, n, 5.0).shape == ()


def test_far_scores_corners_and_nan(run_xp):
    far = np.array([[-1000.0, 1000.0]])
    one = np.ones((1, 2))
    assert run_xp(ops.soft_margin_loss, far, one, "none").tolist() == [[1000, 0]]
    assert run_xp(ops.soft_margin_loss_backward, one, far, one, "none").tolist() == [[-1, 0]]
    assert run_xp(ops.multilabel_soft_margin_loss, far, one, reduction="none").tolist() == [500]
    equal = run_xp(ops.margin_ranking_loss_backward, one, far, far, one, reduction="none")
    assert equal.tolist() == [[-1, -1]]  # as in PyTorch, where nothing is missing and nothing left
    nan = np.array([np.nan, 1.0])
    for found in (
        run_xp(ops.margin_ranking_loss, nan, np.zeros(2), np.ones(2), reduction="none"),
        run_xp(ops.soft_margin_loss, nan, np.ones(2), "none"),
        run_xp(ops.poisson_nll_loss, nan, np.ones(2), reduction="none"),
        run_xp(ops.gaussian_nll_loss, np.zeros(2), np.zeros(2), nan, reduction="none"),
    ):
        assert np.isnan(found).tolist() == [True, False]
    assert np.isnan(run_xp(ops.multilabel_margin_loss, nan, np.array([1, -1])))
    assert run_xp(ops.multilabel_margin_loss, np.ones(()), np.zeros((), int)) == 0
    _, _, gv = run_xp(ops.gaussian_nll_loss_backward, np.ones(1), np.ones(1), np.zeros(1), np.zeros(1), 0.5, "none")
    assert gv.tolist() == [-1]
    for name, given in (("soft_margin_loss", (far[:0], one[:0])), ("poisson_nll_loss", (far[:0], one[:0]))):
        assert np.isnan(run_xp(getattr(ops, name), *given))
        assert run_xp(getattr(ops, name), *given, reduction="sum") == 0
    assert np.isnan(run_xp(ops.multilabel_margin_loss, far[:0], np.zeros((0, 2), int)))


HALF = np.array([0.5, 1.0, 2.0])
LAYERS = {
    "MarginRankingLoss": ((0.3, "sum"), lambda x, y, z: F.margin_ranking_loss(x, y, z, 0.3, "sum"), 3),
    "TripletMarginLoss": (
        (3.0, 1.0, 0.1, True, "sum"), lambda x, y, z: F.triplet_margin_loss(x, y, z, 3.0, 1.0, 0.1, True, "sum"), 3,
    ),
    "TripletMarginWithDistanceLoss": (
        (F.cosine_similarity, 3.0, True, "sum"),
        lambda x, y, z: F.triplet_margin_with_distance_loss(x, y, z, F.cosine_similarity, 3.0, True, "sum"), 3,
    ),
    "SoftMarginLoss": (("sum",), lambda x, y: F.soft_margin_loss(x, y, "sum"), 2),
    "MultiLabelSoftMarginLoss": ((HALF, "sum"), lambda x, y: F.multilabel_soft_margin_loss(x, y, HALF, "sum"), 2),
    "MultiLabelMarginLoss": (("sum",), lambda x, y: F.multilabel_margin_loss(x, y, "sum"), 2),
    "PoissonNLLLoss": ((True, True, 0.1, "sum"), lambda x, y: F.poisson_nll_loss(x, y, True, True, 0.1, "sum"), 2),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_loss_layer_is_its_function(name, rng):
    settings, function, count = LAYERS[name]
    layer, given = getattr(nn, name)(*settings), list(rng.uniform(0.1, 0.9, (count, 4, 3)))
    if name in ("MarginRankingLoss", "SoftMarginLoss"):
        given[-1] = rng.choice([-1, 1], (4, 3))
    elif name == "MultiLabelMarginLoss":
        given[-1] = rng.integers(-1, 3, (4, 3))
    np.testing.assert_array_equal(layer(*given), function(*given))
    assert list(layer.state_dict()) == (["weight"] if settings[0] is HALF else [])
    assert getattr(nn, name)().reduction == "mean"


def test_layer_of_a_normal_distribution(rng):
    x, t, v = rng.uniform(0.1, 0.9, (3, 4, 3))
    y = nn.GaussianNLLLoss(full=True, eps=0.3, reduction="sum")(x, t, v)
    np.testing.assert_array_equal(y, F.gaussian_nll_loss(x, t, v, True, 0.3, "sum"))
    np.testing.assert_allclose(F.gaussian_nll_loss(x, t, 0.7), F.gaussian_nll_loss(x, t, np.full((4, 3), 0.7)))
    leaf = tensor(x, requires_grad=True)
    F.gaussian_nll_loss(leaf, t, 0.5, reduction="sum").backward()
    np.testing.assert_allclose(leaf.grad, (x - t) / 0.5)


def test_errors_name_rule_and_values():
    x, ints = np.ones((2, 3)), np.zeros((2, 3), int)
    for call, kind, message in (
        (lambda: ops.margin_ranking_loss(x, x[0], ints), ShapeError, r"x1 and x2 must have one shape, got x1=\(2, 3\)"),
        (lambda: ops.margin_ranking_loss(x, x, ints[0]), ShapeError, r"target must have one shape, got x=\(2, 3\), ta"),
        (lambda: ops.soft_margin_loss(x, x, "all"), ArgumentError, "soft_margin_loss: reduction is .* got reduction"),
        (lambda: ops.multilabel_margin_loss(x, x), DtypeError, "target must hold integer classes, got dtype='float64'"),
        (lambda: ops.multilabel_margin_loss(x, ints + 3), ArgumentError, "target must lie in -1 to 2, got target=3"),
        (lambda: ops.multilabel_margin_loss(x[:, :0], ints[:, :0]), ShapeError, "must have at least one class, got sh"),
        (
            lambda: ops.multilabel_soft_margin_loss(x, x, np.ones(2)),
            ShapeError,
            r"to the shape of x, got weight=\(2,\)",
        ),
        (lambda: ops.poisson_nll_loss(x, x[0]), ShapeError, r"poisson_nll_loss: x and target must have one shape, got"),
        (lambda: ops.gaussian_nll_loss(x, x, -x), ArgumentError, "var must not be negative, got least=-1.0"),
        (lambda: ops.gaussian_nll_loss(x, x, -0.5), ArgumentError, "var must not be negative, got var=-0.5"),
        (lambda: ops.gaussian_nll_loss(x, x, x[:, :2]), ShapeError, r"var must have the shape of x, .*var=\(2, 2\)"),
        (lambda: ops.gaussian_nll_loss(x, x[:, :2], x), ShapeError, r"target must broadcast to .* got target=\(2, 2\)"),
        (lambda: F.triplet_margin_loss(x, x, x[0]), ShapeError, r"all three must have one shape, got anchor=\(2, 3\)"),
        (lambda: F.triplet_margin_loss(x, x, x, 0), ArgumentError, "triplet_margin_loss: margin must be above 0, got"),
        (lambda: F.mse_loss(x, x, weight=x[0]), ShapeError, r"mse_loss: weight must have shape \(2, 3\), got shape="),
    ):
        with pytest.raises(kind, match=message):
            call()
