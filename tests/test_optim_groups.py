"""Groups of parameters, l1 and l2, what is refused, and saving and resuming."""

import numpy as np
import pytest
from optimizers import FIFTY

from gpunn import backend, nn, optim, tensor
from gpunn.errors import ArgumentError, DeviceError, DtypeError, ShapeError

KINDS = sorted({kind for kind, _ in FIFTY.values()}, key=lambda kind: kind.__name__)


def leaf(*values, dtype=np.float32):
    return tensor(np.array(values, dtype), requires_grad=True)


# ---- groups ----------------------------------------------------------------------------------------------------------


def test_a_group_has_its_own_settings_and_its_own_buffer():
    p, q, r = leaf(1, 2), leaf(3), leaf(4)
    sgd = optim.SGD([{"params": [p, q], "lr": 0.5}, {"params": [r], "momentum": 0.9}], lr=0.1)
    assert [group["lr"] for group in sgd.groups] == [0.5, 0.1]
    assert [group["momentum"] for group in sgd.groups] == [0.0, 0.9]
    assert [group.names for group in sgd.groups] == [["0", "1"], ["2"]]
    assert p.data.base is q.data.base is not r.data.base
    for _ in range(2):
        for each in (p, q, r):
            each.grad = np.ones(each.shape, np.float32)
        sgd.step()
    np.testing.assert_allclose([*p.data, *q.data, *r.data], [0, 1, 2, 4 - 0.1 - 0.19], rtol=1e-6)


def test_lr_is_that_of_all_groups():
    sgd = optim.SGD([{"params": [leaf(1)]}, {"params": [leaf(2)]}], lr=0.1)
    assert sgd.lr == 0.1
    sgd.groups[1]["lr"] = 0.2
    with pytest.raises(ArgumentError, match=r"SGD: the groups differ in lr; read groups.*got lr=\[0.1, 0.2\]"):
        _ = sgd.lr
    sgd.lr = 0.3
    assert [group["lr"] for group in sgd.groups] == [0.3, 0.3]


def test_names_come_from_named_parameters_in_groups_too():
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert optim.Adam(model.named_parameters()).groups[0].names == ["0.weight", "0.bias", "2.weight", "2.bias"]
    named = list(model.named_parameters())
    adam = optim.Adam([{"params": (pair for pair in named[:1])}, {"params": named[2:]}])
    assert [group.names for group in adam.groups] == [["0.weight"], ["2.weight", "2.bias"]]
    sgd = optim.SGD([{"params": model[0].weight}, {"params": model[2].parameters()}])
    assert [group.names for group in sgd.groups] == [["0"], ["1", "2"]]


def test_a_setting_is_checked_when_it_changes_and_is_a_python_number():
    adam = optim.Adam([leaf(1)], lr=np.float64(0.1), betas=[np.float32(0.5), 0.9])
    group = adam.groups[0]
    assert [type(group["lr"]), *map(type, group["betas"])] == [float] * 3
    group["eps"] = np.float32(0.5)
    assert group["eps"] == 0.5
    with pytest.raises(ArgumentError, match="Adam: lr must be at least 0 and finite, got lr=-0.1"):
        group["lr"] = -0.1
    with pytest.raises(ArgumentError, match="Adam: a group has the settings lr, betas, .*, got setting='momentum'"):
        group["momentum"] = 0.9
    with pytest.raises(ArgumentError, match="Adam: lr must be at least 0 and finite, got lr=-1"):
        adam.lr = -1
    assert group["lr"] == 0.1
    sgd = optim.SGD([leaf(1)], momentum=0.5, nesterov=True)
    with pytest.raises(ArgumentError, match="SGD: nesterov needs momentum"):
        sgd.groups[0]["momentum"] = 0


def test_momentum_can_begin_later():
    p = leaf(0)
    sgd = optim.SGD([p], lr=1.0)
    for momentum, expected in ((0.0, -1), (0.5, -2), (0.5, -3.5), (0.0, -4.5), (0.5, -5.5)):
        sgd.groups[0]["momentum"] = momentum
        p.grad = np.ones(1, np.float32)
        sgd.step()
        assert p.item() == expected


def test_a_state_saved_after_a_setting_was_changed_can_be_loaded():
    p = leaf(1)
    sgd = optim.SGD([p], lr=0.1)
    optim.schedule.OneCycleLR(sgd, 0.1, 10)  # begins a momentum
    state = sgd.state_dict()
    assert state["parameters.0.velocity"].tolist() == [0.0]
    sgd.load_state_dict(state)
    sgd.groups[0]["momentum"] = 0.0
    assert "parameters.0.velocity" not in sgd.state_dict()
    sgd.load_state_dict(sgd.state_dict())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_before_anything_is_moved(kind):
    name, p = kind.__name__, leaf(1)
    before = p.data
    for wrong, message in (
        ({"lr": -1}, "lr must be at least 0 and finite, got lr=-1"),
        ({"lr": "fast"}, "lr must be at least 0 and finite, got lr='fast'"),
        ({"weight_decay": -1}, "weight_decay must be at least 0 and finite"),
        ({"l1": -1}, "l1 must be at least 0 and finite"),
        ({"l2": float("nan")}, "l2 must be at least 0 and finite, got l2=nan"),
    ):
        with pytest.raises(ArgumentError, match=f"{name}: {message}"):
            kind([p], **wrong)
    for parameters, message in (
        ([], "there must be at least one parameter"),
        ([{"params": [p]}, {"params": []}], "there must be at least one parameter, got group=1"),
        (p, r"parameters must be a list of them, or of \(name, parameter\), not a tensor"),
        ([("w", p), leaf(2)], "names must be given to all parameters, or to none"),
        ([{"params": [("w", p)]}, {"params": [leaf(2)]}], "names must be given to all parameters, or to none"),
        ([p, np.ones(1)], "tensors with requires_grad=True, got parameter='1', type='ndarray'"),
        ([("w", p), ("v", tensor([1.0]))], "tensors with requires_grad=True, got parameter='v', type='Tensor'"),
        ([("w", p), ("v", p)], "each parameter must be given once, got parameter='w', again='v'"),
        ([{"params": [p]}, {"params": [p]}], "each parameter must be given once, got parameter='0', again='1'"),
        ([("w", p), ("w", leaf(2))], r"names must be of one parameter each, got names=\['w'\]"),
        ([{"lr": 0.1}], 'each group must be a dict with "params", got group=0'),
        ([{"params": [p]}, leaf(2)], 'each group must be a dict with "params", got group=1'),
        ([{"params": [p], "speed": 1}], r"a group has the settings lr, .*, got group=0, unknown=\['speed'\]"),
        ([{"params": [p], "lr": -2}], "lr must be at least 0 and finite, got lr=-2"),
        ([p, leaf(np.nan)], "parameters must be finite, without NaN, got parameter='1'"),
        ([{"params": [("v", p)]}, {"params": [("w", leaf(1, -np.inf))]}], "without NaN, got parameter='w'"),
    ):
        with pytest.raises(ArgumentError, match=f"{name}: .*{message}"):
            kind(parameters)
    assert p.data is before


def test_ranges_of_each_setting():
    for kind, wrong, message in (
        (optim.Adadelta, {"rho": 1.1}, "Adadelta: rho must be from 0 to 1, got rho=1.1"),
        (optim.Adagrad, {"lr_decay": -1}, "Adagrad: lr_decay must be at least 0"),
        (optim.Adagrad, {"initial_accumulator_value": -1}, "Adagrad: initial_accumulator_value must be at least 0"),
        (optim.NAdam, {"momentum_decay": -1}, "NAdam: momentum_decay must be at least 0"),
        (optim.RAdam, {"betas": (0.9,)}, r"RAdam: betas must be two numbers, got betas=\(0.9,\)"),
        (optim.LAMB, {"betas": (0.9, 1.0)}, "LAMB: beta must be at least 0 and less than 1.0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            kind([leaf(1)], **wrong)


@pytest.mark.gpu
def test_parameters_of_two_devices_are_refused():
    with pytest.raises(DeviceError, match="parameters must be on one device"):
        optim.SGD([leaf(1), tensor([1.0], requires_grad=True, device="gpu")])


# ---- l1 and l2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "settings"), FIFTY.values(), ids=FIFTY.keys())
def test_l1_and_l2_add_the_gradients_of_their_terms(run_xp, kind, settings, rng):
    def steps(*arrays, regularised):
        weight, bias = (tensor(a.copy(), requires_grad=True) for a in arrays)
        terms = {"l1": 0.03, "l2": 0.2}
        optimizer = kind([weight, bias], **settings, **(terms if regularised else {}))
        for _ in range(3):
            weight.grad, bias.grad = 1 / (3 + weight.data), 1 / (3 + bias.data)
            if not regularised:
                sign = (weight.data > 0) * 1.0 - (weight.data < 0) * 1.0
                weight.grad = weight.grad + 0.03 * sign + 0.4 * weight.data
            optimizer.step()
        return weight.data, bias.data

    arrays = rng.uniform(-2, 2, (3, 4)), rng.uniform(-2, 2, 3)
    arrays[0][0] = 0
    for ours, expected in zip(
        run_xp(steps, *arrays, regularised=True), run_xp(steps, *arrays, regularised=False), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_what_is_regularised_can_be_chosen():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))

    def changed(**settings):
        before = [p.data.copy() for p in model.parameters()]
        sgd = optim.SGD(model.named_parameters(), lr=0.5, l2=0.1, **settings)
        for p in model.parameters():
            p.data[...] = 1
            p.grad = np.zeros(p.shape, np.float32)
        sgd.step()
        names = [name for name, p in model.named_parameters() if (p.data != 1).all()]
        for p, array in zip(model.parameters(), before, strict=True):
            p.data[...] = array
        return names

    assert changed() == ["0.weight", "2.weight"]
    assert changed(regularise=lambda name, p: name.startswith("0.")) == ["0.weight", "0.bias"]


def test_l1_and_l2_belong_to_a_group():
    p, q = leaf([1, -1]), leaf([1, -1])
    sgd = optim.SGD([{"params": [p], "l1": 0.5}, {"params": [q], "l2": 0.25}], lr=1.0)
    p.grad = q.grad = np.zeros((1, 2), np.float32)
    sgd.step()
    assert p.data.tolist() == [[0.5, -0.5]]
    assert q.data.tolist() == [[0.5, -0.5]]


def test_l2_of_half_precision_parameters_is_added_in_float32():
    p = leaf([1.0], dtype=np.float16)
    adam = optim.Adam([p], lr=0.125, l2=1e-9)  # its gradient is 0 in float16
    p.grad = np.zeros((1, 1), np.float16)
    adam.step()
    state = adam.state_dict()["parameters.0.mean"]
    np.testing.assert_allclose(state, 2e-10, rtol=1e-6)
    assert state.dtype == np.float32


def test_a_gradient_that_is_a_view_of_parameters_is_read_before_they_move():
    size = 1 << 17  # from here on a gradient is not copied
    p, q, r = (tensor(np.full(size, value, np.float32), requires_grad=True) for value in (1, 2, 4))
    sgd = optim.SGD([p, q, r], lr=0.5)
    p.grad, q.grad, r.grad = r.data, p.data, q.data
    sgd.step()
    assert [each.data[-1] for each in (p, q, r)] == [-1, 1.5, 3]
    adamw = optim.AdamW([p], lr=0.5, weight_decay=1.0)
    p.grad = p.data
    adamw.step()
    np.testing.assert_allclose(adamw.state_dict()["parameters.0.mean"], -0.1, 1e-6)


# ---- saving and resuming ---------------------------------------------------------------------------------------------


def train(kind, settings, arrays, resumed, from_arrays=False):
    """Twenty steps with gaps and changes of settings; ``resumed`` makes a new optimizer, and new parameters, at ten."""
    leaves = [tensor(a.copy(), requires_grad=True) for a in arrays]

    def make():
        names = [(f"layer.{number}", p) for number, p in enumerate(leaves)]
        return kind([{"params": names[:2]}, {"params": names[2:], "lr": 0.02, "weight_decay": 0.05}], **settings)

    optimizer = make()
    for step in range(20):
        if step == 5:
            optimizer.groups[0]["lr"] = 0.01
        if step == 10 and resumed:
            state = optimizer.state_dict()
            if from_arrays:
                state = {name: np.asarray(backend.to_cpu(v)) for name, v in state.items()}
            leaves = [tensor(p.data.copy(), requires_grad=True) for p in leaves]
            optimizer = make()
            optimizer.load_state_dict(state)
        for number, p in enumerate(leaves):
            p.grad = None if (step + number) % 5 == 0 else 1 / (2 + p.data * p.data)
        optimizer.step()
    return tuple(p.data for p in leaves)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("kind", "settings"), FIFTY.values(), ids=FIFTY.keys())
def test_a_resumed_training_gives_the_same_bits(run, kind, settings, dtype, rng):
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in ((3, 2), (5,), (2, 2, 2), (1,))]
    expected = run(train, kind, settings, arrays, False)
    for from_arrays in (False, True):
        for ours, wanted in zip(run(train, kind, settings, arrays, True, from_arrays), expected, strict=True):
            np.testing.assert_array_equal(ours, wanted)


def test_the_state_has_names_and_is_a_copy():
    p = leaf([1, 2])
    sgd = optim.SGD([("w", p)], lr=0.5, momentum=0.5)
    p.grad = np.ones((1, 2), np.float32)
    sgd.step()
    state = sgd.state_dict()
    assert {name: value for name, value in state.items() if name != "parameters.w.velocity"} == {
        "groups.0.lr": 0.5, "groups.0.momentum": 0.5, "groups.0.dampening": 0.0, "groups.0.weight_decay": 0.0,
        "groups.0.nesterov": False, "groups.0.l1": 0.0, "groups.0.l2": 0.0, "groups.0.maximize": False,
        "groups.0.initial_lr": 0.5, "parameters.w.steps": 1,
    }  # fmt: skip
    sgd.step()
    assert state["parameters.w.velocity"].tolist() == [[1, 1]]


def test_a_state_that_does_not_fit_changes_nothing(rng):
    def make(**settings):
        adam = optim.Adam([("w", leaf([1, 2], [3, 4])), ("b", leaf(1, 2))], **settings)
        for group in adam.groups:
            for p in group.parameters:
                p.grad = np.ones(p.shape, np.float32)
        adam.step()
        return adam

    good, adam = make(lr=0.5, betas=(0.5, 0.5)).state_dict(), make()
    before = adam.state_dict()
    mean = "parameters.b.mean"
    without = {name: value for name, value in good.items() if name != mean}
    for state, kind, message in (
        ({}, ArgumentError, r"names must be those of its own state_dict, got missing=\['groups.0.betas', "),
        (without, ArgumentError, r"missing=\['parameters.b.mean'\], unknown=\[\]"),
        (good | {"more": 1}, ArgumentError, r"missing=\[\], unknown=\['more'\]"),
        (good | {mean: np.zeros((2, 1), np.float32)}, ShapeError, r"mean of b must have shape \(2,\), got"),
        (good | {mean: np.zeros(2)}, ArgumentError, "mean of b must be float32, got dtype='float64'"),
        (good | {"parameters.b.steps": -1}, ArgumentError, "steps of b must be an integer of at least 0, got steps=-1"),
        (good | {"parameters.b.steps": 0.5}, ArgumentError, "steps of b must be an integer"),
        (good | {"groups.0.lr": -1.0}, ArgumentError, "lr must be at least 0 and finite, got lr=-1"),
        (good | {"groups.0.betas": (0.5, 2.0)}, ArgumentError, "beta must be at least 0 and less than 1.0"),
        (good | {"groups.0.betas": 0.5}, ArgumentError, "betas must be two numbers"),
    ):
        with pytest.raises(kind, match=f"Adam: .*{message}"):
            adam.load_state_dict(state)
        after = adam.state_dict()
        assert after.keys() == before.keys()
        assert all(np.array_equal(after[name], before[name]) for name in before)
    adam.load_state_dict(good)
    assert adam.groups[0]["betas"] == (0.5, 0.5)


def test_a_group_is_read_as_a_dict():
    layer = nn.Linear(2, 1)
    group = optim.SGD(layer.parameters(), lr=0.5).param_groups[0]
    assert list(group) == group.keys() == [name for name, _ in group.items()] == list(dict(group))
    assert dict(group)["params"] == layer.parameters()
    assert (group.get("lr"), group.get("betas"), group.get("betas", 1)) == (0.5, None, 1)


def test_states_that_are_none_are_refused_in_words():
    layer = nn.Linear(2, 1)
    adam = optim.Adam(layer.parameters())
    lbfgs, schedule = optim.LBFGS(nn.Linear(2, 1).parameters()), optim.lr_scheduler.ExponentialLR(adam, 0.5)
    wrong = [[1.0, 2.0]]
    for target, state, message in (
        (layer, None, "load_state_dict: a state must be a dict, got type='NoneType'"),
        (layer, ["weight"], "load_state_dict: a state must be a dict, got type='list'"),
        (layer, layer.state_dict() | {"weight": wrong}, "load_state_dict: weight must be an array, got type='list'"),
        (adam, None, "Adam: a state must be a dict, got type='NoneType'"),
        (adam, adam.state_dict() | {"parameters.0.mean": wrong}, "Adam: mean of 0 must be an array, got type='list'"),
        (lbfgs, None, "LBFGS: a state must be a dict, got type='NoneType'"),
        (schedule, None, "ExponentialLR: a state must be a dict, got type='NoneType'"),
        (optim.lr_scheduler.ReduceLROnPlateau(adam), None, "ReduceLROnPlateau: a state must be a dict"),
        (optim.lr_scheduler.SequentialLR(adam, [schedule], []), None, "SequentialLR: a state must be a dict"),
        (optim.lr_scheduler.ChainedScheduler([schedule]), None, "ChainedScheduler: a state must be a dict"),
    ):
        with pytest.raises(DtypeError, match=message):
            target.load_state_dict(state)
