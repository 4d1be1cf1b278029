"""Array functions in tables: what gpunn calls them, what plain Python computes, and what PyTorch calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import oracles
import pytest

from gpunn import Tensor, tensor
from gpunn.testing import check_gradients

DRAWS = 60


class Case(NamedTuple):
    """``ours(*arrays, **settings)`` works on Tensors; ``loop`` on float64 arrays, ``theirs(torch, *tensors, ...)``.

    ``draw(rng)`` gives arrays and settings; the arrays hold no ties and nothing near a kink.
    """

    draw: Callable[[np.random.Generator], tuple[list[np.ndarray], dict[str, Any]]]
    ours: Callable[..., Any]
    loop: Callable[..., Any]
    theirs: Callable[..., Any]


def shape(rng, least=0, most=4, size=5):
    return tuple(map(int, rng.integers(1, size, rng.integers(least, most))))


def distinct(rng, shape):
    """Numbers from -2 to 2 without ties, at least 0.002 apart and from 0."""
    count = int(np.prod(shape))
    return (rng.permutation(np.linspace(-2, 2, 2 * (count // 2 + 1)))[:count]).reshape(shape)


def axis(rng, x, several=True):
    """None, one axis, or several."""
    kind = rng.integers(3 if several else 2)
    if x.ndim == 0 or kind == 0:
        return None
    chosen = rng.permutation(x.ndim)[: rng.integers(1, x.ndim + 1)] - (rng.integers(2) * x.ndim)
    return int(chosen[0]) if kind == 1 else tuple(map(int, chosen))


def broadcast_pair(rng):
    """Two shapes that broadcast."""
    whole = shape(rng)
    shapes = [tuple(1 if rng.random() < 0.3 else n for n in whole)[rng.integers(len(whole) + 1) :] for _ in range(2)]
    return whole if rng.random() < 0.3 else shapes[0], shapes[1]


def values(y):
    return [one.data if isinstance(one, Tensor) else one for one in (y if isinstance(y, tuple) else (y,))]


def assert_is_the_loop(run_xp, case, rng):
    """Every dtype, contiguous or not, against plain Python in float64."""
    for number in run_xp.seeds(20):
        arrays, settings = case.draw(rng)
        for dtype in (np.float64, np.float32, np.float16):
            given = [np.asarray(a, dtype) for a in arrays]
            if number % 2:
                given = [a.T.copy().T for a in given]
            expected = case.loop(*(a.astype(np.float64) for a in given), **settings)
            expected = expected if isinstance(expected, list) else [expected]
            actual = run_xp(lambda *a, **s: tuple(values(case.ours(*map(tensor, a), **s))), *given, **settings)
            assert len(actual) == len(expected), settings
            for a, e in zip(actual, expected, strict=True):
                assert a.dtype in (dtype, np.int64, np.bool_), settings
                if a.dtype == dtype:
                    oracles.assert_close(a, np.asarray(e), max(a.size for a in given))
                else:
                    np.testing.assert_array_equal(a, e, err_msg=str(settings))


def assert_gradients(case, rng):
    for number in range(5):
        arrays, settings = case.draw(rng)
        check_gradients(lambda *x, s=settings: case.ours(*x, **s), arrays, seed=number, directions=1)


def assert_gradients_keep_the_dtype(case, rng):
    """In float32 and float16 gradients are what they are in float64, rounded, and of the dtype of the array."""
    for _ in range(5):
        arrays, settings = case.draw(rng)
        exact = _gradients(case, [np.float64(np.float16(a)) for a in arrays], settings)
        for dtype in (np.float32, np.float16):
            found = _gradients(case, [np.asarray(a.astype(np.float16), dtype) for a in arrays], settings)
            for g, e in zip(found, exact, strict=True):
                assert g.dtype == dtype, settings
                # The results are rounded before the gradients are taken from them: a few roundings, not one.
                scale = max(1.0, float(abs(e).max(initial=0)))
                np.testing.assert_allclose(g, e, rtol=0, atol=64 * np.finfo(dtype).eps * scale, err_msg=str(settings))


def _gradients(case, arrays, settings):
    leaves = [tensor(np.asarray(a), requires_grad=True) for a in arrays]
    y = case.ours(*leaves, **settings)
    for one in y if isinstance(y, tuple) else (y,):
        if one.dtype == leaves[0].dtype and one.requires_grad:
            one.backward(np.ones(one.shape, one.dtype), retain_graph=True)
    return [leaf.grad for leaf in leaves if leaf.grad is not None]


def assert_is_pytorch(case):
    torch = pytest.importorskip("torch")
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        arrays, settings = case.draw(rng)
        leaves = [tensor(a, requires_grad=True) for a in arrays]
        peers = [torch.tensor(a, requires_grad=True) for a in arrays]
        ours, theirs = case.ours(*leaves, **settings), case.theirs(torch, *peers, **settings)
        pairs = list(zip(ours, theirs, strict=True)) if isinstance(ours, tuple) else [(ours, theirs)]
        note = f"seed {seed}: shapes {[a.shape for a in arrays]}, {settings}"
        for y, peer in pairs:
            np.testing.assert_allclose(y.data, peer.detach().numpy(), rtol=1e-10, atol=1e-12, err_msg=note)
            assert y.shape == tuple(peer.shape), note
            g = np.asarray(rng.standard_normal(y.shape))
            y.backward(g, retain_graph=True)
            peer.backward(torch.tensor(g), retain_graph=True)
        for leaf, peer in zip(leaves, peers, strict=True):
            expected = np.zeros(leaf.shape) if peer.grad is None else peer.grad.numpy()
            actual = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-11, err_msg=note)
            assert actual.shape == leaf.shape, note


def tests_of(cases):
    """The tests of a table of cases, for a test file to unpack under their names."""
    each = pytest.mark.parametrize("name", cases)

    @each
    def test_forward_is_the_naive_loop(run_xp, name, rng):
        assert_is_the_loop(run_xp, cases[name], rng)

    @each
    def test_backward_is_the_directional_difference(name, rng):
        assert_gradients(cases[name], rng)

    @each
    def test_gradients_keep_the_dtype(name, rng):
        assert_gradients_keep_the_dtype(cases[name], rng)

    @each
    @pytest.mark.peer(*cases)
    def test_matches_pytorch(name):
        assert_is_pytorch(cases[name])

    return (
        test_forward_is_the_naive_loop,
        test_backward_is_the_directional_difference,
        test_gradients_keep_the_dtype,
        test_matches_pytorch,
    )
