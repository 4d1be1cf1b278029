import functools

import numpy as np
import pytest
from optimizers import BY_NAME, FIFTY, ROWS

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError

ELEMENTS = {name: each for name, each in FIFTY.items() if not BY_NAME[each[0].__name__].whole}
PEERS = [row.make for row in ROWS if row.in_pytorch]


def scalar_steps(kind, p, gradient, steps, initial_accumulator_value=0.0, **settings):
    """The formulas of the docstrings, one number at a time."""
    row = BY_NAME[kind.__name__]
    needed = [name for name in row.states if name not in row.needed_by or settings.get(row.needed_by[name])]
    states = [initial_accumulator_value] * len(needed or row.states)
    for step in range(1, steps + 1):
        told = {**row.told, "steps": step} if row.counts else row.told
        p, *changed = row.rule(p, gradient(p), *states, **told, **settings)
        states = changed or states
    return p


def fifty_steps(kind, settings, loss, *starts):
    leaves = [tensor(start.copy(), requires_grad=True) for start in starts]
    optimizer = kind(leaves, **settings)
    for _ in range(50):
        optimizer.zero_grad()
        loss(*leaves).backward()
        optimizer.step()
    return tuple(leaf.data for leaf in leaves)


@pytest.mark.parametrize(("kind", "settings"), ELEMENTS.values(), ids=ELEMENTS.keys())
def test_fifty_steps_follow_the_formula(run, kind, settings):
    start = np.array([1.0, -2.0]), np.array([[0.5, 3.0]])
    p, q = run(fifty_steps, kind, settings, lambda p, q: (p**4).sum() + (q * q).sum(), *start)
    expected = [scalar_steps(kind, v, lambda x: 4 * x**3, 50, **settings) for v in start[0]]
    np.testing.assert_allclose(p, expected, rtol=1e-10)
    expected = [scalar_steps(kind, v, lambda x: 2 * x, 50, **settings) for v in start[1][0]]
    np.testing.assert_allclose(q[0], expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("kind", "settings"), [pytest.param(*each, id=name) for name, each in FIFTY.items() if name not in ELEMENTS]
)
def test_fifty_steps_on_whole_parameters_follow_the_formula(run, kind, settings):
    starts = np.array([1.0, -2.0]), np.array([[0.5, 3.0, -1.0]])
    ours = run(fifty_steps, kind, settings, lambda p, q: (p * p).sum() + (q * q).sum(), *starts)
    row = BY_NAME[kind.__name__]
    for start, actual in zip(starts, ours, strict=True):
        p, *states = start.ravel(), *(np.zeros(start.size) for _ in row.states)
        for step in range(1, 51):
            p, *states = row.rule(p, 2 * p, *states, step, **settings)
        np.testing.assert_allclose(actual.ravel(), p, rtol=1e-9)


@pytest.mark.parametrize(("kind", "settings"), FIFTY.values(), ids=FIFTY.keys())
def test_a_parameter_without_gradient_stays_and_counts_no_step(run, kind, settings, rng):
    arrays = [rng.standard_normal(length).astype(np.float32) for length in (3, 5, 1, 9)]
    for p, q in zip(run(steps_with_gaps, kind, settings, True, *arrays),
                    run(steps_with_gaps, kind, settings, False, *arrays), strict=True):  # fmt: skip
        np.testing.assert_array_equal(p, q)


def steps_with_gaps(kind, settings, together, *arrays):
    """Six steps, in each of which some parameters have no gradient, with one optimizer for all or one for each."""
    leaves = [tensor(a.copy(), requires_grad=True) for a in arrays]
    optimizers = [kind(leaves, **settings)] if together else [kind([p], **settings) for p in leaves]
    for step in range(6):
        for number, p in enumerate(leaves):
            p.grad = None if (step + number) % 3 == 0 else 1 / (2 + p.data)
        for optimizer in optimizers:
            optimizer.step()
    return tuple(p.data for p in leaves)


def test_parameters_become_views_of_one_buffer():
    layer = nn.Linear(3, 2)
    before = [parameter.data.copy() for parameter in layer.parameters()]
    optim.SGD(layer.parameters(), lr=0.1)
    assert layer.weight.data.base is layer.bias.data.base is not None
    for parameter, array in zip(layer.parameters(), before, strict=True):
        np.testing.assert_array_equal(parameter.data, array)
    layer.load_state_dict({"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)})
    assert layer.weight.data.base is layer.bias.data.base


def test_gradients_are_left_as_they_were():
    p = tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1, weight_decay=0.5)
    p.grad = np.float32([2.0])
    optimizer.step()
    assert p.grad.item() == 2


def test_half_precision_parameters_have_states_in_float32():
    p = tensor(np.ones(3, np.float16), requires_grad=True)
    optimizer = optim.Adam([p], lr=0.125)
    p.grad = np.float16([1e-4, -1e-4, 1])  # 1e-4 squared is 0 in float16
    optimizer.step()
    assert p.data.tolist() == [0.875, 1.125, 0.875]


def test_learning_rate_can_change():
    p = tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([p], lr=0.1)
    optimizer.lr = 0.5
    p.grad = np.float32([1.0])
    optimizer.step()
    assert p.item() == 0.5


def test_errors_name_rule_and_values():
    p = tensor([1.0], requires_grad=True)
    with pytest.raises(ArgumentError, match="SGD: there must be at least one parameter"):
        optim.SGD([], lr=0.1)
    with pytest.raises(ArgumentError, match="SGD: regularise must be a function of a name and a parameter, got type="):
        optim.SGD([p], l2=0.1, regularise="weight")
    with pytest.raises(ArgumentError, match="SGD: lr must be at least 0 and finite, got lr=-1"):
        optim.SGD([p], lr=-1)
    with pytest.raises(ArgumentError, match="Adam: lr must be at least 0 and finite, got lr=nan"):
        optim.Adam([p], lr=float("nan"))
    with pytest.raises(ArgumentError, match="Adam: beta must be at least 0 and less than 1.0, got beta=1.0"):
        optim.Adam([p], betas=(0.9, 1.0))
    with pytest.raises(ArgumentError, match="SGD: nesterov needs momentum, got momentum=0"):
        optim.SGD([p], lr=0.1, nesterov=True)
    with pytest.raises(ArgumentError, match="each parameter must be given once"):
        optim.SGD([p, p], lr=0.1)
    with pytest.raises(ArgumentError, match="tensors with requires_grad=True"):
        optim.SGD([tensor([1.0])], lr=0.1)
    with pytest.raises(ArgumentError, match=r"one dtype, got dtypes=\['float32', 'float64'\]"):
        optim.SGD([p, tensor(np.ones(1), requires_grad=True)], lr=0.1)
    with pytest.raises(ArgumentError, match="RMSprop: alpha must be at least 0 and finite, got alpha=-1"):
        optim.RMSprop([p], alpha=-1)
    with pytest.raises(ArgumentError, match="RMSprop: eps must be at least 0 and finite, got eps=-1"):
        optim.RMSprop([p], eps=-1)
    with pytest.raises(ArgumentError, match="RMSprop: momentum must be at least 0 and finite, got momentum=-2"):
        optim.RMSprop([p], momentum=-2)
    with pytest.raises(ArgumentError, match="SGD: nesterov takes no dampening, got dampening=0.5"):
        optim.SGD([p], momentum=0.9, nesterov=True, dampening=0.5)
    with pytest.raises(ArgumentError, match="Adam: a step cannot be differentiated, as gradients are first-order"):
        optim.Adam([p], differentiable=True)
    optimizer = optim.SGD([p], lr=0.1)
    p.data = np.ones(1, np.float32)
    with pytest.raises(ArgumentError, match="moved or replaced after the optimizer was made.*got parameter='0'"):
        optimizer.step()


def peer_in(dtype, steps):
    """``steps(dtype)``, where PyTorch keeps also its scalars (of NAdam) in ``dtype``."""
    import torch

    torch.set_default_dtype(torch.float32 if dtype == np.float32 else torch.float64)
    try:
        return steps(dtype)
    finally:
        torch.set_default_dtype(torch.float32)


def assert_follows(ours, steps, dtype, where=""):
    """``ours`` are the arrays that PyTorch comes to, in ``steps(dtype)``.

    In float64 to 1e-9. In float32 to 1e-5, and three times the distance of PyTorch's float32 from its own float64, the
    largest with sums in several orders: some trajectories swing about a minimum, and drive any two roundings apart.
    """
    expected = peer_in(dtype, steps)
    tolerance = 1e-5 if dtype == np.float32 else 1e-9
    apart = [0.0] * len(expected)
    near = all(np.allclose(a, e, rtol=tolerance, atol=tolerance) for a, e in zip(ours, expected, strict=True))
    if dtype == np.float32 and not near:
        exact = peer_in(np.float64, steps)
        peers = [expected, *(peer_in(dtype, functools.partial(steps, turned=n)) for n in ORDERS)]
        apart = [
            3 * max(np.abs(np.float64(e) - reference).max() for e in each)
            for reference, *each in zip(exact, *peers, strict=True)
        ]
    for actual, wanted, more in zip(ours, expected, apart, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=tolerance, atol=tolerance + more, err_msg=where)


ORDERS = range(1, 4)
"""By how many rows the matrices of a least-squares problem are turned: the same sums, in other orders."""


@pytest.mark.peer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "settings"), [pytest.param(*each, id=name) for name, each in FIFTY.items() if each[0] in PEERS]
)
def test_fifty_steps_follow_pytorch(run, kind, settings, dtype, rng):
    torch = pytest.importorskip("torch")
    x, start = rng.standard_normal((8, 5)).astype(np.float32), rng.standard_normal((5, 1)).astype(np.float32)

    def steps(dtype, turned=0):
        p = torch.tensor(start.astype(dtype), requires_grad=True)
        peer = getattr(torch.optim, kind.__name__)([p], **settings)
        matrix = torch.tensor(np.roll(x, turned, 0).astype(dtype))
        for _ in range(50):
            peer.zero_grad()
            ((matrix @ p) ** 2).mean().backward()
            peer.step()
        return (p.detach().numpy(),)

    given = x.astype(dtype), start.astype(dtype)
    ours = run(lambda x, start: fifty_steps(kind, settings, lambda p: ((x @ p) ** 2).mean(), start), *given)
    assert_follows(ours, steps, dtype)


@pytest.mark.peer
@pytest.mark.parametrize("kind", PEERS)
def test_defaults_are_those_of_pytorch(kind):
    torch = pytest.importorskip("torch")
    peer = getattr(torch.optim, kind.__name__)([torch.ones(1, requires_grad=True)]).defaults
    ours = kind([tensor([1.0], requires_grad=True)]).defaults
    assert {name: value for name, value in ours.items() if name not in ("l1", "l2")} == {
        name: peer[name] for name in ours if name not in ("l1", "l2")
    }


def drawn(rng, kind):
    """Settings of one group: some of the optimizer's own, drawn."""
    ranges = {
        "lr": 10 ** rng.uniform(-3, -1),
        "weight_decay": rng.uniform(0, 0.3),
        "betas": (rng.uniform(0.5, 0.95), rng.uniform(0.8, 0.999)),
        "eps": 10 ** rng.uniform(-6, -2),
        "momentum": rng.uniform(0.1, 0.95),
        "nesterov": bool(rng.integers(2)),
        "centered": bool(rng.integers(2)),
        "alpha": rng.uniform(0.5, 0.99),
        "rho": rng.uniform(0.5, 0.99),
        "lr_decay": rng.uniform(0, 0.1),
        "momentum_decay": 10 ** rng.uniform(-3, -1),
        "initial_accumulator_value": rng.uniform(0, 1),
    }
    own = [name for name in kind([tensor([1.0], requires_grad=True)]).defaults if name in ranges]
    chosen = {name: ranges[name] for name in own if rng.random() < 0.7}
    if not chosen.get("momentum"):
        chosen.pop("nesterov", None)
    if kind is optim.RMSprop and chosen.get("centered"):
        chosen["eps"] = 10 ** rng.uniform(-3, -2)  # below, the root of a difference near 0 amplifies rounding
    return chosen


def peer_steps(dtype, given, make, asarray, leaf, turned=0):
    """Fifty steps on three least-squares problems, two of them in the first group."""
    matrices, starts, missing, own, common = given
    leaves = [leaf(start.astype(dtype)) for start in starts]
    optimizer = make([{"params": leaves[:2]}, {"params": leaves[2:], **own}], **common)
    turned_matrices = [asarray(np.roll(matrix, turned, 0).astype(dtype)) for matrix in matrices]
    for absent in missing:
        for p, a, gone in zip(leaves, turned_matrices, absent, strict=True):
            x = p.data.reshape(-1)
            p.grad = None if gone else (a.T @ (a @ x) / 4 + 0.1).reshape(p.shape)
        optimizer.step()
    return [np.asarray(p.data) for p in leaves]


@pytest.mark.peer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", PEERS)
def test_groups_and_missing_gradients_follow_pytorch(kind, dtype, rng):
    torch = pytest.importorskip("torch")
    peer = getattr(torch.optim, kind.__name__)
    for draw in range(7):
        own, common = drawn(rng, kind), drawn(rng, kind)
        own.pop("initial_accumulator_value", None)  # PyTorch takes that of the first group for all
        if "nesterov" in own | common:
            own["momentum"] = own.get("momentum") or 0.5
        shapes = [(5, 2), (3,), (2, 2, 3)]
        matrices = [rng.standard_normal((4, int(np.prod(shape)))).astype(np.float32) for shape in shapes]
        starts = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        missing = rng.random((50, 3)) < 0.2

        given = matrices, starts, missing, own, common
        ours = peer_steps(dtype, given, kind, np.asarray, lambda a: tensor(a, requires_grad=True))
        theirs = functools.partial(
            peer_steps, given=given, make=peer, asarray=torch.tensor, leaf=lambda a: torch.tensor(a, requires_grad=True)
        )
        assert_follows(ours, theirs, dtype, f"{draw=} {common=} {own=}")


@pytest.mark.parametrize("size", [1e25, 1e-25])
def test_lamb_measures_parameters_near_the_ends_of_float32(size):
    p = tensor(np.float32([3, 4]) * np.float32(size), requires_grad=True)
    lamb = optim.LAMB([p], lr=0.1, weight_decay=0.0)
    p.grad = np.float32([1, 1])
    lamb.step()  # 0.1 |p| along (1, 1)
    np.testing.assert_allclose(p.data, (np.array([3, 4]) - 0.1 * 5 / np.sqrt(2)) * size, rtol=1e-5)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.RMSprop])
def test_long_gradients_are_used_where_they_are(make):
    """A step is that of gradients which are copied, as those in another order of memory are, and leaves them alone."""
    rng = np.random.default_rng(0)
    start = [rng.standard_normal(shape, np.float32) for shape in ((600, 400), (7,), (500, 300))]
    gradients = [rng.standard_normal(p.shape, np.float32) for p in start]
    moved = []
    for order in ("C", "F"):
        parameters = [tensor(p, requires_grad=True) for p in start]
        optimizer = make(parameters, lr=0.1)
        for _ in range(2):
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = np.array(g, order=order)
            optimizer.step()
            for p, g in zip(parameters, gradients, strict=True):
                np.testing.assert_array_equal(p.grad, g)
        assert optimizer.groups[0]._stays(0) == (order == "C")
        moved.append([p.data for p in parameters])
    for one, other in zip(*moved, strict=True):
        np.testing.assert_array_equal(one, other)
