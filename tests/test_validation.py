"""What a Trainer takes for a loss, and what it measures by itself."""

from functools import partial

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.backend import manual_seed, random_generator
from gpunn.data import ArrayDataset, DataLoader, image_folder
from gpunn.errors import ArgumentError
from gpunn.train import Callback, Checkpoint, EarlyStopping, Progress, Trainer, evaluate

X = np.random.default_rng(0).standard_normal((22, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
TRAINING, HELD_OUT = (X[:12], Y[:12]), (X[12:], Y[12:])


def network():
    manual_seed(5)
    generator = random_generator(0)
    return nn.Sequential(nn.Linear(4, 8, generator=generator), nn.ReLU(), nn.Linear(8, 3, generator=generator))


def make(loss, model=None, data=None, **settings):
    model = model or network()
    loader = DataLoader(ArrayDataset(*TRAINING), 5, shuffle=True, seed=0)
    return Trainer(model, optim.SGD(model.parameters(), lr=0.1), loader if data is None else data, loss, **settings)


def losses_of_a_batch(model, **settings):
    """The same loss in all forms."""
    mean = partial(F.cross_entropy, **settings)
    return {
        "mean and count": lambda batch: (mean(model(tensor(batch[0])), batch[1]), len(batch[1])),
        "mean": lambda batch: mean(model(tensor(batch[0])), batch[1]),
        "of outputs": mean,
        "a module": nn.CrossEntropyLoss(**settings),
    }


# ---- losses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "clip_norm": 0.3}])
def test_all_forms_of_a_loss_train_alike(settings):
    records = {}
    for form in losses_of_a_batch(None):
        model = network()
        trainer = make(losses_of_a_batch(model, label_smoothing=0.1)[form], model, **settings)
        trainer.run(2)
        records[form] = [r["train_loss"] for r in trainer.records], model[0].weight.data.tobytes()
    assert len({repr(record) for record in records.values()}) == 1


def test_several_inputs_come_before_the_targets():
    class Both(nn.Module):
        def __init__(self):
            self.inner = nn.Linear(4, 3)

        def forward(self, a, b):
            return self.inner(a + b)

    trainer = make(F.cross_entropy, Both(), DataLoader(ArrayDataset(X, X, Y), 11, seed=0))
    assert trainer.run(1)[0]["train_loss"] > 0


def test_arrays_are_batched_and_shuffled():
    trainer = make(F.cross_entropy, data=TRAINING, batch_size=5)
    assert len(trainer.data) == 3
    assert len(make(F.cross_entropy, data=(X, Y)).data) == 1
    first, second = (np.concatenate([y for _, y in trainer.data]) for _ in range(2))
    assert sorted(first) == sorted(second) == sorted(TRAINING[1])
    assert (first != second).any()
    trainer.run(1)
    assert trainer.step == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": [X]}, r"a batch must be \(inputs, targets\), got batch='ndarray\[22, 4\]'"),
        ({"model": nn.LSTM(4, 3), "data": [(X[None], Y)]}, r"must give one Tensor, got outputs='\(Tensor"),
        ({"loss": lambda batch: tensor(1.0), "data": [3]}, r"let loss give \(mean, how many\), got batch='int'"),
        ({"loss": "cross_entropy"}, "loss must be a function, such as .*, got loss='cross_entropy'"),
        ({"data": X}, r"data must be a tuple of arrays, \(x, y\), or a loader of batches, got data='ndarray'"),
        ({"data": (X, [1])}, r"data must be a tuple of arrays, .* got data='\(ndarray, list\)'"),
        ({"validation": 0.2}, "validation must be a tuple of arrays, .* got validation='float'"),
        ({"batch_size": 3}, "batch_size is of data that are arrays .*, got data='DataLoader'"),
        ({"loss": lambda a, b, c: a}, "loss must be a function of a batch, or of outputs and .*, got parameters=3"),
        ({"callbacks": Progress()}, r"callbacks must be a list, as \[Progress\(\)\], got callbacks=<.*Progress"),
        ({"callbacks": [Progress]}, "callbacks must be a list"),
        ({"validation": HELD_OUT, "metrics": {"loss": max}}, "validation_loss is the mean of the loss: a metric needs"),
        (
            {"validation": HELD_OUT, "metrics": {"all": lambda y, out: out}},
            r"a metric must give one number, got metric='all', given='ndarray\[",
        ),
        ({"metrics": ["accuracy"]}, "metrics are of the data of validation, which is not given"),
        (
            {"validation": HELD_OUT, "metrics": ["f2"]},
            "metrics that are known by name are accuracy, top_5_accuracy; give others as",
        ),
        (
            {"validation": iter([HELD_OUT])},
            "validation must give its batches again in every epoch, .* got validation='tuple_i|l",
        ),
        ({"validation": []}, "validation must have at least one example"),
        ({"cuda_graph": True, "record_gradient_norm": True}, "the norm of gradients that a graph computes"),
    ],
)
def test_what_a_trainer_refuses(change, message):
    with pytest.raises(ArgumentError, match=f"Trainer: .*{message}"):
        make(**({"loss": F.cross_entropy} | change)).run(1)


# ---- validation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", losses_of_a_batch(None))
@pytest.mark.parametrize("loader", [True, False])
def test_validation_measures_as_evaluate_does_and_changes_no_bit_of_the_training(form, loader):
    model = nn.Sequential(network(), nn.Dropout(0.5))
    data = DataLoader(ArrayDataset(*HELD_OUT), 4, seed=0) if loader else HELD_OUT
    metrics = {"accuracy": lambda y, out: (out.argmax(1) == y).mean(), "highest": lambda y, out: out.max()}
    ema = optim.EMA(model.parameters(), 0.5)
    trainer = make(losses_of_a_batch(model)[form], model, validation=data, metrics=metrics, ema=ema)
    record = trainer.run(2)[-1]
    with ema.averages():
        wanted = evaluate(model, *HELD_OUT)
    assert record["validation_loss"] == pytest.approx(wanted.loss, rel=1e-6)
    assert record["validation_accuracy"] == wanted.accuracy
    assert "validation_highest" in record
    alone = nn.Sequential(network(), nn.Dropout(0.5))
    without = make(losses_of_a_batch(alone)[form], alone)
    without.run(2)
    assert [r["train_loss"] for r in trainer.records] == [r["train_loss"] for r in without.records]


def test_files_of_images_stand_for_arrays(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name, colour in (("dark", 20), ("light", 200)):
        (tmp_path / name).mkdir()
        for number in range(6):
            image.new("RGB", (8, 8), (colour,) * 3).save(tmp_path / name / f"{number}.png")
    training, test, _ = image_folder(tmp_path, size=8, seed=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2))
    record = make(F.cross_entropy, model, training, batch_size=4, validation=test, metrics=["accuracy"]).run(40)[-1]
    assert record["validation_accuracy"] == 1.0


def test_metrics_by_name():
    model = network()
    settings = {"validation": HELD_OUT, "metrics": ["accuracy"], "measure": lambda: {"mine": 1.0}}
    record = make(F.cross_entropy, model, **settings).run(1)[-1]
    assert record["validation_accuracy"] == evaluate(model, *HELD_OUT).accuracy
    assert list(record) == ["epoch", "train_loss", "validation_loss", "validation_accuracy", "mine", "seconds"]
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())
    pairs = (X, (Y > 0).astype(np.float32))
    settings = {"data": pairs, "validation": pairs, "metrics": ["accuracy"]}
    record = make(lambda p, y: F.binary_cross_entropy(p, y[:, None]), model, **settings).run(40)[-1]
    assert record["validation_accuracy"] > 0.8


# ---- gradient norms --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clip_norm", [None, 0.01])
def test_norms_of_gradients_are_recorded_before_they_are_limited(clip_norm, tmp_path):
    norms = []

    class Norms(Callback):
        def on_step(self, trainer, loss):
            grads = [p.grad.ravel() for p in trainer.model.parameters()]
            norms.append(float(np.linalg.norm(np.concatenate(grads))))

    settings = {"record_gradient_norm": True, "clip_norm": clip_norm}
    record = make(F.cross_entropy, callbacks=[Norms()], **settings).run(1)[0]
    if clip_norm is None:
        assert record["gradient_norm"] == pytest.approx(np.mean(norms), rel=1e-5)
        assert record["largest_norm"] == pytest.approx(max(norms), rel=1e-5)
    else:
        assert max(norms) < 0.011 < record["gradient_norm"] <= record["largest_norm"]
    saving = Checkpoint(tmp_path, every_steps=2, every_epochs=None)
    make(F.cross_entropy, callbacks=[saving], **settings).run(1)
    resumed = make(F.cross_entropy, callbacks=[saving], **settings)
    saving.resume(resumed)
    again = resumed.run(1)[0]
    assert (again["gradient_norm"], again["largest_norm"]) == (record["gradient_norm"], record["largest_norm"])


# ---- the best weights ------------------------------------------------------------------------------------------------


def test_early_stopping_restores_the_best_weights_also_when_resumed(tmp_path):
    losses, seen = [3.0, 1.0, 2.0, 2.0, 0.0], {}

    class Weights(Callback):
        def on_epoch(self, trainer, record):
            seen[trainer.epoch] = trainer.model[0].weight.data.copy(), trainer.ema.state_dict()

    def stopped(folder, patience=2):
        model = network()
        settings = {"measure": lambda: {"test_loss": losses[trainer.epoch]}, "ema": optim.EMA(model.parameters(), 0.5)}
        stopping = EarlyStopping("test_loss", patience, restore_best=True)
        saving = Checkpoint(tmp_path / folder)
        trainer = make(F.cross_entropy, model, callbacks=[Weights(), stopping, saving], **settings)
        saving.resume(trainer)
        trainer.run(5)
        return trainer, stopping

    trainer, stopping = stopped("a")
    assert (trainer.epoch, stopping.best_epoch) == (4, 2)
    weights, ema = seen[2]
    for each in (trainer, stopped("a")[0]):  # which is ended as soon as it is resumed
        assert each.epoch == 4
        np.testing.assert_array_equal(each.model[0].weight.data, weights)
        for name, value in each.ema.state_dict().items():
            np.testing.assert_equal(value, ema[name])
    assert stopped("a", patience=3)[0].epoch == 5


def test_a_measure_is_rehearsed_without_a_trace():
    def run(**settings):
        model = nn.Sequential(network(), nn.Dropout(0.5), nn.Dropout(0.5).eval())
        calls = []

        def measure():
            calls.append(model.training)
            model.train()
            nn.Dropout(0.5)(tensor(X))
            return {"mine": 1.0}

        trainer = make(F.cross_entropy, model, measure=measure, **settings)
        with_random = [r["train_loss"] for r in trainer.run(1)]
        return with_random, len(calls), model[2].training

    plain = run()
    assert (plain[1], run(callbacks=[EarlyStopping("mine", 3)])) == (1, (plain[0], 2, False))
