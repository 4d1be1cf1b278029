import agreement
import numpy as np
import oracles
import pytest

import gpunn
import gpunn.functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.pool import fractional as ops

# the shape of x, the window, the size of y
AWKWARD = {
    "one pixel": ((1, 1, 1, 1), (1, 1), (1, 1)),
    "primes": ((2, 3, 13, 11), (3, 2), (5, 7)),
    "windows side by side": ((1, 2, 6, 6), (2, 2), (5, 5)),
    "one window": ((2, 2, 5, 4), (5, 2), (1, 3)),
    "no image": ((0, 2, 4, 4), (2, 2), (2, 2)),
    "volume": ((1, 2, 5, 6, 7), (2, 1, 3), (3, 4, 2)),
}
CASES = pytest.mark.parametrize(("shape", "kernel", "out"), AWKWARD.values(), ids=AWKWARD)


def starts(length, size, count, u):
    if count == 1:
        return [length - size]
    a = (length - size) / (count - 1)
    return [int((i + u) * a) - int(u * a) for i in range(count - 1)] + [length - size]


def naive(x, kernel, out, samples):
    rank = len(out)
    y, index = np.zeros((*x.shape[:2], *out)), np.zeros((*x.shape[:2], *out), int)
    own = np.arange(np.prod(x.shape[2:])).reshape(x.shape[2:])
    for n, c in np.ndindex(x.shape[:2]):
        u = samples[n, c, ::-1] if rank == 2 else samples[n, c]
        begin = [starts(*each) for each in zip(x.shape[2:], kernel, out, u, strict=True)]
        for at in np.ndindex(out):
            inside = tuple(slice(b[i], b[i] + k) for b, i, k in zip(begin, at, kernel, strict=True))
            values, places = x[(n, c, *inside)].ravel(), own[inside].ravel()
            nan = np.flatnonzero(np.isnan(values))
            best = nan[-1] if len(nan) else values.argmax()
            y[(n, c, *at)], index[(n, c, *at)] = values[best], places[best]
    return y, index


@CASES
def test_forward_is_the_loop_and_backward_the_difference(run_xp, shape, kernel, out, rng):
    rank, samples = len(out), rng.random((*shape[:2], len(out)))
    special = rng.choice([0.0, 1.0, -np.inf, np.inf, np.nan], shape)
    for x in (special, (rng.integers(-3, 3, shape) / 4).astype(np.float64)):
        found = run_xp(ops.fractional_max_pool, rank, x, kernel, out, samples)
        for actual, wanted in zip(found, naive(x, kernel, out, samples), strict=True):
            np.testing.assert_array_equal(actual, wanted)
    x = rng.permutation(np.prod(shape, dtype=int)).reshape(shape).astype(np.float64)
    index = run_xp(ops.fractional_max_pool, rank, x, kernel, out, samples)[1]
    oracles.assert_gradient(
        lambda v: run_xp(ops.fractional_max_pool, rank, v, kernel, out, samples)[0],
        lambda gy: run_xp(ops.fractional_max_pool_backward, rank, gy, index, shape, kernel, out, samples), x, rng,
    )  # fmt: skip


def test_the_generator_of_the_library_draws_the_steps(rng):
    x = rng.standard_normal((2, 3, 20, 20))
    results = []
    for seed in (1, 1, 2):
        gpunn.manual_seed(seed)
        results.append(nn.FractionalMaxPool2d(2, output_ratio=(0.7, 0.6))(x))
    assert results[0].shape == (2, 3, 14, 12)
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()


def test_samples_are_a_buffer_of_the_layer(rng):
    samples = rng.random((1, 3, 2))
    layer = nn.FractionalMaxPool2d(2, 3, _random_samples=samples)
    assert list(layer.state_dict()) == ["_random_samples"]
    x = rng.standard_normal((1, 3, 9, 9))
    np.testing.assert_array_equal(layer(x), F.fractional_max_pool2d(x, 2, 3, _random_samples=samples))
    assert nn.FractionalMaxPool2d(2, 3).state_dict() == {}


X = np.ones((2, 3, 5, 6))
REFUSED = {
    "neither": (lambda: F.fractional_max_pool2d(X, 2), ArgumentError, "either output_size or output_ratio must be giv"),
    "both": (lambda: nn.FractionalMaxPool3d(2, 3, 0.5), ArgumentError, "FractionalMaxPool3d: either output_size or"),
    "ratio": (lambda: F.fractional_max_pool2d(X, 2, None, 1.0), ArgumentError, "output_ratio must lie between 0 and 1"),
    "ratios": (lambda: F.fractional_max_pool2d(X, 2, None, (0.5,)), ArgumentError, "must be a number, or 2 of them"),
    "room": (lambda: F.fractional_max_pool2d(X, 3, 4), ShapeError, r"at least kernel_size \+ output_size - 1 elements"),
    "rank": (lambda: F.fractional_max_pool3d(X[0], 3, 4), ShapeError, "x must have 5 dimensions, or 4 without a batch"),
    "samples": (
        lambda: F.fractional_max_pool2d(X, 2, 3, _random_samples=X[0]), ShapeError, r"samples must have shape \(2, 3, 2"
    ),
    "dtype": (
        lambda: F.fractional_max_pool2d(X, 2, 3, _random_samples=np.ones((2, 3, 2), np.float32)), DtypeError,
        "arrays must have one dtype, got x='float64', samples='float32'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_errors_name_rule_and_values(name):
    call, kind, message = REFUSED[name]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.peer("fractional_max_pool2d", "fractional_max_pool3d")
@pytest.mark.parametrize("rank", [2, 3])
def test_matches_pytorch(run_xp, rank):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        kernel, out = (tuple(map(int, rng.integers(1, 4, rank))) for _ in range(2))
        shape = tuple(map(int, rng.integers(1, 4, 1 + seed % 2)))
        samples = rng.random(((1, *shape)[-2:][0], shape[-1], rank))
        # PyTorch's 3-D form, unlike its 2-D form and its documentation, wants an element more than there must be.
        more = map(int, rng.integers(rank - 2, 9, rank))
        shape += tuple(k + o - 1 + m for k, o, m in zip(kernel, out, more, strict=True))
        x, settings = rng.standard_normal(shape), {"kernel_size": kernel, "output_size": out, "return_indices": True}
        both = agreement.both(torch, f"fractional_max_pool{rank}d", **settings)
        by_position = [lambda v, u, function=function: function(v, _random_samples=u) for function in both]
        where = f"{seed=} {shape} {settings}"
        agreement.assert_agrees(run_xp, torch, *by_position, [x], [samples], where=where)
