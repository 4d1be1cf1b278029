import numpy as np
import oracles
import pytest
from planned import global_pool

import gpunn.functional as F
from gpunn import cuda, nn
from gpunn.backend import half_dtype
from gpunn.errors import DtypeError, ShapeError

AWKWARD = {
    "one pixel": (1, 1, 1, 1),
    "no image": (0, 3, 2, 2),
    "no channel": (2, 0, 2, 2),
    "fewer pixels than lanes": (2, 3, 3, 5),
    "one element past a warp's": (1, 2, 1, 129),
    "by 16 bytes": (2, 2, 4, 6),
    "every warp of a block, several rounds": (1, 2, 67, 71),
}


def draw(rng, shape, dtype=np.float64):
    # Quarters of small integers: many ties, exact in every dtype.
    return (rng.integers(-6, 6, shape) / 4).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())
def test_forward_is_the_naive_loop(run, shape, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    y = run(global_pool.global_avg_pool2d, x)
    assert y.dtype == dtype
    oracles.assert_close(y, oracles.avg_pool2d(x, (1, 1), shape[2:], (1, 1), (0, 0), True), shape[2] * shape[3])
    x = draw(rng, shape, dtype)
    y, place = run(global_pool.global_max_pool2d, x)
    assert (y.dtype, place.dtype) == (dtype, np.int32)
    expected = oracles.max_pool2d(x, (1, 1), shape[2:], (1, 1), (0, 0), (1, 1))
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(place, expected[1])


@pytest.mark.parametrize("shape", AWKWARD.values(), ids=AWKWARD.keys())
def test_backward_is_the_directional_difference(run, shape, rng):
    oracles.assert_gradient(
        lambda v: run(global_pool.global_avg_pool2d, v),
        lambda gy: run(global_pool.global_avg_pool2d_backward, gy, shape), rng.standard_normal(shape), rng,
    )  # fmt: skip
    x = rng.permutation(np.prod(shape)).reshape(shape).astype(np.float64)  # no ties: the maximum is differentiable
    place = run(global_pool.global_max_pool2d, x)[1]
    oracles.assert_gradient(
        lambda v: run(global_pool.global_max_pool2d, v)[0],
        lambda gy: run(global_pool.global_max_pool2d_backward, gy, place, shape), x, rng,
    )  # fmt: skip


def test_every_backend_gives_the_same_gradients(run, rng):
    for shape in AWKWARD.values():
        x, gy = draw(rng, shape, np.float32), rng.standard_normal((*shape[:2], 1, 1)).astype(np.float32)
        exact = global_pool.global_avg_pool2d_backward(gy.astype(np.float64), shape)
        oracles.assert_close(run(global_pool.global_avg_pool2d_backward, gy, shape), exact)
        place = global_pool.global_max_pool2d(x)[1]
        expected = global_pool.global_max_pool2d_backward(gy, place, shape)
        np.testing.assert_array_equal(run(global_pool.global_max_pool2d_backward, gy, place, shape), expected)


SPECIAL = [0.0, -0.0, 1.0, -np.inf, np.inf, np.nan]


@pytest.mark.parametrize("size", [(1, 5), (9, 8), (31, 33)])
def test_ties_nan_and_infinities(run, size, rng):
    x = rng.choice(SPECIAL, (4, 6, *size), p=[0.2, 0.1, 0.2, 0.3, 0.1, 0.1])
    x[0][~np.isfinite(x[0])] = -np.inf
    x[1] = -np.inf
    y, place = run(global_pool.global_max_pool2d, x)
    expected = oracles.max_pool2d(x, (1, 1), size, (1, 1), (0, 0), (1, 1))
    np.testing.assert_array_equal(y, expected[0])
    np.testing.assert_array_equal(place, expected[1])


def test_signals_and_volumes_are_planes(run, rng):
    for shape in ((2, 3, 13), (2, 3, 2, 3, 5), (0, 3, 4)):
        rank, plane = len(shape) - 2, (*shape[:2], 1, int(np.prod(shape[2:])))
        x = rng.standard_normal(shape).astype(np.float32)
        one = (*shape[:2], *(1,) * rank)
        gy = rng.standard_normal(one).astype(np.float32)
        (y, place), mean = run(global_pool.global_max_pool, rank, x), run(global_pool.global_avg_pool, rank, x)
        assert y.shape == place.shape == mean.shape == one
        expected = run(global_pool.global_max_pool2d, x.reshape(plane))
        np.testing.assert_array_equal(y.ravel(), expected[0].ravel())
        np.testing.assert_array_equal(place.ravel(), expected[1].ravel())
        oracles.assert_close(mean.ravel(), run(global_pool.global_avg_pool2d, x.reshape(plane)).ravel(), plane[3])
        flat = gy.reshape(*shape[:2], 1, 1)
        gx = run(global_pool.global_max_pool_backward, rank, gy, place, shape)
        expected = run(global_pool.global_max_pool2d_backward, flat, expected[1], plane)
        np.testing.assert_array_equal(gx, expected.reshape(shape))
        gx = run(global_pool.global_avg_pool_backward, rank, gy, shape)
        expected = run(global_pool.global_avg_pool2d_backward, flat, plane)
        np.testing.assert_array_equal(gx, expected.reshape(shape))
    with pytest.raises(ShapeError, match=r"global_avg_pool1d: x must have the 3 dimensions \(N, C, L\), got"):
        run(global_pool.global_avg_pool, 1, np.ones((2, 3)))


def test_layers_of_every_rank_are_their_function(rng):
    for rank in (1, 2, 3):
        x = rng.standard_normal((2, 3, 4, 5, 2)[: rank + 2])
        for kind, name in (("Avg", "avg"), ("Max", "max")):
            y = getattr(nn, f"Global{kind}Pool{rank}d")()(x)
            np.testing.assert_array_equal(y, getattr(F, f"global_{name}_pool{rank}d")(x))


def test_half_precision_is_summed_in_single(run):
    x = np.full((1, 1, 300, 300), 2, np.float16)  # the sum, 180,000, is beyond float16
    y = run(global_pool.global_avg_pool2d, x)
    assert (y.dtype, y.item()) == (np.float16, 2)
    gx = run(global_pool.global_avg_pool2d_backward, np.ones((1, 1, 1, 1), np.float16), (1, 1, 4, 2))
    assert (gx.dtype, gx[0, 0, 0, 0]) == (np.float16, 0.125)


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 16), (3, 2, 7, 5), (1, 1, 1, 1)])
def test_16_bits_are_computed_in_float32_and_rounded_once(run, name, shape, rng):
    half = half_dtype("test", name)
    x = rng.standard_normal(shape).astype(half)
    x[0, 0, 0, 0] = np.nan if shape[0] == 3 else -np.inf
    exact = np.float32(x)
    y, place = run(global_pool.global_max_pool2d, x)
    for found, wanted in zip((y, place), global_pool.global_max_pool2d(exact), strict=True):
        np.testing.assert_array_equal(np.float32(found), np.float32(wanted))
    gx = run(global_pool.global_max_pool2d_backward, x[:, :, :1, :1], place, shape)
    expected = global_pool.global_max_pool2d_backward(exact[:, :, :1, :1], place, shape)
    np.testing.assert_array_equal(np.float32(gx), expected)
    gx = run(global_pool.global_avg_pool2d_backward, x[:, :, :1, :1], shape)
    assert y.dtype == gx.dtype == half
    eps = 2.0**-10 if name == "fp16" else 2.0**-7
    for found, wanted in (
        (run(global_pool.global_avg_pool2d, x), global_pool.global_avg_pool2d(exact)),
        (gx, global_pool.global_avg_pool2d_backward(exact[:, :, :1, :1], shape)),
    ):
        np.testing.assert_allclose(np.float32(found), wanted, rtol=0.51 * eps, atol=1e-6)


def test_non_contiguous_arrays_and_slices_are_read_right(run, rng):
    transposed = rng.standard_normal((2, 9, 8, 3)).transpose(0, 3, 1, 2)[:, ::2]
    unaligned = rng.standard_normal(65).astype(np.float32)[1:].reshape(2, 2, 4, 4)
    for x in (transposed, unaligned):
        packed = x.copy("C")
        oracles.assert_close(run(global_pool.global_avg_pool2d, x), global_pool.global_avg_pool2d(packed), 72)
        for actual, expected in zip(
            run(global_pool.global_max_pool2d, x), global_pool.global_max_pool2d(packed), strict=True
        ):
            np.testing.assert_array_equal(actual, expected)


def test_wide_index_gives_the_same_bits(monkeypatch, rng):
    x = rng.standard_normal((2, 3, 7, 7)).astype(np.float32)
    with cuda.emulate():
        narrow = *global_pool.global_max_pool2d(x), global_pool.global_avg_pool2d(x)
        monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
        wide = *global_pool.global_max_pool2d(x), global_pool.global_avg_pool2d(x)
    for actual, expected in zip(wide, narrow, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", ["global_avg_pool2d", "global_max_pool2d"])
def test_errors_name_rule_and_values(run, name):
    function = getattr(global_pool, name)
    with pytest.raises(ShapeError, match=rf"{name}: x must have the 4 dimensions \(N, C, H, W\), got shape=\(5, 5\)"):
        run(function, np.ones((5, 5)))
    with pytest.raises(ShapeError, match=rf"{name}: a plane must have 1 to 2\^31 - 1 pixels, got shape=\(1, 2, 0, 4\)"):
        run(function, np.ones((1, 2, 0, 4)))
    with pytest.raises(DtypeError, match=f"{name}: x must be a floating array, got dtype='int64'"):
        run(function, np.ones((1, 1, 5, 5), np.int64))


def test_errors_about_gradients():
    with pytest.raises(ShapeError, match=r"gy must have shape \(1, 3, 1, 1\), got shape=\(1, 3\)"):
        global_pool.global_avg_pool2d_backward(np.ones((1, 3)), (1, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"gy must have shape \(1, 3, 1, 1\)"):
        global_pool.global_max_pool2d_backward(np.ones((1, 3)), np.zeros((1, 3), np.int32), (1, 3, 4, 4))
    with pytest.raises(ShapeError, match=r"place must have shape \(1, 3, 1, 1\), got shape=\(1, 3\)"):
        global_pool.global_max_pool2d_backward(np.ones((1, 3, 1, 1)), np.zeros((1, 3), np.int32), (1, 3, 4, 4))
    with pytest.raises(DtypeError, match="place must be int32, got dtype='int64'"):
        global_pool.global_max_pool2d_backward(np.ones((1, 3, 1, 1)), np.zeros((1, 3, 1, 1), np.int64), (1, 3, 4, 4))


@pytest.mark.peer(
    "global_max_pool1d",
    "global_max_pool2d",
    "global_max_pool3d",
    "global_avg_pool1d",
    "global_avg_pool2d",
    "global_avg_pool3d",
)
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matches_pytorch(run, rank, seed):
    torch = pytest.importorskip("torch")
    theirs = {kind: getattr(torch.nn.functional, f"adaptive_{kind}_pool{rank}d") for kind in ("max", "avg")}
    rng = np.random.default_rng(5000 + seed)
    shape = (*map(int, rng.integers(1, 4, 2)), *map(int, rng.integers(1, (900, 40, 10)[rank - 1], rank)))
    x = rng.choice(SPECIAL, shape) if seed % 4 == 0 else draw(rng, shape)
    leaf = torch.tensor(x, requires_grad=True)
    expected, indices = theirs["max"](leaf, 1, return_indices=True)
    y, place = run(global_pool.global_max_pool, rank, x)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    np.testing.assert_array_equal(place, indices.numpy())
    gy = rng.standard_normal(y.shape)
    expected.backward(torch.tensor(gy))
    np.testing.assert_array_equal(run(global_pool.global_max_pool_backward, rank, gy, place, shape), leaf.grad.numpy())

    x = rng.standard_normal(shape).astype(np.float32)
    leaf = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    expected = theirs["avg"](leaf, 1)
    expected.backward(torch.tensor(gy))
    oracles.assert_close(run(global_pool.global_avg_pool, rank, x), expected.detach().numpy(), x[0, 0].size)
    oracles.assert_close(run(global_pool.global_avg_pool_backward, rank, gy, shape), leaf.grad.numpy())
