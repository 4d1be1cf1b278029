import numpy as np
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
}


def scalar_steps(
    kind, p, gradient, steps, lr, momentum=0.0, nesterov=False, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8
):
    """The formulas of the docstrings, one number at a time."""
    v = m = s = 0.0
    for t in range(1, steps + 1):
        g = gradient(p) + weight_decay * p
        if kind is optim.SGD:
            v = momentum * v + g
            p -= lr * (g + momentum * v if nesterov else v)
        else:
            m, s = betas[0] * m + (1 - betas[0]) * g, betas[1] * s + (1 - betas[1]) * g * g
            p -= lr * (m / (1 - betas[0] ** t)) / ((s / (1 - betas[1] ** t)) ** 0.5 + eps)
    return p


@pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
def test_fifty_steps_follow_the_formula(kind, settings):
    start = [[1.0, -2.0], [0.5, 3.0]]
    p, q = tensor(np.array(start[0]), requires_grad=True), tensor(np.array([start[1]]), requires_grad=True)
    optimizer = kind([p, q], **settings)
    for _ in range(50):
        optimizer.zero_grad()
        ((p**4).sum() + (q * q).sum()).backward()
        optimizer.step()
    expected = [scalar_steps(kind, v, lambda x: 4 * x**3, 50, **settings) for v in start[0]]
    np.testing.assert_allclose(p.data, expected, rtol=1e-12)
    expected = [scalar_steps(kind, v, lambda x: 2 * x, 50, **settings) for v in start[1]]
    np.testing.assert_allclose(q.data[0], expected, rtol=1e-12)


@pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
def test_a_parameter_without_gradient_stays_and_counts_no_step(kind, settings, rng):
    arrays = [rng.standard_normal(3) for _ in range(4)]
    together = [tensor(a.copy(), requires_grad=True) for a in arrays]
    alone = [tensor(a.copy(), requires_grad=True) for a in arrays]
    optimizer, single = kind(together, **settings), [kind([p], **settings) for p in alone]
    for step in range(6):
        for number, (p, q) in enumerate(zip(together, alone, strict=True)):
            p.grad = q.grad = None if (step + number) % 3 == 0 else np.cos(p.data)
        optimizer.step()
        for number, s in enumerate(single):
            if (step + number) % 3:
                s.step()
        for p, q in zip(together, alone, strict=True):
            np.testing.assert_array_equal(p.data, q.data)


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
    optimizer = optim.SGD([p], lr=0.1)
    p.data = np.ones(1, np.float32)
    with pytest.raises(ArgumentError, match="moved or replaced after the optimizer was made.*got parameter=0"):
        optimizer.step()


@pytest.mark.peer
@pytest.mark.parametrize(("kind", "settings"), SETTINGS.values(), ids=SETTINGS.keys())
def test_fifty_steps_follow_pytorch(kind, settings, rng):
    torch = pytest.importorskip("torch")
    x, start = rng.standard_normal((8, 5)), rng.standard_normal((5, 1))
    ours, theirs = tensor(start.copy(), requires_grad=True), torch.tensor(start, requires_grad=True)
    optimizer, peer = kind([ours], **settings), getattr(torch.optim, kind.__name__)([theirs], **settings)
    for _ in range(50):
        for o, loss in ((optimizer, ((x @ ours) ** 2).mean()), (peer, ((torch.tensor(x) @ theirs) ** 2).mean())):
            o.zero_grad()
            loss.backward()
            o.step()
    np.testing.assert_allclose(ours.data, theirs.detach().numpy(), rtol=1e-9)
