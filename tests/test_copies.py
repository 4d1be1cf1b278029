"""Copied and unpickled models, optimizers and trainers train as the originals do, or are refused in words."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from optimizers import FIFTY

import gpunn
from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, GraphError
from gpunn.optim import schedule
from gpunn.train import Callback, Trainer

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
Y = np.arange(12) % 3
WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda held: pickle.loads(pickle.dumps(held)),
    "pickle of a pickle": lambda held: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(held, 2)), 5)),
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 3))


def train(model, optimizer, steps=3):
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(tensor(X)), Y).backward()
        optimizer.step()
    return model.state_dict()


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


class ClassifierLoss:
    def __init__(self, model):
        self.model = model

    def __call__(self, batch):
        return F.cross_entropy(self.model(tensor(batch[0])), batch[1]), len(batch[1])

    def measure(self):
        with self.model.evaluating():
            return {"test_loss": float(self((X, Y))[0].item())}


def trainer(**settings):
    model = net()
    loss = ClassifierLoss(model)
    optimizer = settings.pop("optimizer", optim.Adam)(model.named_parameters(), lr=0.05)
    data = DataLoader(ArrayDataset(X, Y), 5, shuffle=True, seed=3, workers=settings.pop("workers", 0))
    for name, make in (("schedule", schedule.ExponentialLR), ("ema", optim.EMA)):
        if name in settings:
            settings[name] = make(optimizer if name == "schedule" else model.named_parameters(), settings[name])
    return Trainer(model, optimizer, data, loss, measure=loss.measure, **settings)


# ---- model and optimizer ---------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize(("kind", "settings"), FIFTY.values(), ids=FIFTY.keys())
def test_a_copied_pair_trains_as_the_original(way, kind, settings):
    model = net()
    optimizer = kind([{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.02}], **settings)
    before = train(model, optimizer)
    model2, optimizer2 = way((model, optimizer))
    assert_same(model2.state_dict(), before)
    assert_same(train(model2, optimizer2), train(model, optimizer))
    assert any((before[name] != held).any() for name, held in model.state_dict().items())


@ways
def test_the_order_in_an_object_does_not_matter_and_gradients_are_kept(way):
    model = net()
    held = SimpleNamespace(
        optimizer=optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        more={"averages": optim.EMA(model.named_parameters(), 0.5), "again": model},
        model=model,
    )
    train(model, held.optimizer)
    F.cross_entropy(model(tensor(X)), Y).backward()  # the step is still to come
    held2 = way(held)
    assert held2.more["again"] is held2.model
    for each in (held, held2):
        each.optimizer.step()
        each.more["averages"].update()
    assert_same(held.model.state_dict(), held2.model.state_dict())
    assert_same(held.more["averages"].state_dict(), held2.more["averages"].state_dict())
    with held2.more["averages"].averages():
        averaged = held2.model.state_dict()
    assert any((averaged[name] != value).any() for name, value in held2.model.state_dict().items())


class Tied(nn.Module):
    def __init__(self):
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight


@ways
def test_tied_parameters_stay_tied(way):
    model = Tied()
    model2, _ = way((model, optim.SGD(model.parameters(), lr=0.1)))
    assert model2.a.weight is model2.b.weight


@ways
def test_a_model_copied_alone_is_independent_and_can_have_a_new_optimizer(way):
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    train(model, optimizer)
    model2 = way(model)
    before = model2.state_dict()
    train(model, optimizer)
    assert_same(model2.state_dict(), before)
    after = train(model2, optim.Adam(model2.parameters(), lr=0.05))
    assert (after["0.weight"] != before["0.weight"]).any()


@ways
def test_an_optimizer_copied_alone_is_refused_at_its_first_step(way):
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    optimizer2 = way(optimizer)
    with pytest.raises(ArgumentError, match="SGD: no parameter of this copy has a gradient: copy .* together"):
        train(model, optimizer2)
    p = optimizer2.groups[0].parameters[0]  # its own parameters it does move
    before, p.grad = p.data.copy(), np.ones(p.shape, np.float32)
    optimizer2.step()
    p.grad = None
    optimizer2.step()
    np.testing.assert_allclose(p.data, before - 0.1, rtol=1e-5)


def test_shallow_copies_share_the_parameters():
    model = net()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    model2, optimizer2 = copy.copy(model), copy.copy(optimizer)
    assert all(a is b for a, b in zip(model.parameters(), model2.parameters(), strict=True))
    before = model.state_dict()
    train(model2, optimizer2)
    assert (model[0].weight.data != before["0.weight"]).any()
    train(model, optimizer)
    assert optimizer.state_dict()["parameters.0.steps"] == 6
    with pytest.raises(ArgumentError, match="Adam: a shallow copy of a group .* use copy.deepcopy"):
        copy.copy(optimizer.groups[0])


@ways
def test_a_parted_pair_is_not_copied(way):
    model = net()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    model[0].weight.data = model[0].weight.data.copy()
    with pytest.raises(ArgumentError, match="SGD: a parameter was moved or replaced .*, got parameter='0'"):
        way((model, optimizer))


@ways
def test_what_is_under_way_is_not_copied(way):
    p = tensor([1.0], requires_grad=True)
    ema, sgd, scaler = optim.EMA([p]), optim.SGD([p]), optim.GradScaler()
    y = scaler.scale((p * 2).sum())
    with pytest.raises(GraphError, match=r"copy: a result holds the graph .*: detach\(\) it first"):
        way(y)
    y.backward()
    scaler.step(sgd)
    with pytest.raises(ArgumentError, match="GradScaler: it cannot be copied or pickled between .* and update"):
        way(scaler)
    scaler.update()
    assert way(scaler).state_dict() == scaler.state_dict()
    with ema.averages(), pytest.raises(ArgumentError, match=r"EMA: within averages\(\) it cannot be copied"):
        way(ema)


@ways
def test_a_tensor_is_copied_with_its_gradient(way):
    p = tensor([1.0, 2.0], requires_grad=True)
    (p * p).sum().backward()
    q = way(p)
    assert q.requires_grad
    assert q.grad.tolist() == [2.0, 4.0]
    (q * q).sum().backward()
    assert (p.grad.tolist(), q.grad.tolist()) == ([2.0, 4.0], [4.0, 8.0])


# ---- a trainer -------------------------------------------------------------------------------------------------------


def measured(trainer):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in trainer.records]


@ways
@pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": optim.SGD, "schedule": 0.9, "ema": 0.9, "clip_norm": 1.0, "accumulate": 2}, {"workers": 2}],
    ids=["plain", "all", "workers"],
)
def test_a_copied_trainer_trains_as_the_original(way, settings):
    a = trainer(**settings)
    a.run(2)
    b = way(a)
    assert b.model is not a.model
    a.run(4)
    b.run(4)
    assert measured(a) == measured(b)
    assert_same(a.model.state_dict(), b.model.state_dict())


@ways
def test_a_copied_trainer_validates_its_own_model(way):
    given = trainer()
    parts = given.model, given.optimizer, given.data, F.cross_entropy
    a = Trainer(*parts, validation=given.data, metrics=["accuracy"])
    a.run(1)
    b = way(a)
    assert b.validation._model is b.loss.model is b.model is not a.model
    a.run(3)
    b.run(3)
    assert measured(a) == measured(b)


@ways
def test_a_copied_trainer_in_fp16_trains_as_the_original(way):
    a = trainer(precision="fp16")
    a.run(1)
    b = way(a)
    a.run(2)
    b.run(2)
    assert a.scaler.state_dict() == b.scaler.state_dict()
    assert_same(a.model.state_dict(), b.model.state_dict())


class Copies(Callback):
    def __init__(self):
        self.way, self.copies = None, []

    def on_step(self, trainer, loss):
        if trainer.step == 5 and self.way:
            way, self.way = self.way, None
            self.copies = [way(trainer)]


@ways
def test_a_trainer_copied_within_an_epoch_goes_on_from_there(way):
    taken = Copies()
    taken.way = way
    a = trainer(callbacks=[taken])
    a.run(3)
    (b,) = taken.copies
    assert (b.step, b.epoch) == (5, 1)
    b.run(3)
    assert measured(a) == measured(b)
    assert_same(a.model.state_dict(), b.model.state_dict())


def loss_of(model):
    return lambda batch: (F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1]))


def measure_of(model):
    return lambda: {"test_loss": float(model(tensor(X)).data.sum())}


model = None  # set by the next test


def loss_of_a_global(batch):
    return loss_of(model)(batch)


def test_a_trainer_whose_functions_keep_the_old_model_is_not_copied(monkeypatch):
    a = trainer()
    monkeypatch.setitem(globals(), "model", a.model)
    with pytest.raises(ArgumentError, match="Trainer: to be copied, loss must be an object that holds the model"):
        copy.deepcopy(Trainer(a.model, a.optimizer, a.data, loss_of_a_global))
    b = copy.deepcopy(a)  # an attribute of that name is none of the global's
    assert b.loss.model is b.model
    parts = a.model, a.optimizer, a.data
    with pytest.raises(ArgumentError, match="Trainer: to be copied, loss must be an object that holds"):
        copy.deepcopy(Trainer(*parts, loss_of(a.model)))
    with pytest.raises(ArgumentError, match="Trainer: to be copied, measure must be an object that holds"):
        copy.deepcopy(Trainer(*parts, a.loss, measure=measure_of(a.model[3])))
    own = a.model
    decayed = lambda y, target: F.cross_entropy(y, target) + (own[0].weight ** 2).sum()  # noqa: E731
    with pytest.raises(ArgumentError, match="Trainer: to be copied, loss must be an object that holds"):
        copy.deepcopy(Trainer(*parts, decayed))
    norm = {"norm": lambda target, y: float((own[0].weight.data ** 2).sum())}
    with pytest.raises(ArgumentError, match="Trainer: to be copied, norm must be an object that holds"):
        copy.deepcopy(Trainer(*parts, F.cross_entropy, validation=(X, X[:, 0]), metrics=norm))
    with pytest.raises(ArgumentError, match="Trainer: a shallow copy would train the same model"):
        copy.copy(a)


def test_a_loss_of_another_model_is_refused():
    a = trainer()
    hidden = {"model": net()}
    b = Trainer(a.model, a.optimizer, a.data, lambda batch: loss_of(hidden["model"])(batch))
    with pytest.raises(ArgumentError, match="Trainer: the loss gave no gradient to any of the optimizer's parameters"):
        b.run(1)


def test_a_copied_loader_has_no_part_in_a_loop_under_way():
    loader = DataLoader(ArrayDataset(np.arange(6)), 2, seed=0, workers=1, worker_kind="process")
    first = [batch.tolist() for batch in loader]
    assert [batch.tolist() for batch in copy.deepcopy(loader)] == first


def test_copies_do_not_draw_from_the_same_generator():
    layer = nn.Dropout(0.5, generator=gpunn.backend.random_generator(1))
    other = copy.deepcopy(layer)
    np.testing.assert_array_equal(layer(X), other(X))


@pytest.mark.parametrize("parted", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_pair_that_was_parted_between_two_passes_is_refused(parted):
    model = net()
    sgd = optim.SGD(model.parameters(), lr=0.1)
    (model(tensor(X)) ** 2).sum().backward()
    sgd.step()
    model2, sgd2 = parted(model), parted(sgd)
    sgd2.step()  # by the gradients that it was copied with
    sgd2.zero_grad()
    (model2(tensor(X)) ** 2).sum().backward()
    with pytest.raises(ArgumentError, match="SGD: no parameter of this copy has a gradient: copy or pickle the model"):
        sgd2.step()
