import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import DtypeError, ShapeError
from gpunn.ops import linear as ops

SHAPES = [((4,), 3, 2, 5), ((), 2, 3, 1), ((2, 3), 1, 4, 2), ((0,), 3, 2, 4), ((1,), 1, 1, 1)]
CASES = pytest.mark.parametrize(("rows", "i", "j", "k"), SHAPES)


def case(rng, rows, i, j, k, dtype=np.float64):
    return [rng.standard_normal(shape).astype(dtype) for shape in ((*rows, i), (*rows, j), (k, i, j), (k,))]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_naive_loop(run_xp, rows, i, j, k, dtype, rng):
    x1, x2, w, b = case(rng, rows, i, j, k, dtype)
    y = run_xp(ops.bilinear, x1, x2, w, b)
    assert y.dtype == dtype
    expected = np.empty((*rows, k))
    for *n, out in np.ndindex(expected.shape):
        terms = (float(x1[(*n, p)]) * float(w[out, p, q]) * float(x2[(*n, q)]) for p in range(i) for q in range(j))
        expected[(*n, out)] = sum(terms) + float(b[out])
    oracles.assert_close(y, expected, i * j)
    without = run_xp(ops.bilinear, x1, x2, w)
    oracles.assert_close(without, expected - b, i * j)


@CASES
def test_backward_is_the_directional_difference(run_xp, rows, i, j, k, rng):
    x1, x2, w, _ = case(rng, rows, i, j, k)
    forward, turned = ops.bilinear, w.transpose(0, 2, 1)
    for function, backward, x in (
        (lambda v: run_xp(forward, v, x2, w), lambda gy: run_xp(ops.bilinear_backward_x1, gy, x2, w), x1),
        (lambda v: run_xp(forward, x1, v, w), lambda gy: run_xp(ops.bilinear_backward_x1, gy, x1, turned), x2),
        (lambda v: run_xp(forward, x1, x2, v), lambda gy: run_xp(ops.bilinear_backward_w, gy, x1, x2), w),
    ):
        oracles.assert_gradient(function, backward, x, rng)


def test_non_contiguous_arrays_are_read_right(run_xp, rng):
    x1, x2 = rng.standard_normal((6, 5)).T[:, ::2], rng.standard_normal((5, 8))[:, ::4]
    w, gy = rng.standard_normal((2, 3, 7)).T, rng.standard_normal((7, 5)).T
    packed = x1.copy(), x2.copy(), w.copy()
    np.testing.assert_allclose(run_xp(ops.bilinear, x1, x2, w), ops.bilinear(*packed), rtol=1e-13)
    gx = run_xp(ops.bilinear_backward_x1, gy, x2, w)
    np.testing.assert_allclose(gx, ops.bilinear_backward_x1(gy.copy(), *packed[1:]), rtol=1e-13)
    gw = run_xp(ops.bilinear_backward_w, gy, x1, x2)
    np.testing.assert_allclose(gw, ops.bilinear_backward_w(gy.copy(), *packed[:2]), rtol=1e-13)


def test_errors_name_rule_and_values():
    x1, x2, w = np.ones((4, 3)), np.ones((4, 2)), np.ones((5, 3, 2))
    with pytest.raises(ShapeError, match=r"bilinear: w must have the 3 dimensions \(K, I, J\), got shape=\(3, 2\)"):
        ops.bilinear(x1, x2, w[0])
    with pytest.raises(ShapeError, match=r"same shape but for the last axis, got x1=\(4, 3\), x2=\(3, 2\)"):
        ops.bilinear(x1, x2[:3], w)
    with pytest.raises(ShapeError, match=r"w must be \(K, I, J\) for .*got w=\(5, 3, 2\), x1=\(4, 2\), x2=\(4, 3\)"):
        ops.bilinear(x2, x1, w)
    with pytest.raises(ShapeError, match=r"b must have shape \(5,\), got shape=\(3,\)"):
        ops.bilinear(x1, x2, w, np.ones(3))
    with pytest.raises(DtypeError, match="arrays must have one dtype"):
        ops.bilinear(x1, x2, w.astype(np.float32))


@pytest.mark.peer("bilinear")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        i, j, k = rng.integers(1, 6, 3)
        arrays = case(rng, rng.integers(1, 5, rng.integers(0, 3)), i, j, k)[: 3 + seed % 2]
        agreement.assert_agrees(
            run_xp, torch, F.bilinear, torch.nn.functional.bilinear, arrays, where=f"{seed=} {arrays[0].shape} {k=}"
        )
