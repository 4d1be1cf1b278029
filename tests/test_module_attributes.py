"""What may be put in the place of a parameter, buffer or module; modules that would not be found."""

import numpy as np
import pytest

from gpunn import nn, optim, tensor
from gpunn.errors import GpunnError
from gpunn.nn import Buffer, Parameter

LAYERS = {
    "Linear": lambda: nn.Linear(2, 2),
    "BatchNorm1d": lambda: nn.BatchNorm1d(2),
    "Conv2d": lambda: nn.Conv2d(2, 2, 1),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(2, 2, 1),
    "LayerNorm": lambda: nn.LayerNorm(2),
    "GroupNorm": lambda: nn.GroupNorm(1, 2),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(2, affine=True, track_running_stats=True),
    "Bilinear": lambda: nn.Bilinear(2, 2, 2),
    "LSTM": lambda: nn.LSTM(2, 2),
    "GRUCell": lambda: nn.GRUCell(2, 2),
    "Embedding": lambda: nn.Embedding(2, 2),
    "EmbeddingBag": lambda: nn.EmbeddingBag(2, 2),
    "PReLU": lambda: nn.PReLU(2),
    "RMSNorm": lambda: nn.RMSNorm(2),
}
WITHOUT = {
    "Linear": lambda: nn.Linear(2, 2, bias=False),
    "BatchNorm1d": lambda: nn.BatchNorm1d(2, affine=False, track_running_stats=False),
    "Conv2d": lambda: nn.Conv2d(2, 2, 1, bias=False),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(2, 2, 1, bias=False),
    "LayerNorm": lambda: nn.LayerNorm(2, elementwise_affine=False),
    "GroupNorm": lambda: nn.GroupNorm(1, 2, affine=False),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(2),
    "Bilinear": lambda: nn.Bilinear(2, 2, 2, bias=False),
    "GRUCell": lambda: nn.GRUCell(2, 2, bias=False),
    "RMSNorm": lambda: nn.RMSNorm(2, elementwise_affine=False),
}


def refuses(module, name, value):
    with pytest.raises(TypeError, match=rf"{type(module).__name__}: {name} can become another .* or None") as caught:
        setattr(module, name, value)
    assert isinstance(caught.value, GpunnError)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_only_its_like_takes_the_place_of_a_parameter_or_a_buffer(make):
    layer = make()
    before = list(layer.state_dict())
    for name, held in [*layer.named_parameters(), *layer.named_buffers()]:
        array = held.data.copy()
        others = [array, tensor(array), held * 2, array.tolist(), 0.5]
        for other in [*others, Buffer(array)] if isinstance(held, Parameter) else others:
            refuses(layer, name, other)
        assert getattr(layer, name) is held
        new = type(held)(array)
        setattr(layer, name, new)
        assert getattr(layer, name) is new
    assert list(layer.state_dict()) == before


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_none_keeps_the_place(make):
    layer = make()
    names = [name for name, _ in layer.named_parameters()]
    for name in names:
        held = getattr(layer, name)
        setattr(layer, name, None)
        refuses(layer, name, held.data)
        setattr(layer, name, None)
        assert name not in layer.state_dict()
        setattr(layer, name, held)
    assert sorted(name for name, _ in layer.named_parameters()) == sorted(names)


@pytest.mark.parametrize("name", WITHOUT)
def test_a_layer_made_without_a_parameter_takes_no_array_for_it(name):
    layer, whole = WITHOUT[name](), LAYERS[name]()
    missing = whole.state_dict().keys() - layer.state_dict().keys()
    assert missing
    for each in missing:
        refuses(layer, each, getattr(whole, each).data)
        setattr(layer, each, getattr(whole, each))
    assert layer.state_dict().keys() == whole.state_dict().keys()


def test_only_a_module_takes_the_place_of_a_module():
    class Net(nn.Module):
        def __init__(self):
            self.head, self.count = nn.Linear(2, 2), None

    net = Net()
    for other in (np.zeros(2), lambda x: x, [nn.ReLU()], Parameter(np.zeros(2))):
        refuses(net, "head", other)
    net.head = None
    refuses(net, "head", abs)
    net.head = nn.ReLU()
    net.count = 3  # any other attribute is free
    net.count = np.zeros(2)
    del net.head
    net.head = tensor([1.0]) * 2  # computed by something else, on purpose
    assert list(net.state_dict()) == []


def test_data_is_a_raw_array_of_floats():
    layer = nn.Linear(2, 2)
    before = layer.weight.data
    for wrong in (layer.weight * 2, [[1.0, 2.0], [3.0, 4.0]], 0.5, None):
        with pytest.raises(TypeError, match=f"data: data must be a raw array, got type='{type(wrong).__name__}'"):
            layer.weight.data = wrong
    with pytest.raises(TypeError, match="data: only floats have gradients, got dtype='int64'"):
        layer.weight.data = np.ones((2, 2), np.int64)
    assert layer.weight.data is before


@pytest.mark.peer("Module.__setattr__")
def test_pytorch_refuses_the_same():
    torch = pytest.importorskip("torch")

    def outcomes(layer, name, values):
        found = []
        for value in values:
            try:
                setattr(layer, name, value)
                found.append("taken")
            except TypeError:
                found.append("refused")
        return found

    for bias in (True, False):
        ours, theirs = nn.Linear(2, 2, bias=bias), torch.nn.Linear(2, 2, bias=bias)
        for name in ("weight", "bias"):
            ones = torch.ones(2)
            values = [ones, ones.numpy(), 0.5, None, ones, torch.nn.Parameter(ones), torch.nn.ReLU(), 1, None, "a"]
            own = [tensor(ones.numpy()), ones.numpy(), 0.5, None, ones.numpy(), Parameter(ones.numpy()), nn.ReLU()]
            assert outcomes(ours, name, [*own, 1, None, "a"]) == outcomes(theirs, name, values)


# ---- plain lists and dicts -------------------------------------------------------------------------------------------


class Holder(nn.Module):
    def __init__(self, held):
        self.head = nn.Linear(2, 2)
        self.held = held

    def forward(self, x):
        return self.head(x)


HIDDEN = {
    "list": lambda: [nn.Linear(2, 2), nn.Linear(2, 2)],
    "later in a list": lambda: [1, None, nn.ReLU()],
    "dict": lambda: {"a": nn.BatchNorm1d(2)},
    "tuple": lambda: (nn.Dropout(0.5),),
    "deep": lambda: {"a": [("b", {nn.Linear(2, 2)})]},
    "parameters": lambda: [Parameter(np.zeros(2))],
    "buffer": lambda: {"count": Buffer(np.zeros(2))},
}
USES = {
    "call": lambda model: model(np.zeros((1, 2), np.float32)),
    "call of an outer one": lambda model: nn.Sequential(model)(np.zeros((1, 2), np.float32)),
    "parameters": lambda model: model.parameters(),
    "state_dict": lambda model: model.state_dict(),
    "load_state_dict": lambda model: model.load_state_dict({}),
    "train": lambda model: model.train(),
    "evaluating": lambda model: model.evaluating().__enter__(),
    "to": lambda model: model.to("cpu"),
    "optimizer": lambda model: optim.SGD(model.parameters()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("held", HIDDEN.values(), ids=HIDDEN)
def test_modules_and_parameters_in_plain_containers_are_refused(held, use):
    with pytest.raises(TypeError, match=r"what a plain list or dict holds is not found: use nn.ModuleList.*held'"):
        use(Holder(held()))


def test_a_list_filled_later_is_found_out():
    model = Holder([])
    model(np.zeros((1, 2), np.float32))
    model.held.append(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="attribute='held', type='Linear'"):
        model.state_dict()


def test_a_plain_list_of_what_is_found_elsewhere_is_free():
    model = Holder([1, {"a": (2.0, "b")}, np.zeros(2), tensor([1.0])])
    model.held += [model.head, model.head.weight, model.held]
    model.inner = Holder([model.head])  # of the module around it
    model(np.zeros((1, 2), np.float32))
    assert len(model.state_dict()) == 4
    assert "Holder" in repr(Holder([nn.ReLU()]))
