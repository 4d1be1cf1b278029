"""Sequential, ModuleList, ModuleDict, ParameterList and ParameterDict as lists and dicts."""

import copy
import pickle

import numpy as np
import pytest

from gpunn import nn, optim, tensor
from gpunn.errors import ArgumentError, DtypeError, IndexRangeError


def names(module):
    return [name for name, _ in module.named_parameters()]


def test_sequential_has_a_lists_methods():
    a, b, c, d = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3), nn.Tanh()
    net = nn.Sequential(a, b)
    assert net.insert(1, c).extend([d]) is net
    assert list(net) == [a, c, b, d]
    assert net.pop(2) is b
    net[0] = b
    del net[-1]
    assert list(net) == [b, c]
    assert names(net) == ["1.weight", "1.bias"]
    net += [d]
    assert list(net + nn.Sequential(a)) == [b, c, d, a]
    assert [name for name, _ in net[1:].named_children()] == ["1", "2"]  # as in PyTorch
    del net[:2]
    assert list(net) == [d]
    assert names(nn.Sequential(*net)) == []
    for call, error, message in (
        (lambda: net[3], IndexRangeError, "Sequential: there are 1 layers, got position=3"),
        (lambda: net.__add__([a]), ArgumentError, "only a Sequential can be added, got type='list'"),
        (lambda: net.insert(0, 3), ArgumentError, "layers must be modules, got type='int'"),
        (lambda: net.extend([3]), ArgumentError, "layers must be modules, got type='int'"),
        (lambda: net.__setitem__(0, 3), ArgumentError, "layers must be modules"),
        (lambda: net.missing, AttributeError, "Sequential has no attribute 'missing'"),
        (lambda: net.add_module("a.b", a), ArgumentError, "a name is a string, not empty, without a dot"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_layers_have_names_of_their_own():
    net = nn.Sequential({"in": nn.Linear(2, 4), "act": nn.ReLU(), "out": nn.Linear(4, 1)})
    assert names(net) == ["in.weight", "in.bias", "out.weight", "out.bias"]
    assert net.act is net[1]
    assert names(net[1:]) == ["out.weight", "out.bias"]
    net.act = nn.Tanh()
    assert isinstance(net[1], nn.Tanh)
    net.more = nn.Linear(1, 1)
    net.append(nn.Linear(1, 1))
    assert [name for name, _ in net.named_children()] == ["in", "act", "out", "more", "4"]
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert names(other) == names(net)
        assert other.out is not net.out
    assert net(tensor(np.ones((3, 2), np.float32))).shape == (3, 1)
    positional = nn.Sequential(nn.Linear(2, 2))
    positional.add_module("1", nn.ReLU())
    positional.head = nn.Linear(2, 1)
    assert names(positional) == ["0.weight", "0.bias", "head.weight", "head.bias"]


def test_module_list_has_a_lists_methods():
    a, b, c = nn.Linear(2, 2), nn.ReLU(), nn.Tanh()
    held = nn.ModuleList([a]).__add__([b])
    held.insert(1, c).extend([a])
    held += [b]
    assert list(held) == [a, c, b, a, b]
    assert held.pop() is b
    assert a in held
    assert list(reversed(held)) == [a, b, c, a]
    assert [name for name, _ in held[2:].named_children()] == ["0", "1"]


def test_module_dict_is_a_dict_whose_modules_are_found(rng):
    class Heads(nn.Module):
        def __init__(self):
            self.heads = nn.ModuleDict({"one": nn.Linear(3, 1)})
            self.heads["two"] = nn.Linear(3, 2)

        def forward(self, x, which):
            return self.heads[which](x)

    model = Heads()
    assert names(model) == ["heads.one.weight", "heads.one.bias", "heads.two.weight", "heads.two.bias"]
    assert model(rng.standard_normal((4, 3)).astype(np.float32), "two").shape == (4, 2)
    heads = model.heads
    assert (list(heads), "one" in heads, len(heads), heads.two is heads["two"]) == (["one", "two"], True, 2, True)
    assert [key for key, _ in heads.items()] == list(heads.keys())
    heads.update({"three": nn.ReLU()})
    assert isinstance(heads.pop("three"), nn.ReLU)
    assert heads.get("three") is None
    assert heads != nn.ModuleDict(heads)
    for copied in (copy.deepcopy(heads), pickle.loads(pickle.dumps(heads))):
        assert names(copied) == names(heads)
        assert copied.two is not heads.two
    del heads["one"]
    heads.clear()
    assert names(model) == []
    for call, error, message in (
        (lambda: heads.update({"a.b": nn.ReLU()}), ArgumentError, "ModuleDict: a key is a string, not empty, without"),
        (lambda: heads.update({"a": 3}), ArgumentError, "values must be modules, got key='a', type='int'"),
        (lambda: heads["none"], KeyError, "none"),
        (lambda: heads.none, AttributeError, "ModuleDict has no attribute 'none'"),
    ):
        with pytest.raises(error, match=message):
            call()


@pytest.mark.parametrize("keyed", [True, False])
def test_parameters_in_lists_and_dicts_are_found_saved_trained_and_copied(keyed):
    class Scaled(nn.Module):
        def __init__(self):
            arrays = [np.full(2, 2, np.float32), np.full(2, 3, np.float32)]
            self.scales = nn.ParameterDict(zip("ab", arrays, strict=True)) if keyed else nn.ParameterList(arrays)

        def forward(self, x):
            for scale in self.scales.values() if keyed else self.scales:
                x = x * scale
            return x

    model, own = Scaled(), list("ab") if keyed else ["0", "1"]
    assert names(model) == [f"scales.{name}" for name in own]
    first = model.get_parameter(f"scales.{own[0]}")
    assert first is (model.scales["a"] if keyed else model.scales[0])
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    model(np.ones(2, np.float32)).sum().backward()
    optimizer.step()
    assert [array.tolist() for array in model.state_dict().values()] == [[-1, -1], [1, 1]]
    for other in (copy.deepcopy(model.scales), pickle.loads(pickle.dumps(model.scales))):
        assert other.state_dict().keys() == model.scales.state_dict().keys()
        assert other.get_parameter(own[0]) is not first
    other = Scaled()
    other.load_state_dict(model.state_dict())
    assert other.double()(np.ones(2)).data.tolist() == [-1, -1]
    assert model.summary((2,)).splitlines()[-1].split() == ["total", "4", "16"]


def test_parameter_lists_and_dicts_have_their_methods():
    p = nn.Parameter(np.ones(3, np.float32))
    held = nn.ParameterList([p])
    held += [np.zeros(1, np.float32), tensor([2.0])]
    held[1] = p
    assert [len(each) for each in held] == [3, 3, 1]
    assert held[0] is held[1] is p
    assert names(held[1:]) == ["0", "1"]
    assert held.pop().data.tolist() == [2]
    keyed = nn.ParameterDict({"a": p})
    keyed["b"] = np.zeros(2, np.float32)
    assert keyed.setdefault("a") is p
    assert keyed.a is p
    assert (list(keyed), [len(v) for v in keyed.values()]) == (["a", "b"], [3, 2])
    keyed.register_parameter("c", p)
    assert keyed.pop("c") is p
    for call, error, message in (
        (lambda: held.append(3), DtypeError, "ParameterList: values must be parameters, tensors or arrays"),
        (lambda: held[5], IndexRangeError, "ParameterList: there are 2 parameters, got position=5"),
        (lambda: keyed.update({"x": None}), DtypeError, "ParameterDict: values must be parameters, tensors or arrays"),
        (lambda: keyed.update({"": p}), ArgumentError, "ParameterDict: a key is a string, not empty, without a dot"),
    ):
        with pytest.raises(error, match=message):
            call()
