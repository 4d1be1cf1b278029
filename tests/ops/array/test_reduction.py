import itertools
import math

import array_case
import numpy as np
import pytest
from array_case import Case

from gpunn import functional as F
from gpunn import tensor
from gpunn.errors import DtypeError, ShapeError
from gpunn.ops import array as ops


def draw(rng, several=True, least=0, **settings):
    x = array_case.distinct(rng, array_case.shape(rng, least))
    return [x], {"axis": array_case.axis(rng, x, several), "keepdims": bool(rng.integers(2)), **settings}


def draw_spread(rng):
    """At least two elements along each axis: a variance of one element has no slope."""
    x = array_case.distinct(rng, tuple(map(int, rng.integers(2, 5, rng.integers(1, 4)))))
    return [x], {"axis": array_case.axis(rng, x), "keepdims": bool(rng.integers(2)), "ddof": int(rng.integers(2))}


def draw_cumsum(rng):
    arrays, settings = draw(rng, several=False)
    return arrays, {"axis": settings["axis"]}


def draw_with_zeros(rng):
    """For products: none, one or several zeros in a row."""
    arrays, settings = draw(rng, several=False, least=1)
    arrays[0][rng.random(arrays[0].shape) < 0.2] = 0
    return arrays, settings


def reduced(function):
    """``function`` of the list of the elements, for every place in the result."""

    def loop(x, axis, keepdims, **settings):
        axes = {a % x.ndim for a in (range(x.ndim) if axis is None else np.atleast_1d(axis).tolist())}
        y = np.empty([1 if a in axes else n for a, n in enumerate(x.shape)])
        for place in np.ndindex(y.shape):
            ranges = [range(n) if a in axes else [place[a]] for a, n in enumerate(x.shape)]
            y[place] = function([float(x[index]) for index in itertools.product(*ranges)], **settings)
        return y if keepdims else y.reshape([n for a, n in enumerate(x.shape) if a not in axes])

    return loop


def variance(elements, ddof):
    mean = math.fsum(elements) / len(elements)
    return math.fsum((v - mean) ** 2 for v in elements) / (len(elements) - ddof)


def cumsum_loop(x, axis):
    rows = x.reshape(1, -1) if axis is None else np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    sums = np.array([[math.fsum(row[: i + 1]) for i in range(len(row))] for row in rows.tolist()])
    if axis is None:
        return sums[0]
    return np.moveaxis(sums.reshape(np.moveaxis(x, axis, -1).shape), -1, axis)


def dims(axis):
    return () if axis is None else axis


def torch_axis(function):
    """For PyTorch's functions that take one axis or none, and keep none without one."""

    def theirs(torch, x, axis, keepdims):
        if axis is not None:
            return function(torch, x, axis, keepdims)
        y = function(torch, x.reshape(-1), 0, False)
        return y.reshape((1,) * x.ndim) if keepdims else y

    return theirs


def method(name):
    return lambda x, **settings: getattr(x, name)(**settings)


CASES = {
    "sum": Case(draw, method("sum"), reduced(math.fsum), lambda t, x, axis, keepdims: x.sum(axis, keepdim=keepdims)),
    "mean": Case(
        draw,
        method("mean"),
        reduced(lambda v: math.fsum(v) / len(v)),
        lambda t, x, axis, keepdims: x.mean(axis, keepdim=keepdims),
    ),
    "prod": Case(
        draw_with_zeros, method("prod"), reduced(math.prod), torch_axis(lambda t, x, a, k: x.prod(a, keepdim=k))
    ),
    "max": Case(draw, method("max"), reduced(max), lambda t, x, axis, keepdims: t.amax(x, dims(axis), keepdims)),
    "min": Case(draw, method("min"), reduced(min), lambda t, x, axis, keepdims: t.amin(x, dims(axis), keepdims)),
    "var": Case(
        draw_spread,
        method("var"),
        reduced(variance),
        lambda t, x, axis, keepdims, ddof: t.var(x, axis, correction=ddof, keepdim=keepdims),
    ),
    "std": Case(
        draw_spread,
        method("std"),
        reduced(lambda v, ddof: math.sqrt(variance(v, ddof))),
        lambda t, x, axis, keepdims, ddof: t.std(x, axis, correction=ddof, keepdim=keepdims),
    ),
    "cumsum": Case(
        draw_cumsum,
        method("cumsum"),
        cumsum_loop,
        lambda t, x, axis: x.reshape(-1).cumsum(0) if axis is None else x.cumsum(axis),
    ),
    "logsumexp": Case(
        draw,
        F.logsumexp,
        reduced(lambda v: math.log(math.fsum(map(math.exp, v)))),
        lambda t, x, axis, keepdims: t.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdims),
    ),
}
(
    test_forward_is_the_naive_loop,
    test_backward_is_the_directional_difference,
    test_gradients_keep_the_dtype,
    test_matches_pytorch,
) = array_case.tests_of(CASES)


INDEX = {"argmax": max, "argmin": min}


@pytest.mark.parametrize("name", INDEX)
def test_argmax_is_the_naive_loop_and_has_no_gradient(run_xp, name, rng):
    for _ in range(20):
        (x,), settings = draw(rng, several=False)
        x = x.round()  # ties: the first counts
        x.flat[rng.integers(x.size)] = 3
        actual = run_xp(lambda x, s=settings: getattr(tensor(x, requires_grad=True), name)(**s).data, x)
        expected = reduced(lambda v: v.index(INDEX[name](v)))(x, **settings)
        assert actual.dtype == np.int64
        np.testing.assert_array_equal(actual, expected)
    assert not getattr(tensor([1.0], requires_grad=True), name)().requires_grad


def test_equal_maxima_share_the_gradient_evenly(run_xp):
    def gradient(x, name, axis):
        leaf = tensor(x, requires_grad=True)
        y = getattr(leaf, name)(axis)
        (y * 6).sum().backward()
        return leaf.grad

    x = np.float32([[1, 5, 5], [5, 0, -1]])
    np.testing.assert_array_equal(run_xp(gradient, x, "max", None), [[0, 2, 2], [2, 0, 0]])
    np.testing.assert_array_equal(run_xp(gradient, x, "max", 1), [[0, 3, 3], [6, 0, 0]])
    np.testing.assert_array_equal(run_xp(gradient, -x, "min", 1), [[0, 3, 3], [6, 0, 0]])
    np.testing.assert_array_equal(run_xp(gradient, np.float32([[np.nan, 2, np.nan]]), "max", 1), [[3, 0, 3]])


@pytest.mark.peer("max", "min")
@pytest.mark.parametrize("name", ["max", "min"])
def test_ties_match_pytorch(name):
    torch = pytest.importorskip("torch")
    for seed in range(50):
        rng = np.random.default_rng(seed)
        x = rng.integers(0, 3, array_case.shape(rng)).astype(np.float64)
        axis = array_case.axis(rng, x)
        leaf, peer = tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        getattr(leaf, name)(axis).sum().backward()
        getattr(torch, f"a{name}")(peer, dims(axis)).sum().backward()
        np.testing.assert_allclose(leaf.grad, peer.grad.numpy(), rtol=1e-12, err_msg=f"{seed}, {x.shape}, {axis}")


def test_equal_elements_have_no_deviation_and_a_gradient_of_0(run_xp):
    def gradient(x):
        leaf = tensor(x, requires_grad=True)
        leaf.std(0).sum().backward()
        return leaf.grad

    np.testing.assert_array_equal(run_xp(gradient, np.ones((3, 2))), np.zeros((3, 2)))


def test_logsumexp_of_infinities(run_xp):
    def both(x):
        leaf = tensor(x, requires_grad=True)
        y = F.logsumexp(leaf, 1)
        y.sum().backward()
        return y.data, leaf.grad

    y, gradient = run_xp(both, np.float32([[-np.inf, -np.inf], [-np.inf, 2], [1e4, 1e4]]))
    np.testing.assert_allclose(y, [-np.inf, 2, 1e4 + math.log(2)])
    np.testing.assert_allclose(gradient, [[0, 0], [0, 1], [0.5, 0.5]], rtol=1e-6)


def test_float16_is_accumulated_in_float32(run_xp):
    x = np.full((3000, 2), 1.0, np.float16)  # one by one, a float16 sum stops at 2048
    np.testing.assert_array_equal(run_xp(ops.sum, x, 0), [3000, 3000])
    np.testing.assert_array_equal(run_xp(ops.cumsum, x, 0)[-1], [3000, 3000])
    np.testing.assert_array_equal(run_xp(ops.mean, x, 0), [1, 1])
    np.testing.assert_array_equal(run_xp(ops.cumsum_backward, x, x.shape, 0)[0], [3000, 3000])


def test_empty_arrays(run_xp):
    empty = np.zeros((0, 3), np.float32)
    assert run_xp(ops.sum, empty).item() == 0
    assert run_xp(ops.prod, empty, 0).tolist() == [1, 1, 1]
    assert run_xp(ops.max, empty, 1).shape == (0,)
    leaf = tensor(empty, requires_grad=True)
    (leaf.sum() + leaf.mean(1).sum() + leaf.prod(1).sum() + leaf.cumsum(0).sum()).backward()
    assert leaf.grad.shape == (0, 3)


def test_integers_and_booleans_are_counted():
    assert (tensor([3, 4]).sum().item(), tensor([3, 4]).prod().item(), tensor([3, 4]).max().item()) == (7, 12, 4)
    assert (tensor([1.0, 2.0, 3.0]) > 1).sum().item() == 2


def test_errors_name_rule_and_values():
    x = tensor(np.ones((2, 0)))
    with pytest.raises(ShapeError, match=r"sum: axis must be one of x's, got axis=2, shape=\(2, 0\)"):
        x.sum(2)
    with pytest.raises(ShapeError, match=r"sum: each axis must be given once, got axis=\(0, -2\), shape=\(2, 0\)"):
        x.sum((0, -2))
    with pytest.raises(ShapeError, match=r"cumsum: axis must be one of x's, got axis=-3"):
        x.cumsum(-3)
    for name in ("mean", "max", "min", "argmax", "argmin"):
        with pytest.raises(ShapeError, match=rf"{name}: there must be elements to \w+, got shape=\(2, 0\), axis=1"):
            getattr(x, name)(1)
    with pytest.raises(ShapeError, match=r"logsumexp: there must be elements to add, got shape=\(2, 0\), axis=None"):
        F.logsumexp(x)
    with pytest.raises(ShapeError, match=r"var: there must be more elements than ddof, got shape=\(1,\), .* ddof=1"):
        tensor([1.0]).var(ddof=1)
    with pytest.raises(DtypeError, match="std: x must be a floating array, got dtype='int64'"):
        tensor([1, 2]).std()
