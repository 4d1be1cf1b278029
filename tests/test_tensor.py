import gc
import operator
import re
import sys
import weakref

import numpy as np
import pytest

import gpunn
from gpunn import Tensor, graph, tensor
from gpunn import functional as F
from gpunn.errors import DeviceError, DtypeError, GraphError, ShapeError
from gpunn.ops.array import arithmetic, selection, shape
from gpunn.tensor import record

W = np.array([[0.5, -1.5, 2.5], [1.25, 0.75, -0.25]])
EXPRESSIONS = {
    "add": lambda x: x + W + 2,
    "broadcast add": lambda x: x + tensor(W) + x[0],
    "radd": lambda x: 2.0 + x,
    "subtract": lambda x: 1 - x - W,
    "rsub array": lambda x: W - x,
    "multiply": lambda x: x * x * W,
    "broadcast multiply": lambda x: x * x[:, :1],
    "divide": lambda x: x / (x * x + 1),
    "rdivide": lambda x: 3 / (x * x + 1),
    "negate": lambda x: -x,
    "power": lambda x: x**3,
    "power 0": lambda x: x**0,
    "matmul": lambda x: x @ x.T,
    "matmul vector": lambda x: x @ x[0],
    "vector matmul": lambda x: x[:, 0] @ x,
    "vector vector": lambda x: x[0] @ x[1],
    "rmatmul": lambda x: W.T @ x,
    "batched matmul": lambda x: x.reshape(2, 1, 3) @ tensor(np.stack([W.T, W.T])).astype(np.float64),
    "broadcast matmul": lambda x: x.reshape(2, 1, 3) @ x.T,
    "item": lambda x: x[1, 2],
    "slice": lambda x: x[:, ::2],
    "repeated index": lambda x: x[[0, 0, 1]],
    "mask": lambda x: x[W > 0],
    "tensor index": lambda x: x[tensor([1, 0])],
    "sum": lambda x: x.sum(),
    "sum axis": lambda x: x.sum(0),
    "sum keepdims": lambda x: x.sum(1, keepdims=True) * x,
    "sum axes": lambda x: (x * x).sum((0, 1)),
    "mean": lambda x: (x * x).mean(),
    "mean axis": lambda x: (x * x).mean(-1),
    "reshape": lambda x: x.reshape(3, 2) @ x,
    "reshape tuple": lambda x: x.reshape((-1,)),
    "transpose": lambda x: x.reshape(1, 2, 3).transpose(2, 0, 1),
    "astype": lambda x: x.astype(np.float64) * 2,
    "used twice": lambda x: (x + x) * x,
}


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_gradient_is_the_directional_difference(expression, rng):
    x, direction = rng.standard_normal((2, 2, 3))
    leaf = tensor(x, requires_grad=True)
    y = expression(leaf)
    g = rng.standard_normal(y.shape)
    y.backward(g)
    change = (expression(tensor(x + 1e-6 * direction)).data - expression(tensor(x - 1e-6 * direction)).data) / 2e-6
    np.testing.assert_allclose((leaf.grad * direction).sum(), (change * g).sum(), rtol=1e-6, atol=1e-8)


NARROW = [name for name, e in EXPRESSIONS.items() if name != "astype" and "W" not in e.__code__.co_names]


@pytest.mark.parametrize("name", [*NARROW, "mask"])
def test_nothing_becomes_float64(name, rng):
    expression = EXPRESSIONS[name]
    leaf = tensor(rng.standard_normal((2, 3)).astype(np.float32), requires_grad=True)
    y = expression(leaf)
    y.sum().backward()
    assert y.dtype == leaf.grad.dtype == np.float32


def test_making_tensors():
    assert tensor([1.0, 2.0]).dtype == np.float32
    assert tensor([1, 2]).dtype == np.int64
    assert tensor(np.ones(2)).dtype == np.float64
    assert tensor(np.float64(3)).dtype == np.float64
    assert tensor(1.5, dtype=np.float64).item() == 1.5
    raw = np.ones(3, np.float32)
    t = tensor(raw)
    assert t.data is raw
    assert t.device == "cpu"
    assert (len(t), t.ndim, t.size, t.shape, float(t[0])) == (3, 1, 3, (3,), 1.0)
    copy = t.numpy()
    copy[:] = 5
    assert raw[0] == 1
    assert repr(tensor([1.0], requires_grad=True)) == "tensor([1.], dtype=float32, requires_grad=True)"
    with pytest.raises(DtypeError, match="only floats have gradients, got dtype='int64'"):
        tensor([1, 2], requires_grad=True)


def test_gradients_accumulate_and_do_not_share_memory():
    a, b = tensor([1.0], requires_grad=True), tensor([2.0], requires_grad=True)
    (a + b).sum().backward()
    (a + b).sum().backward()
    np.testing.assert_array_equal(a.grad, [2])
    a.grad[:] = 7
    np.testing.assert_array_equal(b.grad, [2])


def test_a_graph_deeper_than_the_stack():
    x = tensor([1.0], requires_grad=True)
    y = x
    for _ in range(20_000):
        y = y + 1.0
    y.sum().backward()
    assert x.grad.item() == 1


def test_backward_frees_the_graph():
    x = tensor([2.0], requires_grad=True)
    middle = x * x
    seen = weakref.ref(middle)
    y = middle.sum()
    del middle
    y.backward()
    gc.collect()
    assert seen() is None
    with pytest.raises(GraphError, match="freed by an earlier backward; call that one with retain_graph=True"):
        y.backward()


def test_what_no_gradient_needs_is_given_up_before_the_backward_pass():
    """The gradient of ReLU needs its result, that of convolution its operands: what lies between is nobody's."""
    x, w = tensor(np.ones((1, 1, 4, 4)), requires_grad=True), tensor(np.ones((1, 1, 3, 3)), requires_grad=True)
    between = F.conv2d(x, w)
    array = weakref.ref(between.data)
    y = F.relu(between)
    del between
    assert array() is None
    y.sum().backward()
    np.testing.assert_array_equal(w.grad, np.full((1, 1, 3, 3), 4.0))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 2)])
def test_a_gradient_may_be_changed(shape):
    """Also where the one that came is a view that is broadcast, or transposed."""
    x = tensor(np.ones(shape), requires_grad=True)
    for loss in (lambda: x.sum(), lambda: x.mean(), lambda: F.linear(np.ones((4, shape[-1])), x).sum()):
        x.grad = None
        loss().backward()
        assert x.grad.flags.c_contiguous
        x.grad *= 0.5


def test_retain_graph():
    x = tensor([3.0], requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12


def test_a_leaf_takes_a_gradient_that_nobody_else_holds():
    made = []

    def backward(gy, needs):
        made.append(id(g := np.full(3, 2.0)))
        return (g,)

    x = tensor(np.ones(3), requires_grad=True)
    tensor(np.ones(3)).computed_from((x,), backward).backward(np.ones(3))
    assert (id(x.grad) in made) == (sys.version_info < (3, 14))


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("name", ["sum", "mean"])
def test_a_gradient_can_be_written_to(name, shape):
    x = tensor(np.full(shape, 2.0), requires_grad=True)
    getattr(x, name)().backward()
    x.grad *= 3
    np.testing.assert_array_equal(x.grad, np.full(shape, 3.0))


@pytest.mark.parametrize("form", ["itself", "a view", "a part", "in another shape"])
def test_a_leaf_copies_a_gradient_that_somebody_holds(form):
    held = np.full(6, 2.0)
    given = {
        "itself": lambda: held,
        "a view": lambda: held[:],
        "a part": lambda: np.full(12, 2.0)[:6],
        "in another shape": lambda: held.reshape(2, 3).reshape(6),
    }[form]
    x = tensor(np.ones(6), requires_grad=True)
    tensor(np.ones(6)).computed_from((x,), lambda gy, needs: (given(),)).backward(np.ones(6))
    assert x.grad.base is None
    x.grad[...] = 7
    np.testing.assert_array_equal(held, 2)


def test_two_leaves_share_no_gradient():
    x, y = tensor(np.ones(3), requires_grad=True), tensor(np.ones(3), requires_grad=True)

    def backward(gy, needs):
        g = np.full(3, 2.0)
        return g, g.reshape(3)

    tensor(np.ones(3)).computed_from((x, y), backward).backward(np.ones(3))
    assert not np.shares_memory(x.grad, y.grad)


def test_the_gradient_that_backward_is_given_stays_the_callers():
    x, g = tensor(np.ones(3), requires_grad=True), np.ones(3)
    x.backward(g)
    assert not np.shares_memory(x.grad, g)
    (x + 0).backward(g)
    assert not np.shares_memory(x.grad, g)


def test_no_work_for_a_parent_that_needs_no_gradient():
    asked = []
    x, y = tensor([1.0], requires_grad=True), tensor([1.0])
    result = record(np.zeros(1, np.float32), (x, y), lambda gy, needs: asked.append(needs) or (gy, None))
    result.backward()
    assert asked == [(True, False)]


def test_no_grad_records_nothing():
    x = tensor([1.0], requires_grad=True)
    with gpunn.no_grad():
        y = x * 2
    assert not y.requires_grad
    assert (x * 2).requires_grad
    assert not x.detach().requires_grad


def test_change_in_place_is_found():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    with gpunn.no_grad():
        x[0] = 5.0
    with pytest.raises(GraphError, match=r"changed in place after it was computed with, got result=\(2,\), operands="):
        y.sum().backward()
    with pytest.raises(GraphError, match="setitem: a tensor that requires a gradient cannot be changed in place"):
        x[0] = 1.0


@pytest.mark.parametrize(
    "same_memory", [Tensor.detach, lambda t: t.reshape(2, 1), lambda t: t.T, lambda t: t[:1], lambda t: t.detach()[1:]]
)
def test_change_in_place_through_other_tensors_is_found(same_memory):
    x = tensor([1.0, 2.0], requires_grad=True)
    y = x * x
    with gpunn.no_grad():
        same_memory(x)[0] = 100.0
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()


def test_change_in_place_of_a_result_is_found():
    y = F.relu(tensor([1.0, 2.0], requires_grad=True))
    with gpunn.no_grad():
        y[:] = 0.0
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()


def test_gradients_without_dimensions_are_arrays():
    s = tensor(2.0, requires_grad=True)
    (F.tanh(F.sigmoid(F.relu(s * s))) * 2).backward()
    assert isinstance(s.grad, np.ndarray)
    slope = 2 * (1 - np.tanh(1 / (1 + np.exp(-4))) ** 2) * (np.exp(-4) / (1 + np.exp(-4)) ** 2) * 4
    np.testing.assert_allclose(s.grad, slope, rtol=1e-5)


def test_float16_is_summed_in_float32():
    ones = tensor(np.ones(70_000, np.float16), requires_grad=True)
    assert ones.mean().item() == 1
    small = tensor(np.float16([1.0]), requires_grad=True)
    (small * np.full(5000, 0.01, np.float16)).backward(np.ones(5000, np.float16))
    assert small.grad.dtype == np.float16
    np.testing.assert_allclose(small.grad, 50, rtol=2e-3)  # one by one in float16 it would stop growing near 32


def test_powers_of_numpy_numbers_do_not_promote():
    x = tensor([1.0, 2.0])
    assert (x ** np.float64(2)).dtype == np.float32
    np.testing.assert_array_equal((x ** np.int64(2)).data, [1, 4])


def test_integers_have_no_gradient():
    x = tensor([1.5, 2.5], requires_grad=True)
    assert not x.astype(np.int64).requires_grad
    assert tensor([1, 2]).mean().item() == 1.5


def test_errors_name_rule_and_values():
    x = tensor(np.ones((2, 3)), requires_grad=True)
    with pytest.raises(ShapeError, match=r"add: shapes must broadcast, got a=\(2, 3\), b=\(2, 4\)"):
        x + np.ones((2, 4))
    with pytest.raises(ShapeError, match=r"matmul: the inner dimensions must agree, got a=\(2, 3\), b=\(2, 3\)"):
        x @ x
    with pytest.raises(DtypeError, match="multiply: operands must have one dtype, got a='float64', b='float32'"):
        x * np.ones(3, np.float32)
    with pytest.raises(DtypeError, match="add: operands must have one dtype, got a='int64', b='float32'"):
        tensor([1, 2]) + 0.5
    with pytest.raises(
        ShapeError, match=r"reshape: the number of elements must stay the same, got shape=\(2, 3\), wanted=\(4,\)"
    ):
        x.reshape(4)
    with pytest.raises(GraphError, match=r"needs the gradient passed in: backward\(g\), got shape=\(2, 3\)"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"g must have the tensor's shape, got g=\(3,\), tensor=\(2, 3\)"):
        (x * 2).backward(np.ones(3))
    with pytest.raises(DtypeError, match="g must have the tensor's dtype"):
        (x * 2).backward(np.ones((2, 3), np.float32))
    with pytest.raises(DtypeError, match="g must be a raw array, got type='Tensor'"):
        (x * 2).backward(x)
    with pytest.raises(GraphError, match="does not depend on one with requires_grad=True"):
        tensor([1.0]).backward()
    with pytest.raises(ShapeError, match=r"power: shapes must broadcast, got a=\(2, 3\), b=\(2,\)"):
        x ** np.ones(2)
    with pytest.raises(ShapeError, match=r"transpose: each axis must be given once, got axis=\(0, 0\), shape=\(2, 3\)"):
        x.transpose(0, 0)
    assert x.transpose((1, 0)).shape == (3, 2)
    with pytest.raises(DtypeError, match=r"a Tensor becomes an array by t.numpy\(\)"):
        np.asarray(x)
    with pytest.raises(ShapeError, match="mean: there must be elements to average"):
        tensor(np.ones((0, 2))).mean()
    assert isinstance(x, Tensor)


# ---- comparisons, keys, changes in place -----------------------------------------------------------------------------


def test_comparisons_are_boolean_tensors_without_gradient():
    x = tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = np.float32([3, 2, 1])
    for compare in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge):
        for left, right in ((x, tensor(y)), (x, y), (y, x), (x, 2), (2.0, x)):
            found = compare(left, right)
            expected = compare(*(np.asarray(v.data if isinstance(v, Tensor) else v) for v in (left, right)))
            assert isinstance(found, Tensor)
            assert (found.dtype, found.requires_grad) == (np.bool_, False)
            np.testing.assert_array_equal(found.data, expected)
    assert (x.reshape(3, 1) < y).shape == (3, 3)
    assert (x == None) is False  # noqa: E711
    assert x != "x"


def test_logic_on_booleans():
    a, b = tensor([True, True, False]), np.array([True, False, False])
    assert (a & b).tolist() == (b & a).tolist() == [True, False, False]
    assert (a | b).tolist() == (False | a).tolist() == [True, True, False]
    assert (a ^ b).tolist() == (b ^ a).tolist() == [False, True, False]
    assert (~a).tolist() == [False, False, True]
    assert (a.any().item(), a.all().item()) == (True, False)
    assert tensor(np.eye(2) > 0).any(0, keepdims=True).tolist() == [[True, True]]
    assert tensor(np.eye(2) > 0).all(1).tolist() == [False, False]
    with pytest.raises(DtypeError, match="and: operands must be boolean or integers, got dtype='float32'"):
        tensor([1.0]) & tensor([True])
    with pytest.raises(DtypeError, match="or: operands must have one dtype, got a='bool', b='int64'"):
        a | 1
    with pytest.raises(ShapeError, match="all: axis must be one of x's, got axis=1"):
        a.all(1)


def test_a_tensor_is_its_own_key():
    a, b = tensor([1.0, 2.0]), tensor([1.0, 2.0])
    assert {a: "a", b: "b"}[b] == "b"
    assert len({a, b, a}) == 2
    assert b not in {a}


def test_a_tensor_is_iterated_along_its_first_axis():
    x = tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3, 4], [1, 2]]
    with pytest.raises(ShapeError, match="len: a tensor without dimensions has no length"):
        list(tensor(1.0))
    assert (int(tensor(2.7)), tensor([[1]]).tolist()) == (2, [[1]])


IN_PLACE = {
    "+=": operator.iadd, "-=": operator.isub, "*=": operator.imul, "/=": operator.itruediv, "**=": operator.ipow,
    "@=": operator.imatmul,
}  # fmt: skip


@pytest.mark.parametrize("sign", IN_PLACE)
def test_in_place_operators_make_new_tensors_and_leave_parameters_alone(sign):
    operation, other = IN_PLACE[sign], np.float32([[2, 1], [1, 3]])
    x = tensor([[1.0, 2.0], [3.0, 4.0]])
    kept, before = x, x.numpy()
    y = operation(x, other)
    assert y is not kept
    np.testing.assert_array_equal(kept.data, before)
    plain = {"+=": np.add, "-=": np.subtract, "*=": np.multiply, "/=": np.divide, "**=": np.power, "@=": np.matmul}
    np.testing.assert_array_equal(y.data, plain[sign](before, other))
    parameter = tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    rule = (
        rf"^{re.escape(sign)}: the parameter p would stay as it was: write p\[...\] = p {re.escape(sign[:-1])} y within"
    )
    with gpunn.no_grad(), pytest.raises(GraphError, match=rule):
        operation(parameter, other)
    with pytest.raises(GraphError, match=rule):
        operation(parameter, other)


def test_sums_in_a_loop_keep_their_gradient():
    x = tensor([1.0, 2.0], requires_grad=True)
    total = 0.0
    for _ in range(3):
        total += (x * x).sum()
    total.backward()
    assert x.grad.tolist() == [6, 12]


def test_a_gradient_cannot_get_lost_in_an_assignment():
    x, y = tensor([1.0, 2.0]), tensor([3.0], requires_grad=True)
    with pytest.raises(GraphError, match="setitem: a tensor that requires a gradient cannot be changed in place"):
        x[0] = y[0]
    x[0] = y.detach()[0]
    x[tensor([1])] = 5
    assert x.tolist() == [3, 5]


def test_a_list_is_an_operand():
    assert (tensor([1.0, 2.0]) * [3, 2]).tolist() == [3, 4]


# ---- devices: told apart even where there is only one --------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch):
    """An array that every page takes, by its values, for one on another device."""
    far = np.full((2, 2), 77, np.float32)
    for page in (arithmetic, selection, shape, graph):
        monkeypatch.setattr(page, "device_of", lambda x: "gpu:1" if np.array_equal(x, far) else "cpu")
    return far


def test_mixed_devices_are_refused_in_words(elsewhere):
    near = tensor(np.ones((2, 2), np.float32), requires_grad=True)
    for op, call in {
        "add": lambda: near + elsewhere,
        "matmul": lambda: near @ tensor(elsewhere),
        "less": lambda: near < elsewhere,
        "maximum": lambda: F.maximum(near, elsewhere),
    }.items():
        with pytest.raises(DeviceError, match=f"{op}: operands must be on one device, got a='cpu', b='gpu:1'"):
            call()
    with pytest.raises(DeviceError, match=r"stack: arrays must be on one device, got devices=\['cpu', 'gpu:1'\]"):
        F.stack([near, elsewhere])
    with pytest.raises(DeviceError, match="backward: g must be on the tensor's device, got g='gpu:1', tensor='cpu'"):
        (near * 1).backward(elsewhere)


@pytest.mark.gpu
def test_numpy_and_cupy_are_never_mixed():
    near, far = tensor([1.0, 2.0]), tensor([1.0, 2.0], device="gpu")
    for call in (
        lambda: near + far,
        lambda: near == far,
        lambda: F.maximum(near, far.data),
        lambda: far[tensor([0])],
        lambda: far.take(tensor([0])),
        lambda: far.__setitem__(0, near[0]),
    ):
        with pytest.raises(DeviceError):
            call()
