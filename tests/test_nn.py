import numpy as np
import pytest

import gpunn
import gpunn.checkpoint
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, DeviceError, ShapeError


class Block(nn.Module):
    def __init__(self):
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.head = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(4 * 5 * 5, 3))
        self.scale = nn.Parameter(np.ones(1, np.float32))

    def forward(self, x):
        return self.head(self.conv(x)) * self.scale


NAMES = ["scale", "conv.weight", "conv.bias", "head.2.weight", "head.2.bias"]


def test_parameters_are_found_by_name():
    block = Block()
    assert [name for name, _ in block.named_parameters()] == NAMES
    assert len(block.parameters()) == 5
    assert [type(m).__name__ for m in block.modules()] == ["Block", "Conv2d", "Sequential", "ReLU", "Flatten", "Linear"]
    block.again = block.conv  # shared: still counted once
    assert len(block.parameters()) == 5


def test_every_parameter_learns(rng):
    block = Block()
    block(tensor(rng.standard_normal((2, 2, 5, 5)).astype(np.float32))).sum().backward()
    assert all(np.abs(parameter.grad).sum() > 0 for parameter in block.parameters())
    block.zero_grad()
    assert all(parameter.grad is None for parameter in block.parameters())


def test_layers_are_their_functions(rng):
    x = rng.standard_normal((2, 4, 7, 6)).astype(np.float32)
    conv = nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), (1, 2), 2)
    from gpunn import functional as F

    expected = F.conv2d(x, conv.weight.data, conv.bias.data, (2, 1), (1, 0), (1, 2), 2)
    np.testing.assert_array_equal(conv(x).data, expected)
    for layer, function in (
        (nn.MaxPool2d(3, 2, 1, 2, True), lambda v: F.max_pool2d(v, 3, 2, 1, 2, True)),
        (nn.AvgPool2d(3, 2, 1, True, False), lambda v: F.avg_pool2d(v, 3, 2, 1, True, False)),
        (nn.LocalResponseNorm(3, 0.1, 0.6, 2.0, "sum"), lambda v: F.local_response_norm(v, 3, 0.1, 0.6, 2.0, "sum")),
        (nn.GlobalAvgPool2d(), F.global_avg_pool2d),
        (nn.GlobalMaxPool2d(), F.global_max_pool2d),
        (nn.Sigmoid(), F.sigmoid),
        (nn.Tanh(), F.tanh),
        (nn.ReLU(), F.relu),
        (nn.Flatten(), lambda v: v.reshape(2, -1)),
    ):
        np.testing.assert_array_equal(layer(x), function(x))
    assert nn.Conv2d(1, 1, 3, bias=False).bias is None
    assert nn.Linear(2, 2, bias=False).bias is None


def test_initial_values_come_from_the_generator():
    draw = lambda seed: nn.Linear(9, 4, generator=gpunn.backend.random_generator(seed)).weight.data  # noqa: E731
    np.testing.assert_array_equal(draw(1), draw(1))
    assert (draw(1) != draw(2)).any()
    assert abs(draw(1)).max() <= 1 / 3
    gpunn.manual_seed(5)
    first = nn.Conv2d(1, 2, 3).weight.data
    gpunn.manual_seed(5)
    np.testing.assert_array_equal(nn.Conv2d(1, 2, 3).weight.data, first)
    assert nn.Linear(2, 2, dtype=np.float64).weight.dtype == np.float64


def test_state_dict_is_a_copy_that_loads_back():
    one, two = Block(), Block()
    state = one.state_dict()
    two.load_state_dict(state)
    for name, parameter in two.named_parameters():
        np.testing.assert_array_equal(parameter.data, state[name])
    state["scale"][:] = 9
    assert one.scale.item() == two.scale.item() == 1


def test_a_state_dict_that_does_not_fit_changes_nothing():
    block = Block()
    before = block.state_dict()
    wrong = {name: array + 1 for name, array in before.items()}
    with pytest.raises(ShapeError, match=r"conv.bias must have shape \(4,\), got shape=\(5,\)"):
        block.load_state_dict(wrong | {"conv.bias": np.ones(5, np.float32)})
    with pytest.raises(ArgumentError, match=r"missing=\['scale'\], unknown=\['size'\]"):
        block.load_state_dict(
            {"scale" if k != "scale" else "size": v for k, v in wrong.items() if k == "scale"}
            | {k: v for k, v in wrong.items() if k != "scale"}
        )
    with pytest.raises(ArgumentError, match="scale must be float32, got dtype='float64'"):
        block.load_state_dict(wrong | {"scale": np.ones(1)})
    for name, array in block.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


class Counter(nn.Module):
    def __init__(self):
        self.count = nn.Buffer(np.zeros((), np.int64))
        self.inner = nn.Linear(2, 2)
        self.inner.mean = nn.Buffer(np.zeros(3, np.float32))


def test_buffers_are_kept_with_the_parameters_but_not_learned():
    one, two = Counter(), Counter()
    assert [name for name, _ in one.named_parameters()] == ["inner.weight", "inner.bias"]
    assert [name for name, _ in one.named_buffers()] == ["count", "inner.mean"]
    assert not one.count.requires_grad
    one.again = one.inner  # shared: still once
    assert len(list(one.named_buffers())) == 2
    one.count.data += 7
    one.inner.mean.data[:] = [1, 2, 3]
    state = one.state_dict()
    assert state.keys() == {"inner.weight", "inner.bias", "count", "inner.mean"}
    two.load_state_dict(state)
    state["inner.mean"][:] = 0
    assert two.count.item() == 7
    assert two.inner.mean.data.tolist() == [1, 2, 3]
    with pytest.raises(ArgumentError, match=r"parameters and buffers, got missing=\['count'\], unknown=\[\]"):
        two.load_state_dict({name: array for name, array in state.items() if name != "count"})
    assert two.to("cpu").count.item() == 7


def test_buffers_survive_the_optimizers_flat_buffer_and_a_file(tmp_path):
    one, two = Counter(), Counter()
    gpunn.optim.SGD(one.parameters(), lr=0.1)  # makes every parameter a view of one buffer
    one.count.data += 3
    gpunn.checkpoint.save_weights(one, tmp_path / "w")
    gpunn.checkpoint.load_weights(two, tmp_path / "w")
    for name, array in one.state_dict().items():
        np.testing.assert_array_equal(two.state_dict()[name], array)
    assert two.count.dtype == np.int64


def test_modes_reach_every_module():
    block = Block()
    assert all(module.training for module in block.modules())
    assert not any(module.training for module in block.eval().modules())
    assert all(module.training for module in block.train().modules())


def test_summary_names_layers_shapes_and_counts():
    block = Block()
    block.conv.eval()
    text = block.summary((2, 5, 5))
    assert [line.split() for line in text.splitlines()] == [
        ["layer", "output", "shape", "parameters"],
        ["Conv2d", "(N,", "4,", "5,", "5)", "76"],
        ["ReLU", "(N,", "4,", "5,", "5)", "0"],
        ["Flatten", "(N,", "100)", "0"],
        ["Linear", "(N,", "3)", "303"],
        ["Block", "(N,", "3)", "1"],
        ["total", "380"],
    ]
    assert block.training
    assert not block.conv.training
    assert all(parameter.grad is None for parameter in block.parameters())


def test_moving_to_a_device(monkeypatch):
    block = Block()
    assert block.to("cpu") is block
    monkeypatch.setattr(gpunn.backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="device 'gpu': CuPy is not installed: pip install"):
        block.to("gpu")


def test_errors_name_rule_and_values():
    with pytest.raises(ShapeError, match=r"Conv2d: groups must divide .*got groups=3, channels=\(8, 6\)"):
        nn.Conv2d(8, 6, 3, groups=3)
    with pytest.raises(ArgumentError, match=r"Linear: features must be at least 1, got features=\(0, 3\)"):
        nn.Linear(0, 3)
    with pytest.raises(ArgumentError, match="Sequential: layers must be modules, got type='function'"):
        nn.Sequential(lambda x: x)
    with pytest.raises(NotImplementedError, match="Module must define forward"):
        nn.Module()(1)
