import agreement
import numpy as np
import oracles
import pytest

from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.ops import array as ops

CASES = {
    "constant": ((2, 3, 4), (1, 2, 0, 3), "constant"),
    "constant, cropping": ((5, 6), (-2, 1, 3, -4), "constant"),
    "constant, nothing left": ((2, 3), (-3, 0), "constant"),
    "constant, empty": ((0, 3), (1, 1, 2, 0), "constant"),
    "constant, no pads": ((2, 3), (), "constant"),
    "constant, cut off beyond the other end": ((3,), (-3, 2), "constant"),
    "reflect": ((3, 4, 5), (2, 4, 3, 1), "reflect"),
    "reflect, three axes": ((2, 2, 3, 5), (1, 3, 2, 0, 1, 1), "reflect"),
    "reflect, one element": ((2, 1), (0, 0), "reflect"),
    "replicate": ((3, 4, 5), (2, 7, 9, 1), "replicate"),
    "replicate, one element": ((1, 1), (3, 0, 0, 2), "replicate"),
    "circular": ((3, 4, 5), (5, 2, 3, 4), "circular"),
    "circular, one element": ((1,), (1, 1), "circular"),
    "circular, other axis empty": ((0, 3), (2, 1), "circular"),
    "reflect, cropping": ((3, 4, 5), (-2, 3, 1, -1), "reflect"),
    "replicate, cropping what was added": ((3, 3), (5, -4, -1, 2), "replicate"),
}
EACH = pytest.mark.parametrize(("shape", "pads", "mode"), CASES.values(), ids=CASES.keys())


def source(place, length, mode):
    """The element of an axis of ``length`` that the element ``place`` of the padded axis is; None: the constant."""
    if mode == "circular":
        return place % length
    if mode == "reflect":
        return -place if place < 0 else place if place < length else 2 * (length - 1) - place
    inside = 0 <= place < length
    return place if inside else None if mode == "constant" else min(max(place, 0), length - 1)


def naive(x, pads, mode, value=0.0):
    both = [(0, 0)] * (x.ndim - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True))[::-1]
    y = np.empty([n + before + after for n, (before, after) in zip(x.shape, both, strict=True)])
    for place in np.ndindex(y.shape):
        index = tuple(source(p - before, n, mode) for p, n, (before, _) in zip(place, x.shape, both, strict=True))
        y[place] = value if None in index else x[index]
    return y


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@EACH
def test_forward_is_the_naive_loop(run_xp, shape, pads, mode, dtype, rng):
    x = rng.standard_normal(shape).astype(dtype)
    value = {} if mode != "constant" else {"value": 1.5}
    y = run_xp(ops.pad, x, pads, mode, **value)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, naive(x, pads, mode, **value))


@EACH
def test_backward_is_the_directional_difference(run_xp, shape, pads, mode, rng):
    oracles.assert_gradient(
        lambda v: run_xp(ops.pad, v, pads, mode), lambda gy: run_xp(ops.pad_backward, gy, shape, pads, mode),
        rng.standard_normal(shape), rng,
    )  # fmt: skip


@EACH
def test_gradients_of_half_precision_are_summed_in_float32(run_xp, shape, pads, mode, rng):
    gy = rng.standard_normal(naive(np.zeros(shape), pads, mode).shape).astype(np.float16)
    gx = run_xp(ops.pad_backward, gy, shape, pads, mode)
    assert gx.dtype == np.float16
    oracles.assert_close(gx, ops.pad_backward(gy.astype(float), shape, pads, mode))


def test_non_contiguous_arrays_are_read_right(run_xp, rng):
    x, gy = rng.standard_normal((6, 9)).T[::2], rng.standard_normal((10, 9)).T[:, ::-1]
    for mode in ("constant", "reflect", "replicate", "circular"):
        pads = (1, 3, 2, 2)
        np.testing.assert_array_equal(run_xp(ops.pad, x, pads, mode), ops.pad(x.copy(), pads, mode))
        gx = run_xp(ops.pad_backward, gy, x.shape, pads, mode)
        np.testing.assert_array_equal(gx, run_xp(ops.pad_backward, gy.copy(), x.shape, pads, mode))


def test_nothing_to_pad_is_a_copy():
    x = np.ones((2, 3))
    for mode in ("constant", "reflect"):
        assert not np.shares_memory(ops.pad(x, (0, 0), mode), x)


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    with pytest.raises(ArgumentError, match="pad: mode is .*got mode='mirror'"):
        ops.pad(x, (1, 1), "mirror")
    for pads in ((1, 1, 1), (1.0, 1), 1):
        with pytest.raises(ArgumentError, match=r"pad: pads must be pairs of integers, flat, got pads="):
            ops.pad(x, pads)
    with pytest.raises(ShapeError, match=r"two pads for each axis, at most, got pads=.*, shape=\(2, 3\)"):
        ops.pad(x, (1,) * 6)
    with pytest.raises(ShapeError, match=r'mode="reflect" needs pads less than the size, got pads=\(0, 3\), size=3'):
        ops.pad(x, (0, 3), "reflect")
    with pytest.raises(ShapeError, match=r'mode="circular" needs pads at most the size, got pads=\(4, 0\), size=3'):
        ops.pad(x, (4, 0), "circular")
    with pytest.raises(ShapeError, match=r'mode="replicate" needs an element to copy, got pads=\(1, 0\), size=0'):
        ops.pad(x[:, :0], (1, 0), "replicate")
    with pytest.raises(ShapeError, match=r"pads must not take away more than there is, got pads=\(-2, -2\), size=3"):
        ops.pad(x, (-2, -2))
    with pytest.raises(ArgumentError, match='value belongs to mode="constant", got value=2.0'):
        ops.pad(x, (1, 1), "reflect", 2.0)
    with pytest.raises(DtypeError, match="pad: x must be a floating array"):
        ops.pad(np.ones(3, int), (1, 1))
    with pytest.raises(ShapeError, match=r"pad_backward: gy must have shape \(2, 5\), got shape=\(2, 4\)"):
        ops.pad_backward(np.ones((2, 4)), (2, 3), (1, 1))


@pytest.mark.peer("pad")
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_matches_pytorch(run_xp, mode):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        axes = int(rng.integers(1, 4))
        x = rng.standard_normal((*rng.integers(1, 3, 2), *rng.integers(3, 6, axes)))
        most = {"reflect": -1, "circular": 0}.get(mode, 3)
        pads = [int(rng.integers(-1, n + most)) for n in x.shape[:1:-1] for _ in range(2)]
        settings = {"value": float(rng.normal())} if mode == "constant" else {}
        agreement.assert_agrees(
            run_xp, torch,
            lambda v, p=pads, s=settings: F.pad(v, p, mode, **s),
            lambda v, p=pads, s=settings: torch.nn.functional.pad(v, p, mode, **s),
            [x], where=f"{seed=} {x.shape} {pads} {settings}",
        )  # fmt: skip
