"""Loss scaling: the scale's course, the steps it skips, and PyTorch's numbers."""

import itertools
import math

import numpy as np
import pytest

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError, GpunnError
from gpunn.optim import GradScaler
from gpunn.optim.group import all_finite


def leaf(values, dtype=np.float32):
    return tensor(np.asarray(values, dtype), requires_grad=True)


def step(scaler, optimizer, p, gradient):
    """A step whose scaled gradient is ``gradient`` times the scale; whether it was taken."""
    p.grad = np.asarray(gradient, p.dtype) * p.dtype.type(scaler.get_scale())
    taken = scaler.step(optimizer)
    scaler.update()
    return taken


def test_the_gradient_is_that_of_the_loss():
    x = np.float32([[1e-5, 2]])
    gradients = []
    for scaler in (None, GradScaler()):
        w = leaf([[0.5, 0.25]])
        sgd = optim.SGD([w], lr=1.0)
        loss = (w * x).sum()
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            assert float(w.grad[0, 1]) == 2 * 65536
            assert scaler.unscale_(sgd)
        gradients.append(w.grad)
    np.testing.assert_array_equal(*gradients)


def test_small_gradients_do_not_vanish():
    """The gradient, 1e-8, is 0 in float16."""
    found = []
    for scale in (1.0, 4096.0):
        w = leaf([1.0])
        scaler, sgd = GradScaler(init_scale=scale), optim.SGD([w], lr=1.0)
        scaler.scale((w.astype(np.float16) * 1e-4 * 1e-4).sum()).backward()
        assert scaler.unscale_(sgd)
        found.append(float(w.grad[0]))
    assert found[0] == 0
    assert found[1] == pytest.approx(1e-8, rel=0.01)


def test_a_half_loss_does_not_overflow():
    loss = leaf([3.0], np.float16).sum()
    scaled = GradScaler().scale(loss)
    assert (loss.dtype, scaled.dtype, scaled.item()) == (np.float16, np.float32, 3 * 65536)


def test_gradients_of_half_parameters_become_float32():
    p = leaf([1.0], np.float16)
    sgd, scaler = optim.SGD([p], lr=0.5), GradScaler(init_scale=1024)
    p.grad = np.float16([6e-5])
    assert scaler.step(sgd)
    assert p.grad.dtype == np.float32
    np.testing.assert_allclose(p.grad, [6e-5 / 1024], rtol=1e-3)


def test_the_course_of_the_scale():
    p = leaf([1.0])
    sgd, scaler = optim.SGD([p], lr=0.5), GradScaler(init_scale=8, growth_interval=3)
    scales = []
    for good in (1, 1, 1, 1, 0, 1, 1, 1, 0, 0):
        before = p.item()
        assert step(scaler, sgd, p, [1.0 if good else np.inf]) == good
        assert (p.item() != before) == good
        scales.append(scaler.get_scale())
    assert scales == [8, 8, 16, 16, 8, 8, 8, 16, 8, 4]


def test_the_scale_stays_within_bounds():
    p = leaf([1.0])
    sgd, scaler = optim.SGD([p], lr=0.0), GradScaler(init_scale=4, growth_interval=1, growth_factor=1e4)
    for _ in range(4):
        assert step(scaler, sgd, p, [0.0])
    assert scaler.get_scale() == 2**24
    for _ in range(30):
        assert not step(scaler, sgd, p, [np.nan])
        assert scaler.at_floor == (scaler.get_scale() == 1)
    assert scaler.get_scale() == 1
    assert scaler.at_floor


def test_two_optimizers_share_a_scale():
    """One skips, the other goes on; the scale falls."""
    good, bad = leaf([1.0]), leaf([1.0])
    first, second, scaler = optim.SGD([good], lr=1.0), optim.SGD([bad], lr=1.0), GradScaler(init_scale=4)
    good.grad, bad.grad = np.float32([2.0]), np.float32([np.nan])
    assert scaler.step(first)
    assert not scaler.step(second)
    scaler.update()
    assert (good.item(), bad.item(), scaler.get_scale()) == (0.5, 1.0, 2.0)


def test_clipping_between_unscale_and_step():
    p = leaf([0.0, 0.0])
    sgd, scaler = optim.SGD([p], lr=1.0), GradScaler(init_scale=1024)
    p.grad = np.float32([3, 4]) * 1024
    assert scaler.unscale_(sgd)
    assert optim.clip_grad_norm([p], 1.0) == 5
    assert scaler.step(sgd)
    np.testing.assert_allclose(p.data, [-0.6, -0.8], rtol=1e-5)


def test_a_state_goes_on():
    p = leaf([1.0])
    sgd, scaler = optim.SGD([p], lr=0.0), GradScaler(init_scale=64, growth_interval=5, backoff_factor=0.25)
    for value in (1.0, np.inf, 1.0, 1.0):
        step(scaler, sgd, p, [value])
    state = scaler.state_dict()
    assert state == {
        "scale": 16.0, "growth_factor": 2.0, "backoff_factor": 0.25, "growth_interval": 5, "growth_tracker": 2,
    }  # fmt: skip
    other = GradScaler()
    other.load_state_dict({name: np.asarray(value) for name, value in state.items()})
    for each in (scaler, other):
        for value in (1.0, 1.0, 1.0, np.nan):
            step(each, sgd, p, [value])
    assert other.state_dict() == scaler.state_dict()
    assert other.get_scale() == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.5}, "the scale must lie in 1 to 1.67772e"),
        ({"scale": math.nan}, "scale=nan"),
        ({"growth_interval": 0}, "growth_interval must be an integer of at least 1"),
        ({"growth_tracker": -1}, "growth_tracker must be an integer of at least 0, got growth_tracker=-1"),
        ({"more": 1}, "GradScaler: the names must be .* unknown=\\['more'\\]"),
    ],
)
def test_a_wrong_state_changes_nothing(change, message):
    scaler = GradScaler(init_scale=4)
    before = scaler.state_dict()
    with pytest.raises(GpunnError, match=message):
        scaler.load_state_dict(before | {"backoff_factor": 0.25} | change)
    assert scaler.state_dict() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init_scale": 0.0}, "GradScaler: the scale must lie in 1 to .*, got scale=0.0"),
        ({"init_scale": 2.0**25}, "scale=33554432.0"),
        ({"init_scale": "many"}, "scale='many'"),
        ({"growth_factor": 1.0}, "growth_factor must be above 1, and finite, got growth_factor=1.0"),
        ({"growth_factor": math.inf}, "growth_factor=inf"),
        ({"backoff_factor": 1.0}, "backoff_factor must lie between 0 and 1, got backoff_factor=1.0"),
        ({"growth_interval": 2.5}, "growth_interval must be an integer of at least 1, got growth_interval=2.5"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ArgumentError, match=message):
        GradScaler(**settings)


def test_calls_in_another_order():
    p = leaf([1.0])
    sgd, scaler = optim.SGD([p], lr=1.0), GradScaler()
    with pytest.raises(ArgumentError, match=r"there must be a gradient: call scale\(loss\)"):
        scaler.step(sgd)
    with pytest.raises(ArgumentError, match="update comes after step"):
        scaler.update()
    with pytest.raises(ArgumentError, match="loss must be a Tensor, got type='float'"):
        scaler.scale(1.0)
    p.grad = np.float32([1])
    scaler.unscale_(sgd)
    with pytest.raises(ArgumentError, match="unscale_ comes once in a step, before step"):
        scaler.unscale_(sgd)
    scaler.step(sgd)
    with pytest.raises(ArgumentError, match="step was called already since the last update"):
        scaler.step(sgd)
    scaler.update()
    scaler.step(sgd)


def test_all_finite():
    large = np.full(3, 3e38, np.float32)  # the square is infinite, the numbers are not
    assert all_finite([np.ones(2, np.float16), large, np.zeros((0, 2), np.float32)])
    for wrong in (np.nan, np.inf, -np.inf):
        assert not all_finite([large, np.float32([1, wrong])])
        for dtype in (np.float16, np.float32, np.float64):
            for gradients in itertools.permutations([np.array([1, wrong], dtype), np.ones(2, np.float32)]):
                assert not all_finite(gradients)


@pytest.mark.peer("GradScaler")
@pytest.mark.parametrize("seed", range(10))
def test_the_numbers_are_those_of_pytorch(seed):
    """Scales, weights and skipped steps over 40 steps of Adam, some with infinities, and clipping now and then."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(seed)
    settings = {"growth_interval": 4, "growth_factor": 2.0, "backoff_factor": 0.5, "init_scale": 1024.0}
    layer = nn.Linear(3, 2)
    theirs = torch.nn.Linear(3, 2)
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(layer.weight.data))
        theirs.bias.copy_(torch.tensor(layer.bias.data))
    pairs = [
        (optim.Adam(layer.parameters(), lr=0.01), GradScaler(**settings)),
        (torch.optim.Adam(theirs.parameters(), lr=0.01), torch.amp.GradScaler("cpu", **settings)),
    ]
    scales = set()
    for number in range(40):
        x, spoiled, clipped = rng.standard_normal((4, 3)).astype(np.float32), rng.random() < 0.2, number % 3 == 0
        if spoiled:
            x[0, 0] = np.inf
        for optimizer, scaler in pairs:
            ours = scaler is pairs[0][1]
            optimizer.zero_grad()
            with np.errstate(all="ignore"):
                y = layer(tensor(x)) if ours else theirs(torch.tensor(x))
                scaler.scale((y * y).mean()).backward()
            if clipped:
                scaler.unscale_(optimizer)
                clip = optim.clip_grad_norm if ours else torch.nn.utils.clip_grad_norm_
                clip((layer if ours else theirs).parameters(), 0.5)
            scaler.step(optimizer)
            scaler.update()
        assert pairs[0][1].get_scale() == pairs[1][1].get_scale()
        scales.add(pairs[0][1].get_scale())
        np.testing.assert_allclose(layer.weight.data, theirs.weight.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert len(scales) > 2
    assert pairs[0][1].state_dict()["growth_tracker"] == pairs[1][1].state_dict()["_growth_tracker"]
