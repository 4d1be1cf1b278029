import agreement
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn.errors import DtypeError, ShapeError
from gpunn.ops import linear as ops

SHAPES = {
    "one": ((1, 1), 1),
    "primes": ((7, 5), 3),
    "no rows": ((0, 4), 3),
    "vector": ((4,), 3),
    "batch of sequences": ((2, 3, 4), 5),
}


def naive(x, w, b):
    y = np.zeros((*x.shape[:-1], len(w)))
    for index in np.ndindex(y.shape):
        y[index] = sum(float(a) * float(c) for a, c in zip(x[index[:-1]], w[index[-1]], strict=True)) + b[index[-1]]
    return y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "out"), SHAPES.values(), ids=SHAPES.keys())
def test_forward_is_the_naive_loop(run_xp, shape, out, dtype, rng):
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (shape, (out, shape[-1]), out))
    y = run_xp(ops.linear, x, w, b)
    assert y.dtype == dtype
    oracles.assert_close(y, naive(x, w, b), shape[-1])


@pytest.mark.parametrize(("shape", "out"), SHAPES.values(), ids=SHAPES.keys())
def test_backward_is_the_directional_difference(run_xp, shape, out, rng):
    x, w, b = (rng.standard_normal(s) for s in (shape, (out, shape[-1]), out))
    oracles.assert_gradient(
        lambda v: run_xp(ops.linear, v, w, b), lambda g: run_xp(ops.linear_backward_x, g, w), x, rng
    )
    oracles.assert_gradient(
        lambda v: run_xp(ops.linear, x, v, b), lambda g: run_xp(ops.linear_backward_w, g, x), w, rng
    )
    oracles.assert_gradient(lambda v: run_xp(ops.linear, x, w, v), lambda g: run_xp(ops.linear_backward_b, g), b, rng)


def test_non_contiguous_arrays_are_read_right(run_xp, rng):
    x, w = rng.standard_normal((6, 4)).T[::2], rng.standard_normal((6, 10))[:, :6]
    oracles.assert_close(run_xp(ops.linear, x, w), naive(x, w, np.zeros(6)), 6)


def test_float16_is_summed_in_float32():
    x, w = np.full((1, 5000), 0.01, np.float16), np.ones((1, 5000), np.float16)
    # Added one by one in float16 the sum would stop growing near 32.
    assert ops.linear(x, w).item() == np.float16(np.float64(x).sum())


def test_errors_name_rule_and_values():
    with pytest.raises(
        ShapeError, match=r"last dimension of x must equal in_features of w, got x=\(2, 3\), in_features=4"
    ):
        ops.linear(np.ones((2, 3)), np.ones((5, 4)))
    with pytest.raises(ShapeError, match=r"linear: w must have the 2 dimensions \(out, in\), got shape=\(4,\)"):
        ops.linear(np.ones((2, 4)), np.ones(4))
    with pytest.raises(ShapeError, match=r"linear: b must have shape \(5,\), got shape=\(4,\)"):
        ops.linear(np.ones((2, 4)), np.ones((5, 4)), np.ones(4))
    with pytest.raises(DtypeError, match="linear: x must be a floating array, got dtype='int64'"):
        ops.linear(np.ones((2, 4), np.int64), np.ones((5, 4)))
    with pytest.raises(ShapeError, match=r"linear_backward_x: gy must have shape \(2, 5\), got shape=\(2, 6\)"):
        ops.linear_backward_x(np.ones((2, 6)), np.ones((5, 4)))
    with pytest.raises(ShapeError, match=r"linear_backward_w: gy must have shape \(2, 5\), got shape=\(3, 5\)"):
        ops.linear_backward_w(np.ones((3, 5)), np.ones((2, 4)))


@pytest.mark.peer("linear")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        out, *shape = map(int, rng.integers(1, 7, rng.integers(2, 6)))
        arrays = [rng.standard_normal(s) for s in (shape, (out, shape[-1]), (out,))][: 3 - seed % 2]
        agreement.assert_agrees(
            run_xp, torch, F.linear, torch.nn.functional.linear, arrays, where=f"{seed=} {shape} {out=}"
        )
