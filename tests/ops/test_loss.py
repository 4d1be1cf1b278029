import math

import numpy as np
import oracles
import pytest

from gpunn import cuda
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


@pytest.mark.parametrize("classes", [7, 1100])
def test_masked_classes_take_no_part(run, classes, rng):
    # Whole stretches of -inf, so that some threads see nothing else: their maximum is -inf, and -inf - -inf is NaN.
    x = rng.standard_normal((3, classes))
    x[:, : classes // 2] = -np.inf
    target = np.array([classes - 1, classes // 2, 0])
    losses = run(ops.cross_entropy, x, target, reduction="none")
    short = naive(x[:2, classes // 2 :], target[:2] - classes // 2, "none")
    np.testing.assert_allclose(losses, [*short, np.inf], rtol=1e-12)
    gx = run(ops.cross_entropy_backward, np.ones(()), x[:2], target[:2], reduction="sum")
    assert not gx[:, : classes // 2].any()
    np.testing.assert_allclose(gx.sum(1), 0, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("classes", [5, 1100])
@pytest.mark.filterwarnings("ignore:invalid value encountered in subtract")  # inf - inf, in NumPy alone
def test_a_row_that_is_not_finite_gives_nan_and_leaves_the_others(run, bad, classes):
    for place in (0, classes // 2, classes - 1):
        x = np.zeros((2, classes))
        x[0, place] = bad
        losses = run(ops.cross_entropy, x, np.array([1, 1]), reduction="none")
        np.testing.assert_allclose(losses, [np.nan, np.log(classes)])
        gx = run(ops.cross_entropy_backward, np.ones(2), x, np.array([1, 1]), reduction="none")
        assert np.isnan(gx[0]).all()
        assert np.isfinite(gx[1]).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_targets_of_every_integer_dtype(run, dtype, rng):
    x, target = rng.standard_normal((4, 6)), np.array([0, 5, 3, 2])
    for settings in ({}, {"ignore_index": 3}):
        wanted = ops.cross_entropy(x, target, **settings)
        np.testing.assert_allclose(run(ops.cross_entropy, x, target.astype(dtype), **settings), wanted)


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
    np.testing.assert_array_equal(run(ops.cross_entropy, x, np.array([0, 1]), reduction="none"), [0, 1e4])


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
    with pytest.raises(ShapeError, match=r"logits must have the 2 dimensions \(N, C\), got shape=\(10,\)"):
        ops.cross_entropy(x[0], np.zeros(10, int))
    with pytest.raises(ShapeError, match=r"logits must have at least one class, got shape=\(2, 0\)"):
        ops.cross_entropy(x[:, :0], np.zeros(2, int))
    with pytest.raises(ShapeError, match=r"gy must have shape \(2,\), got shape=\(\)"):
        ops.cross_entropy_backward(np.ones(()), x, np.zeros(2, int), reduction="none")
    with pytest.raises(ArgumentError, match="reduction is"):
        ops.cross_entropy(x, np.zeros(2, int), reduction="total")


@pytest.mark.peer
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


def test_an_ignored_row_may_hold_anything(run):
    x = np.array([[-np.inf, 1.0], [1.0, 2.0], [np.nan, 0.0]])
    target = np.array([-100, 0, -100])
    np.testing.assert_allclose(run(ops.cross_entropy, x, target), np.log1p(np.exp(1)), rtol=1e-6)
    gx = run(ops.cross_entropy_backward, np.ones(()), x, target)
    assert not gx[[0, 2]].any()
    assert np.isfinite(gx[1]).all()


def test_float16_is_summed_in_float32():
    loss = ops.cross_entropy(np.zeros((30_000, 10), np.float16), np.zeros(30_000, int))  # the sum is beyond float16
    assert loss.dtype == np.float16
    np.testing.assert_allclose(loss, np.log(10), rtol=1e-3)
