"""Lengths and distances of vectors, and rows divided by the root of their mean square."""

import math

import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, ShapeError
from gpunn.ops import linear as ops
from gpunn.ops import norm

POWERS = [0.0, 0.5, 1.0, 2.0, 3.7, -1.0, math.inf, -math.inf]


def length(v, p):
    sizes = [abs(float(each)) for each in v]
    if p == 0:
        return sum(size != 0 for size in sizes)
    if math.isinf(p):
        return max(sizes) if p > 0 else min(sizes)
    return math.fsum(size**p for size in sizes) ** (1 / p)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("p", POWERS)
def test_forward_is_the_naive_loop(run_xp, p, dtype, rng):
    a, b = rng.standard_normal((2, 4, 5)).astype(dtype)
    lengths = np.array([length(row, p) for row in np.float64(a)])
    y = run_xp(ops.normalize, a, p, 1)
    assert y.dtype == dtype
    oracles.assert_close(y, a / lengths[:, None], 5)
    oracles.assert_close(run_xp(ops.normalize, a.T, p, 0), (a / lengths[:, None]).T, 5)
    y = run_xp(ops.pairwise_distance, a, b[0], p, 0.25)
    assert y.dtype == dtype
    oracles.assert_close(y, np.array([length(row, p) for row in np.float64(a) - b[0] + 0.25]), 5)


@pytest.mark.parametrize("p", POWERS)
def test_gradients_are_slopes(p, rng):
    x, other = rng.standard_normal((2, 4, 3))
    for call in (lambda v: F.normalize(v, p), lambda v: F.pairwise_distance(v, other, p)):
        leaf = tensor(x, requires_grad=True)
        gy = rng.standard_normal(call(x).shape)
        call(leaf).backward(gy)
        oracles.assert_gradient(call, lambda g, leaf=leaf, call=call: gradient(call, x, g), x, rng)


def gradient(call, x, gy):
    leaf = tensor(x, requires_grad=True)
    call(leaf).backward(gy)
    return leaf.grad


def test_huge_small_and_zero_vectors(run_xp):
    x = np.array([[3e200, 4e200], [3e-200, 4e-200], [0, 0]])
    y = run_xp(ops.normalize, x, 2.0, 1, 0.0 + 1e-300)
    np.testing.assert_allclose(y, [[0.6, 0.8], [0.6, 0.8], [0, 0]])
    for p in POWERS:
        assert np.isfinite(run_xp(ops.normalize_backward, np.ones((1, 2)), np.zeros((1, 2)), p)).all()
    gx = run_xp(ops.normalize_backward, np.ones((1, 2)), np.array([[0.5, 0.0]]), eps=1.0)
    assert gx.tolist() == [[1, 1]]
    assert run_xp(ops.normalize, np.array(-3.0), axis=0) == -1
    assert run_xp(ops.pairwise_distance, np.zeros((0, 3)), np.zeros((0, 3))).shape == (0,)


def test_rows_by_the_root_of_their_mean_square(run_xp, rng):
    for dtype in (np.float16, np.float32, np.float64):
        x, gy = (rng.standard_normal((3, 2, 5)).astype(dtype) for _ in range(2))
        w = rng.standard_normal((2, 5)).astype(dtype)
        flat = np.float64(x).reshape(3, 10)
        root = np.sqrt((flat**2).mean(1) + 0.3).reshape(3, 1, 1)
        y = run_xp(norm.rms_norm, x, (2, 5), w, 0.3)
        assert y.dtype == dtype
        oracles.assert_close(y, np.float64(w) * x / root, 10)
        gx, gw = run_xp(norm.rms_norm_backward, gy, x, (2, 5), w, 0.3)
        assert (gx.dtype, gw.dtype) == (dtype, dtype)
        oracles.assert_close(gw, (np.float64(gy) * x / root).sum(0), 3)
    forward = lambda v: run_xp(norm.rms_norm, v, (2, 5), w, 0.3)  # noqa: E731
    oracles.assert_gradient(forward, lambda g: run_xp(norm.rms_norm_backward, g, x, (2, 5), w, 0.3)[0], x, rng)
    tiny = np.full((1, 2), 1e-3, np.float16)
    np.testing.assert_allclose(run_xp(norm.rms_norm, tiny, 2), 1e-3 / math.sqrt(1e-6 + 2**-23), rtol=2e-3)
    assert run_xp(norm.rms_norm, np.ones((0, 2)), 2).shape == (0, 2)
    assert [g.shape for g in run_xp(norm.rms_norm_backward, np.ones((0, 2)), np.ones((0, 2)), 2)] == [(0, 2), (2,)]


def test_layers(rng):
    x1, x2 = rng.standard_normal((2, 3, 4))
    layer = nn.PairwiseDistance(3.0, 0.1, True)
    np.testing.assert_array_equal(layer(x1, x2), F.pairwise_distance(x1, x2, 3.0, 0.1, True))
    layer = nn.RMSNorm((3, 4), 0.5, dtype=np.float64)
    assert layer.weight.shape == (3, 4)
    np.testing.assert_array_equal(layer(x1).data, F.rms_norm(x1, (3, 4), None, 0.5))
    assert nn.RMSNorm(4, elementwise_affine=False).parameters() == []
    assert sorted(nn.RMSNorm(4).state_dict()) == ["weight"]


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    for call, kind, message in (
        (lambda: ops.normalize(x, axis=2), ShapeError, r"normalize: axis must be one of x's, got axis=2"),
        (lambda: ops.normalize(x, "two"), ArgumentError, "normalize: p must be a number, got p='two'"),
        (lambda: ops.pairwise_distance(x, x.T), ShapeError, r"pairwise_distance: shapes must broadcast, got x1=\(2, 3"),
        (lambda: ops.pairwise_distance(np.ones(()), np.ones(())), ShapeError, "vectors along the last axis"),
        (lambda: norm.rms_norm(x, 2), ShapeError, r"rms_norm: x must end with normalized_shape, .* normalized_shape"),
        (lambda: norm.rms_norm(x, 3, np.ones(2)), ShapeError, r"rms_norm: weight must have shape \(3,\), got shape=\("),
        (lambda: nn.RMSNorm(0), ArgumentError, "RMSNorm: normalized_shape must be an integer of at least 1"),
    ):
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.peer("normalize", "pairwise_distance", "rms_norm")
def test_matches_pytorch(run_xp):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        p, eps = float(rng.choice(POWERS)), float(rng.choice([1e-12, 0.1, 1.0]))
        shape = tuple(rng.integers(1, 5, 3))
        x = rng.standard_normal(shape)
        x[rng.random(shape) < 0.2] = 0
        where = f"{seed=} {shape} {p} {eps}"
        axis = int(rng.integers(-3, 3))
        agreement.assert_agrees(run_xp, torch, *agreement.both(torch, "normalize"), [x], [p, axis, eps], where, 1e-9)
        other = rng.standard_normal(shape[rng.integers(0, 3) :])
        given = [p or 1.0, eps, bool(seed % 2)]  # of 0 PyTorch has no gradient
        agreement.assert_agrees(
            run_xp, torch, *agreement.both(torch, "pairwise_distance"), [x, other], given, where, 1e-9
        )
        rows, eps = tuple(map(int, shape[rng.integers(0, 3) :])), None if seed % 2 else eps
        ours, theirs = (
            lambda x, w, place=place, rows=rows, eps=eps: place.rms_norm(x, rows, w, eps)
            for place in (F, torch.nn.functional)
        )
        weight = rng.standard_normal(rows)
        agreement.assert_agrees(run_xp, torch, ours, theirs, [x, weight], where=where, tolerance=1e-9)
