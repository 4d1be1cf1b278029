import numpy as np
import oracles
import pytest
from planned import lrn

from gpunn import cuda
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.norm import lrn_kernel

AWKWARD = {
    "one element": ((1, 1, 1, 1), 5),
    "window of one": ((2, 3, 4, 5), 1),
    "even window": ((2, 7, 3, 3), 4),
    "alexnet's window": ((2, 13, 5, 7), 5),
    "window larger than the channels": ((1, 3, 2, 2), 9),
    "no image": ((0, 4, 3, 3), 5),
    "more than one block": ((3, 6, 9, 7), 3),
    "one row of channels": ((3, 7), 3),
    "signals": ((2, 7, 9), 3),
    "volumes": ((2, 7, 2, 3, 4), 5),
    "16 bytes of pixels": ((2, 7, 3, 8), 5),
    "16 bytes of doubles alone": ((2, 7, 3, 2), 5),
    "channels in parts": ((2, 43, 3, 3), 5),
    "channels in unequal parts, even window": ((1, 50, 2, 2), 4),
}


@pytest.mark.parametrize("mode", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "size"), AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loop(run, shape, size, dtype, mode, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y = run(lrn.local_response_norm, x, size, 0.7, 0.75, 2.0, mode)
    assert y.dtype == dtype
    expected = oracles.local_response_norm(x, size, 0.7 / size if mode == "mean" else 0.7, 0.75, 2.0)
    oracles.assert_close(y, expected, size)


@pytest.mark.parametrize(("shape", "size"), AWKWARD.values(), ids=AWKWARD.keys())
def test_backward_is_the_directional_difference(run, shape, size, rng):
    x = rng.standard_normal(shape)
    settings = (size, 1.3, 0.6, 1.5, "sum")
    oracles.assert_gradient(
        lambda v: run(lrn.local_response_norm, v, *settings),
        lambda gy: run(lrn.local_response_norm_backward, gy, x, *settings), x, rng,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0])
def test_exponents_of_roots_and_others(run, beta, dtype, rng):
    x, gy = rng.standard_normal((2, 2, 43, 2, 4)).astype(dtype)
    settings = (5, 0.9, beta, 1.2, "sum")
    oracles.assert_close(run(lrn.local_response_norm, x, *settings), oracles.local_response_norm(x, 5, *settings[1:4]))
    exact = lrn.local_response_norm_backward(gy.astype(np.float64), x.astype(np.float64), *settings)
    oracles.assert_close(run(lrn.local_response_norm_backward, gy, x, *settings), exact, 5)


@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_scales_at_the_ends_of_the_range(run, beta):
    # s is 1e-40, a denormal whose inverse overflows, then infinite: 1 / s must not be formed on the way.
    x = np.float32([1e-20, 1e25]).reshape(2, 1, 1, 1)
    with np.errstate(over="ignore"):
        y = run(lrn.local_response_norm, x, 1, 1.0, beta, 0.0)
        gx = run(lrn.local_response_norm_backward, x, x, 1, 1.0, beta, 0.0)
    np.testing.assert_allclose(y.ravel(), [1e-20 ** (1 - 2 * beta), 0], rtol=1e-4)
    assert np.isfinite(gx).all()


def test_parts_of_the_channels_give_the_same_bits(monkeypatch, rng):
    x, gy = rng.standard_normal((2, 2, 67, 2, 4)).astype(np.float32)
    with cuda.emulate():
        split = lrn.local_response_norm(x, 5), lrn.local_response_norm_backward(gy, x, 5)
        monkeypatch.setattr(lrn_kernel, "_ENOUGH_THREADS", 1)
        np.testing.assert_array_equal(lrn.local_response_norm(x, 5), split[0])
        np.testing.assert_array_equal(lrn.local_response_norm_backward(gy, x, 5), split[1])


def test_every_backend_gives_the_same_gradients_in_float32(run, rng):
    for shape, size in AWKWARD.values():
        x, gy = rng.standard_normal((2, *shape)).astype(np.float32)
        exact = lrn.local_response_norm_backward(gy.astype(np.float64), x.astype(np.float64), size, 0.5)
        oracles.assert_close(run(lrn.local_response_norm_backward, gy, x, size, 0.5), exact, size)


def test_small_values_beside_large_ones_keep_their_precision(run):
    # A running sum that subtracts what leaves the window would carry the rounding of 1e8 into the later channels.
    x = np.float32([1e4, 1e4, 1e-2, 1e-2, 1e-2, 1e-2]).reshape(1, 6, 1, 1)
    y = run(lrn.local_response_norm, x, 3, 3.0, 1.0, 0.0)
    expected = oracles.local_response_norm(x, 3, 1.0, 1.0, 0.0)
    np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("channels", [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 0.0, 0.0]])  # the first past the end sees zeros
def test_without_constant_the_zeros_beyond_the_channels_stay_out(run, channels):
    x = np.reshape(channels, (1, -1, 1, 1))
    gy = np.ones_like(x)
    gx = run(lrn.local_response_norm_backward, gy, x, 5, 1.0, 0.75, 0.0)
    assert np.isfinite(gx).all()


def test_non_contiguous_arrays_are_read_right(run, rng):
    x, gy = rng.standard_normal((2, 2, 4, 5, 6)).transpose(0, 1, 4, 2, 3)[:, :, ::2]
    packed = lrn.local_response_norm_backward(gy.copy("C"), x.copy("C"), 3)
    oracles.assert_close(run(lrn.local_response_norm_backward, gy, x, 3), packed, 3)
    oracles.assert_close(run(lrn.local_response_norm, x, 3), lrn.local_response_norm(x.copy("C"), 3), 3)


def test_slices_that_start_anywhere_are_read_right(run, rng):
    # Contiguous, but not at a multiple of 16 bytes.
    x, gy = (rng.standard_normal(65).astype(np.float32)[1:].reshape(1, 16, 2, 2) for _ in range(2))
    oracles.assert_close(run(lrn.local_response_norm, x, 5), lrn.local_response_norm(x.copy(), 5), 5)
    expected = lrn.local_response_norm_backward(gy.copy(), x.copy(), 5)
    oracles.assert_close(run(lrn.local_response_norm_backward, gy, x, 5), expected, 5)


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    x = rng.standard_normal((2, 7, 3, 5)).astype(np.float32)
    with cuda.emulate():
        narrow = lrn.local_response_norm(x, 5), lrn.local_response_norm_backward(x, x, 5)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        np.testing.assert_array_equal(lrn.local_response_norm(x, 5), narrow[0])
        np.testing.assert_array_equal(lrn.local_response_norm_backward(x, x, 5), narrow[1])


def test_errors_name_rule_and_values(run):
    x = np.ones((1, 4, 2, 2))
    with pytest.raises(
        ShapeError, match=r"local_response_norm: x must have at least the 2 dimensions \(N, C\), got shape=\(2,\)"
    ):
        run(lrn.local_response_norm, x[0, 0, 0], 5)
    with pytest.raises(ArgumentError, match="size must be an integer of at least 1, got size=0"):
        run(lrn.local_response_norm, x, 0)
    with pytest.raises(ArgumentError, match='alpha_mode must be "mean" or "sum", got alpha_mode=\'max\''):
        run(lrn.local_response_norm, x, 5, alpha_mode="max")
    with pytest.raises(DtypeError, match="x must be a floating array, got dtype='int32'"):
        run(lrn.local_response_norm, x.astype(np.int32), 5)
    with pytest.raises(ShapeError, match=r"gy must have shape \(1, 4, 2, 2\), got shape=\(1, 3, 2, 2\)"):
        run(lrn.local_response_norm_backward, x[:, :3], x, 5)


@pytest.mark.peer("local_response_norm")
@pytest.mark.parametrize("seed", range(200))
def test_matches_pytorch(run, seed):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4000 + seed)
    shape = tuple(map(int, rng.integers(1, 9, (4, 4, 3, 5)[seed % 4])))  # PyTorch does not take (N, C)
    size = int(rng.integers(1, 8))
    alpha, beta, k = float(rng.uniform(1e-4, 2)), float(rng.uniform(0.3, 1.2)), float(rng.uniform(0.5, 2))
    if size == 5:  # at one size: each exponent of roots is one more compile
        beta = (0.75, 0.5)[seed % 2]
    x, gy = rng.standard_normal((2, *shape)).astype(np.float32)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = torch.nn.functional.local_response_norm(leaf, size, alpha, beta, k)
    expected.backward(torch.tensor(gy, dtype=torch.float64))
    oracles.assert_close(run(lrn.local_response_norm, x, size, alpha, beta, k), expected.detach().numpy(), size)
    gx = run(lrn.local_response_norm_backward, gy, x, size, alpha, beta, k)
    oracles.assert_close(gx, leaf.grad.numpy(), size)
