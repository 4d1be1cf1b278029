import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import cuda, tensor
from gpunn import functional as F
from gpunn.cuda import capture
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import loss as ops


def naive(x, target, reduction):
    rows = [
        0.0 if t == -100 else math.log(sum(math.exp(v) for v in row)) - row[t] for row, t in zip(x, target, strict=True)
    ]
    total = math.fsum(rows)
    return np.array({"none": rows, "sum": total, "mean": total / max(1, sum(t != -100 for t in target))}[reduction])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_forward_is_the_naive_loop(run, reduction, dtype, rng):
    x, target = rng.standard_normal((11, 7)).astype(dtype), rng.integers(0, 7, 11)
    target[[2, 5]] = -100
    y = run(ops.cross_entropy, x, target, reduction=reduction)
    assert y.dtype == dtype
    oracles.assert_close(y, naive(x.astype(float), target, reduction), 11)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_is_the_directional_difference(run, reduction, rng):
    x, target = rng.standard_normal((5, 4)), np.array([0, 3, -100, 1, 3])
    oracles.assert_gradient(
        lambda v: run(ops.cross_entropy, v, target, reduction=reduction),
        lambda gy: run(ops.cross_entropy_backward, gy, x, target, reduction=reduction), x, rng,
    )  # fmt: skip


def test_every_target_ignored(run):
    x, target, one = np.ones((2, 3)), np.array([-100, -100]), np.ones(())
    assert run(ops.cross_entropy, x, target, reduction="sum") == 0
    assert not run(ops.cross_entropy_backward, one, x, target, reduction="sum").any()
    assert np.isnan(run(ops.cross_entropy, x, target))


AWKWARD = {
    "one logit": (1, 1),
    "no rows": (0, 5),
    "one class": (3, 1),
    "two passes of a warp": (5, 33),
    "several blocks": (19, 64),
    "a row for a block": (3, 1025),
    "a long prime row": (2, 4099),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())
def test_awkward_shapes_both_ways(run, shape, dtype, rng):
    x, target = rng.normal(0, 4, shape).astype(dtype), rng.integers(0, shape[1], shape[0])
    target[1::4] = -100
    losses = run(ops.cross_entropy, x, target, reduction="none")
    oracles.assert_close(losses, naive(x.astype(float), target, "none"), shape[1])
    gy = rng.standard_normal(shape[0]).astype(dtype)
    gx = run(ops.cross_entropy_backward, gy, x, target, reduction="none")
    assert gx.dtype == dtype
    e = np.exp(x.astype(float))
    expected = e / e.sum(1, keepdims=True)
    expected[np.arange(shape[0]), target * (target != -100)] -= 1
    oracles.assert_close(gx, expected * (gy * (target != -100))[:, None], shape[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [7, 1100])
def test_masked_classes_take_no_part(run, classes, dtype, rng):
    # Whole stretches of -inf, so that some threads see nothing else: their maximum is -inf, and -inf - -inf is NaN.
    x = rng.standard_normal((3, classes)).astype(dtype)
    x[:, : classes // 2] = -np.inf
    target = np.array([classes - 1, classes // 2, 0])
    losses = run(ops.cross_entropy, x, target, reduction="none")
    short = naive(x[:2, classes // 2 :].astype(float), target[:2] - classes // 2, "none")
    np.testing.assert_allclose(losses, [*short, np.inf], rtol=1e-6 if dtype == np.float32 else 1e-12)
    gx = run(ops.cross_entropy_backward, np.ones((), dtype), x[:2], target[:2], reduction="sum")
    assert not gx[:, : classes // 2].any()
    np.testing.assert_allclose(gx.sum(1), 0, atol=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("classes", [5, 1100])
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")  # inf - inf, in NumPy alone
def test_a_row_that_is_not_finite_gives_nan_and_leaves_the_others(run, bad, classes, dtype):
    for place in (0, classes // 2, classes - 1):
        x = np.zeros((2, classes), dtype)
        x[0, place] = bad
        losses = run(ops.cross_entropy, x, np.array([1, 1]), reduction="none")
        np.testing.assert_allclose(losses, [np.nan, np.log(classes)], rtol=1e-6)
        gx = run(ops.cross_entropy_backward, np.ones(2, dtype), x, np.array([1, 1]), reduction="none")
        assert np.isnan(gx[0]).all()
        assert np.isfinite(gx[1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_targets_of_every_integer_dtype(run, dtype, rng):
    x, target = rng.standard_normal((4, 6)), np.array([0, 5, 3, 2])
    for settings in ({}, {"ignore_index": 3}):
        wanted = ops.cross_entropy(x, target, **settings)
        np.testing.assert_allclose(run(ops.cross_entropy, x, target.astype(dtype), **settings), wanted)


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_a_class_below_0_is_none_however_many_there_are(run, dtype, rng):
    """In int8 -100 has the bits of 156."""
    x = rng.standard_normal((4, 300)).astype(np.float32)
    target = np.array([1, -100, 2, 127], dtype)
    losses = run(ops.cross_entropy, x, target, reduction="none")
    assert losses[1] == 0
    np.testing.assert_array_equal(
        losses[[0, 2, 3]], run(ops.cross_entropy, x, target.astype(np.int64), reduction="none")[[0, 2, 3]]
    )
    target[2] = -3
    with pytest.raises(ArgumentError, match=r"target must lie in 0 to 299 .* got target=-3, row=2"):
        ops.cross_entropy(x, target)


def test_targets_that_are_views_are_read_right(run, rng):
    x, target = rng.standard_normal((6, 5)).astype(np.float32), np.arange(12)[::2] % 5
    expected = ops.cross_entropy(x, target.copy(), reduction="none")
    np.testing.assert_allclose(
        run(ops.cross_entropy, x, np.repeat(target, 2)[::2], reduction="none"), expected, rtol=1e-5
    )


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, target, gy = rng.standard_normal((9, 12)).T[::2], np.arange(12)[::2] % 9, rng.standard_normal(12)[::2]
    packed = x.copy("C"), target.copy(), gy.copy()
    np.testing.assert_allclose(run(ops.cross_entropy, x, target), ops.cross_entropy(*packed[:2]))
    np.testing.assert_allclose(
        run(ops.cross_entropy_backward, gy, x, target, reduction="none"),
        ops.cross_entropy_backward(packed[2], *packed[:2], reduction="none"),
    )


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    x, target = rng.standard_normal((5, 1100)), rng.integers(0, 1100, 5)
    with cuda.emulate():
        narrow = ops.cross_entropy(x, target), ops.cross_entropy_backward(np.ones(()), x, target)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        np.testing.assert_array_equal(ops.cross_entropy(x, target), narrow[0])
        np.testing.assert_array_equal(ops.cross_entropy_backward(np.ones(()), x, target), narrow[1])


def test_confident_logits_neither_overflow_nor_round_to_infinity(run):
    x = np.float32([[1e4, 0], [1e4, 0]])
    losses = run(ops.cross_entropy, x, np.array([0, 1]), reduction="none")
    np.testing.assert_array_equal(losses, [0, 1e4])
    assert not np.signbit(losses).any()
    assert not np.signbit(run(ops.cross_entropy, x[:1], np.array([0]), reduction="none")[0])


def test_a_kernel_does_not_read_what_a_class_out_of_range_points_to():
    x = np.zeros((2, 3), np.float32)
    for wrong in (10**6, -(10**6)):
        with cuda.emulate(check=True), capture.rehearsing():
            loss = F.cross_entropy(tensor(x, requires_grad=True), np.array([0, wrong]))
            loss.backward()
            (alarm, report), *_ = capture.alarms()
        assert alarm
        assert loss.item() == pytest.approx(math.log(3))
        with pytest.raises(ArgumentError, match=f"target must lie in 0 to 2 .*, got target={wrong}, row=1"):
            report()


def test_errors_name_rule_and_values():
    x = np.zeros((2, 10), np.float32)
    with pytest.raises(ArgumentError, match="target must lie in 0 to 9 .*got target=10, row=1"):
        ops.cross_entropy(x, np.array([0, 10]))
    with pytest.raises(ArgumentError, match="got target=-1, row=0"):
        ops.cross_entropy(x, np.array([-1, 0]))
    with pytest.raises(DtypeError, match="target must hold integer classes, got dtype='float64'"):
        ops.cross_entropy(x, np.zeros(2))
    with pytest.raises(ShapeError, match=r"one class for each row of logits, got target=\(3,\), logits=\(2, 10\)"):
        ops.cross_entropy(x, np.zeros(3, int))
    with pytest.raises(ShapeError, match=r"logits must have the dimensions \(N, C\) or .*got shape=\(10,\)"):
        ops.cross_entropy(x[0], np.zeros(10, int))
    with pytest.raises(ShapeError, match=r"logits must have at least one class, got shape=\(2, 0\)"):
        ops.cross_entropy(x[:, :0], np.zeros(2, int))
    with pytest.raises(ShapeError, match=r"gy must have shape \(2,\), got shape=\(\)"):
        ops.cross_entropy_backward(np.ones((), np.float32), x, np.zeros(2, int), reduction="none")
    with pytest.raises(ArgumentError, match="reduction is"):
        ops.cross_entropy(x, np.zeros(2, int), reduction="total")


@pytest.mark.peer("cross_entropy")
@pytest.mark.parametrize("seed", range(50))
def test_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    rows, classes = int(rng.integers(1, 12)), int(rng.choice([*range(1, 12), 40, 1100]))
    x, target = rng.normal(0, 5, (rows, classes)), rng.integers(0, classes, rows)
    target[rng.random(rows) < 0.2] = -100
    reduction = str(rng.choice(["mean", "sum", "none"]))
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(target), reduction=reduction)
    gy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(gy))
    y = run(ops.cross_entropy, x, target, reduction=reduction)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    if (target != -100).any():
        gx = run(ops.cross_entropy_backward, np.asarray(gy), x, target, reduction=reduction)
        np.testing.assert_allclose(gx, leaf.grad.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_ignored_row_may_hold_anything(run, dtype):
    x = np.array([[-np.inf, 1.0], [1.0, 2.0], [np.nan, 0.0]], dtype)
    target = np.array([-100, 0, -100])
    np.testing.assert_allclose(run(ops.cross_entropy, x, target), np.log1p(np.exp(1)), rtol=1e-6)
    gx = run(ops.cross_entropy_backward, np.ones((), dtype), x, target)
    assert not gx[[0, 2]].any()
    assert np.isfinite(gx[1]).all()


def test_float16_is_summed_in_float32():
    loss = ops.cross_entropy(np.zeros((30_000, 10), np.float16), np.zeros(30_000, int))  # the sum is beyond float16
    assert loss.dtype == np.float16
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-3)


# ---- weights, smoothing, probabilities, more dimensions --------------------------------------------------------------


def naive_complete(x, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """One row at a time, straight from the definition: -sum_c w[c] q[c] log p[c], with the smoothed distribution q."""
    classes = x.shape[1]
    weight = np.ones(classes) if weight is None else weight
    soft = target.dtype.kind == "f"
    losses, divisor = np.zeros((*x.shape[:1], *x.shape[2:])), 0.0
    for place in np.ndindex(losses.shape):
        row = x[(place[0], slice(None), *place[1:])]
        if soft:
            q = target[(place[0], slice(None), *place[1:])]
        elif target[place] == ignore_index:
            continue
        else:
            q = np.eye(classes)[target[place]]
        divisor += 1 if soft else weight[target[place]]
        total = math.log(sum(math.exp(v) for v in row))
        for c in range(classes):
            losses[place] -= weight[c] * ((1 - label_smoothing) * q[c] + label_smoothing / classes) * (row[c] - total)
    return {"none": losses, "sum": losses.sum(), "mean": losses.sum() / max(divisor, 1e-300)}[reduction]


def draw(rng, dtype=np.float64):
    """Logits, target, weight and the other settings, at random."""
    more = tuple(rng.integers(1, 4, rng.integers(0, 3)))
    classes = int(rng.choice([1, 2, 3, 7, 40]))
    x = rng.normal(0, 3, (int(rng.integers(1, 6)), classes, *more)).astype(dtype)
    weight = rng.uniform(0.1, 2, classes).astype(dtype) if rng.random() < 0.5 else None
    settings = {"reduction": str(rng.choice(["mean", "sum", "none"]))}
    if rng.random() < 0.5:
        settings["label_smoothing"] = float(rng.choice([0.1, 0.5, 1.0]))
    if rng.random() < 0.4:
        target = np.moveaxis(rng.dirichlet(np.ones(classes), (len(x), *more)), -1, 1).astype(dtype)
        return x, np.ascontiguousarray(target), weight, settings
    target = rng.integers(0, classes, (len(x), *more))
    if rng.random() < 0.7:
        settings["ignore_index"] = int(rng.choice([-100, -1, 0, 300]))
        target[rng.random(target.shape) < 0.3] = settings["ignore_index"]
        target[(0,) * target.ndim] = classes - 1  # one at least counts
        if settings["ignore_index"] == classes - 1:
            settings["ignore_index"] = -1
            target %= classes
    return x, target, weight, settings


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_setting_is_the_naive_loop(run, dtype):
    for seed in range(30):
        x, target, weight, settings = draw(np.random.default_rng(seed), dtype)
        y = run(ops.cross_entropy, x, target, weight, **settings)
        assert y.dtype == dtype
        wide = [None if a is None else a.astype(float) if a.dtype.kind == "f" else a for a in (x, target, weight)]
        oracles.assert_close(y, np.asarray(naive_complete(*wide, **settings)), x.size)


def test_every_setting_has_the_directional_difference_as_gradient(run, rng):
    for seed in range(30):
        x, target, weight, settings = draw(np.random.default_rng(seed))
        both, given = (ops.cross_entropy, ops.cross_entropy_backward), (x, target, weight)
        oracles.assert_gradient_of_argument(run, *both, given, 0, rng, **settings)
        if target.dtype.kind == "f":
            both, given = (ops.cross_entropy, ops.cross_entropy_backward_target), (x, 0.05 + 0.9 * target, weight)
            oracles.assert_gradient_of_argument(run, *both, given, 1, rng, **settings)


def test_probabilities_of_one_class_are_that_class(run, rng):
    x, target = rng.standard_normal((6, 4, 3)), rng.integers(0, 4, (6, 3))
    hot = np.moveaxis(np.eye(4)[target], -1, 1).copy()
    gy = rng.standard_normal((6, 3))
    for settings in ({"reduction": "none"}, {"reduction": "none", "label_smoothing": 0.2}):
        np.testing.assert_allclose(
            run(ops.cross_entropy, x, hot, **settings), run(ops.cross_entropy, x, target, **settings), rtol=1e-12
        )
        np.testing.assert_allclose(
            run(ops.cross_entropy_backward, gy, x, hot, **settings),
            run(ops.cross_entropy_backward, gy, x, target, **settings), rtol=1e-12, atol=1e-14,
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("odd", [[np.nan, 0.0, 0.0], [0.0, 0.0, 0.0], [-np.inf] * 3], ids=str)
def test_rows_that_do_not_count_may_hold_anything(run, smoothing, odd, dtype):
    x = np.array([[-np.inf, 1.0, 0.0], [1.0, 2.0, 3.0], odd], dtype)
    target, weight = np.array([-100, 0, -100]), np.array([0.5, 2.0, 1.0], dtype)
    one, rtol = np.ones((), dtype), 1e-6 if dtype == np.float32 else 1e-12
    good = x[1:2], target[1:2], weight
    settings = {"label_smoothing": smoothing}
    np.testing.assert_allclose(
        run(ops.cross_entropy, x, target, weight, **settings), ops.cross_entropy(*good, **settings), rtol
    )
    gx = run(ops.cross_entropy_backward, one, x, target, weight, **settings)
    assert not gx[[0, 2]].any()
    np.testing.assert_allclose(gx[1:2], ops.cross_entropy_backward(one, *good, **settings), rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_class_of_no_weight_takes_no_part(run, dtype):
    x, target = np.array([[-np.inf, 1.0, 2.0], [0.0, 1.0, 2.0]], dtype), np.array([0, 1])
    weight, one = np.array([0.0, 2.0, 1.0], dtype), np.ones((), dtype)
    alone = naive_complete(x[1:], target[1:])
    np.testing.assert_allclose(run(ops.cross_entropy, x, target, weight), alone, rtol=1e-6)
    gx = run(ops.cross_entropy_backward, one, x, target, weight)
    assert not gx[0].any()
    np.testing.assert_allclose(gx[1:], ops.cross_entropy_backward(one, x[1:], target[1:]), rtol=1e-6)
    masked, soft = np.array([[-np.inf, 1.0, 2.0]]), np.array([[0.0, 0.25, 0.75]])
    np.testing.assert_allclose(
        run(ops.cross_entropy, masked, soft), naive_complete(masked[:, 1:], soft[:, 1:]), rtol=1e-12
    )
    gx = run(ops.cross_entropy_backward, np.ones(()), masked, soft)
    np.testing.assert_allclose(gx[0], [0, *(np.exp([1, 2]) / np.exp([1, 2]).sum() - [0.25, 0.75])], atol=1e-15)


@pytest.mark.parametrize("settings", [{}, {"weight": np.array([1.0, 2.0, 3.0])}, {"label_smoothing": 0.3}], ids=str)
def test_nothing_to_average_is_nan_with_no_gradient(run, settings):
    x, target = np.ones((2, 3)), np.array([-100, -100])
    x[0, 1] = np.nan
    weight, rest = settings.get("weight"), {k: v for k, v in settings.items() if k != "weight"}
    assert np.isnan(run(ops.cross_entropy, x, target, weight, **rest))
    assert run(ops.cross_entropy, x, target, weight, reduction="sum", **rest) == 0
    assert not run(ops.cross_entropy_backward, np.ones(()), x, target, weight, **rest).any()


def test_empty_batches_in_more_dimensions(run):
    for x, target in ((np.ones((0, 3, 2)), np.ones((0, 2), int)), (np.ones((2, 3, 0)), np.ones((2, 0), int))):
        for settings in ({}, {"label_smoothing": 0.1}):
            assert run(ops.cross_entropy, x, target, reduction="none", **settings).shape == target.shape
            assert run(ops.cross_entropy, x, target, reduction="sum", **settings) == 0
            gy = np.ones(target.shape)
            assert run(ops.cross_entropy_backward, gy, x, target, reduction="none", **settings).shape == x.shape


def test_errors_of_the_settings_name_rule_and_values():
    x, target = np.zeros((2, 3, 4), np.float32), np.zeros((2, 4), int)
    with pytest.raises(ShapeError, match=r"weight must have shape \(3,\), got shape=\(4,\)"):
        ops.cross_entropy(x, target, np.ones(4, np.float32))
    with pytest.raises(DtypeError, match="arrays must have one dtype, got x='float32', weight='float64'"):
        ops.cross_entropy(x, target, np.ones(3))
    with pytest.raises(ArgumentError, match="label_smoothing must be from 0 to 1, got label_smoothing=1.5"):
        ops.cross_entropy(x, target, label_smoothing=1.5)
    with pytest.raises(ArgumentError, match="probabilities must lie in 0 to 1, got least=-0.5, most="):
        ops.cross_entropy(x, np.full_like(x, -0.5))
    with pytest.raises(DtypeError, match="arrays must have one dtype"):
        ops.cross_entropy(x, np.zeros(x.shape))
    with pytest.raises(ShapeError, match=r"a target of probabilities must have the shape .*target=\(2, 4, 3\)"):
        ops.cross_entropy(x, np.zeros((2, 4, 3), np.float32))
    with pytest.raises(ArgumentError, match="with probabilities as target nothing can be ignored, got ignore_index=1"):
        ops.cross_entropy(x, np.zeros_like(x), ignore_index=1)
    with pytest.raises(ShapeError, match=r"one class for each row of logits, got target=\(2, 3\), logits=\(2, 3, 4\)"):
        ops.cross_entropy(x, np.zeros((2, 3), int))
    with pytest.raises(ArgumentError, match="target must lie in 0 to 2 .*got target=7, row=5"):
        ops.cross_entropy(x, np.array([[0, 0, 0, 0], [0, 7, 0, 0]]))
    with pytest.raises(ArgumentError, match="only probabilities have a gradient, got dtype='int64'"):
        ops.cross_entropy_backward_target(np.ones((), np.float32), x, target)


@pytest.mark.peer("cross_entropy")
def test_every_setting_matches_pytorch(run):
    torch = pytest.importorskip("torch")
    for seed in range(100):
        rng = np.random.default_rng(seed)
        x, target, weight, settings = draw(rng)
        ours = lambda v, t, w=None, s=settings: F.cross_entropy(v, t, w, **s)  # noqa: E731
        theirs = lambda v, t, w=None, s=settings: torch.nn.functional.cross_entropy(v, t, w, **s)  # noqa: E731
        soft = target.dtype.kind == "f"
        agreement.assert_agrees(
            run, torch, ours, theirs, [x, target] if soft else [x], [weight] if soft else [target, weight],
            where=f"{seed=} {x.shape} {target.shape} {weight is not None=} {settings}",
        )  # fmt: skip
