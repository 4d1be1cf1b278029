"""nn.utils, by PyTorch's names: limits of gradients, and parameters as one vector."""

import numpy as np
import pytest

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError
from gpunn.nn import utils


def test_clipping_leaves_frozen_parameters_alone_and_takes_one_alone():
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    net[0].requires_grad_(False)
    net(tensor(np.ones((4, 2), np.float32))).sum().backward()
    before = net[1].bias.grad.copy()
    total = utils.clip_grad_norm_(net.parameters(), 0.5)
    assert net[1].bias.grad / before == pytest.approx(0.5 / total, rel=1e-5)
    assert utils.clip_grad_norm_(net.named_parameters().__next__()[1], 1.0) == 0
    utils.clip_grad_value_(net[1].bias, 1e-3)
    assert net[1].bias.grad.tolist() == [np.float32(1e-3)]
    utils.clip_grad_value_(net.parameters(), 1e-4)
    assert np.abs(net[1].weight.grad).max() <= np.float32(1e-4)


def test_parameters_are_a_vector_and_come_from_one(rng):
    net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    vector = utils.parameters_to_vector(net.parameters())
    assert vector.shape == (13,)
    (vector * tensor(np.arange(13, dtype=np.float32))).sum().backward()
    assert net[1].bias.grad.tolist() == [12]
    utils.vector_to_parameters(2 * vector, net.parameters())
    np.testing.assert_array_equal(utils.parameters_to_vector(net.parameters()).data, 2 * vector.data)
    optimizer.step()  # they lie where they did
    np.testing.assert_array_equal(net[1].bias.data, 2 * vector.data[-1:] - 12)
    before = net.state_dict()
    for call, error, message in (
        (lambda: utils.vector_to_parameters(np.zeros(14), net.parameters()), ShapeError, "one axis of 13 elements"),
        (lambda: utils.vector_to_parameters(np.zeros(2), [np.zeros(2)]), DtypeError, "parameters must be tensors"),
        (
            lambda: utils.vector_to_parameters([0.0] * 13, net.parameters()),
            DtypeError,
            "vec must be a NumPy or CuPy array",
        ),
        (
            lambda: utils.clip_grad_norm_(net.named_parameters(), 1.0),
            DtypeError,
            "clip_grad_norm_: parameters must be ten",
        ),
        (
            lambda: utils.clip_grad_value_([np.zeros(2)], 1.0),
            DtypeError,
            "clip_grad_value_: parameters must be tensors",
        ),
        (lambda: utils.parameters_to_vector([]), ArgumentError, "there must be at least one parameter"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert all((array == before[name]).all() for name, array in net.state_dict().items())


def test_sequences_are_those_of_nn():
    for name in utils.rnn.__all__:
        assert getattr(utils.rnn, name) is getattr(nn, name)


@pytest.mark.peer
def test_utils_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    ours = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    values = rng.standard_normal(13).astype(np.float32)
    torch.nn.utils.vector_to_parameters(torch.tensor(values), theirs.parameters())
    utils.vector_to_parameters(values, ours.parameters())
    for name, held in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], held.numpy())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        p.grad = rng.standard_normal(p.shape).astype(np.float32)
        q.grad = torch.tensor(p.grad)
    expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.5, 3.0).item()
    assert float(utils.clip_grad_norm_(ours.parameters(), 1.5, 3.0)) == pytest.approx(expected, rel=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-5)
