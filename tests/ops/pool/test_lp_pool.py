import agreement
import numpy as np
import oracles
import pytest

import gpunn.functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, ShapeError
from gpunn.ops.pool import lp as ops

# the shape of x, the window, the stride, the power
AWKWARD = {
    "one element": ((1, 1, 1), 1, None, 2),
    "primes": ((2, 3, 13), 5, 3, 2.5),
    "overlap": ((1, 2, 7, 6), (3, 2), 1, 3),
    "no image": ((0, 2, 4, 4), 2, None, 2),
    "volume": ((1, 2, 4, 5, 3), 2, (2, 1, 1), 1),
}
CASES = pytest.mark.parametrize(("shape", "kernel", "stride", "p"), AWKWARD.values(), ids=AWKWARD)


@CASES
def test_forward_is_the_loop_and_backward_the_difference(run_xp, shape, kernel, stride, p, rng):
    plan = ops.lp_plan(len(shape) - 2, shape, kernel, stride)
    x, win = rng.uniform(0.1, 2.0, shape), plan.window
    y = np.zeros(plan.y_shape)
    zeros, ones = (0,) * plan.rank, (1,) * plan.rank
    for at, elements in oracles.windows_nd(plan.image, plan.out, win.kernel, win.stride, zeros, ones):
        y[(..., *at)] = sum(x[(..., *position)] ** p for _, position in elements) ** (1 / p)
    for dtype in (np.float16, np.float32, np.float64):
        found = run_xp(ops.lp_pool, plan, x.astype(dtype), p)
        assert found.dtype == dtype
        oracles.assert_close(found, y, 32)
    oracles.assert_gradient(
        lambda v: run_xp(ops.lp_pool, plan, v, p), lambda gy: run_xp(ops.lp_pool_backward, plan, gy, x, y, p), x, rng
    )


def test_a_sum_of_zero_has_the_gradient_zero():
    x = tensor(np.zeros((1, 1, 4)), requires_grad=True)
    F.lp_pool1d(x, 2, 2).sum().backward()
    assert x.grad.tolist() == [[[0, 0, 0, 0]]]


def test_errors_name_rule_and_values():
    x = np.ones((1, 2, 5, 4))
    with pytest.raises(ArgumentError, match="lp_pool2d: norm_type must not be 0, got norm_type=0"):
        F.lp_pool2d(x, 0, 2)
    with pytest.raises(ArgumentError, match="lp_pool2d: norm_type must be a number, got norm_type='2'"):
        F.lp_pool2d(x, "2", 2)
    with pytest.raises(ShapeError, match=r"lp_pool3d: x must have the 5 dimensions \(N, C, D, H, W\), got shape"):
        F.lp_pool3d(x[None, None], 2, 2)
    with pytest.raises(ShapeError, match="lp_pool1d: the window must fit into the padded image"):
        F.lp_pool1d(x[0], 2, 5)


@pytest.mark.peer("lp_pool1d", "lp_pool2d", "lp_pool3d")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_matches_pytorch(run_xp, rank):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        kernel, stride = (tuple(map(int, rng.integers(1, 4, rank))) for _ in range(2))
        p = float(rng.choice([1, 2, 3, 1.5, np.inf, -np.inf]))
        shape = tuple(map(int, rng.integers(1, 4, 1 + seed % 2)))
        shape += tuple(k + int(more) for k, more in zip(kernel, rng.integers(0, 6, rank), strict=True))
        x = rng.standard_normal(shape) if p == 2 or np.isinf(p) else rng.uniform(0.1, 2.0, shape)
        settings = {"norm_type": p, "kernel_size": kernel if rank > 1 else kernel[0], "ceil_mode": bool(seed % 3)}
        settings["stride"] = None if seed % 5 == 0 else stride if rank > 1 else stride[0]
        if rank == 1 and np.isinf(p):
            del settings["stride"]  # PyTorch's lp_pool1d hands it on as a list of none
        both = agreement.both(torch, f"lp_pool{rank}d", **settings)
        agreement.assert_agrees(run_xp, torch, *both, [x], where=f"{seed=} {shape} {settings}")
        y = getattr(nn, f"LPPool{rank}d")(**settings)(x)
        np.testing.assert_array_equal(y, getattr(F, f"lp_pool{rank}d")(x, **settings))
