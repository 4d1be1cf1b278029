"""Optimizers whose rule is no formula for one number, options that several share, and the call of a step."""

import copy
import math

import numpy as np
import pytest
from optimizers import FIFTY

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError, ShapeError


def leaf(array, dtype=np.float64):
    return tensor(np.array(array, dtype), requires_grad=True)


def moved(optimizer, leaves, gradients):
    """The parameters after steps with these gradients, a list for each."""
    for each in gradients:
        for p, g in zip(leaves, each, strict=True):
            p.grad = None if g is None else np.array(g, p.dtype)
        optimizer.step()
    return [p.data.copy() for p in leaves]


# ---- rules -----------------------------------------------------------------------------------------------------------


def test_rprop_grows_and_shrinks_the_size_of_each_element():
    p = leaf([1.0, 1.0])
    rprop = optim.Rprop([p], lr=0.5, etas=(0.5, 2.0), step_sizes=(0.2, 0.8))
    (after,) = moved(rprop, [p], [[[3, -1]], [[2, 5]], [[1, 4]], [[1, 4]]])
    # Sizes 0.5, 0.8, 0.8, 0.8 of the first; 0.5, 0.25 without a step, 0.25, 0.5 of the second.
    np.testing.assert_allclose(after, [1 - 0.5 - 3 * 0.8, 1 + 0.5 - 0.25 - 0.5])


def adafactor(p, g, states, t, lr=1e-2, beta2_decay=-0.8, least=1e-9, eps2=1e-3, d=1.0, weight_decay=0.0):
    """The rule of the docstring on lists of rows."""
    rms = lambda rows: math.sqrt(sum(x * x for row in rows for x in row) / sum(map(len, rows)))  # noqa: E731
    relative, w = max(eps2, rms(p)) * min(lr, t**-0.5), t**beta2_decay
    rows, columns = states
    for i, row in enumerate(g):
        rows[i] += w * (sum(x * x for x in row) / len(row) - rows[i])
    for j in range(len(columns)):
        columns[j] += w * (sum(row[j] ** 2 for row in g) / len(g) - columns[j])
    mean = max(sum(rows) / len(rows), least)
    u = [[x / max(math.sqrt(r * c / mean), least) for x, c in zip(row, columns, strict=True)]
         for row, r in zip(g, rows, strict=True)]  # fmt: skip
    size = relative / max(1, rms(u) / d)
    return [
        [(1 - lr * weight_decay) * x - size * y for x, y in zip(*pair, strict=True)] for pair in zip(p, u, strict=True)
    ]


def test_adafactor_follows_the_formula(rng):
    start, bias = rng.standard_normal((3, 4)), rng.standard_normal(2)
    p, q = leaf(start), leaf(bias)
    optimizer = optim.Adafactor([p, q], lr=0.3, eps=(1e-9, 1e-3), d=1.5, weight_decay=0.1)
    expected, states = start.tolist(), ([0.0] * 3, [0.0] * 4)
    for t in range(1, 5):
        g = rng.standard_normal((3, 4))
        (after, _) = moved(optimizer, [p, q], [[g, rng.standard_normal(2)]])
        expected = adafactor(expected, g.tolist(), states, t, lr=0.3, d=1.5, weight_decay=0.1)
        np.testing.assert_allclose(after, expected, rtol=1e-9)
    state = optimizer.state_dict()
    assert [state[f"parameters.0.{kind}"].shape for kind in ("row", "column")] == [(3, 1), (1, 4)]
    assert "parameters.0.square" not in state
    assert state["parameters.1.square"].shape == (2,)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (1, 3)])
def test_muon_steps_by_a_matrix_of_singular_values_near_1(rng, shape):
    start, g = rng.standard_normal(shape), rng.standard_normal(shape)
    p = leaf(start)
    muon = optim.Muon([p], lr=0.1, weight_decay=0.5, momentum=0.0, ns_steps=40, ns_coefficients=(1.5, -0.5, 0.0))
    (after,) = moved(muon, [p], [[g]])
    u, _, v = np.linalg.svd(g, full_matrices=False)
    np.testing.assert_allclose(after, 0.95 * start - 0.1 * max(1, shape[0] / shape[1]) ** 0.5 * u @ v, rtol=1e-7)


def rosenbrock(p):
    x, y = p[0], p[1]
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


@pytest.mark.parametrize("settings", [{"line_search_fn": "strong_wolfe"}, {"lr": 0.1, "max_iter": 400}])
def test_lbfgs_finds_the_minimum(run_xp, settings):
    def search(start):
        p = tensor(start, requires_grad=True)
        optimizer = optim.LBFGS([p], tolerance_grad=1e-10, **settings)

        def closure():
            optimizer.zero_grad()
            loss = rosenbrock(p)
            loss.backward()
            return loss

        for _ in range(4):
            optimizer.step(closure)
        return p.data

    np.testing.assert_allclose(run_xp(search, np.array([-1.2, 1.0])), 1, atol=2e-4)


def test_lbfgs_needs_a_closure_and_one_group():
    p, q = leaf([1.0]), leaf([2.0])
    lbfgs = optim.LBFGS([p])
    for call, message in (
        (lbfgs.step, "step needs a closure"),
        (lambda: lbfgs.step(lambda: "low"), "closure must return the loss, one number, got loss='low'"),
        (lambda: lbfgs.add_param_group({"params": [q]}), "there must be one group"),
        (lambda: optim.LBFGS([{"params": [p]}, {"params": [q]}]), "there must be one group, got groups=2"),
        (lambda: optim.LBFGS([p], line_search_fn="weak"), "line_search_fn must be None or"),
        (lambda: optim.LBFGS([p], history_size=0), "history_size must be an integer of at least 1"),
        (lambda: optim.LBFGS([{"params": [p], "l2": 0.1}]), "l1, l2 and maximize belong into the loss"),
    ):
        with pytest.raises(ArgumentError, match=f"LBFGS: {message}"):
            call()


# ---- options ---------------------------------------------------------------------------------------------------------

OTHERS = {
    "rprop": (optim.Rprop, {"lr": 0.1}),
    "adafactor": (optim.Adafactor, {"lr": 0.1, "weight_decay": 0.1}),
    "muon": (optim.Muon, {"lr": 0.1}),
    "dampened": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
}
ALL = OTHERS | FIFTY


@pytest.mark.parametrize(("kind", "settings"), ALL.values(), ids=ALL)
def test_going_up_is_going_down_with_gradients_turned_round(kind, settings, rng):
    start = rng.standard_normal((3, 2))
    gradients = [[rng.standard_normal((3, 2))] for _ in range(3)]
    up, down = leaf(start), leaf(start)
    (one,) = moved(kind([up], maximize=True, l2=0.1, **settings), [up], gradients)
    (other,) = moved(kind([down], l2=0.1, **settings), [down], [[-g] for (g,) in gradients])
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("kind", "settings"), OTHERS.values(), ids=OTHERS)
def test_steps_of_halves_are_those_in_full_on_every_array_module(run_xp, kind, settings, rng):
    def steps(start, gradients):
        p = tensor(start, requires_grad=True)
        optimizer = kind([p], **settings)
        for g in gradients:
            p.grad = g
            optimizer.step()
        return p.data

    start, gradients = rng.standard_normal((3, 2)), rng.standard_normal((4, 3, 2))
    expected = run_xp(steps, start, gradients)
    for dtype in (np.float32, np.float16):
        ours = run_xp(steps, start.astype(dtype), gradients.astype(dtype))
        assert ours.dtype == dtype
        np.testing.assert_allclose(ours, expected, rtol=0, atol=8 * np.finfo(dtype).eps)


def test_dampening_begins_at_the_second_step_of_each_parameter():
    p, q = leaf([0.0]), leaf([0.0])
    sgd = optim.SGD([p, q], lr=1.0, momentum=0.5, dampening=0.25)
    after = moved(sgd, [p, q], [[[1], None], [[1], [1]], [[1], [1]]])
    velocities = 1, 0.5 + 0.75, 0.625 + 0.75
    np.testing.assert_allclose(after, [[-sum(velocities)], [-sum(velocities[:2])]])
    sgd.groups[0]["dampening"] = 0.0
    after = moved(sgd, [p, q], [[[1], [1]]])
    np.testing.assert_allclose(after[0], -sum(velocities) - (0.5 * velocities[2] + 1))


def test_a_sum_of_losses_goes_up():
    layer = nn.Linear(2, 1)
    sgd = optim.SGD(layer.parameters(), lr=0.1, maximize=True)
    x = np.ones((1, 2), np.float32)
    before = layer(x).item()
    layer(x).sum().backward()
    sgd.step()
    assert layer(x).item() > before + 0.29


# ---- the call of a step, groups and states ---------------------------------------------------------------------------


def test_a_closure_is_called_once_and_what_it_gives_returned():
    p, calls = leaf([3.0]), []

    def closure():
        sgd.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        calls.append(loss)
        return loss

    sgd = optim.SGD([p], lr=0.5)
    assert sgd.step(closure) is calls[0]
    assert p.item() == 0.0
    assert sgd.step() is None
    sgd.zero_grad(set_to_none=False)
    assert p.grad.tolist() == [0.0]
    sgd.zero_grad()
    assert p.grad is None


def test_a_group_added_later_is_numbered_on_and_trained(rng):
    p, q = leaf(rng.standard_normal(3)), leaf(rng.standard_normal((2, 2)))
    adam = optim.Adam([p], lr=0.1)
    moved(adam, [p], [[np.ones(3)]])
    adam.add_param_group({"params": q, "lr": 0.2})
    assert [group.names for group in adam.param_groups] == [["0"], ["1"]]
    assert [group["params"] for group in adam.param_groups] == [[p], [q]]
    assert [name in adam.param_groups[0] for name in ("params", "betas", "momentum")] == [True, True, False]
    before = q.data.copy()
    moved(adam, [p, q], [[np.ones(3), np.ones((2, 2))]])
    np.testing.assert_allclose(q.data, before - 0.2)
    assert adam.state_dict()["parameters.0.steps"] == 2
    for group, message in (
        ({"params": [p]}, "each parameter must be given once"),
        ({"params": [("w", leaf([1.0]))]}, "names must be given to all parameters, or to none"),
        ([leaf([1.0])], "param_group must be a dict"),
        ({"params": [leaf([1.0])], "speed": 1}, "a group has the settings"),
    ):
        with pytest.raises(ArgumentError, match=f"Adam: {message}"):
            adam.add_param_group(group)
    assert len(adam.groups) == 2


def test_frozen_parameters_are_left_alone_and_may_learn_later():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    adam = optim.Adam(net.parameters(), lr=0.1)
    x = tensor(np.ones((4, 2), np.float32))
    for frozen in (True, False):
        before = net.state_dict()
        net(x).sum().backward()
        adam.step()
        assert all(
            (array == before[name]).all() == (frozen and name[0] == "0") for name, array in net.state_dict().items()
        )
        net[0].requires_grad_()
    with pytest.raises(ArgumentError, match="Adam: parameters must be tensors with requires_grad=True"):
        optim.Adam([tensor([1.0])])


def test_a_learning_rate_may_be_an_array_of_one_element():
    assert optim.SGD([leaf([1.0])], lr=np.array([0.5])).lr == 0.5
    assert optim.SGD([leaf([1.0])], lr=tensor([0.5])).lr == 0.5
    with pytest.raises(ArgumentError, match="lr must be at least 0 and finite"):
        optim.SGD([leaf([1.0])], lr=np.array([0.5, 0.5]))


@pytest.mark.parametrize(("kind", "settings"), OTHERS.values(), ids=OTHERS)
def test_copies_and_states_go_on_bit_for_bit(kind, settings, rng):
    shapes = [(3, 2), (2, 4)] if kind is optim.Muon else [(3, 2), (4,), (2, 2, 3), ()]
    leaves = [leaf(rng.standard_normal(shape), np.float32) for shape in shapes]
    gradients = [[rng.standard_normal(shape) if rng.random() < 0.8 else None for shape in shapes] for _ in range(8)]
    optimizer = kind(leaves, **settings)
    moved(optimizer, leaves, gradients[:4])
    copied, copy_of = copy.deepcopy((leaves, optimizer))
    loaded = [leaf(p.data, np.float32) for p in leaves]
    other = kind(loaded, **settings)
    other.load_state_dict(optimizer.state_dict())
    expected = moved(optimizer, leaves, gradients[4:])
    for each, own in ((copied, copy_of), (loaded, other)):
        for ours, wanted in zip(moved(own, each, gradients[4:]), expected, strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_a_resumed_lbfgs_gives_the_same_bits():
    def make(start):
        p = leaf(start)
        return p, optim.LBFGS([p], max_iter=4, line_search_fn="strong_wolfe")

    def steps(p, optimizer, count):
        def closure():
            optimizer.zero_grad()
            loss = rosenbrock(p)
            loss.backward()
            return loss

        for _ in range(count):
            optimizer.step(closure)
        return p.data.copy()

    whole, first = make([-1.2, 1.0]), make([-1.2, 1.0])
    expected = steps(*whole, 3)
    p, optimizer = make(steps(*first, 1))
    optimizer.load_state_dict(first[1].state_dict())
    np.testing.assert_array_equal(steps(p, optimizer, 2), expected)
    good = optimizer.state_dict()
    for wrong, message in (
        ({"history.direction": np.zeros(3)}, "direction must be float64 over all 2 elements"),
        ({"history.iterations": -1}, "iterations must be a number"),
        ({"history.moves": good["history.moves"][:-1]}, "there must be as many moves as changes"),
        ({"history.more": 1}, "the names must be"),
    ):
        with pytest.raises(ArgumentError, match=f"LBFGS: {message}"):
            optimizer.load_state_dict(good | wrong)
    lists = ("history.direction", "history.gradient", "history.changes", "history.moves")
    with pytest.raises(ArgumentError, match="LBFGS: what has taken steps must have a direction and a gradient"):
        optimizer.load_state_dict({name: value for name, value in good.items() if name not in lists})


def test_a_state_from_before_there_were_these_settings_is_loaded():
    for kind, later in (
        (optim.SGD, {"dampening", "maximize"}),
        (optim.AdamW, {"amsgrad", "decoupled_weight_decay", "maximize"}),
    ):
        optimizer = kind([leaf([1.0])])
        old = {name: v for name, v in optimizer.state_dict().items() if name.rpartition(".")[2] not in later}
        assert len(optimizer.state_dict()) - len(old) == len(later)
        optimizer.load_state_dict(old | {"groups.0.lr": 0.5})
        assert optimizer.groups[0]["lr"] == 0.5
        assert set(optimizer.state_dict()) == set(old) | {f"groups.0.{name}" for name in later}
        assert kind is optim.SGD or optimizer.groups[0]["decoupled_weight_decay"]


def test_ranges_of_the_settings_of_each():
    p = leaf([[1.0]])
    for kind, wrong, message in (
        (optim.Rprop, {"etas": (1.0, 0.5)}, "etas must be one between 0 and 1, and one above 1"),
        (optim.Rprop, {"step_sizes": (2, 1)}, "step_sizes must be the least and the largest"),
        (optim.Rprop, {"etas": 0.5}, "etas must be 2 numbers"),
        (optim.Adafactor, {"eps": (-1, 1)}, "eps must be at least 0"),
        (optim.Adafactor, {"eps": 1}, "eps must be two numbers"),
        (optim.Adafactor, {"d": 0.5}, "d must be at least 1"),
        (optim.Adafactor, {"beta2_decay": 0.5}, "beta2_decay must be at most 0"),
        (optim.Muon, {"ns_steps": 100}, "ns_steps must be below 100"),
        (optim.Muon, {"ns_coefficients": (1, 2)}, "ns_coefficients must be 3 numbers"),
        (optim.Muon, {"adjust_lr_fn": "mine"}, "adjust_lr_fn must be None"),
        (optim.Muon, {"momentum": -1}, "momentum must be at least 0"),
    ):
        with pytest.raises(ArgumentError, match=f"{kind.__name__}: {message}"):
            kind([p], **wrong)
    with pytest.raises(ShapeError, match=r"Muon: parameters must be matrices, got parameter='1', shape=\(2,\)"):
        optim.Muon([p, leaf([1.0, 2.0])])
