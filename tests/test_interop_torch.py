"""Functions of gpunn among PyTorch's, and the other way: values, gradients, memory, and what is refused."""

import doctest
import weakref

import numpy as np
import pytest

import gpunn
from gpunn import functional as F
from gpunn import nn, tensor
from gpunn.errors import ArgumentError, DtypeError, ExportError
from gpunn.interop import torch as interop

pytestmark = pytest.mark.peer("from_dlpack")


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def drawn(torch, *shape, grad=True, dtype="float64"):
    return torch.randn(*shape, dtype=getattr(torch, dtype)).requires_grad_(grad)


# functions of gpunn, those of PyTorch that they are, and the shapes of their arguments
FUNCTIONS = {
    "relu": (F.relu, lambda torch: torch.relu, [(3, 4)]),
    "conv2d": (
        lambda x, w, b: F.conv2d(x, w, b, 2, 1), lambda torch: lambda x, w, b: torch.conv2d(x, w, b, 2, 1),
        [(2, 3, 6, 6), (4, 3, 3, 3), (4,)],
    ),
    "operators": (lambda x, y: (x @ y).sum(-1), lambda torch: lambda x, y: (x @ y).sum(-1), [(3, 4), (4, 2)]),
    "two results": (lambda x: (x * 2, x.sum()), lambda torch: lambda x: (x * 2, x.sum()), [(3, 4)]),
    "the argument itself": (lambda x: x, lambda torch: lambda x: x * 1, [(3,)]),
    "a view": (lambda x: x.T, lambda torch: lambda x: x.T * 1, [(3, 4)]),
    "one twice": (lambda x: (x, x * x), lambda torch: lambda x: (x * 1, x * x), [(3,)]),
    "attention": (
        lambda q, k: F.softmax(q @ k.T, -1), lambda torch: lambda q, k: (q @ k.T).softmax(-1), [(3, 4), (5, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_function_of_gpunn_in_pytorch(torch, name, dtype):
    ours, theirs, shapes = FUNCTIONS[name]
    torch.manual_seed(0)
    inputs = [drawn(torch, *shape, dtype=dtype) for shape in shapes]
    results = []
    for f in (interop.function(ours), theirs(torch)):
        whole = f(*inputs)
        several = whole if isinstance(whole, tuple) else (whole,)
        loss = sum(((y * y).cos().sum() for y in several), torch.zeros((), dtype=getattr(torch, dtype)))
        results.append([*several, *torch.autograd.grad(loss, inputs)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected)
    if dtype == "float64" and name != "two results":
        assert torch.autograd.gradcheck(interop.function(ours), inputs)


def test_no_copies_are_made_on_the_way(torch):
    seen = []

    def f(x, w):
        seen.extend(a.data.__array_interface__["data"][0] for a in (x, w))
        y = F.linear(x, w)
        seen.append(y.data.__array_interface__["data"][0])
        return y

    x, w = drawn(torch, 5, 3, grad=False), drawn(torch, 2, 3)
    y = interop.function(f)(x, w)
    assert [t.data_ptr() for t in (x, w, y)] == seen
    assert y.requires_grad
    with torch.no_grad():
        assert not interop.function(f)(x, w).requires_grad
    assert [t.data_ptr() for t in (x, w)] == seen[3:5]


def test_changes_in_place_are_refused_by_pytorch(torch):
    square = interop.function(lambda x: x * x)
    for change in (lambda x, y: y.mul_(2), lambda x, y: x.mul_(2)):
        x = drawn(torch, 3)
        kept = x * 1
        y = square(kept)
        change(kept, y)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_results_without_gradients_and_gradients_that_are_not_needed(torch):
    x, w = drawn(torch, 4), drawn(torch, 4, grad=False)
    f = interop.function(lambda x, w, flag: (x.argmax(), x * w, (w * 2).data) if flag else None)
    index, y, free = f(x, w, True)
    assert (index.dtype, index.requires_grad, y.requires_grad, free.requires_grad) == (torch.int64, False, True, False)
    y.sum().backward(retain_graph=True)
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * w)
    (g,) = torch.autograd.grad(f(x, w, True)[1].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        g.sum().backward()


def test_a_layer_of_gpunn_trains_within_pytorch(torch):
    layer = nn.Conv2d(3, 4, 3)
    first, head = torch.nn.Conv2d(1, 3, 1), torch.nn.Linear(4 * 16, 2)
    x = torch.randn(5, 1, 6, 6)
    y = head(interop.function(layer)(first(x)).flatten(1))
    y.sum().backward()
    reference = torch.nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        reference.weight.copy_(interop.to_torch(layer.weight.data))
        reference.bias.copy_(interop.to_torch(layer.bias.data))
    grads = [first.weight.grad, head.weight.grad]
    first.zero_grad()
    head.zero_grad()
    head(reference(first(x)).flatten(1)).sum().backward()
    for actual, expected in zip(grads, [first.weight.grad, head.weight.grad], strict=True):
        torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.from_numpy(layer.weight.grad), reference.weight.grad)
    torch.testing.assert_close(torch.from_numpy(layer.bias.grad), reference.bias.grad)


def test_a_layer_of_gpunn_trains_on_inputs_without_gradients(torch):
    layer, x = nn.Linear(3, 2), drawn(torch, 4, 3, grad=False, dtype="float32")
    y = interop.function(layer)(x)
    y.sum().backward()
    np.testing.assert_allclose(layer.bias.grad, [4, 4])
    np.testing.assert_allclose(layer.weight.grad, np.broadcast_to(x.numpy().sum(0), (2, 3)), rtol=1e-5)
    with torch.no_grad():
        assert not interop.function(layer)(x).requires_grad
    assert not interop.function(F.relu)(x).requires_grad


def test_the_graph_goes_with_the_result(torch):
    held = []

    def f(x):
        y = x * x
        held.append(weakref.ref(y))
        return y

    y = interop.function(f)(drawn(torch, 3))
    assert held[0]() is not None
    del y
    assert held[0]() is None


LIFTED = {
    "a function": (lambda torch: torch.special.i0e, [(3, 4)]),
    "of two": (lambda torch: torch.hypot, [(3, 4), (4,)]),
    "two results": (lambda torch: lambda x: (x.sin(), x.cumsum(0)), [(3, 4)]),
    "a view": (lambda torch: lambda x: x.T, [(3, 4)]),
}


@pytest.mark.parametrize("name", LIFTED)
def test_a_function_of_pytorch_in_gpunn(torch, name):
    make, shapes = LIFTED[name]
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]

    def f(*inputs):
        y = interop.lift(make(torch))(*[x * 2 for x in inputs])
        return (y[0] * 3).sum() + (y[1] * y[0]).sum() if isinstance(y, tuple) else y * y

    gpunn.testing.check_gradients(f, arrays)
    right = make(torch)(*[torch.from_numpy(2 * a) for a in arrays])
    actual = interop.lift(make(torch))(*[tensor(a) * 2 for a in arrays])
    for y, expected in zip(*[r if isinstance(r, tuple) else (r,) for r in (actual, right)], strict=True):
        np.testing.assert_allclose(y.data, expected.numpy(), rtol=1e-12)


def test_a_module_of_pytorch_trains_within_gpunn(torch):
    module = torch.nn.Linear(3, 2)
    layer, x = nn.Linear(4, 3), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    interop.lift(module)(layer(tensor(x))).sum().backward()
    own, ours = module.weight.grad.clone(), layer.weight.grad
    reference = torch.nn.Linear(4, 3)
    with torch.no_grad():
        reference.weight.copy_(interop.to_torch(layer.weight.data))
        reference.bias.copy_(interop.to_torch(layer.bias.data))
    module.zero_grad()
    module(reference(torch.from_numpy(x))).sum().backward()
    torch.testing.assert_close(own, module.weight.grad)
    torch.testing.assert_close(torch.from_numpy(ours), reference.weight.grad)
    module.zero_grad()
    given = np.ones((1, 3), np.float32)
    y = interop.lift(module)(given)  # an array: its own parameters alone have gradients
    given[...] = 7
    y.sum().backward()
    assert module.weight.grad.tolist() == [[1.0] * 3] * 2
    with gpunn.no_grad():
        assert not interop.lift(module)(given).requires_grad


def test_memory_is_shared_where_pytorch_can_hold_it(torch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4))
    fixed = x.copy()
    fixed.flags.writeable = False
    for given, shares in ((x, True), (x.T, True), (x[:, ::2], True), (x[::-1], False), (fixed, False), (x[:0], True)):
        y = interop.to_torch(given)
        np.testing.assert_array_equal(y.numpy(), given)
        assert (y.data_ptr() == given.__array_interface__["data"][0]) == shares or not given.size
    t = tensor(x) * 1
    y = interop.to_torch(t)
    y[0, 0] = 5
    assert t.data[0, 0] == 5
    back = interop.from_torch(y)
    assert back.data.__array_interface__["data"][0] == y.data_ptr()


def test_bfloat16_passes_as_its_bits(torch):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    theirs = torch.tensor([1.5, -2.0, 3.25], dtype=torch.bfloat16)
    ours = interop.from_torch(theirs)
    assert ours.dtype == bfloat16
    assert ours.data.astype(np.float32).tolist() == [1.5, -2.0, 3.25]
    back = interop.to_torch(ours)
    assert back.dtype == torch.bfloat16
    assert back.data_ptr() == theirs.data_ptr()
    x = theirs.requires_grad_()
    interop.function(F.relu)(x).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 1.0]


def test_what_is_refused(torch):
    x = drawn(torch, 3)
    with pytest.raises(ArgumentError, match=r"from_torch: a tensor that requires a gradient must be detached first"):
        interop.from_torch(x)
    with pytest.raises(DtypeError, match="from_torch: x must be a tensor of PyTorch, got type='ndarray'"):
        interop.from_torch(np.ones(2))
    with pytest.raises(ExportError, match=r"to_torch: what requires a gradient .*detach\(\) it first"):
        interop.to_torch(tensor([1.0], requires_grad=True))
    with pytest.raises(DtypeError, match="to_torch: x must be a Tensor or an array, got type='list'"):
        interop.to_torch([1.0])
    for array in (np.ones(2, np.longdouble), np.array(["a"]), np.zeros(2, [("a", "f4")])):
        with pytest.raises(DtypeError, match="to_torch: PyTorch has no tensors of "):
            interop.to_torch(array)
    with pytest.raises(DtypeError, match="a masked array must be filled first"):
        interop.to_torch(np.ma.masked_array([1.0]))
    with pytest.raises(ArgumentError, match=r"torch.function\(relu\): tensors that require .* got keyword='x'"):
        interop.function(F.relu)(x=x)
    with pytest.raises(
        DtypeError, match=r"torch.function\(<lambda>\): it must give Tensors or arrays, got type='tuple'"
    ):
        interop.function(lambda x: [x.shape])(x)
    with pytest.raises(DtypeError, match=r"torch.lift\(tolist\): it must give tensors"):
        interop.lift(torch.Tensor.tolist)(np.ones(2))
    with pytest.raises(ExportError, match="layout"):
        interop.from_torch(torch.ones(2, 2).to_sparse())


def test_the_examples_of_the_docstrings(torch):
    for name in interop.__all__:
        text = getattr(interop, name).__doc__.replace("# doctest: +SKIP", "")
        example = doctest.DocTestParser().get_doctest(text, vars(interop).copy(), name, None, None)
        assert doctest.DocTestRunner().run(example).failed == 0


def test_a_state_of_pytorch_is_loaded(torch):
    theirs = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    ours = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert ours.load_state_dict(theirs.state_dict()) == ([], [])
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(array, theirs.state_dict()[name].numpy())
    with pytest.raises(ExportError, match=r"tensors that require gradient, use tensor\.detach"):
        ours.load_state_dict(dict(theirs.named_parameters()), strict=False)
