"""What a trainer moves beside the weights: schedules, the modes of modules, and what callbacks count."""

import math
import threading

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.backend import random_generator
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError
from gpunn.optim import schedule
from gpunn.train import Callback, Checkpoint, EarlyStopping, Trainer, predict

X = np.random.default_rng(0).standard_normal((12, 4)).astype(np.float32)
Y = np.arange(12) % 3
EPOCHS, BATCHES = 4, 3
TOTAL = EPOCHS * BATCHES


def make(make_schedule=None, model=None, **settings):
    model = model or nn.Linear(4, 3, generator=random_generator(0))
    sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    data = DataLoader(ArrayDataset(X, Y), 4, shuffle=True, seed=0)

    def loss(batch):
        return F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1])

    made = make_schedule(sgd) if make_schedule else None
    return Trainer(model, sgd, data, loss, schedule=made, **settings)


class Rates(Callback):
    """The rate of each step, and of the step after the last."""

    def __init__(self):
        self.seen = []

    def on_start(self, trainer):
        self.seen.append(trainer.optimizer.lr)

    def on_step(self, trainer, loss):
        self.seen.append(trainer.optimizer.lr)


# ---- schedules -------------------------------------------------------------------------------------------------------

SCHEDULES = {
    "StepLR": lambda o: schedule.StepLR(o, 5, 0.5),
    "MultiStepLR": lambda o: schedule.MultiStepLR(o, [2, TOTAL], 0.5),
    "ExponentialLR": lambda o: schedule.ExponentialLR(o, 0.9),
    "LinearLR": lambda o: schedule.LinearLR(o, 0.0, total_iters=TOTAL),
    "CosineAnnealingLR": lambda o: schedule.CosineAnnealingLR(o, TOTAL),
    "OneCycleLR": lambda o: schedule.OneCycleLR(o, 0.5, TOTAL),
    "OneCycleLR, linear": lambda o: schedule.OneCycleLR(o, 0.5, TOTAL, anneal_strategy="linear", three_phase=True),
    "SequentialLR": lambda o: schedule.SequentialLR(
        o, [schedule.LinearLR(o, 0.1, total_iters=2), schedule.OneCycleLR(o, 0.5, TOTAL - 2)], [2]
    ),
}


@pytest.mark.parametrize("make_schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_each_schedule_goes_through_all_steps_of_a_run_and_of_a_resumed_one(make_schedule):
    whole, rates = make(make_schedule, callbacks=[Rates()]), []
    whole.run(EPOCHS)
    assert (whole.step, whole.schedule.steps) == (TOTAL, TOTAL)
    state = None
    for epochs in (1, EPOCHS - 1, EPOCHS):  # in three processes
        part = make(make_schedule, callbacks=[Rates()])
        if state is not None:
            part.load_state_dict(state)
        part.run(epochs)
        state = part.state_dict()
        rates = [*rates[:-1], *part.callbacks[0].seen]
    np.testing.assert_array_equal(rates, whole.callbacks[0].seen)
    for name, weights in whole.model.state_dict().items():
        np.testing.assert_array_equal(part.model.state_dict()[name], weights)


@pytest.mark.peer("OneCycleLR")
def test_the_rates_of_one_cycle_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    trainer = make(lambda o: schedule.OneCycleLR(o, 0.5, TOTAL), callbacks=[Rates()])
    trainer.run(EPOCHS)
    peer = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    cycle, expected = torch.optim.lr_scheduler.OneCycleLR(peer, 0.5, TOTAL), []
    for _ in range(TOTAL):
        expected.append(peer.param_groups[0]["lr"])
        peer.step()
        cycle.step()  # that after the last is allowed too
    np.testing.assert_allclose(trainer.callbacks[0].seen[:TOTAL], expected)
    with pytest.raises(ValueError, match="Tried to step"):
        cycle.step()
    with pytest.raises(ArgumentError, match="OneCycleLR: there are no more steps"):
        trainer.schedule.step()


def test_a_plateau_judges_the_measure_that_is_named():
    losses = [3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0]
    seen = []
    settings = {"measure": lambda: {"test_loss": losses[len(seen)]}, "schedule_measure": "test_loss"}

    class Last(Callback):
        def on_epoch(self, trainer, record):
            seen.append(trainer.optimizer.lr)

    def plateau(optimizer):
        return schedule.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)

    first = make(plateau, callbacks=[Last()], **settings)
    first.run(3)
    second = make(plateau, callbacks=[Last()], **settings)
    second.load_state_dict(first.state_dict())
    second.run(7)
    assert seen == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


def test_a_plateau_judges_the_training_loss():
    trainer = make(lambda o: schedule.ReduceLROnPlateau(o, "max", 0.5, patience=0), schedule_measure="train_loss")
    trainer.run(3)
    rising = sum(b["train_loss"] <= a["train_loss"] for a, b in zip(trainer.records, trainer.records[1:], strict=False))
    assert trainer.optimizer.lr == 0.1 * 0.5**rising
    assert rising > 0


def test_a_plateau_and_its_measure_are_given_together():
    rule = "Trainer: schedule_measure names the measure that a ReduceLROnPlateau judges: give both or neither"
    with pytest.raises(ArgumentError, match=rule):
        make(schedule.ReduceLROnPlateau)
    with pytest.raises(ArgumentError, match=rule):
        make(lambda o: schedule.StepLR(o, 3), schedule_measure="test_loss")
    with pytest.raises(ArgumentError, match=rule):
        make(schedule_measure="test_loss")


# ---- measures by name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["EarlyStopping", "Checkpoint", "Trainer"])
def test_a_measure_that_there_is_not_is_named_with_those_there_are(named, tmp_path):
    def trainer(measure):
        if named == "Trainer":
            return make(schedule.ReduceLROnPlateau, measure=measure, schedule_measure="loss")
        callback = EarlyStopping("loss", 2) if named == "EarlyStopping" else Checkpoint(tmp_path / "c", best="loss")
        return make(measure=measure, callbacks=[callback])

    for measure, known in ((lambda: {"test_loss": 1.0}, "train_loss, test_loss"), (None, "train_loss")):
        made = trainer(measure)
        with pytest.raises(ArgumentError, match=f"{named}: the measures of an epoch are {known}, got measure='loss'"):
            made.run(3)
        assert made.step == 0


# ---- callbacks that are used again -----------------------------------------------------------------------------------


def test_early_stopping_begins_anew_with_another_trainer_and_has_patience_again_with_the_same():
    stopping = EarlyStopping("test_loss", 2)
    first = make(measure=lambda: {"test_loss": 1.0}, callbacks=[stopping])
    assert len(first.run(9)) == 3
    assert len(first.run(9)) == 5  # two more epochs, as none is better than the best
    second = make(measure=lambda: {"test_loss": 2.0}, callbacks=[stopping])
    assert len(second.run(9)) == 3


def test_a_run_that_was_stopped_early_stays_so_when_it_is_resumed():
    first = make(measure=lambda: {"test_loss": 1.0}, callbacks=[EarlyStopping("test_loss", 2)])
    first.run(9)
    second = make(measure=lambda: {"test_loss": 1.0}, callbacks=[EarlyStopping("test_loss", 2)])
    second.load_state_dict(first.state_dict())
    assert len(second.run(9)) == 3
    assert len(second.run(9)) == 3


def test_a_checkpoint_used_again_keeps_the_best_of_the_second_training(tmp_path):
    saving = Checkpoint(tmp_path / "a", best="test_loss")
    make(measure=lambda: {"test_loss": 1.0}, callbacks=[saving]).run(1)
    make(measure=lambda: {"test_loss": 2.0}, callbacks=[saving]).run(2)
    assert saving.state_dict()["best"] == 2.0


# ---- modes -----------------------------------------------------------------------------------------------------------


def with_norm():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))


def modes(model):
    return [module.training for module in model.modules()]


@pytest.mark.parametrize("measuring", ["careful", "careless", "usual"])
def test_a_frozen_module_stays_frozen_in_a_run(measuring):
    model = with_norm()
    seen = []

    def measure():
        if measuring != "careful":
            model.eval()  # and leaves it so
        if measuring == "usual":
            model.train()
        return {"test_loss": 1.0}

    class Modes(Callback):
        def on_step(self, trainer, loss):
            seen.append(modes(model))

    trainer = make(model=model, measure=measure, callbacks=[Modes()])
    model[1].eval()
    before = model[1].state_dict()
    trainer.run(2)
    model.eval()  # to look at it, between two runs
    trainer.run(3)
    assert seen == [[True, True, False, True, True]] * 9
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        np.testing.assert_array_equal(model[1].state_dict()[name], before[name])
    model.train()
    trainer.run(4)
    assert seen[-1] == [True] * 5


def test_a_callback_freezes_a_module_within_a_run():
    model = with_norm()

    class Freezes(Callback):
        def on_epoch(self, trainer, record):
            model[1].eval()

    make(model=model, callbacks=[Freezes()]).run(3)
    assert model[1].num_batches_tracked.item() == BATCHES
    assert modes(model) == [True, True, False, True, True]


def test_a_model_in_evaluation_is_trained():
    model = with_norm()
    make(model=model.eval()).run(1)
    assert modes(model) == [True] * 5
    assert model[1].num_batches_tracked.item() == BATCHES


def test_predictions_in_threads_change_no_mode_and_no_statistics():
    inside, leave = threading.Barrier(2, timeout=30), threading.Barrier(2, timeout=30)

    class Meets(nn.Module):
        """Two threads are in evaluation at once; the first leaves it before the second goes on to the next layer."""

        def forward(self, x):
            if len(x) < 12:
                inside.wait()
                if len(x) == 5:
                    leave.wait()
            return x

    model = nn.Sequential(Meets(), nn.BatchNorm1d(4), nn.Dropout(0.5)).train()
    model[2].eval()
    before, mode, given = model.state_dict(), modes(model), {}

    def first():
        given[7] = predict(model, X[:7])
        leave.wait()

    def second():
        given[5] = predict(model, X[:5])

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert modes(model) == mode
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    expected = predict(model, X)
    for count, y in given.items():
        np.testing.assert_array_equal(y, expected[:count])


def test_evaluations_within_one_another_and_of_parts_give_the_modes_back():
    model = with_norm()
    model[1].eval()
    before = modes(model)
    with model.evaluating():
        with model[2].evaluating(), model.evaluating():
            assert modes(model) == [False] * 5
        assert modes(model) == [False] * 5
    assert modes(model) == before
    with pytest.raises(ZeroDivisionError), model.evaluating():
        raise ZeroDivisionError
    assert modes(model) == before
    a, b = model.evaluating(), model[3].evaluating()  # left in the order in which they were entered
    a.__enter__()
    b.__enter__()
    a.__exit__(None, None, None)
    assert modes(model) == [*before[:4], False]
    b.__exit__(None, None, None)
    assert modes(model) == before
    assert math.isfinite(predict(model, X).sum())
