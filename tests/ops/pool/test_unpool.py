import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn import nn
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops.pool import unpool as ops

# The shape of x, the settings of the plan, and the size of y.
CASES = {
    "signal": ((2, 3, 5), (2,), (10,)),
    "signal, steps and padding": ((2, 3, 5), (3, 2, 1), (9,)),
    "signal, another size": ((2, 3, 5), (3, 2, 1, (10,)), (10,)),
    "one element": ((1, 1, 1), (1,), (1,)),
    "no signal": ((0, 3, 5), (2,), (10,)),
    "no channel": ((2, 0, 5), (2,), (10,)),
    "image": ((2, 3, 4, 5), ((3, 2), (1, 2)), (6, 10)),
    "image, the whole shape": ((2, 3, 4, 5), (2, 2, 0, (2, 3, 9, 9)), (9, 9)),
    "volume": ((1, 2, 2, 3, 2), ((2, 1, 3), (), (1, 0, 0)), (2, 3, 6)),
}
EACH = pytest.mark.parametrize(("shape", "settings", "size"), CASES.values(), ids=CASES.keys())


def drawn(rng, shape, size, dtype=np.float64):
    """x, and indices, some of them equal."""
    return rng.standard_normal(shape).astype(dtype), rng.integers(0, np.prod(size), shape)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@EACH
def test_both_ways_are_the_naive_loop(run_xp, shape, settings, size, dtype, rng):
    x, index = drawn(rng, shape, size, dtype)
    plan = ops.plan(len(shape) - 2, shape, *settings)
    expected = np.zeros((*shape[:2], int(np.prod(size))), dtype)
    for place in np.ndindex(shape):
        expected[(*place[:2], index[place])] = x[place]
    y = run_xp(ops.max_unpool, plan, x, index)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected.reshape(*shape[:2], *size))
    gy = rng.standard_normal(y.shape).astype(dtype)
    gx = run_xp(ops.max_unpool_backward, plan, gy, index)
    assert gx.dtype == dtype
    flat = gy.reshape(expected.shape)
    np.testing.assert_array_equal(gx, np.array([flat[(*p[:2], index[p])] for p in np.ndindex(shape)]).reshape(shape))


def test_backward_is_the_directional_difference(run_xp, rng):
    x, index = rng.standard_normal((2, 2, 3)), np.array([[[0, 5, 3], [2, 1, 4]], [[1, 0, 2], [5, 4, 3]]])
    plan = ops.plan(1, x.shape, 2)
    oracles.assert_gradient(
        lambda v: run_xp(ops.max_unpool, plan, v, index), lambda gy: run_xp(ops.max_unpool_backward, plan, gy, index),
        x, rng,
    )  # fmt: skip


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_layers_undo_pooling(rank, rng):
    x = rng.standard_normal((2, 3, *(5,) * rank)).astype(np.float32)
    y, index = getattr(nn, f"MaxPool{rank}d")(2, return_indices=True)(x)
    back = getattr(nn, f"MaxUnpool{rank}d")(2)(y, index.astype(np.uint8), x.shape)
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[back != 0], x[back != 0])
    assert np.count_nonzero(back) == y.size
    np.testing.assert_array_equal(getattr(nn, f"MaxUnpool{rank}d")(2)(y[0], index[0], x.shape[2:]), back[0])


def test_errors_name_rule_and_values():
    x, index = np.ones((1, 2, 3)), np.zeros((1, 2, 3), int)
    for wrong in (-1, 6):
        with pytest.raises(
            ArgumentError, match=f"max_unpool1d: index must lie in 0 to 5, a plane of y, got index={wrong}"
        ):
            F.max_unpool1d(x, index + wrong, 2)
    with pytest.raises(DtypeError, match="max_unpool1d: index must hold integers, got dtype='float64'"):
        F.max_unpool1d(x, x, 2)
    with pytest.raises(ShapeError, match=r"max_unpool1d: index must have shape \(1, 2, 3\), got shape=\(1, 2, 2\)"):
        F.max_unpool1d(x, index[..., 1:], 2)
    for wrong in (8, (8,), (4,), (2, 7)):
        with pytest.raises(ArgumentError, match="max_unpool1d: output_size must "):
            F.max_unpool1d(x, index, 2, output_size=wrong)
    with pytest.raises(ShapeError, match=r"the padding must leave something of the output, got output=\(0,\)"):
        F.max_unpool1d(x, index, 2, 1, 2)
    with pytest.raises(ShapeError, match=r"max_unpool2d: x must have the 4 dimensions .*got shape=\(3,\)"):
        F.max_unpool2d(x[0, 0], index[0, 0], 2)


@pytest.mark.peer("max_unpool1d", "max_unpool2d", "max_unpool3d")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matches_pytorch(run_xp, rank):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        kernel = int(rng.integers(1, 4))
        settings = kernel, int(rng.integers(1, 4)), int(rng.integers(0, kernel // 2 + 1))
        x = rng.standard_normal((*rng.integers(1, 4, int(rng.integers(1, 3))), *rng.integers(3, 7, rank)))
        pool = getattr(torch.nn.functional, f"max_pool{rank}d")
        y, index = pool(torch.tensor(x), *settings, return_indices=True)  # windows that overlap have one maximum
        size = x.shape[-rank:] if rng.random() < 0.7 or min(2 * settings[2], kernel) < 1 else None
        ours, theirs = agreement.both(torch, f"max_unpool{rank}d")
        if size is None and np.max(index.numpy(), initial=0) >= np.prod([
            (n - 1) * settings[1] - 2 * settings[2] + kernel for n in y.shape[-rank:]
        ]):  # fmt: skip
            continue
        agreement.assert_agrees(
            run_xp, torch, ours, theirs, [y.numpy()], [index.numpy(), *settings, size], f"{seed=} {x.shape} {settings}"
        )
