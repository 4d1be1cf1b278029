import agreement
import numpy as np
import oracles
import pytest
from norm_case import (
    assert_float16_gradients_are_those_of_float32,
    assert_steps_are_pytorchs,
    assert_weight_and_bias_can_be_left_out,
    case,
)

import gpunn.functional as F
from gpunn import nn
from gpunn.backend import accumulation_dtype, to_cpu
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import norm as ops

# The shape of x, and the number of groups.
AWKWARD = {
    "one element": ((1, 1), 1),
    "rows": ((3, 6), 2),
    "one group": ((2, 5, 7), 1),
    "a group for each channel": ((3, 5, 4, 3), 5),
    "one pixel": ((3, 6, 1, 1), 2),
    "images": ((2, 6, 5, 7), 3),
    "volumes": ((2, 4, 2, 3, 5), 2),
    "large groups": ((2, 4, 40, 41), 2),
}
CASES = pytest.mark.parametrize(("shape", "groups"), AWKWARD.values(), ids=AWKWARD.keys())
BOTH = ops.group_norm, ops.group_norm_backward


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_naive_loop(run, shape, groups, dtype, rng):
    x, weight, bias = case(shape, dtype, rng)
    y, mean, var = run(ops.group_norm, x, groups, weight, bias, 0.01)
    assert (y.dtype, mean.dtype, var.dtype) == (dtype, *[accumulation_dtype(dtype)] * 2)
    rows = np.float64(x).reshape(shape[0] * groups, -1)
    scale, shift = (np.float64(a).reshape(-1, *(1,) * (len(shape) - 2)) for a in (weight, bias))
    oracles.assert_close(y, oracles.normalize(rows, 0.01).reshape(shape) * scale + shift, rows.shape[1])
    oracles.assert_close(mean, rows.mean(1).reshape(-1, groups), rows.shape[1])
    oracles.assert_close(var, rows.var(1).reshape(-1, groups), rows.shape[1])


@pytest.mark.parametrize("argument", ["x", "weight", "bias"])
@CASES
def test_backward_is_the_directional_difference(run, shape, groups, argument, rng):
    given = case(shape, np.float64, rng)
    number = ["x", "weight", "bias"].index(argument)

    def forward(v):
        x, weight, bias = (*given[:number], v, *given[number + 1 :])
        return run(ops.group_norm, x, groups, weight, bias, 0.1)

    x, weight, _ = given
    mean, var = forward(given[number])[1:]
    oracles.assert_gradient(
        lambda v: forward(v)[0],
        lambda gy: run(ops.group_norm_backward, gy, x, mean, var, groups, weight, 0.1)[number],
        given[number], rng,
    )  # fmt: skip


def test_weight_and_bias_can_be_left_out(run, rng):
    x, _, _ = case((3, 4, 5), np.float64, rng)
    assert_weight_and_bias_can_be_left_out(run, *BOTH, x, 2, 4)


def test_float16_gradients_are_those_of_float32(run, rng):
    x, weight, _ = case((4, 6, 5), np.float16, rng)
    assert_float16_gradients_are_those_of_float32(run, *BOTH, x, 2, weight, rng)


@pytest.mark.parametrize("factors", [[1, -2, 0.5, 3], [1, 0, 1e-30, 3]])
def test_every_backend_gives_the_same_gradients_in_float32(run, factors, rng):
    weight, shape = np.float32(factors), (2, 4, 11, 13)
    x, gy = rng.standard_normal((2, *shape)).astype(np.float32)
    mean, var = ops.group_norm(x, 2)[1:]
    actual = run(ops.group_norm_backward, gy, x, mean, var, 2, weight)
    exact = ops.group_norm_backward(*(np.float64(a) for a in (gy, x, mean, var)), 2, np.float64(weight))
    for a, e in zip(actual, exact, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-5, atol=2e-5)


def test_channels_that_are_constant_and_without_eps(run):
    x = np.zeros((2, 4, 12, 12), np.float32)
    x[:, ::2] = [[[[0.1]], [[3]]]]
    y, mean, var = run(ops.group_norm, x, 2, eps=0)
    np.testing.assert_allclose(mean, [[0.05, 1.5]] * 2, rtol=1e-6)
    np.testing.assert_allclose(var, [[0.0025, 2.25]] * 2, rtol=1e-5)
    np.testing.assert_allclose(y, np.broadcast_to(np.float32([1, -1, 1, -1]).reshape(4, 1, 1), y.shape), rtol=1e-5)


@pytest.mark.parametrize("pixels", [(130, 130), (1, 16411)])
def test_large_images(run, pixels, rng):
    """The second one's channels cannot be cut into equal parts. One channel is constant, one lies far from 0."""
    x = rng.standard_normal((2, 4, *pixels)).astype(np.float32)
    x[0, 1], x[1, 2] = 3, x[1, 2] + 1000
    weight, bias = np.float32([1, 2, 0, -1]), np.float32([0, 1, 2, 3])
    results = run(ops.group_norm, x, 2, weight, bias)
    exact = ops.group_norm(np.float64(x), 2, np.float64(weight), np.float64(bias))
    for actual, wanted in zip(results, exact, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e30])
def test_what_cannot_be_normalised_stays_in_its_group(run, value, rng):
    x = rng.standard_normal((2, 4, 12, 12)).astype(np.float32)
    expected = ops.group_norm(x[1:], 2)[0]
    x[0, 1, 2, 3] = value
    with np.errstate(all="ignore"):
        y, _, var = run(ops.group_norm, x, 2)
        assert not np.isfinite(var[0, 0])
        assert value == 1e30 or np.isnan(y[0, 1, 2, 3])
    np.testing.assert_allclose(y[1:], expected, rtol=1e-4, atol=1e-5)


def test_a_large_mean_does_not_swallow_the_variance(run, rng):
    # The mean of the squares less the square of the mean would be off by 1e8 * 6e-8 = 6, and could be negative.
    x = (rng.standard_normal((2, 4, 32, 32)) + 1e4).astype(np.float32)
    np.testing.assert_allclose(run(ops.group_norm, x, 2)[2], np.float64(x).reshape(2, 2, -1).var(2), rtol=2e-4)


def test_squares_that_overflow_are_not_formed_of_a_large_mean(run, rng):
    x = (5e18 * (1 + 0.01 * rng.standard_normal((2, 4, 16, 16)))).astype(np.float32)
    y, _, var = run(ops.group_norm, x, 2)
    wide = x.astype(float).reshape(2, 2, -1)
    np.testing.assert_allclose(var, wide.var(2), rtol=1e-4)
    np.testing.assert_allclose(y.reshape(wide.shape).std(2), 1, rtol=1e-4)


def test_no_example_gives_none(run):
    x = np.zeros((0, 4, 3), np.float32)
    y, mean, var = run(ops.group_norm, x, 2)
    assert (y.shape, mean.shape, var.shape) == (x.shape, (0, 2), (0, 2))
    gx, gw, gb = run(ops.group_norm_backward, x, x, mean, var, 2)
    assert (gx.shape, gw.tolist(), gb.tolist()) == (x.shape, [0] * 4, [0] * 4)


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, gy = rng.standard_normal((2, 5, 4, 3)).T[..., 0], rng.standard_normal((2, 5, 4, 3)).T[..., 1]
    y, mean, var = run(ops.group_norm, x, 2)
    np.testing.assert_allclose(y, ops.group_norm(x.copy("C"), 2)[0], rtol=1e-12)
    actual = run(ops.group_norm_backward, gy, x, mean, var, 2)
    for a, e in zip(actual, ops.group_norm_backward(gy.copy("C"), x.copy("C"), mean, var, 2), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


def test_errors_name_rule_and_values(run):
    x, stats, four = np.ones((2, 4, 5)), np.ones((2, 2)), np.ones(4)
    with pytest.raises(ShapeError, match=r"group_norm: x must have at least the 2 dimensions \(N, C\), got"):
        run(ops.group_norm, four, 2)
    with pytest.raises(ShapeError, match="num_groups must divide the channels, got num_groups=3, channels=4"):
        run(ops.group_norm, x, 3)
    with pytest.raises(ArgumentError, match="num_groups must be an integer of at least 1, got num_groups=0"):
        run(ops.group_norm, x, 0)
    with pytest.raises(ShapeError, match=r"group_norm: weight must have shape \(4,\), got shape=\(3,\)"):
        run(ops.group_norm, x, 2, four[1:])
    with pytest.raises(ArgumentError, match="eps must be a number, got eps='1'"):
        run(ops.group_norm, x, 2, eps="1")
    with pytest.raises(DtypeError, match=r"arrays must have one dtype, got x='float64', weight='float32'"):
        run(ops.group_norm, x, 2, four.astype(np.float32))
    with pytest.raises(ShapeError, match=r"group_norm_backward: gy must have shape \(2, 4, 5\), got shape=\(1, 4, 5\)"):
        run(ops.group_norm_backward, x[:1], x, stats, stats, 2)
    with pytest.raises(ShapeError, match=r"group_norm_backward: weight must have shape \(4,\), got shape=\(3,\)"):
        run(ops.group_norm_backward, x, x, stats, stats, 2, four[1:])
    with pytest.raises(ShapeError, match=r"instance_norm: x must have at least the 3 dimensions .* got shape=\(2, 4\)"):
        F.instance_norm(x[:, :, 0])
    with pytest.raises(ShapeError, match=r"instance_norm: running_var must have shape \(4,\), got shape=\(3,\)"):
        F.instance_norm(x, four, four[1:])
    with pytest.raises(ArgumentError, match="outside training running_mean and running_var must be given"):
        F.instance_norm(x, use_input_stats=False)
    with pytest.raises(ShapeError, match="num_groups must divide num_channels, got num_groups=3, num_channels=4"):
        nn.GroupNorm(3, 4)
    with pytest.raises(ArgumentError, match="GroupNorm: num_groups must be an integer of at least 1, got num_groups=0"):
        nn.GroupNorm(0, 4)
    with pytest.raises(ShapeError, match=r"GroupNorm: x must have num_channels=6 channels, .* got shape=\(2, 4, 5\)"):
        nn.GroupNorm(3, 6)(x)
    with pytest.raises(ShapeError, match=r"InstanceNorm2d: x must have 4 dimensions, .* got shape=\(4, 5\)"):
        nn.InstanceNorm2d(4)(x[0])


def test_a_wrong_input_leaves_the_running_statistics_alone():
    for layer in (nn.InstanceNorm1d(3, track_running_stats=True), nn.BatchNorm1d(3)):
        with pytest.raises(ShapeError, match=r"x must have num_features=3 channels, got shape=\(2, 4, 5\)"):
            layer(np.ones((2, 4, 5), np.float32))
        assert layer.num_batches_tracked.item() == 0
        assert layer.running_mean.data.tolist() == [0, 0, 0]


def test_layers_are_their_function(rng):
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    layer = nn.GroupNorm(2, 4, 0.1)
    layer.weight.data, layer.bias.data = rng.standard_normal((2, 4)).astype(np.float32)
    np.testing.assert_array_equal(layer(x).data, F.group_norm(x, 2, layer.weight.data, layer.bias.data, 0.1))
    assert nn.GroupNorm(2, 4, affine=False).parameters() == []
    assert nn.InstanceNorm1d(4).state_dict() == {}
    np.testing.assert_array_equal(nn.InstanceNorm1d(4).eval()(x), F.group_norm(x, 4))
    cumulative = nn.InstanceNorm1d(4, momentum=None, track_running_stats=True)
    for part in (x, 3 * x):
        cumulative(part)
    np.testing.assert_allclose(cumulative.running_mean.data, 2 * x.mean((0, 2)), rtol=1e-5)


@pytest.mark.peer("group_norm")
def test_group_norm_matches_pytorch(run):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        groups = int(rng.integers(1, 5))
        shape = (*map(int, rng.integers(1, 5, 2)), *map(int, rng.integers(1, 6, rng.integers(0, 4))))
        shape = (shape[0], shape[1] * groups, *(shape[2:] or (2,)))
        eps = float(rng.choice([1e-5, 1e-2]))
        given = case(shape, np.float64, rng)[: 3 - seed % 3]
        ours, theirs = (
            lambda x, *affine, f=place.group_norm, s=(groups, eps): f(x, s[0], *affine, eps=s[1])
            for place in (F, torch.nn.functional)
        )
        # Groups of one element divide by sqrt(eps): their gradients are 0, up to rounding times 1 / eps.
        agreement.assert_agrees(run, torch, ours, theirs, given, where=f"{seed=} {shape} {groups}", tolerance=1e-8)


@pytest.mark.peer("instance_norm")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_instance_norm_matches_pytorch(run, rank):
    torch = pytest.importorskip("torch")
    name = f"InstanceNorm{rank}d"
    for seed in range(50):
        rng = np.random.default_rng(seed)
        shape = (*map(int, rng.integers(1, 5, 2)), *map(int, rng.integers(1, 6, rank - 1)), int(rng.integers(2, 6)))
        affine, track = bool(rng.integers(2)), bool(rng.integers(2))
        settings = {"eps": float(rng.choice([1e-5, 1e-2])), "momentum": 0.3, "affine": affine}
        layer = getattr(nn, name)(shape[1], **settings, track_running_stats=track, dtype=np.float64)
        theirs = getattr(torch.nn, name)(shape[1], **settings, track_running_stats=track, dtype=torch.float64)
        assert layer.state_dict().keys() == theirs.state_dict().keys()
        assert_steps_are_pytorchs(run, layer, theirs, shape, rng, 1e-8, f"{seed}: {shape} {settings}")
        for key in ("running_mean", "running_var") if track else ():
            actual = to_cpu(layer.state_dict()[key])
            np.testing.assert_allclose(actual, theirs.state_dict()[key].numpy(), rtol=1e-12, atol=1e-12)
