import math

import numpy as np
import pytest

from gpunn import optim, tensor
from gpunn.backend import get_array_module
from gpunn.errors import ArgumentError, TrainingError


def leaves(*gradients):
    """Parameters with these gradients."""
    made = []
    for g in gradients:
        made.append(tensor(np.zeros(2) if g is None else get_array_module(g).zeros_like(g), requires_grad=True))
        made[-1].grad = g
    return made


@pytest.mark.parametrize("kind", [0.5, 1, 2, 3, math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_norm_is_that_of_all_gradients_and_they_are_scaled_together(run_xp, kind, dtype, rng):
    gradients = [rng.standard_normal(shape).astype(dtype) for shape in ((3, 2), (5,), (), (0, 2))]
    numbers = [abs(float(x)) for g in gradients for x in g.ravel()]
    norm = max(numbers) if kind == math.inf else sum(x**kind for x in numbers) ** (1 / kind)

    def clip(*gradients, max_norm):
        parameters = leaves(*gradients, None)
        total = optim.clip_grad_norm(parameters, max_norm, kind)
        assert parameters.pop().grad is None
        return total, *(p.grad for p in parameters)

    tolerance = 20 * np.finfo(dtype).eps
    for share in (0.5, 1.5):
        total, *clipped = run_xp(clip, *gradients, max_norm=share * norm)
        assert total.shape == ()
        assert total.dtype == dtype
        np.testing.assert_allclose(total, norm, rtol=tolerance)
        for ours, g in zip(clipped, gradients, strict=True):
            assert isinstance(ours, np.ndarray)
            assert ours.dtype == dtype
            # The 1e-6 beside the norm makes them a little shorter.
            factor = min(1.0, share * norm / (norm + 1e-6))
            np.testing.assert_allclose(ours, g * factor, rtol=2 * tolerance)


def test_gradients_that_are_small_enough_keep_their_bits(rng):
    g = rng.standard_normal(9).astype(np.float32)
    (p,) = leaves(g.copy())
    optim.clip_grad_norm([p], 100.0)
    np.testing.assert_array_equal(p.grad, g)


def test_one_array_as_the_gradient_of_two_parameters_is_scaled_once_for_each():
    g = np.full(2, 2, np.float32)
    p, q = leaves(g, g)
    np.testing.assert_allclose(optim.clip_grad_norm([p, q], 2.0), 4, rtol=1e-6)
    np.testing.assert_allclose(p.grad, 1, rtol=1e-6)
    np.testing.assert_allclose(q.grad, 1, rtol=1e-6)


def test_half_precision_sums_in_float32():
    (p,) = leaves(np.full(100, 300, np.float16))  # squares overflow float16
    total = optim.clip_grad_norm([p], 300.0)
    assert total == 3000
    assert total.dtype == np.float32
    assert p.grad.dtype == np.float16
    np.testing.assert_allclose(p.grad, 30, rtol=1e-3)


@pytest.mark.parametrize("kind", [0.5, 1, 2, 3.5, math.inf])
@pytest.mark.parametrize("size", [1e20, 1e-30, 1e38, 1e-43])
def test_the_norm_of_numbers_near_the_ends_of_float32(run_xp, kind, size):
    shares = [np.array([[0.75, -0.5], [0.25, 0.0]]), np.array([1.0]), np.zeros((0, 2))]
    gradients = [np.asarray(share * size, np.float32) for share in shares]
    numbers = np.concatenate([g.ravel() for g in gradients]).astype(np.float64)
    wide = np.abs(numbers / size)
    norm = size * (wide.max() if kind == math.inf else (wide**kind).sum() ** (1 / kind))

    def clip(*gradients):
        parameters = leaves(*gradients)
        return (
            optim.clip_grad_norm(parameters, 0.5),
            optim.clip_grad_norm(leaves(*gradients), 1.0, kind),
            *(p.grad for p in parameters),
        )

    _, total, *clipped = run_xp(clip, *gradients)
    np.testing.assert_allclose(total, norm if norm < 3.4e38 else np.inf, rtol=1e-5, atol=2e-45)
    two = size * np.sqrt((wide**2).sum())
    for ours, g in zip(clipped, gradients, strict=True):
        expected = g.astype(np.float64) * min(1, 0.5 / (two + 1e-6))
        np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-44)


def test_a_norm_beyond_float32_still_limits():
    (p,) = leaves(np.full(100, 1e38, np.float32))
    assert optim.clip_grad_norm([p], 1.0, error_if_nonfinite=True) == np.inf
    np.testing.assert_allclose(p.grad, 0.1, rtol=1e-5)


def test_the_norm_in_float64_does_not_overflow():
    (p,) = leaves(np.array([3e200, 4e200]))
    np.testing.assert_allclose(optim.clip_grad_norm([p], 1.0), 5e200)
    np.testing.assert_allclose(p.grad, [0.6, 0.8])


def test_half_precision_near_its_ends():
    for size in (6e4, 6e-8):
        (p,) = leaves(np.full(100, size, np.float16))
        expected = 10 * float(p.grad[0])
        np.testing.assert_allclose(optim.clip_grad_norm([p], 1e9), expected, rtol=1e-5)
        optim.clip_grad_norm([p], expected / 2)
        if size > 1:
            np.testing.assert_allclose(p.grad, size / 2, rtol=1e-3)


def test_no_gradients_have_norm_0():
    assert optim.clip_grad_norm(leaves(None), 1.0) == 0
    assert optim.clip_grad_norm([], 1.0).shape == ()
    optim.clip_grad_value(leaves(None), 1.0)


def test_what_is_not_finite_can_be_an_error():
    for bad in (np.nan, np.inf):
        (p,) = leaves(np.float32([1, bad]))
        with pytest.raises(TrainingError, match="clip_grad_norm: the norm of the gradients is not finite.*got norm="):
            optim.clip_grad_norm([p], 1.0, error_if_nonfinite=True)
        np.testing.assert_array_equal(p.grad, np.float32([1, bad]))
    (p,) = leaves(np.float32([1, np.nan]))
    assert np.isnan(optim.clip_grad_norm([p], 1.0))
    assert np.isnan(p.grad).all()
    (p,) = leaves(np.float32([1, np.inf]))
    assert np.isinf(optim.clip_grad_norm([p], 1.0))
    np.testing.assert_array_equal(p.grad, np.float32([0, np.nan]))


def test_values_are_limited_on_both_sides(run_xp):
    def clip(g):
        (p,) = leaves(g)
        optim.clip_grad_value([p], 1.5)
        return p.grad

    g = np.float32([-3, -1.5, 0.25, 2, np.inf, np.nan])
    np.testing.assert_array_equal(run_xp(clip, g), np.float32([-1.5, -1.5, 0.25, 1.5, 1.5, np.nan]))


def test_errors_name_rule_and_values():
    (p,) = leaves(np.ones(2, np.float32))
    with pytest.raises(ArgumentError, match="clip_grad_norm: max_norm must be at least 0, got max_norm=-1"):
        optim.clip_grad_norm([p], -1)
    with pytest.raises(ArgumentError, match="clip_grad_norm: max_norm must be a number, got max_norm='1'"):
        optim.clip_grad_norm([p], "1")
    with pytest.raises(ArgumentError, match="clip_grad_norm: norm_type must be above 0, got norm_type=0"):
        optim.clip_grad_norm([p], 1, 0)
    with pytest.raises(ArgumentError, match="clip_grad_value: clip_value must be at least 0 and finite"):
        optim.clip_grad_value([p], -1)
    with pytest.raises(ArgumentError, match="clip_grad_norm: parameters must be a list"):
        optim.clip_grad_norm(p, 1)
    with pytest.raises(ArgumentError, match="clip_grad_norm: each parameter must be given once"):
        optim.clip_grad_norm([p, p], 1)


def test_no_limit_only_measures():
    p, q = leaves(np.float32([3.0]), np.float32([-4.0]))
    assert optim.clip_grad_norm([p, q], math.inf) == 5
    assert (p.grad.item(), q.grad.item()) == (3, -4)
    p.grad[...] = math.inf
    assert optim.clip_grad_norm([p, q], math.inf) == math.inf
    assert (p.grad.item(), q.grad.item()) == (math.inf, -4)


@pytest.mark.peer("clip_grad_norm", "clip_grad_value")
def test_clipping_is_that_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    for draw in range(100):
        shapes = [tuple(rng.integers(1, 5, rng.integers(0, 4))) for _ in range(rng.integers(1, 5))]
        dtype = [np.float32, np.float64][draw % 2]
        gradients = [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
        kind, most = [1.0, 2.0, 3.5, math.inf][rng.integers(4)], 10 ** rng.uniform(-2, 1)
        ours = leaves(*(g.copy() for g in gradients))
        theirs = [torch.zeros(g.shape, dtype=torch.from_numpy(g).dtype, requires_grad=True) for g in gradients]
        for q, g in zip(theirs, gradients, strict=True):
            q.grad = torch.from_numpy(g.copy())
        where = f"{draw=} {shapes=} {kind=} {most=}"
        total = optim.clip_grad_norm(ours, most, kind)
        expected = torch.nn.utils.clip_grad_norm_(theirs, most, kind)
        tolerance = 20 * np.finfo(dtype).eps
        np.testing.assert_allclose(total, expected.numpy(), rtol=tolerance, err_msg=where)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=2 * tolerance, atol=tolerance, err_msg=where)
        optim.clip_grad_value(ours, most / 10)
        assert all(isinstance(p.grad, np.ndarray) for p in ours), where
        torch.nn.utils.clip_grad_value_(theirs, most / 10)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=2 * tolerance, atol=tolerance, err_msg=where)
