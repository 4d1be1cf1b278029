import agreement
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.pool import adaptive as ops

SPECIAL = [0.0, -0.0, 1.0, -np.inf, np.inf, np.nan]

# The shape of x, and the sizes of the output.
AWKWARD = {
    "one element": ((1, 1, 1), (1,)),
    "primes": ((2, 3, 13), (5,)),
    "more bins than elements": ((2, 3, 3), (7,)),
    "bins of one size": ((2, 3, 12), (4,)),
    "no signal": ((0, 3, 5), (2,)),
    "no channel": ((2, 0, 5), (2,)),
    "image": ((2, 3, 13, 13), (6, 6)),
    "image, to one pixel": ((2, 3, 5, 4), (1, 1)),
    "image, wider and shorter": ((1, 2, 7, 4), (3, 9)),
    "volume": ((2, 2, 5, 4, 7), (2, 4, 3)),
    "volume, more bins": ((1, 2, 2, 3, 4), (3, 1, 5)),
}
CASES = pytest.mark.parametrize(("shape", "out"), AWKWARD.values(), ids=AWKWARD.keys())


def draw(rng, shape, dtype=np.float64):
    # Quarters of small integers: many ties, exact in every dtype.
    return (rng.integers(-6, 6, shape) / 4).astype(dtype)


def naive_max(x, out):
    y, index = np.zeros((*x.shape[:2], *out)), np.zeros((*x.shape[:2], *out), int)
    own = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
    for at, inside in oracles.bins(x.shape[2:], out):
        for n, c in np.ndindex(x.shape[:2]):
            values, places = x[(n, c, *inside)].ravel(), own[inside].ravel()
            nan = np.flatnonzero(np.isnan(values))
            best = nan[-1] if len(nan) else values.argmax()
            y[(n, c, *at)], index[(n, c, *at)] = values[best], places[best]
    return y, index


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_naive_loop(run_xp, shape, out, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    expected = np.zeros((*shape[:2], *out))
    for at, inside in oracles.bins(shape[2:], out):
        expected[(..., *at)] = np.float64(x[(..., *inside)]).mean(axis=tuple(range(2, x.ndim)))
    y = run_xp(ops.adaptive_avg_pool, len(out), x, out)
    assert y.dtype == dtype
    oracles.assert_close(y, expected, x[0, 0].size if x.size else 1)
    x = draw(rng, shape, dtype)
    y, index = run_xp(ops.adaptive_max_pool, len(out), x, out)
    assert (y.dtype, index.dtype) == (dtype, np.int64)
    for actual, wanted in zip((y, index), naive_max(x, out), strict=True):
        np.testing.assert_array_equal(actual, wanted)


@CASES
def test_backward_is_the_directional_difference(run_xp, shape, out, rng):
    rank = len(out)
    oracles.assert_gradient(
        lambda v: run_xp(ops.adaptive_avg_pool, rank, v, out),
        lambda gy: run_xp(ops.adaptive_avg_pool_backward, rank, gy, shape, out), rng.standard_normal(shape), rng,
    )  # fmt: skip
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float64)  # no ties: the maximum is differentiable
    index = run_xp(ops.adaptive_max_pool, rank, x, out)[1]
    oracles.assert_gradient(
        lambda v: run_xp(ops.adaptive_max_pool, rank, v, out)[0],
        lambda gy: run_xp(ops.adaptive_max_pool_backward, rank, gy, index, shape, out), x, rng,
    )  # fmt: skip


def test_ties_nan_and_infinities(run_xp, rng):
    for size, out in (((11,), (4,)), ((7, 8), (3, 5)), ((4, 5, 6), (2, 3, 4))):
        x = rng.choice(SPECIAL, (4, 3, *size), p=[0.2, 0.1, 0.2, 0.3, 0.1, 0.1])
        x[0] = -np.inf
        for actual, wanted in zip(run_xp(ops.adaptive_max_pool, len(size), x, out), naive_max(x, out), strict=True):
            np.testing.assert_array_equal(actual, wanted)


def test_an_infinity_stays_in_its_bins(run_xp):
    x = np.array([[[np.inf, 1.0, 2.0, 3.0, 4.0]]])
    assert run_xp(ops.adaptive_avg_pool, 1, x, 3).tolist() == [[[np.inf, 2.0, 3.5]]]
    assert run_xp(ops.adaptive_avg_pool_backward, 1, x[:, :, :3], (1, 1, 5), 3)[0, 0, 2:].tolist() == [
        1 / 3,
        4 / 3,
        1.0,
    ]


def test_float16_is_summed_in_float32(run_xp):
    x = np.full((1, 1, 300, 301), 2, np.float16)  # the sum, 180,600, is beyond float16
    y = run_xp(ops.adaptive_avg_pool, 2, x, (1, 2))
    assert (y.dtype, y.tolist()) == (np.float16, [[[[2.0, 2.0]]]])


def test_non_contiguous_arrays_are_read_right(run_xp, rng):
    x, gy = rng.standard_normal((4, 7, 6, 2)).T, rng.standard_normal((3, 4, 6, 2)).T
    whole = x.copy("C"), gy.copy("C")
    y, index = run_xp(ops.adaptive_max_pool, 2, x, (4, 3))
    np.testing.assert_array_equal(y, ops.adaptive_max_pool(2, whole[0], (4, 3))[0])
    oracles.assert_close(run_xp(ops.adaptive_avg_pool, 2, x, (4, 3)), ops.adaptive_avg_pool(2, whole[0], (4, 3)), 6)
    gx = run_xp(ops.adaptive_max_pool_backward, 2, gy, index, x.shape, (4, 3))
    np.testing.assert_array_equal(gx, ops.adaptive_max_pool_backward(2, whole[1], index, x.shape, (4, 3)))


def test_none_stands_for_the_size_of_the_input(run_xp, rng):
    x = rng.standard_normal((2, 3, 5, 4))
    np.testing.assert_array_equal(run_xp(ops.adaptive_avg_pool, 2, x, None), x)
    np.testing.assert_array_equal(
        run_xp(ops.adaptive_avg_pool, 2, x, (None, 2)), run_xp(ops.adaptive_avg_pool, 2, x, (5, 2))
    )


@pytest.mark.parametrize("name", ["adaptive_avg_pool", "adaptive_max_pool"])
def test_errors_name_rule_and_values(run_xp, name):
    function, x = getattr(ops, name), np.ones((1, 2, 5))
    with pytest.raises(ShapeError, match=rf"{name}2d: x must have the 4 dimensions \(N, C, H, W\), got shape=\(1, 2,"):
        run_xp(function, 2, x, 2)
    with pytest.raises(ShapeError, match=rf"{name}1d: x must have at least one element .*, got shape=\(1, 2, 0\)"):
        run_xp(function, 1, x[:, :, :0], 2)
    with pytest.raises(ArgumentError, match=f"{name}1d: output_size must be an integer of at least 1"):
        run_xp(function, 1, x, 0)
    with pytest.raises(ArgumentError, match=r"output_size must be .* a tuple of one, got output_size=\(2, 2\)"):
        run_xp(function, 1, x, (2, 2))
    with pytest.raises(DtypeError, match=f"{name}1d: x must be a floating array, got dtype='int64'"):
        run_xp(function, 1, x.astype(np.int64), 2)


def test_errors_about_gradients():
    gy, shape = np.ones((1, 2, 3)), (1, 2, 5)
    with pytest.raises(ShapeError, match=r"adaptive_avg_pool1d_backward: gy must have shape \(1, 2, 2\), got"):
        ops.adaptive_avg_pool_backward(1, gy, shape, 2)
    with pytest.raises(ShapeError, match=r"adaptive_max_pool1d_backward: gy must have shape \(1, 2, 2\), got"):
        ops.adaptive_max_pool_backward(1, gy, np.zeros((1, 2, 3), np.int64), shape, 2)
    with pytest.raises(DtypeError, match="adaptive_max_pool1d_backward: place must be int64, got dtype='int32'"):
        ops.adaptive_max_pool_backward(1, gy, np.zeros((1, 2, 3), np.int32), shape, 3)


def test_layers_are_their_function(rng):
    for rank in (1, 2, 3):
        x = rng.standard_normal((2, 3, *(7,) * rank)).astype(np.float32)
        for kind, name in (("Avg", "avg"), ("Max", "max")):
            y = getattr(nn, f"Adaptive{kind}Pool{rank}d")(3)(x)
            np.testing.assert_array_equal(y, getattr(F, f"adaptive_{name}_pool{rank}d")(x, 3))


@pytest.mark.peer(
    "adaptive_max_pool1d",
    "adaptive_max_pool2d",
    "adaptive_max_pool3d",
    "adaptive_avg_pool1d",
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
)
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("name", ["adaptive_max_pool", "adaptive_avg_pool"])
def test_matches_pytorch(run_xp, name, rank):
    torch = pytest.importorskip("torch")
    maximum = name == "adaptive_max_pool"
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = (*map(int, rng.integers(1, 4, 2)), *map(int, rng.integers(1, 11, rank)))
        out = tuple(map(int, rng.integers(1, 8, rank)))
        settings = {"output_size": out} | ({"return_indices": True} if maximum else {})
        x = rng.choice(SPECIAL, shape) if maximum and seed % 4 == 0 else draw(rng, shape)
        both = agreement.both(torch, f"{name}{rank}d", **settings)
        agreement.assert_agrees(run_xp, torch, *both, [x], where=f"{seed=} {shape} {out}", tolerance=1e-12)
