import numpy as np
import oracles
import pytest

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError

SETTINGS = {
    "sgd": (optim.SGD, {"lr": 0.05}),
    "momentum": (optim.SGD, {"lr": 0.05, "momentum": 0.9}),
    "nesterov": (optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    "sgd with weight decay": (optim.SGD, {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1}),
    "adam": (optim.Adam, {"lr": 0.05}),
    "adam with weight decay": (optim.Adam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}),
    "rmsprop": (optim.RMSprop, {"lr": 0.01}),
    "rmsprop with momentum": (optim.RMSprop, {"lr": 0.01, "alpha": 0.9, "momentum": 0.8, "weight_decay": 0.1}),
    "rmsprop centered": (optim.RMSprop, {"lr": 0.01, "alpha": 0.95, "eps": 1e-4, "centered": True}),
    "rmsprop centered with momentum": (optim.RMSprop, {"lr": 0.01, "momentum": 0.5, "eps": 1e-4, "centered": True}),
}


def scalar_steps(kind, p, gradient, steps, **settings):
    """The formulas of the docstrings, one number at a time."""
    name = {optim.SGD: "sgd_step", optim.Adam: "adam_step", optim.RMSprop: "rmsprop_step"}[kind]
    if kind is optim.SGD:
        states = [0.0]
    elif kind is optim.Adam:
        states = [0.0, 0.0]
    else:
        states = [0.0] * (1 + bool(settings.get("momentum")) + bool(settings.get("centered")))
    for step in range(1, steps + 1):
        count = {"steps": step} if kind is optim.Adam else {}
        p, *changed = oracles.OPTIMIZER_RULES[name](p, gradient(p), *states, **count, **settings)
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


@pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
def test_fifty_steps_follow_the_formula(run, kind, settings):
    start = np.array([1.0, -2.0]), np.array([[0.5, 3.0]])
    p, q = run(fifty_steps, kind, settings, lambda p, q: (p**4).sum() + (q * q).sum(), *start)
    expected = [scalar_steps(kind, v, lambda x: 4 * x**3, 50, **settings) for v in start[0]]
    np.testing.assert_allclose(p, expected, rtol=1e-11)
    expected = [scalar_steps(kind, v, lambda x: 2 * x, 50, **settings) for v in start[1][0]]
    np.testing.assert_allclose(q[0], expected, rtol=1e-11)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
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
    with pytest.raises(ArgumentError, match="RMSprop: alpha must be at least 0 and less than 1.0, got alpha=1"):
        optim.RMSprop([p], alpha=1)
    with pytest.raises(ArgumentError, match="RMSprop: eps must be at least 0 and finite, got eps=-1"):
        optim.RMSprop([p], eps=-1)
    with pytest.raises(ArgumentError, match="RMSprop: momentum must be at least 0 and less than 1.0, got momentum=2"):
        optim.RMSprop([p], momentum=2)
    optimizer = optim.SGD([p], lr=0.1)
    p.data = np.ones(1, np.float32)
    with pytest.raises(ArgumentError, match="moved or replaced after the optimizer was made.*got parameter=0"):
        optimizer.step()


@pytest.mark.peer
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
def test_fifty_steps_follow_pytorch(run, kind, settings, dtype, rng):
    torch = pytest.importorskip("torch")
    x, start = rng.standard_normal((8, 5)).astype(dtype), rng.standard_normal((5, 1)).astype(dtype)
    theirs = torch.tensor(start, requires_grad=True)
    peer = getattr(torch.optim, kind.__name__)([theirs], **settings)
    for _ in range(50):
        peer.zero_grad()
        ((torch.tensor(x) @ theirs) ** 2).mean().backward()
        peer.step()
    (ours,) = run(lambda x, start: fifty_steps(kind, settings, lambda p: ((x @ p) ** 2).mean(), start), x, start)
    # Fifty steps round fifty times, and early steps of RMSprop and Adam divide by small roots.
    rounding = 1e-4 if dtype == np.float32 else 1e-9
    np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=rounding, atol=rounding)


@pytest.mark.peer
@pytest.mark.parametrize("kind", [optim.Adam, optim.RMSprop])
def test_defaults_are_those_of_pytorch(kind):
    torch = pytest.importorskip("torch")
    p = tensor([1.0], requires_grad=True)
    peer = getattr(torch.optim, kind.__name__)([torch.ones(1, requires_grad=True)]).defaults
    ours = {name: value for name, value in vars(kind([p])).items() if not name.startswith("_")}
    assert ours == {name: peer[name] for name in ours}
