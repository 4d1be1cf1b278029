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
        (nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True), lambda v: F.max_pool2d(v, 3, 2, 1, 2, True)),
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


def rows(text):
    return [line.split() for line in text.splitlines()]


def test_summary_names_layers_shapes_and_counts():
    block = Block()
    block.conv.eval()
    assert rows(block.summary((2, 5, 5))) == [
        ["name", "layer", "output", "shape", "parameters", "bytes"],
        ["conv", "Conv2d", "(N,", "4,", "5,", "5)", "76", "304"],
        ["head.0", "ReLU", "(N,", "4,", "5,", "5)", "0", "0"],
        ["head.1", "Flatten", "(N,", "100)", "0", "0"],
        ["head.2", "Linear", "(N,", "3)", "303", "1,212"],
        ["Block", "(N,", "3)", "1", "4"],
        ["total", "380", "1,520"],
    ]
    assert block.training
    assert not block.conv.training
    assert all(parameter.grad is None for parameter in block.parameters())


class Branches(nn.Module):
    """Two branches, a layer that runs twice, a tied weight, a layer that never runs, outputs of several kinds."""

    def __init__(self):
        self.left = nn.Linear(4, 4, dtype=np.float64)
        self.right = nn.Sequential(nn.Linear(4, 4, dtype=np.float64), nn.Tanh())
        self.right[0].weight = self.left.weight
        self.idle = nn.Linear(2, 2, dtype=np.float64)
        self.pair = Pair()

    def forward(self, x):
        return self.pair(self.right(self.left(self.left(x))))


class Pair(nn.Module):
    def forward(self, x):
        return {"both": (x, [x.sum(0)]), "sum": x.sum(), "name": "x"}


def test_summary_of_branches_shared_layers_and_several_outputs():
    assert rows(Branches().summary((4,)))[1:] == [
        ["left", "Linear", "(N,", "4)", "20", "160"],
        ["left", "Linear", "(N,", "4)", "shared"],
        ["right.0", "Linear", "(N,", "4)", "4", "32"],
        ["right.1", "Tanh", "(N,", "4)", "0", "0"],
        ["pair", "Pair", "{both:", "((N,", "4),", "((4,))),", "sum:", "(),", "name:", "str}", "0", "0"],
        ["total", "30", "240"],
    ]


class Embedding(nn.Module):
    def __init__(self):
        self.weight = nn.Parameter(np.ones((10, 3), np.float32))

    def forward(self, ids):
        return self.weight[ids]


def test_summary_of_integers():
    net = nn.Sequential(Embedding(), nn.Linear(3, 2))
    assert rows(net.summary((7,), np.int64))[1:3] == [
        ["0", "Embedding", "(N,", "7,", "3)", "30", "120"],
        ["1", "Linear", "(N,", "7,", "2)", "8", "32"],
    ]
    for wrong in (np.zeros((1, 2), np.float32), 2, ("2",), (-1,), None):
        with pytest.raises(ArgumentError, match=r"summary: input_shape must be the sizes of one example, as x.shape"):
            nn.Tanh().summary(wrong)
    assert rows(nn.Tanh().summary((2,)))[1:] == [["Tanh", "(N,", "2)", "0", "0"], ["total", "0", "0"]]


def test_listing_is_nested_and_shows_settings():
    net = nn.Sequential(nn.Conv2d(2, 4, (3, 1), bias=False), Block())
    net.eval()
    last = "dilation=(1, 1), groups=1, padding_mode='zeros')"
    assert repr(net).splitlines() == [
        "Sequential(",
        f"  (0): Conv2d(weight=(4, 2, 3, 1), bias=None, stride=(1, 1), padding=(0, 0), {last}",
        "  (1): Block(scale=(1,)",
        f"    (conv): Conv2d(weight=(4, 2, 3, 3), bias=(4,), stride=(1, 1), padding=(1, 1), {last}",
        "    (head): Sequential(",
        "      (0): ReLU()",
        "      (1): Flatten(start_dim=1, end_dim=-1)",
        "      (2): Linear(weight=(3, 100), bias=(3,))",
        "    )",
        "  )",
        ")",
    ]
    assert repr(nn.Dropout(0.25, generator=gpunn.backend.random_generator(0))) == "Dropout(p=0.25, inplace=False)"
    assert repr(nn.Sequential()) == "Sequential()"


def test_sequential_is_a_list_of_layers(rng):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    assert net.append(nn.Linear(4, 2)) is net
    assert len(net) == 3
    assert [type(layer).__name__ for layer in net] == ["Linear", "ReLU", "Linear"]
    assert net[-1] is net[2]
    x = rng.standard_normal((2, 3)).astype(np.float32)
    part = net[:2]
    assert isinstance(part, nn.Sequential)
    assert part[0] is net[0]
    np.testing.assert_array_equal(net[2](part(x)).data, net(x).data)
    with pytest.raises(ArgumentError, match="Sequential: layers must be modules, got type='int'"):
        net.append(3)
    assert len(net) == 3


def test_module_list_holds_modules():
    class Holder(nn.Module):
        def __init__(self):
            self.items = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))

    holder = Holder()
    holder.items.append(nn.ReLU())
    assert [name for name, _ in holder.named_modules()] == ["", "items", "items.0", "items.1", "items.2"]
    assert list(holder.state_dict()) == ["items.0.weight", "items.0.bias", "items.1.weight", "items.1.bias"]
    assert isinstance(holder.items[1:], nn.ModuleList)
    assert list(holder.items[1:]) == [holder.items[1], holder.items[2]]
    with pytest.raises(ArgumentError, match="ModuleList: layers must be modules, got type='str'"):
        nn.ModuleList(["x"])
    with pytest.raises(NotImplementedError, match="ModuleList must define forward"):
        holder.items(1)


def test_named_modules_come_once_in_order():
    block = Block()
    block.again = block.head
    names = ["", "conv", "head", "head.0", "head.1", "head.2"]
    assert [name for name, _ in block.named_modules()] == names
    assert [id(module) for module in block.modules()] == [id(module) for _, module in block.named_modules()]
    seen = []
    assert block.head.apply(lambda module: seen.append(type(module).__name__)) is block.head
    assert seen == ["ReLU", "Flatten", "Linear", "Sequential"]


def test_frozen_parameters_stay(rng):
    block = Block()
    x = tensor(rng.standard_normal((2, 2, 5, 5)).astype(np.float32))
    block(x).sum().backward()
    assert block.conv.requires_grad_(False) is block.conv
    assert block.conv.weight.grad is None
    optimizer = gpunn.optim.SGD([p for p in block.parameters() if p.requires_grad], lr=0.1)
    before = block.state_dict()
    block(x).sum().backward()
    optimizer.step()
    changed = {name for name, array in block.state_dict().items() if (array != before[name]).any()}
    assert changed == {"scale", "head.2.weight", "head.2.bias"}
    assert block.conv.weight.grad is None
    block.requires_grad_()
    block(x).sum().backward()
    assert np.abs(block.conv.weight.grad).max() > 0


@pytest.mark.parametrize("shape", [(3,), (40_000,), (2, 3, 150, 73), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weights_drawn_in_parts_are_those_drawn_at_once(shape, dtype):
    weight = nn.init.uniform_fan_in(shape, 9, gpunn.backend.random_generator(3), dtype)
    at_once = gpunn.backend.random_generator(3).uniform(-1 / 3, 1 / 3, shape).astype(dtype)
    np.testing.assert_array_equal(weight.data, at_once)
    assert weight.dtype == dtype


def test_moving_to_a_device(monkeypatch):
    block = Block()
    assert block.to("cpu") is block
    monkeypatch.setattr(gpunn.backend.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DeviceError, match="device 'gpu': CuPy is not installed: pip install"):
        block.to("gpu")


def test_errors_name_rule_and_values():
    with pytest.raises(ShapeError, match=r"Conv2d: groups must divide .*got groups=3, channels=\(8, 6\)"):
        nn.Conv2d(8, 6, 3, groups=3)
    with pytest.raises(ArgumentError, match="Linear: in_features must be an integer of at least 1, got in_features=0"):
        nn.Linear(0, 3)
    with pytest.raises(ArgumentError, match="Sequential: layers must be modules, got type='function'"):
        nn.Sequential(lambda x: x)
    with pytest.raises(NotImplementedError, match="Module must define forward"):
        nn.Module()(1)


def test_activations_are_what_each_layer_gives(rng):
    net = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Dropout(0.5)))
    x = rng.standard_normal((5, 3)).astype(np.float32)
    found = net.activations(x)
    assert list(found) == ["0", "1.0", "1.1"]
    np.testing.assert_array_equal(found["0"], net[0](x).data)
    np.testing.assert_array_equal(found["1.1"], np.maximum(found["0"], 0))  # in evaluation, though it is training
    assert net.training
    assert all(type(y) is np.ndarray for y in found.values())
    recurrent = nn.Sequential(nn.RNN(3, 4), nn.Identity())
    assert list(recurrent.activations(x[None])) == []  # outputs and states: none is the one activation
