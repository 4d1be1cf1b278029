import numpy as np
import pytest

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError, GraphError, ShapeError


def model_and_average(dtype=np.float32, decay=0.9):
    model = nn.Sequential(nn.Linear(3, 2, dtype=dtype), nn.BatchNorm1d(2, dtype=dtype))
    return model, optim.EMA(model.named_parameters(), decay)


def test_averages_follow_the_formula(run_xp, rng):
    def average(start, *steps):
        p = tensor(start, requires_grad=True)
        ema = optim.EMA([p], 0.8)
        for step in steps:
            p.data[...] = step
            ema.update()
        with ema.averages():
            return p.data.copy()

    arrays = rng.standard_normal((5, 3, 2))
    expected = arrays[0]
    for array in arrays[1:]:
        expected = 0.8 * expected + 0.2 * array
    np.testing.assert_allclose(run_xp(average, *arrays), expected, rtol=1e-12)


def test_the_averages_are_swapped_in_and_out_in_place():
    model, ema = model_and_average()
    sgd = optim.SGD(model.parameters(), lr=0.5)  # makes views, after the averages were begun
    start = [p.data.copy() for p in model.parameters()]
    for p in model.parameters():
        p.grad = np.ones(p.shape, np.float32)
    sgd.step()
    ema.update()
    trained = [p.data.copy() for p in model.parameters()]
    with ema.averages():
        for p, a, b in zip(model.parameters(), start, trained, strict=True):
            np.testing.assert_allclose(p.data, 0.9 * a + 0.1 * b, rtol=1e-6, atol=1e-7)
    for p, b in zip(model.parameters(), trained, strict=True):
        np.testing.assert_array_equal(p.data, b)
    sgd.step()  # they are views still


def test_an_error_inside_brings_the_trained_weights_back():
    p = tensor([1.0], requires_grad=True)
    ema = optim.EMA([p], 0.5)
    p.data[:] = 3
    with pytest.raises(GraphError), ema.averages():
        (p * p).detach().backward()
    assert p.item() == 3


def test_a_gradient_across_a_swap_is_refused():
    p = tensor([1.0], requires_grad=True)
    ema = optim.EMA([p], 0.5)
    loss = (p * p).sum()
    with ema.averages(), pytest.raises(GraphError, match="changed in place"):
        loss.backward()


def test_averages_of_half_precision_are_float32():
    p = tensor(np.ones(1, np.float16), requires_grad=True)
    ema = optim.EMA([p], 0.9999)
    p.data[:] = 2
    for _ in range(100):
        ema.update()
    average = ema.state_dict()["averages.0"]
    assert average.dtype == np.float32
    np.testing.assert_allclose(average, 2 - 0.9999**100, rtol=1e-6)  # in float16 no step would change it


def test_resumed_averages_are_the_same_bits(rng):
    model, ema = model_and_average()
    for p in model.parameters():
        p.data[...] = rng.standard_normal(p.shape)
    ema.update()
    other_model, other = model_and_average(decay=0.5)
    other_model.load_state_dict(model.state_dict())
    other.load_state_dict({name: np.asarray(value) for name, value in ema.state_dict().items()})
    for each in (ema, other):
        each.update()
    ours, theirs = ema.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys() == {"decay", *(f"averages.{name}" for name, _ in model.named_parameters())}
    for name, value in ours.items():
        np.testing.assert_array_equal(theirs[name], value)


def test_a_state_that_does_not_fit_changes_nothing():
    _, ema = model_and_average()
    before = ema.state_dict()
    changed = before | {"averages.0.bias": before["averages.0.bias"] + 1}
    wrong = (
        ({"decay": 0.5}, ArgumentError, r"missing=\['averages.0.bias'"),
        (changed | {"decay": 1.0}, ArgumentError, "EMA: decay must be at least 0 and less than 1.0, got decay=1.0"),
        (changed | {"averages.1.bias": np.zeros(3, np.float32)}, ShapeError, r"1.bias must have shape \(2,\)"),
        (changed | {"averages.1.bias": np.zeros(2)}, ArgumentError, "1.bias must be float32, got dtype='float64'"),
    )
    for state, kind, message in wrong:
        with pytest.raises(kind, match=message):
            ema.load_state_dict(state)
        assert all(np.array_equal(value, before[name]) for name, value in ema.state_dict().items())


def test_errors_name_rule_and_values():
    p = tensor([1.0], requires_grad=True)
    with pytest.raises(ArgumentError, match="EMA: decay must be at least 0 and less than 1.0, got decay=1"):
        optim.EMA([p], 1)
    with pytest.raises(ArgumentError, match="EMA: there must be at least one parameter"):
        optim.EMA([])
    with pytest.raises(ArgumentError, match="EMA: names must be of one parameter each"):
        optim.EMA([("w", p), ("w", tensor([2.0], requires_grad=True))])
    ema = optim.EMA([p], 0.5)
    with ema.averages():
        with pytest.raises(ArgumentError, match=r"EMA: update is for the trained weights, not within averages\(\)"):
            ema.update()
        with pytest.raises(ArgumentError, match=r"EMA: averages\(\) is entered already"), ema.averages():
            pass
    ema.update()


@pytest.mark.peer("EMA")
def test_averages_are_those_of_pytorch(rng):
    torch = pytest.importorskip("torch")
    for draw in range(50):
        decay, shape = float(rng.uniform(0, 0.999)), tuple(rng.integers(1, 5, 2))
        weights = rng.standard_normal((12, *shape))
        p, module = tensor(weights[0].copy(), requires_grad=True), torch.nn.Linear(*shape[::-1], bias=False).double()
        module.weight.data = torch.tensor(weights[0])
        ema = optim.EMA([p], decay)
        peer = torch.optim.swa_utils.AveragedModel(
            module, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
        )
        for w in weights:  # of the first PyTorch takes a copy
            p.data[...], module.weight.data = w, torch.tensor(w)
            ema.update()
            peer.update_parameters(module)
        with ema.averages():
            expected = peer.module.weight.detach().numpy()
            np.testing.assert_allclose(p.data, expected, rtol=1e-11, err_msg=f"{draw=} {decay=} {shape=}")
