import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import linear as ops

SHAPES = [((4, 3), (4, 3), 1), ((5,), (5,), 0), ((2, 3, 7), (2, 3, 7), -1), ((4, 1, 5), (3, 5), -1),
          ((2, 3, 1, 5), (4, 1), 1), ((3, 1), (3, 1), 1), ((0, 3), (0, 3), 1)]  # fmt: skip


def naive(x1, x2, axis):
    a, b = (np.moveaxis(x, axis, -1) for x in np.broadcast_arrays(np.float64(x1), np.float64(x2)))
    y = np.empty(a.shape[:-1])
    for place in np.ndindex(y.shape):
        dot = math.fsum(p * q for p, q in zip(a[place], b[place], strict=True))
        y[place] = dot / (math.hypot(*a[place]) * math.hypot(*b[place]))
    return y


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("first", "second", "axis"), SHAPES)
def test_forward_is_the_naive_loop(run_xp, first, second, axis, dtype, rng):
    x1, x2 = rng.standard_normal(first).astype(dtype), rng.standard_normal(second).astype(dtype)
    y = run_xp(ops.cosine_similarity, x1, x2, axis)
    assert y.dtype == dtype
    oracles.assert_close(y, naive(x1, x2, axis), 7)


@pytest.mark.parametrize(("first", "second", "axis"), SHAPES)
def test_backward_is_the_directional_difference(run_xp, first, second, axis, rng):
    x1, x2 = rng.standard_normal(first), rng.standard_normal(second)
    for a, b in ((x1, x2), (x2, x1)):
        oracles.assert_gradient(
            lambda v, b=b: run_xp(ops.cosine_similarity, v, b, axis),
            lambda gy, a=a, b=b: run_xp(ops.cosine_similarity_backward_x1, gy, a, b, axis), a, rng,
        )  # fmt: skip


def test_vectors_of_zeros(run_xp):
    x1, x2 = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_array_equal(run_xp(ops.cosine_similarity, x1, x2), [0, 0])
    gx = run_xp(ops.cosine_similarity_backward_x1, np.ones(2), x1, x2, eps=0.5)
    np.testing.assert_allclose(gx, [[0.6 / 0.5, 0.8 / 0.5], [0, 0]])


def test_a_length_below_eps_counts_as_eps(run_xp):
    x1, x2 = np.array([[0.1, 0.0]]), np.array([[2.0, 0.0]])
    np.testing.assert_allclose(run_xp(ops.cosine_similarity, x1, x2, eps=0.5), [0.2])
    oracles.assert_gradient(
        lambda v: run_xp(ops.cosine_similarity, v, x2, eps=0.5),
        lambda gy: run_xp(ops.cosine_similarity_backward_x1, gy, x1, x2, eps=0.5), x1, np.random.default_rng(0),
    )  # fmt: skip


def test_non_contiguous_arrays_are_read_right(run_xp, rng):
    x1, x2 = rng.standard_normal((2, 6, 9))[:, ::2, ::3].transpose(0, 2, 1)
    y = run_xp(ops.cosine_similarity, x1, x2)
    oracles.assert_close(y, run_xp(ops.cosine_similarity, x1.copy(), x2.copy()), 3)  # CuPy sums in another order


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    with pytest.raises(ShapeError, match=r"cosine_similarity: shapes must broadcast, got x1=\(2, 3\), x2=\(2,\)"):
        ops.cosine_similarity(x, np.ones(2))
    with pytest.raises(ShapeError, match=r"axis must be one of the result's, got axis=2, shape=\(2, 3\)"):
        ops.cosine_similarity(x, x, 2)
    with pytest.raises(ArgumentError, match="eps must be above 0, got eps=0"):
        ops.cosine_similarity(x, x, eps=0)
    with pytest.raises(DtypeError, match="x2 must be a floating array, got dtype='int64'"):
        ops.cosine_similarity(x, np.ones((2, 3), int))
    with pytest.raises(ShapeError, match=r"cosine_similarity_backward_x1: gy must have shape \(2,\), got shape=\(3,\)"):
        ops.cosine_similarity_backward_x1(np.ones(3), x, x)


@pytest.mark.peer("cosine_similarity")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shape = rng.integers(1, 5, rng.integers(1, 4))
        axis = int(rng.integers(-len(shape), len(shape)))
        narrow = [1 if rng.random() < 0.3 and number != axis % len(shape) else n for number, n in enumerate(shape)]
        x1, x2 = rng.standard_normal(shape), rng.standard_normal(narrow)
        ours = lambda a, b, axis=axis: F.cosine_similarity(a, b, axis)  # noqa: E731
        theirs = lambda a, b, axis=axis: torch.nn.functional.cosine_similarity(a, b, axis)  # noqa: E731
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x1, x2], where=f"{seed=} {shape} {narrow} {axis=}")


@pytest.mark.parametrize("size", [1e25, 1e30])
def test_vectors_near_the_ends_of_float32(run, size):
    a = np.float32([[3, 4]]) * np.float32(size)
    b = np.float32([[4, 3]]) * np.float32(size)
    np.testing.assert_allclose(run(ops.cosine_similarity, a, b), [0.96], rtol=1e-6)
    g = run(ops.cosine_similarity_backward_x1, np.ones(1, np.float32), a, b)
    np.testing.assert_allclose(g * size, [[0.16 - 0.96 * 0.12, 0.12 - 0.96 * 0.16]], rtol=1e-4)
