"""Module's methods by PyTorch's names: hooks, buffers, names, dtypes, loading what only fits in part."""

import copy

import numpy as np
import pytest

import gpunn
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, DtypeError, ShapeError


def net():
    return nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)), nn.Linear(4, 2))


class Around(nn.Module):
    def __init__(self, inside):
        self.body = inside

    def forward(self, x):
        return self.body(x)


def test_an_error_names_the_layer():
    x, network = np.zeros((2, 3), np.float32), nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(5, 2)))
    told = "linear: the last dimension of x must equal in_features of w, got x=(2, 4), in_features=5"
    for module, place in ((network, ", in 1.1 of Sequential"), (Around(network), ", in body.1.1 of Around")):
        with pytest.raises(ShapeError) as raised:
            module(x)
        assert str(raised.value) == told + place
    with pytest.raises(ShapeError) as raised:
        network[1][1](np.zeros((2, 4), np.float32))
    assert str(raised.value) == told
    with pytest.raises(ZeroDivisionError, match="^division by zero$"):
        Around(nn.Sequential(Around(lambda x: 1 / 0)))(x)


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_run_in_order_and_may_replace_what_passes():
    layer, seen = nn.Identity(), []
    first = layer.register_forward_pre_hook(lambda module, args: seen.append(("before", module is layer, args)))
    layer.register_forward_pre_hook(lambda module, args: args[0] + 1)
    layer.register_forward_hook(lambda module, args, y: seen.append(("after", args, y)))
    layer.register_forward_hook(lambda module, args, y: 10 * y)
    layer.register_forward_hook(lambda module, args, y: -y, prepend=True)
    assert layer(1) == -20
    assert seen == [("before", True, (1,)), ("after", (2,), -2)]
    first.remove()
    first.remove()
    assert layer(1) == -20
    assert len(seen) == 3


def test_hooks_may_take_keyword_arguments():
    class Scaled(nn.Module):
        def forward(self, x, scale=1):
            return x * scale

    layer, seen = Scaled(), []
    layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"scale": 2 * kwargs["scale"]}), with_kwargs=True)
    layer.register_forward_hook(lambda m, args, kwargs, y: seen.append((args, kwargs, y)), with_kwargs=True)
    assert layer(3, scale=5) == 30
    assert seen == [((3,), {"scale": 10}, 30)]
    layer.register_forward_pre_hook(lambda m, args, kwargs: args, with_kwargs=True)
    with pytest.raises(DtypeError, match="Scaled: a pre-hook with kwargs returns None, or the new arguments"):
        layer(3, scale=5)
    with pytest.raises(DtypeError, match="Scaled: a hook is a function, got type='int'"):
        layer.register_forward_hook(3)


def test_a_module_without_hooks_calls_forward_alone():
    model = net()
    model(np.ones((2, 3), np.float32))
    assert all(module._called for module in model.modules())
    handle = model[0].register_forward_hook(lambda module, args, y: None)
    assert [module._called for module in model.children()] == [False, True, True]
    model(np.ones((2, 3), np.float32))
    handle.remove()
    assert not model[0]._module_hooks


def test_hooks_are_copied_with_the_module():
    model, seen = net(), []
    model[0].register_forward_hook(lambda module, args, y: seen.append(module))
    other = copy.deepcopy(model)
    other(np.ones((2, 3), np.float32))
    assert seen == [other[0]]


def test_backward_hooks_see_and_change_gradients():
    model = nn.Linear(2, 2, bias=False)
    model.weight.data[...] = [[1, 2], [3, 4]]
    seen = []
    model.register_full_backward_hook(lambda m, gx, gy: seen.append((gx[0].tolist(), gy[0].tolist())))
    model.register_full_backward_hook(lambda m, gx, gy: (10 * gx[0],))
    pre = model.register_full_backward_pre_hook(lambda m, gy: (2 * gy[0],))
    x = tensor([[1.0, 1.0]], requires_grad=True)
    model(x * 1.0).sum().backward()
    assert seen == [([[8, 12]], [[2, 2]])]
    assert x.grad.tolist() == [[80, 120]]
    assert model.weight.grad.tolist() == [[2, 2], [2, 2]]
    pre.remove()
    other = nn.Linear(2, 2)  # of an input without gradient
    other.register_full_backward_hook(lambda m, gx, gy: seen.append((gx, gy[0].tolist())))
    other(tensor(np.ones((1, 2), np.float32))).sum().backward()
    assert seen[1:] == [((None,), [[1, 1]])]


def test_backward_hooks_of_several_inputs_and_outputs():
    class Both(nn.Module):
        def forward(self, a, b, c):
            return a * b, b + 1.0

    model, seen = Both(), []
    model.register_full_backward_hook(lambda m, gx, gy: seen.append((gx, gy)))
    a, b = tensor([2.0], requires_grad=True), tensor([3.0], requires_grad=True)
    y, z = model(a, b, 5)
    (y * 10 + z).sum().backward()
    ((ga, gb, gc), (gy, gz)) = seen.pop()
    assert (ga.item(), gb.item(), gc, gy.item(), gz.item()) == (30, 21, None, 10, 1)
    y, z = model(a, b, 5)
    z.sum().backward()
    ((ga, gb, _), (gy, gz)) = seen.pop()
    assert (ga, gb.item(), gy, gz.item()) == (None, 1, None, 1)
    with gpunn.no_grad():
        model(a, b, 5)
    assert seen == []
    model.register_full_backward_hook(lambda m, gx, gy: (gx[0],))
    with pytest.raises(DtypeError, match="backward hook: a hook of the backward pass returns None, or as many"):
        model(a, b, 5)[0].sum().backward()


@pytest.mark.parametrize("register", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_what_backward_hooks_give_must_fit(register):
    def trained(given):
        layer, x = nn.Linear(3, 3), tensor(np.ones((2, 3), np.float32), requires_grad=True)
        getattr(layer, register)(lambda module, *gradients: given)
        layer(x).sum().backward()
        return x.grad

    for given, kind, message in (
        ((np.ones((5, 3), np.float32),), ShapeError, r"given=\(\(5, 3\), 'float32'\), wanted=\(\(2, 3\), 'float32'\)"),
        (np.ones((2, 3)), ShapeError, "a gradient in the place of another must have its shape and dtype"),
        ("none", DtypeError, "backward hook: gradients are arrays or None, got type='str'"),
        ((3.0,), DtypeError, "backward hook: gradients are arrays or None, got type='float'"),
    ):
        with pytest.raises(kind, match=message):
            trained(given)
    assert trained((None,)) is None
    for given in (np.ones((2, 3), np.float32), [tensor(np.ones((2, 3), np.float32))]):
        assert trained(given).shape == (2, 3)


@pytest.mark.peer
def test_hooks_see_what_those_of_pytorch_see(rng):
    torch = pytest.importorskip("torch")
    x = rng.standard_normal((5, 3))
    seen = {}
    for library, name in ((torch.nn, "torch"), (nn, "gpunn")):
        model = library.Sequential(library.Linear(3, 4), library.Sequential(library.Tanh()), library.Linear(4, 2))
        model.double()
        if name == "torch":
            state = {key: value.detach().numpy().copy() for key, value in model.state_dict().items()}
            given = torch.tensor(x, requires_grad=True)
        else:
            model.load_state_dict(state)
            given = tensor(x, requires_grad=True)
        events = seen[name] = []
        for key, module in model.named_modules():
            arrays = lambda values: [np.array(v.tolist()) for v in values]  # noqa: E731
            module.register_forward_pre_hook(lambda m, a, key=key, to=events, f=arrays: to.append((key, f(a))))
            module.register_forward_hook(lambda m, a, y, key=key, to=events, f=arrays: to.append((key, f([*a, y]))))
            module.register_full_backward_pre_hook(lambda m, g, key=key, to=events, f=arrays: to.append((key, f(g))))
            module.register_full_backward_hook(
                lambda m, gx, gy, key=key, to=events, f=arrays: to.append((key, f([*gx, *gy])))
            )
        (model(given * 1.0) ** 2).sum().backward()
    assert [key for key, _ in seen["gpunn"]] == [key for key, _ in seen["torch"]]
    for (key, ours), (_, theirs) in zip(seen["gpunn"], seen["torch"], strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, err_msg=key)


# ---- what a module holds ---------------------------------------------------------------------------------------------


def test_what_is_registered_is_held():
    module = nn.Module()
    module.register_parameter("scale", nn.Parameter(np.ones(2, np.float32)))
    module.register_parameter("bias", None)
    module.register_buffer("mean", tensor(np.zeros(2)))
    module.register_buffer("cache", np.zeros(3), persistent=False)
    module.register_buffer("later", None)
    module.add_module("inner", nn.Linear(2, 2))
    module.register_module("none", None)
    assert list(module.state_dict()) == ["scale", "inner.weight", "inner.bias", "mean"]
    assert list(module.state_dict(prefix="net.")) == ["net.scale", "net.inner.weight", "net.inner.bias", "net.mean"]
    assert [buffer.size for buffer in module.buffers()] == [2, 3]
    assert module.buffers(recurse=False) == module.buffers()
    assert len(module.parameters(recurse=False)) == 1
    module.bias = nn.Parameter(np.zeros(2, np.float32))
    module.register_buffer("cache", np.zeros(3))
    assert {"bias", "cache"} < module.state_dict().keys()
    outer = nn.Sequential(module)
    module.register_buffer("cache", np.zeros(3), persistent=False)
    assert "0.cache" not in outer.state_dict()
    outer.load_state_dict(outer.state_dict())
    assert outer.double().get_buffer("0.cache").dtype == np.float64
    for call, error, message in (
        (lambda: module.register_buffer("a.b", None), ArgumentError, "a name has no dot"),
        (lambda: module.register_buffer("", None), ArgumentError, "a name is a string, not empty"),
        (lambda: module.register_buffer("scale", None), ArgumentError, "there is such an attribute, got name='scale'"),
        (lambda: module.register_parameter("forward", None), ArgumentError, "there is such an attribute"),
        (lambda: module.register_parameter("x", tensor([1.0])), DtypeError, "x must be a Parameter or None"),
        (lambda: module.add_module("x", 3), DtypeError, "x must be a Module or None, got type='int'"),
        (lambda: setattr(module, "later", np.zeros(2)), DtypeError, "later can become another Buffer or None"),
        (lambda: setattr(module, "none", 3), DtypeError, "none can become another Module or None"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_modules_parameters_and_buffers_are_found_by_dotted_names():
    model = net()
    assert model.get_submodule("1.0") is model[1][0]
    assert model.get_submodule("") is model
    assert model.get_parameter("1.1.weight") is model[1][1].weight
    assert model.get_buffer("1.1.running_mean") is model[1][1].running_mean
    assert [type(child).__name__ for child in model.children()] == ["Linear", "Sequential", "Linear"]
    for call, message in (
        (lambda: model.get_submodule("1.7"), "Sequential: there is no such module, got target='1.7', part='7'"),
        (lambda: model.get_parameter("1.1.running_mean"), "there is no such parameter"),
        (lambda: model.get_buffer("0.weight"), "there is no such buffer"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_names_have_a_prefix_and_come_twice_if_wanted():
    model = net()
    model.append(model[0])
    assert [name for name, _ in model.named_parameters("net")][:2] == ["net.0.weight", "net.0.bias"]
    assert [name for name, _ in model.named_parameters(remove_duplicate=False)][-2:] == ["3.weight", "3.bias"]
    assert [name for name, _ in model.named_modules("net")][:2] == ["net", "net.0"]
    assert [name for name, _ in model.named_modules(remove_duplicate=False)][-1] == "3"
    assert [name for name, _ in model[1][1].named_buffers("b")] == [
        "b.running_mean", "b.running_var", "b.num_batches_tracked"
    ]  # fmt: skip
    assert list(model.named_parameters(recurse=False)) == []
    assert len(list(model.children())) == 3


def test_dtypes_change_but_for_integers():
    model = net()
    assert model.double() is model
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float64)}
    assert model.get_buffer("1.1.num_batches_tracked").dtype == np.int64
    for change, dtype in (
        (lambda: model.half(), "float16"),
        (lambda: model.bfloat16(), "bfloat16"),
        (lambda: model.float(), "float32"),
        (lambda: model.type(np.float64), "float64"),
        (lambda: model.to(np.float32), "float32"),
        (lambda: model.to("cpu", np.float16), "float16"),
        (lambda: model.to(dtype="float64"), "float64"),
    ):
        model[0].weight.grad = np.ones((4, 3), model[0].weight.dtype)
        change()
        assert {str(p.dtype) for p in model.parameters()} == {dtype}
        assert model[0].weight.grad is None
    assert model.cpu().to(np.float64).get_parameter("0.bias").requires_grad
    before = model[0].weight.data
    assert model.to("cpu")[0].weight.data is before
    for wrong in (np.int64, object, "fast"):
        with pytest.raises((DtypeError, ValueError)):
            model.to(wrong)
    with pytest.raises(ArgumentError, match="to takes a device and a dtype"):
        model.to(np.float32, np.float64)


def test_a_state_that_fits_in_part_is_loaded_if_not_strict():
    one, two = net(), net()
    state = one.state_dict()
    assert two.load_state_dict(state) == ([], [])
    del state["2.bias"]
    state |= {"3.weight": np.zeros(3), "0.bias": tensor(np.ones(4, np.float32))}
    found = two.load_state_dict(state, strict=False)
    assert found.missing_keys == ["2.bias"]
    assert found.unexpected_keys == ["3.weight"]
    assert two[0].bias.data.tolist() == [1, 1, 1, 1]
    with pytest.raises(ArgumentError, match=r"missing=\['2.bias'\], unknown=\['3.weight'\]"):
        two.load_state_dict(state)
    with pytest.raises(ValueError, match="0.weight must have shape"):
        two.load_state_dict({"0.weight": np.zeros(3, np.float32)}, strict=False)


def test_gradients_may_become_zeros():
    model = net()
    model(tensor(np.ones((2, 3), np.float32))).sum().backward()
    model.zero_grad(set_to_none=False)
    assert all((p.grad == 0).all() for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_a_layer_may_say_what_its_listing_shows():
    class Layer(nn.Module):
        def __init__(self):
            self.inner = nn.ReLU()

        def extra_repr(self):
            return "of mine"

    assert repr(Layer()) == "Layer(of mine\n  (inner): ReLU()\n)"
