import numpy as np
import oracles
import pytest
from norm_case import assert_steps_are_pytorchs, case

import gpunn
from gpunn import cuda, nn, tensor
from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import norm as ops

AWKWARD = {
    "one element": (1, 1),
    "two rows": (2, 3),
    "more channels than a block": (70, 37),
    "many rows": (700, 3),  # several slices, 32 channels a block
    "sequence": (5, 3, 6),
    "images of one": (9, 7, 1, 1),
    "images of four": (9, 7, 2, 2),
    "images of three": (6, 35, 3, 1),
    "odd images": (3, 5, 7, 11),
    "several slices": (3, 2, 40, 40),
    "several slices, odd": (5, 3, 31, 29),
    "volume": (2, 3, 3, 4, 5),
    "one example": (1, 2, 9, 9),
}
SHAPES = pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@SHAPES
def test_statistics_are_the_naive_loop(run, shape, dtype, rng):
    x, _, _ = case(shape, dtype, rng)
    mean, var = run(ops.batch_norm_statistics, x)
    assert mean.dtype == var.dtype == gpunn.backend.accumulation_dtype(dtype)
    expected_mean, expected_var = oracles.batch_norm_statistics(x)
    oracles.assert_close(mean, expected_mean, x.size // shape[1])
    oracles.assert_close(var, expected_var, x.size // shape[1])


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@SHAPES
def test_forward_is_the_naive_loop(run, shape, dtype, relu, rng):
    x, weight, bias = case(shape, dtype, rng)
    mean, var = rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1])
    y = run(ops.batch_norm, x, mean, var, weight, bias, 0.01, relu)
    assert y.dtype == dtype
    expected = oracles.batch_norm(x, mean, var, weight, bias, 0.01)
    oracles.assert_close(y, np.maximum(expected, 0) if relu else expected)


def test_weight_and_bias_can_be_left_out(run, rng):
    x, weight, bias = case((3, 4, 5), np.float64, rng)
    mean, var, one, zero = bias, weight**2, np.ones(4), np.zeros(4)
    bare = run(ops.batch_norm, x, mean, var)
    np.testing.assert_array_equal(bare, run(ops.batch_norm, x, mean, var, one, zero))
    for a, b in zip(
        run(ops.batch_norm_backward, x, x, mean, var),
        run(ops.batch_norm_backward, x, x, mean, var, one, zero), strict=True,
    ):  # fmt: skip
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("argument", ["x", "weight", "bias"])
@pytest.mark.parametrize("shape", [(9, 5), (70, 3), (4, 3, 6), (3, 2, 40, 41), (2, 2, 3, 4, 5)], ids=str)
def test_backward_is_the_directional_difference(run, shape, argument, relu, training, rng):
    x, weight, bias = case(shape, np.float64, rng)
    fixed = rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1])
    number = ["x", "weight", "bias"].index(argument)

    def arguments(value):
        values = [x, weight, bias]
        values[number] = value
        mean, var = run(ops.batch_norm_statistics, values[0]) if training else fixed
        return values[0], mean, var, *values[1:], 1e-3, relu

    oracles.assert_gradient(
        lambda v: run(ops.batch_norm, *arguments(v)),
        lambda gy: run(ops.batch_norm_backward, gy, *arguments([x, weight, bias][number]), training)[number],
        [x, weight, bias][number], rng,
    )  # fmt: skip


@pytest.mark.parametrize("relu", [False, True])
@SHAPES
def test_every_backend_gives_the_same_gradients_in_float32(run, shape, relu, rng):
    x, weight, bias = case(shape, np.float32, rng)
    gy = rng.standard_normal(shape).astype(np.float32)
    mean, var = ops.batch_norm_statistics(x)
    gy[np.abs(ops.batch_norm(x, mean, var, weight, bias, 0.1)) < 1e-4] = 0  # where roundings decide what ReLU does
    actual = run(ops.batch_norm_backward, gy, x, mean, var, weight, bias, 0.1, relu)
    wide = [a.astype(np.float64) for a in (gy, x, mean, var, weight, bias)]
    exact = ops.batch_norm_backward(*wide, 0.1, relu)
    for a, e in zip(actual, exact, strict=True):
        # A sum of m terms of both signs: the scale of its rounding is that of its terms, sqrt(m) of them.
        count = x.size // shape[1]
        terms = np.zeros(e.shape) if e.ndim > 1 else np.full(e.shape, np.sqrt(count))
        oracles.assert_close(a - terms.astype(np.float32), e - terms, count)


def test_an_infinite_gradient_is_infinite_where_it_was(run, rng):
    x, weight, bias = case((2, 3, 12, 12), np.float32, rng)
    gy = rng.standard_normal(x.shape).astype(np.float32)
    gy[0, 1, 2, 3] = np.inf
    mean, var = ops.batch_norm_statistics(x)
    with np.errstate(invalid="ignore"):
        gx, gw, gb = run(ops.batch_norm_backward, gy, x, mean, var, weight, bias, 0.1, False, False)
    np.testing.assert_array_equal(np.isinf(gx), np.isinf(gy))
    np.testing.assert_array_equal(np.isinf([gw, gb]), [[False, True, False]] * 2)


def test_a_large_mean_does_not_swallow_the_variance(run, rng):
    # The mean of the squares less the square of the mean would be off by 1e8 * 6e-8 = 6, and could be negative.
    for shape in ((4096, 2), (2, 2, 64, 64)):
        x = (rng.standard_normal(shape) + 1e4).astype(np.float32)
        np.testing.assert_allclose(run(ops.batch_norm_statistics, x)[1], oracles.batch_norm_statistics(x)[1], rtol=2e-4)


def test_slices_that_nothing_is_left_for_count_for_nothing(run, rng):
    # 256 slices of ceil(16385 / 256) = 65 rows: the last three are empty.
    x, gy = (rng.standard_normal((2, 16385, 2)) + 1).astype(np.float32)
    mean, var = run(ops.batch_norm_statistics, x)
    expected = oracles.batch_norm_statistics(x)
    oracles.assert_close(mean, expected[0], len(x))
    oracles.assert_close(var, expected[1], len(x))
    gb = run(ops.batch_norm_backward, gy, x, mean, var)[2]
    np.testing.assert_allclose(gb, gy.sum(0, dtype=np.float64), rtol=1e-4)


def test_relu_in_the_same_pass_is_relu_after_it(run, rng):
    x, weight, bias = case((3, 5, 8, 8), np.float32, rng)
    x[0, 0, 0, 0] = np.nan
    mean, var = bias, weight**2
    fused = run(ops.batch_norm, x, mean, var, weight, bias, relu=True)
    np.testing.assert_array_equal(fused, np.maximum(run(ops.batch_norm, x, mean, var, weight, bias), 0))
    assert np.isnan(fused[0, 0, 0, 0])


def test_relu_passes_no_gradient_where_it_is_exactly_0(run, rng):
    x, gy = rng.standard_normal((2, 3, 5, 5)).astype(np.float32), np.ones((2, 3, 5, 5), np.float32)
    zero = np.zeros(3, np.float32)
    mean, var = run(ops.batch_norm_statistics, x)
    for gradient in run(ops.batch_norm_backward, gy, x, mean, var, zero, zero, relu=True):
        np.testing.assert_array_equal(gradient, 0)


def test_an_empty_batch_is_normalised_by_given_statistics_only(run):
    x, one = np.zeros((0, 3, 4, 4), np.float32), np.ones(3, np.float32)
    assert run(ops.batch_norm, x, one, one).shape == x.shape
    gx, gw, gb = run(ops.batch_norm_backward, x, x, one, one)
    assert (gx.shape, gw.tolist(), gb.tolist()) == (x.shape, [0, 0, 0], [0, 0, 0])
    with pytest.raises(ShapeError, match=r"at least one element for each channel, got shape=\(0, 3, 4, 4\)"):
        run(ops.batch_norm_statistics, x)


def test_non_contiguous_and_misaligned_arrays_are_read_right(run, rng):
    images = rng.standard_normal((2, 3, 8, 9, 4)).astype(np.float32).transpose(0, 1, 2, 4, 3)
    row = np.arange(2 * 3 * 16 + 1, dtype=np.float32)
    for x, gy in ((images[0], images[1]), (row[1:].reshape(2, 3, 4, 4), row[:-1].reshape(2, 3, 4, 4))):
        whole = x.copy("C"), gy.copy("C")
        mean, var = ops.batch_norm_statistics(whole[0])
        actual = [*run(ops.batch_norm_statistics, x), run(ops.batch_norm, x, mean, var)]
        actual += run(ops.batch_norm_backward, gy, x, mean, var)
        expected = [mean, var, ops.batch_norm(whole[0], mean, var)]
        expected += ops.batch_norm_backward(whole[1], whole[0], mean, var)
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=2e-5, atol=2e-5)


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    for shape in ((3, 2, 40, 40), (700, 3)):
        x, weight, bias = case(shape, np.float32, rng)

        def everything(x=x, weight=weight, bias=bias):
            mean, var = ops.batch_norm_statistics(x)
            settings = x, mean, var, weight, bias
            return [mean, var, ops.batch_norm(*settings), *ops.batch_norm_backward(x, *settings)]

        with cuda.emulate():
            narrow = everything()
            with monkeypatch.context() as patch:
                patch.setattr(cuda, "index_type", lambda *sizes: "long long")
                for a, e in zip(everything(), narrow, strict=True):
                    np.testing.assert_array_equal(a, e)


# ---- the function and the layers ------------------------------------------------------------------------------------


def test_running_statistics_follow_the_batches(run):
    def steps(mean, var, *batches):
        for x in batches:
            F.batch_norm(x, mean, var, training=True, momentum=0.25)
        return mean, var

    mean, var = run(steps, np.zeros(2), np.ones(2), np.array([[1.0, 4.0], [3.0, 4.0]]), np.array([[5.0, 0.0]] * 2))
    # Batch means 2, 4 and then 5, 0; unbiased variances 2, 0 and then 0, 0.
    np.testing.assert_allclose(mean, [0.75 * 0.25 * 2 + 0.25 * 5, 0.75 * 0.25 * 4])
    np.testing.assert_allclose(var, [0.75 * (0.75 + 0.25 * 2), 0.75 * 0.75])


SINGLE = [
    (lambda: nn.BatchNorm1d(3), (1, 3)),
    (lambda: nn.BatchNorm1d(3), (1, 3, 1)),
    (lambda: nn.BatchNorm2d(3, momentum=None), (1, 3, 1, 1)),
    (lambda: nn.BatchNorm1d(3, track_running_stats=False).eval(), (1, 3)),
    (lambda: nn.InstanceNorm1d(3, track_running_stats=True), (2, 3, 1)),
    (lambda: nn.InstanceNorm2d(3, affine=True), (4, 3, 1, 1)),
]


@pytest.mark.parametrize(("make", "shape"), SINGLE)
def test_one_value_a_channel_is_refused_in_training_and_leaves_no_trace(make, shape):
    layer = make()
    before = layer.state_dict()
    for x in (np.ones(shape, np.float32), tensor(np.ones(shape, np.float32))):
        with pytest.raises(ShapeError, match=r"more than one value a channel, got shape=\("):
            layer(x)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    if layer.running_mean is not None:
        assert layer.eval()(np.ones(shape, np.float32)).shape == shape


@pytest.mark.peer("BatchNorm1d", "BatchNorm2d", "InstanceNorm1d", "InstanceNorm2d")
@pytest.mark.parametrize("kind", ["BatchNorm1d", "BatchNorm2d", "InstanceNorm1d", "InstanceNorm2d"])
@pytest.mark.parametrize("training", [True, False])
def test_pytorch_refuses_the_same_and_takes_empty_batches(kind, training):
    torch = pytest.importorskip("torch")
    shapes = {"1d": [(1, 3, 1), (2, 3, 1), (1, 3, 2), (0, 3, 4), (2, 3, 0)],
              "2d": [(1, 3, 1, 1), (2, 3, 1, 1), (1, 3, 1, 2), (0, 3, 4, 4), (2, 3, 0, 4)]}[kind[-2:]]  # fmt: skip
    for shape in shapes if kind[0] == "B" else shapes[:3]:  # of empty ones PyTorch's running statistics are NaN
        ours = getattr(nn, kind)(3, track_running_stats=True).train(training)
        theirs = getattr(torch.nn, kind)(3, track_running_stats=True).train(training)
        x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        try:
            expected = theirs(torch.from_numpy(x))
        except ValueError:
            with pytest.raises(ShapeError):
                ours(x)
            continue
        y = ours(x)
        np.testing.assert_allclose(getattr(y, "data", y), expected.detach().numpy(), rtol=1e-4, atol=1e-5)
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(getattr(ours, name).data, getattr(theirs, name).numpy(), rtol=1e-5)


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(3, momentum=None),
                                  lambda: nn.InstanceNorm1d(3, track_running_stats=True)])  # fmt: skip
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)])
def test_an_empty_batch_gives_an_empty_result_and_changes_nothing(make, shape):
    layer = make()
    layer(np.arange(12, dtype=np.float32).reshape(2, 3, 2))
    before = layer.state_dict()
    x = tensor(np.ones(shape, np.float32), requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == shape
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("function", [F.batch_norm, F.instance_norm])
def test_integer_running_statistics_are_refused_where_they_would_be_cut_off(function):
    x = np.arange(12.0).reshape(2, 3, 2)
    for mean, var in ((np.zeros(3, int), np.ones(3)), (np.zeros(3), np.ones(3, int))):
        with pytest.raises(DtypeError, match="must be floats in training, got dtype='int64'"):
            function(x, mean, var, None, None, True)
        assert (mean.tolist(), var.tolist()) == ([0, 0, 0], [1, 1, 1])


def test_a_gradient_survives_a_later_change_of_the_running_statistics():
    x, mean, var = tensor(np.ones((2, 1)), requires_grad=True), np.zeros(1), np.full(1, 4.0)
    y = F.batch_norm(x, mean, var, eps=0.0)
    mean += 1
    var += 1
    y.backward(np.ones((2, 1)))
    assert x.grad.tolist() == [[0.5], [0.5]]


def test_layers_are_their_function(rng):
    for layer, shape in (
        (nn.BatchNorm1d(3), (4, 3)),
        (nn.BatchNorm1d(3, relu=True), (4, 3, 5)),
        (nn.BatchNorm2d(3, 0.1, 0.3), (4, 3, 5, 2)),
        (nn.BatchNorm3d(3, affine=False), (4, 3, 2, 2, 2)),
    ):
        x = rng.standard_normal(shape).astype(np.float32)
        mean, var = np.zeros(3, np.float32), np.ones(3, np.float32)
        affine = (None, None) if layer.weight is None else (layer.weight.data, layer.bias.data)
        for training in (True, False):
            y = layer.train(training)(x)
            expected = F.batch_norm(x, mean, var, *affine, training, layer.momentum, layer.eps, layer.relu)
            np.testing.assert_array_equal(y.data if isinstance(y, gpunn.Tensor) else y, expected)
        np.testing.assert_array_equal(layer.running_mean.data, mean)
        np.testing.assert_array_equal(layer.running_var.data, var)
        assert layer.num_batches_tracked.item() == 1


def test_without_running_statistics_every_batch_is_normalised_by_itself(rng):
    layer = nn.BatchNorm1d(3, track_running_stats=False)
    x = rng.standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(layer.eval()(x).data, layer.train()(x).data)
    assert list(layer.named_buffers()) == []


def test_the_state_goes_through_a_state_dict(rng):
    one, two = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    one(rng.standard_normal((4, 3, 5, 5)).astype(np.float32) + 3)
    two.load_state_dict(one.state_dict())
    assert sorted(one.state_dict()) == [
        f"0.{name}" for name in ("bias", "num_batches_tracked", "running_mean", "running_var", "weight")
    ]
    x = rng.standard_normal((2, 3, 5, 5)).astype(np.float32)
    np.testing.assert_array_equal(one.eval()(x).data, two.eval()(x).data)


def test_errors_name_rule_and_values(run):
    x, two, three = np.ones((4, 3)), np.ones(2), np.ones(3)
    with pytest.raises(ShapeError, match=r"at least the 2 dimensions \(N, C\), got shape=\(3,\)"):
        run(ops.batch_norm_statistics, three)
    with pytest.raises(ShapeError, match=r"batch_norm: var must have shape \(3,\), got shape=\(2,\)"):
        run(ops.batch_norm, x, three, two)
    with pytest.raises(ShapeError, match=r"batch_norm_backward: weight must have shape \(3,\), got shape=\(2,\)"):
        run(ops.batch_norm_backward, x, x, three, three, two)
    with pytest.raises(ShapeError, match=r"gy must have shape \(4, 3\), got shape=\(3, 3\)"):
        run(ops.batch_norm_backward, x[1:], x, three, three)
    with pytest.raises(ArgumentError, match="eps must be at least 0, got eps=-1"):
        run(ops.batch_norm, x, three, three, eps=-1)
    with pytest.raises(DtypeError, match=r"arrays must have one dtype, got x='float64', weight='float32'"):
        run(ops.batch_norm, x, three, three, three.astype(np.float32))
    with pytest.raises(ArgumentError, match="outside training running_mean and running_var must be given"):
        F.batch_norm(x, three)
    with pytest.raises(ShapeError, match=r"running_var must have shape \(3,\), got shape=\(2,\)"):
        F.batch_norm(x, three, two, training=True)
    with pytest.raises(ShapeError, match=r"BatchNorm1d: x must have 2 or 3 dimensions, .* got shape=\(4, 3, 1, 1\)"):
        nn.BatchNorm1d(3)(x[:, :, None, None])
    with pytest.raises(ArgumentError, match="BatchNorm2d: num_features must be an integer of at least 1"):
        nn.BatchNorm2d(0)
    with pytest.raises(ArgumentError, match="BatchNorm2d: momentum must be a number, got momentum='2'"):
        nn.BatchNorm2d(1, momentum="2")


LAYERS = {2: "BatchNorm1d", 3: "BatchNorm1d", 4: "BatchNorm2d", 5: "BatchNorm3d"}


@pytest.mark.peer("batch_norm")
@pytest.mark.parametrize("seed", range(60))
def test_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    shape = tuple(map(int, rng.integers(1, 9, rng.integers(2, 6))))
    shape = (shape[0] + 1, *shape[1:])  # PyTorch refuses a single element in training
    settings = {
        "eps": float(rng.choice([1e-5, 1e-2])),
        "momentum": [None, 0.1, 0.7][rng.integers(3)],
        "affine": bool(rng.integers(2)),
    }
    name = LAYERS[len(shape)]
    layer = getattr(nn, name)(shape[1], **settings, dtype=np.float64)
    theirs = getattr(torch.nn, name)(shape[1], **settings, dtype=torch.float64)
    assert_steps_are_pytorchs(run, layer, theirs, shape, rng, 1e-9)
    for key, value in theirs.state_dict().items():
        np.testing.assert_allclose(gpunn.backend.to_cpu(layer.state_dict()[key]), value.numpy(), rtol=1e-12, atol=1e-12)
