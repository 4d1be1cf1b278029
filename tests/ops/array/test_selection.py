import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import Tensor, tensor
from gpunn import functional as F
from gpunn.errors import ArgumentError, DtypeError, ShapeError


def draw_pair(rng):
    """Two arrays of which no element of one is near an element of the other."""
    a, b = (array_case.distinct(rng, shape) for shape in array_case.broadcast_pair(rng))
    return [a, b + 0.003], {}


def draw_choice(rng):
    (a, b), _ = draw_pair(rng)
    return [a, b], {"condition": rng.random(np.broadcast_shapes(a.shape, b.shape)) < 0.5}


def draw_bounds(rng):
    low, high = np.sort(rng.uniform(-2, 2, 2)).tolist()
    x = array_case.distinct(rng, array_case.shape(rng))
    x[(abs(x - low) < 1e-3) | (abs(x - high) < 1e-3)] += 5e-3
    return [x], {"min": None if rng.random() < 0.2 else low, "max": high}


def draw_array_bounds(rng):
    """Bounds that may cross, near none of the elements or each other."""
    (x, low), _ = draw_pair(rng)
    return [x, low, array_case.distinct(rng, low.shape) + 0.0015], {}


def at_each(function):
    def loop(*arrays, **settings):
        arrays = np.broadcast_arrays(*settings.pop("conditions", ()), *arrays)
        y = np.empty(arrays[0].shape)
        for place in np.ndindex(y.shape):
            y[place] = function(*(a[place].item() for a in arrays), **settings)
        return y

    return loop


def clipped(v, min, max):
    low = v if min is None or v >= min else min
    return low if low <= max else max


CASES = {
    "where": Case(
        draw_choice,
        lambda a, b, condition: F.where(tensor(condition, device=a.device), a, b),
        lambda a, b, condition: at_each(lambda c, p, q: p if c else q)(a, b, conditions=[condition]),
        lambda t, a, b, condition: t.where(t.tensor(condition), a, b),
    ),
    "maximum": Case(draw_pair, F.maximum, at_each(max), lambda t, a, b: t.maximum(a, b)),
    "minimum": Case(draw_pair, F.minimum, at_each(min), lambda t, a, b: t.minimum(a, b)),
    "clip": Case(draw_bounds, F.clip, at_each(clipped), lambda t, x, min, max: t.clamp(x, min, max)),
    "clip by arrays": Case(
        draw_array_bounds,
        lambda x, low, high: F.clip(x, low, high),
        at_each(lambda v, low, high: min(max(v, low), high)),
        lambda t, x, low, high: t.clamp(x, low, high),
    ),
    "clip by an array, as a method": Case(
        draw_pair, lambda x, low: x.clip(low), at_each(max), lambda t, x, low: t.clamp(x, low)
    ),
    "clip as a method": Case(draw_bounds, Tensor.clip, at_each(clipped), lambda t, x, min, max: x.clamp(min, max)),
}
(
    test_forward_is_the_naive_loop,
    test_backward_is_the_directional_difference,
    test_gradients_keep_the_dtype,
    test_matches_pytorch,
) = array_case.tests_of(CASES)


@pytest.mark.peer("maximum", "minimum", "clip")
@pytest.mark.parametrize("name", ["maximum", "minimum", "clip"])
def test_ties_match_pytorch(name):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        arrays = [rng.integers(0, 3, shape).astype(np.float64) for shape in array_case.broadcast_pair(rng)]
        if name == "clip":
            arrays = arrays[:1]
        bounds = (0.0, 1.0) if name == "clip" else ()
        leaves = [tensor(a, requires_grad=True) for a in arrays]
        peers = [torch.tensor(a, requires_grad=True) for a in arrays]
        getattr(F, name)(*leaves, *bounds).sum().backward()
        getattr(torch, name)(*peers, *bounds).sum().backward()
        for leaf, peer in zip(leaves, peers, strict=True):
            np.testing.assert_allclose(leaf.grad, peer.grad.numpy(), err_msg=f"seed {seed}")


def test_numbers_take_the_dtype_of_the_array(run_xp):
    x = np.float32([-1, 2])
    for y in (
        run_xp(F.maximum, x, 0.5),
        run_xp(lambda x: F.minimum(np.float64(0.5), x), x),
        run_xp(lambda x: F.where(x > 0, x, 0.0), x),
        run_xp(F.clip, x, np.float64(-0.5), np.float64(0.5)),
    ):
        assert y.dtype == np.float32
    assert F.where(np.array([True, False]), 1.0, 0.0).tolist() == [1, 0]
    leaf = tensor(x, requires_grad=True)
    F.maximum(0.0, leaf).sum().backward()
    assert leaf.grad.tolist() == [0, 1]


def test_nan_stays_nan(run_xp):
    x = np.float32([np.nan, 1])
    for function in (F.maximum, F.minimum):
        np.testing.assert_array_equal(run_xp(function, x, np.float32([1, np.nan])), [np.nan, np.nan])
    np.testing.assert_array_equal(run_xp(F.clip, x, 2, 3), [np.nan, 2])


def test_a_condition_that_is_a_tensor_makes_a_tensor():
    y = F.where(tensor([1.0, -1.0]) > 0, np.ones(2), np.zeros(2))
    assert isinstance(y, Tensor)
    assert y.data.tolist() == [1, 0]


def test_integers_stay_integers(run_xp):
    assert run_xp(F.clip, np.array([1, 5, 9]), 2, 8).tolist() == [2, 5, 8]
    assert run_xp(F.maximum, np.array([1, 5]), 3).dtype == np.int64


def test_errors_name_rule_and_values():
    x = np.ones((2, 3))
    with pytest.raises(DtypeError, match="where: condition must hold booleans, got dtype='float64'"):
        F.where(x, x, x)
    with pytest.raises(DtypeError, match="where: condition must be a NumPy or CuPy array, got type='bool'"):
        F.where(True, x, x)
    with pytest.raises(ShapeError, match=r"where: shapes must broadcast, got condition=\(2,\), a=\(2, 3\), b=\(2, 3\)"):
        F.where(np.array([True, False]), x, x)
    with pytest.raises(ShapeError, match=r"maximum: shapes must broadcast, got a=\(2, 3\), b=\(2,\)"):
        F.maximum(x, np.ones(2))
    with pytest.raises(DtypeError, match="minimum: operands must have one dtype, got a='float64', b='float32'"):
        F.minimum(x, np.ones(3, np.float32))
    with pytest.raises(ArgumentError, match="clip: one of the bounds must be given"):
        F.clip(x)
    with pytest.raises(ArgumentError, match="clip: min must not be above max, got min=2, max=1"):
        F.clip(x, 2, 1)
    with pytest.raises(DtypeError, match="clip: bounds must be numbers or arrays, got min='a', max=None"):
        tensor(x).clip("a")
    with pytest.raises(DtypeError, match="clip: operands must have one dtype, got a='float64', b='float32'"):
        F.clip(x, np.ones(3, np.float32))
    with pytest.raises(ShapeError, match=r"clip: shapes must broadcast, got a=\(2, 3\), b=\(2,\)"):
        tensor(x).clip(max=np.ones(2))
    with pytest.raises(
        DtypeError, match="clip: bounds of integers must be integers, got min=0.5, max=None, dtype='int"
    ):
        F.clip(np.array([1, 2]), 0.5)


def test_bounds_belong_to_what_is_kept(run_xp):
    def gradient(x):
        leaf = tensor(x, requires_grad=True)
        leaf.clip(0, 1).sum().backward()
        return leaf.grad

    assert run_xp(gradient, np.array([-0.1, 0, 0.5, 1, 1.1])).tolist() == [0, 1, 1, 1, 0]
