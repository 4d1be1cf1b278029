import math

import numpy as np
import oracles
import pytest

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
def test_forward_is_the_naive_loop(run_xp, reduction, dtype, rng):
    x, target = rng.standard_normal((11, 7)).astype(dtype), rng.integers(0, 7, 11)
    target[[2, 5]] = -100
    y = run_xp(ops.cross_entropy, x, target, reduction=reduction)
    assert y.dtype == dtype
    oracles.assert_close(y, naive(x.astype(float), target, reduction), 11)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_backward_is_the_directional_difference(run_xp, reduction, rng):
    x, target = rng.standard_normal((5, 4)), np.array([0, 3, -100, 1, 3])
    oracles.assert_gradient(
        lambda v: run_xp(ops.cross_entropy, v, target, reduction=reduction),
        lambda gy: run_xp(ops.cross_entropy_backward, gy, x, target, reduction=reduction), x, rng,
    )  # fmt: skip


def test_every_target_ignored(run_xp):
    x, target, one = np.ones((2, 3)), np.array([-100, -100]), np.ones(())
    assert run_xp(ops.cross_entropy, x, target, reduction="sum") == 0
    assert not run_xp(ops.cross_entropy_backward, one, x, target, reduction="sum").any()
    assert np.isnan(run_xp(ops.cross_entropy, x, target))


def test_confident_logits_neither_overflow_nor_round_to_infinity(run_xp):
    x = np.float32([[1e4, 0], [1e4, 0]])
    np.testing.assert_array_equal(run_xp(ops.cross_entropy, x, np.array([0, 1]), reduction="none"), [0, 1e4])


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
    with pytest.raises(ArgumentError, match="reduction is"):
        ops.cross_entropy(x, np.zeros(2, int), reduction="total")


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(50))
def test_matches_pytorch(run_xp, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    rows, classes = map(int, rng.integers(1, 12, 2))
    x, target = rng.normal(0, 5, (rows, classes)), rng.integers(0, classes, rows)
    target[rng.random(rows) < 0.2] = -100
    reduction = str(rng.choice(["mean", "sum", "none"]))
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.cross_entropy(leaf, torch.tensor(target), reduction=reduction)
    gy = rng.standard_normal(expected.shape)
    expected.backward(torch.tensor(gy))
    y = run_xp(ops.cross_entropy, x, target, reduction=reduction)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    if (target != -100).any():
        gx = run_xp(ops.cross_entropy_backward, np.asarray(gy), x, target, reduction=reduction)
        np.testing.assert_allclose(gx, leaf.grad.numpy(), rtol=1e-12, atol=1e-13)
