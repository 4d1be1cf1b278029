import agreement
import norm_case
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import nn
from gpunn.backend import accumulation_dtype
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import norm as ops

# The shape of x, and how many of its last axes a row has.
AWKWARD = {
    "one element": ((1, 1), 1),
    "one row": ((7,), 1),
    "primes": ((5, 13), 1),
    "the whole of x": ((3, 4, 5), 3),
    "two axes": ((2, 3, 4, 5), 2),
    "long rows": ((3, 4099), 1),
    "many rows": ((70, 3, 4), 1),
}
CASES = pytest.mark.parametrize(("shape", "axes"), AWKWARD.values(), ids=AWKWARD.keys())
BOTH = ops.layer_norm, ops.layer_norm_backward


def case(shape, axes, dtype, rng):
    return norm_case.case(shape, dtype, rng, of_weight=shape[-axes:])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@CASES
def test_forward_is_the_naive_loop(run, shape, axes, dtype, rng):
    x, weight, bias = case(shape, axes, dtype, rng)
    y, mean, var = run(ops.layer_norm, x, shape[-axes:], weight, bias, 0.01)
    rows = np.float64(x).reshape(-1, weight.size)
    assert (y.dtype, mean.dtype, var.dtype) == (dtype, *[accumulation_dtype(dtype)] * 2)
    expected = oracles.normalize(rows, 0.01) * np.float64(weight).ravel() + np.float64(bias).ravel()
    oracles.assert_close(y, expected.reshape(shape), weight.size)
    oracles.assert_close(mean, rows.mean(1), weight.size)
    oracles.assert_close(var, rows.var(1), weight.size)


@pytest.mark.parametrize("argument", ["x", "weight", "bias"])
@CASES
def test_backward_is_the_directional_difference(run, shape, axes, argument, rng):
    given = case(shape, axes, np.float64, rng)
    number = ["x", "weight", "bias"].index(argument)

    def forward(v):
        x, weight, bias = (*given[:number], v, *given[number + 1 :])
        return run(ops.layer_norm, x, shape[-axes:], weight, bias, 0.1)

    x, weight, _ = given
    mean, var = forward(given[number])[1:]
    oracles.assert_gradient(
        lambda v: forward(v)[0],
        lambda gy: run(ops.layer_norm_backward, gy, x, mean, var, shape[-axes:], weight, 0.1)[number],
        given[number], rng,
    )  # fmt: skip


def test_weight_and_bias_can_be_left_out(run, rng):
    x, _, _ = case((3, 4, 5), 1, np.float64, rng)
    norm_case.assert_weight_and_bias_can_be_left_out(run, *BOTH, x, 5, 5)


def test_float16_gradients_are_those_of_float32(run, rng):
    x, weight, _ = case((40, 9), 1, np.float16, rng)
    norm_case.assert_float16_gradients_are_those_of_float32(run, *BOTH, x, 9, weight, rng)


def test_a_large_mean_does_not_swallow_the_variance(run, rng):
    # The mean of the squares less the square of the mean would be off by 1e8 * 6e-8 = 6, and could be negative.
    x = (rng.standard_normal((2, 4096)) + 1e4).astype(np.float32)
    np.testing.assert_allclose(run(ops.layer_norm, x, 4096)[2], np.float64(x).var(1), rtol=2e-4)


def test_no_row_gives_no_row(run):
    x = np.zeros((0, 3, 4), np.float32)
    y, mean, var = run(ops.layer_norm, x, (3, 4), np.ones((3, 4), np.float32))
    assert (y.shape, mean.shape) == (x.shape, (0,))
    gx, gw, gb = run(ops.layer_norm_backward, x, x, mean, var, (3, 4))
    assert (gx.shape, gw.shape, gb.shape) == (x.shape, (3, 4), (3, 4))
    assert not gw.any()
    assert not gb.any()


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, gy = rng.standard_normal((2, 5, 4, 3)).T[..., 0], rng.standard_normal((2, 5, 4, 3)).T[..., 1]
    y, mean, var = run(ops.layer_norm, x, (4, 5))
    np.testing.assert_allclose(y, ops.layer_norm(x.copy("C"), (4, 5))[0], rtol=1e-12)
    actual = run(ops.layer_norm_backward, gy, x, mean, var, (4, 5))
    for a, e in zip(actual, ops.layer_norm_backward(gy.copy("C"), x.copy("C"), mean, var, (4, 5)), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


def test_a_long_row_far_from_0(run, rng):
    x = (1e6 + rng.standard_normal((2, 200_000))).astype(np.float32)
    _, mean, _ = run(ops.layer_norm, x, x.shape[1])
    np.testing.assert_allclose(mean, x.astype(np.float64).mean(1), 3e-7)


def test_errors_name_rule_and_values(run):
    x, one, five = np.ones((2, 4, 5)), np.ones(2), np.ones(5)
    with pytest.raises(ShapeError, match=r"layer_norm: x must end with normalized_shape, .* got x=\(2, 4, 5\), norm"):
        run(ops.layer_norm, x, 4)
    with pytest.raises(ShapeError, match=r"one axis at least, got x=\(2, 4, 5\), normalized_shape=\(\)"):
        run(ops.layer_norm, x, ())
    with pytest.raises(ShapeError, match=r"normalized_shape=\(1, 2, 4, 5\)"):
        run(ops.layer_norm, x, (1, 2, 4, 5))
    with pytest.raises(ArgumentError, match="normalized_shape must be an integer of at least 1, got norm"):
        run(ops.layer_norm, x, 0)
    with pytest.raises(ShapeError, match=r"layer_norm: bias must have shape \(4, 5\), got shape=\(5,\)"):
        run(ops.layer_norm, x, (4, 5), None, five)
    with pytest.raises(ArgumentError, match="eps must be a number, got eps='1'"):
        run(ops.layer_norm, x, 5, eps="1")
    with pytest.raises(DtypeError, match=r"arrays must have one dtype, got x='float64', weight='float32'"):
        run(ops.layer_norm, x, 5, five.astype(np.float32))
    with pytest.raises(ShapeError, match=r"layer_norm_backward: gy must have shape \(2, 4, 5\), got shape=\(1, 4, 5\)"):
        run(ops.layer_norm_backward, x[:1], x, one, one, (4, 5))
    with pytest.raises(ShapeError, match=r"layer_norm_backward: weight must have shape \(4, 5\), got shape=\(5,\)"):
        run(ops.layer_norm_backward, x, x, one, one, (4, 5), five)
    with pytest.raises(ShapeError, match=r"layer_norm_backward: var must have shape \(2,\), got shape=\(1,\)"):
        run(ops.layer_norm_backward, x, x, one, one[:1], (4, 5))


def test_the_layer_is_its_function(rng):
    x = rng.standard_normal((3, 4, 5)).astype(np.float32)
    layer = nn.LayerNorm((4, 5), 0.1)
    layer.weight.data, layer.bias.data = rng.standard_normal((2, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(layer(x).data, F.layer_norm(x, (4, 5), layer.weight.data, layer.bias.data, 0.1))
    assert [name for name, _ in nn.LayerNorm(5).named_parameters()] == ["weight", "bias"]
    assert [name for name, _ in nn.LayerNorm(5, bias=False).named_parameters()] == ["weight"]
    assert nn.LayerNorm(5, elementwise_affine=False).parameters() == []
    with pytest.raises(ArgumentError, match="LayerNorm: normalized_shape must be an integer of at least 1, got"):
        nn.LayerNorm((5, 0))


@pytest.mark.peer("layer_norm")
def test_matches_pytorch(run):
    torch = pytest.importorskip("torch")
    for seed in range(60):
        rng = np.random.default_rng(seed)
        shape = tuple(map(int, rng.integers(1, 7, rng.integers(1, 5))))
        axes = int(rng.integers(1, len(shape) + 1))
        eps = float(rng.choice([1e-5, 1e-2]))
        given = case(shape, axes, np.float64, rng)[: 3 - seed % 3]
        ours, theirs = (
            lambda x, *affine, f=place.layer_norm, s=(shape[-axes:], eps): f(x, s[0], *affine, eps=s[1])
            for place in (F, torch.nn.functional)
        )
        # Rows of one element divide by sqrt(eps): their gradients are 0, up to rounding times 1 / eps.
        agreement.assert_agrees(run, torch, ours, theirs, given, where=f"{seed=} {shape} {axes}", tolerance=1e-8)
