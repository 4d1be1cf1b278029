"""The trainer: what a step computes, what an epoch records, and that a run can be left and taken up after any step."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import autocast, nn, optim, tensor
from gpunn import functional as F
from gpunn.backend import default_generator, manual_seed, random_generator
from gpunn.checkpoint import load_checkpoint, save_checkpoint
from gpunn.data import ArrayDataset, DataLoader
from gpunn.errors import ArgumentError, FileError, GpunnError, PackageError, ShapeError, TrainingError
from gpunn.models import lenet
from gpunn.optim import schedule as schedules
from gpunn.train import Callback, Checkpoint, EarlyStopping, JsonLines, TimeLimit, Trainer, evaluate, predict

N = 20


def examples(seed: int = 0, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Points of three classes around three far corners."""
    labels = np.arange(N) % 3
    corners = np.array([[4, 0], [0, 4], [-4, -4]], dtype)
    return corners[labels] + random_generator(seed).standard_normal((N, 2)).astype(dtype), labels


def classifier(seed: int = 0) -> nn.Linear:
    return nn.Linear(2, 3, generator=random_generator(seed))


def cross_entropy(model: nn.Module) -> Callable[[Any], Any]:
    return lambda batch: (F.cross_entropy(model(tensor(batch[0])), batch[1]), len(batch[1]))


def minibatches(batch_size: int, seed: int = 0, augment: Any = None) -> DataLoader:
    """The examples, in a new order each epoch; ``augment(x, generator)`` changes the points."""

    def moved(batch: Any, generator: np.random.Generator) -> Any:
        return (batch[0] if augment is None else augment(batch[0], generator)), batch[1]

    return DataLoader(ArrayDataset(*examples()), batch_size, shuffle=True, seed=seed, augment=moved)


def simple(model: nn.Module | None = None, batch_size: int = 8, lr: float = 0.1, **settings: Any) -> Trainer:
    """Gradient descent on the examples; three steps an epoch."""
    model = classifier() if model is None else model
    data = minibatches(batch_size, seed=settings.pop("seed", 0), augment=settings.pop("augment", None))
    settings.setdefault(
        "measure", lambda: dict(zip(("test_loss", "test_accuracy"), evaluate(model, *examples(1))[:2], strict=True))
    )
    return Trainer(model, optim.SGD(model.parameters(), lr=lr), data, cross_entropy(model), **settings)


def rich(precision: str = "fp32", **settings: Any) -> Trainer:
    """All that has a state: dropout with a generator of its own and with the default one, batch norm, and the rest."""
    manual_seed(5)
    g = random_generator(1)
    model = nn.Sequential(
        nn.Linear(2, 8, generator=g), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3, generator=random_generator(7)),
        nn.Dropout(0.2), nn.Linear(8, 3, generator=g),
    )  # fmt: skip
    sgd = optim.SGD(model.named_parameters(), lr=0.1, momentum=0.9)

    def moved(x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return x + generator.normal(scale=0.1, size=x.shape).astype(x.dtype)

    trainer = Trainer(
        model, sgd, minibatches(3, seed=2, augment=moved), cross_entropy(model), precision=precision,
        measure=lambda: {"test_loss": evaluate(model, *examples(1)).loss},
        schedule=schedules.CosineAnnealingLR(sgd, T_max=20), ema=optim.EMA(model.named_parameters(), decay=0.9),
        clip_norm=0.5, clip_value=0.3, accumulate=2, **settings,
    )  # fmt: skip
    if trainer.scaler is not None:  # so large that steps are skipped, and soon larger again
        trainer.scaler = optim.GradScaler(init_scale=2.0**20, growth_interval=2)
    return trainer


def comparable(trainer: Trainer) -> Any:
    """The state with arrays as bytes and without wall times."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if k != "seconds"}
        return [plain(v) for v in value] if isinstance(value, list | tuple) else value

    return plain(trainer.state_dict())


class StopAt(Callback):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.step == self.step:
            raise KeyboardInterrupt


EPOCHS, STEPS = 3, 12  # 7 batches an epoch, two by two: 4 steps


@pytest.fixture(scope="module", params=["fp32", "bf16", "fp16"])
def precision(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def uninterrupted(precision: str) -> Any:
    trainer = rich(precision)
    trainer.run(EPOCHS)
    assert trainer.step == STEPS
    if trainer.scaler is not None:
        assert 0 < sum(record["skipped_steps"] for record in trainer.records) < STEPS
    return comparable(trainer)


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_resuming_after_any_step_gives_the_run_that_was_never_left(
    step: int, precision: str, uninterrupted: Any, tmp_path: Path
) -> None:
    first = rich(precision, callbacks=[Checkpoint(tmp_path, every_epochs=None), StopAt(step)])
    with pytest.raises(KeyboardInterrupt):
        first.run(EPOCHS)
    assert sorted(os.listdir(tmp_path)) == [f"step-{step:09d}.safetensors"]
    default_generator().random(3)  # as another process would have it elsewhere
    saving = Checkpoint(tmp_path, every_epochs=None)
    second = rich(precision, callbacks=[saving])
    for p in second.model.parameters():
        p.data += 1  # whatever a new process begins with is overwritten
    assert saving.resume(second)
    assert second.step == step
    second.run(EPOCHS)
    state = comparable(second)
    assert state.pop("callback Checkpoint 0") == {"best": math.inf, "best_step": -1}
    assert state == uninterrupted


def test_a_chain_of_resumptions(precision: str, uninterrupted: Any, tmp_path: Path) -> None:
    """Left after every single step."""
    for step in range(1, STEPS + 1):
        saving = Checkpoint(tmp_path, every_epochs=None, every_steps=1)
        trainer = rich(precision, callbacks=[saving, StopAt(step)])
        assert saving.resume(trainer) is (step > 1)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(EPOCHS)
    saving = Checkpoint(tmp_path)
    last = rich(precision, callbacks=[saving])
    saving.resume(last)
    last.run(EPOCHS)
    state = comparable(last)
    state.pop("callback Checkpoint 0")
    assert state == uninterrupted


class Slower(Callback):
    """Sets the learning rate by hand after a step; ``state`` is that of the trainer then."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.step == 5:
            trainer.optimizer.lr = 1e-3
            self.state = trainer.state_dict()


def test_a_rate_set_by_hand_is_resumed() -> None:
    """It holds until the schedule sets another: the sixth step is taken by it, in a resumed run too."""
    slower = Slower()
    whole, resumed = rich(callbacks=[slower]), rich()
    whole.run(EPOCHS)
    resumed.load_state_dict(slower.state)
    assert resumed.optimizer.lr == 1e-3
    resumed.run(EPOCHS)
    assert comparable(resumed) == comparable(whole)


def test_a_loop_by_hand_gives_the_same_weights() -> None:
    """Momentum, schedule, clipping and averages, written out; one batch a step."""
    trained = []
    for by_hand in (True, False):
        model = classifier()
        sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        cosine, ema = schedules.CosineAnnealingLR(sgd, T_max=9), optim.EMA(model.parameters(), decay=0.9)
        data = minibatches(8)
        if by_hand:
            for _ in range(3):
                for x, y in data:
                    sgd.zero_grad()
                    F.cross_entropy(model(tensor(x)), y).backward()
                    optim.clip_grad_norm(model.parameters(), 0.5)
                    sgd.step()
                    cosine.step()
                    ema.update()
        else:
            Trainer(model, sgd, data, cross_entropy(model), schedule=cosine, ema=ema, clip_norm=0.5).run(3)
        trained.append([a.tobytes() for a in (*model.state_dict().values(), ema.state_dict()["averages.0"])])
    assert trained[0] == trained[1]


def numpy_loss(model: nn.Module, x: np.ndarray, y: np.ndarray) -> float:
    """The mean cross entropy in float64, straight from its formula."""
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    logits = x @ state["weight"].T + state["bias"]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))


class Losses(Callback):
    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_step(self, trainer: Trainer, loss: float) -> None:
        self.seen.append((trainer.step, loss))


def test_it_learns_and_records_each_epoch() -> None:
    losses = Losses()
    trainer = simple(callbacks=[losses])
    before = numpy_loss(trainer.model, *examples())
    records = trainer.run(5)
    assert [r["epoch"] for r in records] == [1, 2, 3, 4, 5]
    assert [step for step, _ in losses.seen] == list(range(1, 16))
    for i, record in enumerate(records):
        mean = np.dot([8, 8, 4], [loss for _, loss in losses.seen[3 * i : 3 * i + 3]]) / N
        assert record["train_loss"] == pytest.approx(mean, rel=1e-12)
        assert record["seconds"] > 0
    assert sum(r["seconds"] for r in records) <= trainer.seconds
    assert records[-1]["train_loss"] < before / 2
    assert records[-1]["test_accuracy"] == 1.0
    assert records[-1]["test_loss"] == pytest.approx(numpy_loss(trainer.model, *examples(1)), rel=1e-5)
    assert trainer.run(5) is trainer.records  # nothing is left to do
    assert len(trainer.run(6)) == 6


@pytest.mark.parametrize(("batch_size", "accumulate"), [(N, 1), (8, 3), (1, N), (7, 5)])
def test_a_step_is_gradient_descent_on_the_mean_over_all_its_examples(batch_size: int, accumulate: int) -> None:
    """Also if the batches it is gathered from differ in size: against (softmax - onehot)ᵀ x / N."""
    x, y = examples()
    model = classifier()
    old = model.state_dict()
    logits = x.astype(np.float64) @ old["weight"].T + old["bias"]
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[y]
    trainer = simple(model, batch_size, lr=0.5, accumulate=accumulate)
    trainer.run(1)
    assert trainer.step == 1
    # float32 sums of 20 terms of order 1
    np.testing.assert_allclose(model.state_dict()["weight"], old["weight"] - 0.5 * error.T @ x / N, atol=2e-6)
    np.testing.assert_allclose(model.state_dict()["bias"], old["bias"] - 0.5 * error.mean(0), atol=2e-6)


def test_clipping() -> None:
    for setting, measured in (
        ("clip_norm", lambda d: np.sqrt((d**2).sum())),
        ("clip_value", lambda d: np.abs(d).max()),
    ):
        model = classifier()
        old = np.concatenate([a.ravel() for a in model.state_dict().values()]).astype(np.float64)
        simple(model, batch_size=N, lr=1.0, **{setting: 1e-3}).run(1)
        new = np.concatenate([a.ravel() for a in model.state_dict().values()])
        assert measured(new - old) == pytest.approx(1e-3, rel=1e-2)  # steps of 1e-3 from weights of 1, in float32


def test_the_averaged_weights_are_measured() -> None:
    model = classifier()
    ema = optim.EMA(model.parameters(), decay=0.9)
    seen = []
    sgd = optim.SGD(model.parameters(), lr=0.1)
    Trainer(
        model, sgd, minibatches(8), cross_entropy(model), ema=ema,
        measure=lambda: {"w": seen.append(model.weight.numpy().copy()) or 0.0},
    ).run(1)  # fmt: skip
    np.testing.assert_array_equal(seen[0], ema.state_dict()["averages.0"])
    assert not np.array_equal(seen[0], model.weight.numpy())


def test_the_seed_decides_the_order() -> None:
    def trained(seed: int) -> bytes:
        trainer = simple(seed=seed)
        trainer.run(2)
        return bytes(trainer.model.weight.numpy().tobytes())

    assert trained(1) == trained(1) != trained(2)


# ---- evaluation ---------------------------------------------------------------------------------------


def test_evaluate_against_the_formula() -> None:
    x, y = examples()
    model = classifier(seed=3)
    result = evaluate(model, x, y, batch_size=7)  # 7: the last batch is a short one
    state = model.state_dict()
    expected = (x @ state["weight"].T + state["bias"]).argmax(1)
    np.testing.assert_array_equal(result.predictions, expected)
    assert result.accuracy == pytest.approx(np.mean(expected == y))
    assert result.loss == pytest.approx(numpy_loss(model, x, y), rel=1e-5)
    assert 0 < result.accuracy < 1  # an untrained classifier, or the line above shows nothing


def test_predictions_are_the_outputs_in_evaluation() -> None:
    x, _ = examples()
    model = nn.Sequential(classifier(), nn.Dropout(0.5))
    before = default_generator().bit_generator.state["state"]["counter"].tolist()
    np.testing.assert_allclose(predict(model, x, batch_size=7), model[0](tensor(x)).data, rtol=1e-6)
    assert model.training
    assert default_generator().bit_generator.state["state"]["counter"].tolist() == before


def test_nothing_to_measure() -> None:
    x, y = examples()
    with pytest.raises(ShapeError, match=r"predict: x must not be empty, got x=\(0, 2\)"):
        predict(classifier(), x[:0])
    with pytest.raises(ShapeError, match=r"evaluate: x and y must not be empty, got x=\(0, 2\), y=\(0,\)"):
        evaluate(classifier(), x[:0], y[:0])
    with pytest.raises(ShapeError, match=r"arrays must have one length, got lengths=\[20, 3\]"):
        evaluate(classifier(), x, y[:3])


class Spy(nn.Module):
    """Passes its input on, and notes in which mode it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, x: object) -> object:
        self.modes.append(self.training)
        return x


def test_evaluation_mode_is_on_for_the_test_and_put_back() -> None:
    spy = Spy()
    scores = np.eye(3, dtype=np.float32)
    evaluate(spy, scores, np.arange(3))
    assert spy.training
    spy.eval()
    evaluate(spy, scores, np.arange(3))
    assert not spy.training
    assert spy.modes == [False, False]

    model = nn.Sequential(Spy(), classifier())
    simple(model, batch_size=N).run(2)
    assert model[0].modes == [True, False, True, False]


@pytest.mark.parametrize("size", [4, 8, 13])  # the smallest, that of the digits, one that halves to a rounded size
def test_lenet_fits_its_images(size: int) -> None:
    model = lenet(in_channels=2, size=size, classes=3, generator=random_generator(0))
    result = evaluate(model, random_generator(1).random((5, 2, size, size), np.float32), np.arange(5) % 3)
    assert result.predictions.shape == (5,)
    assert result.loss == pytest.approx(np.log(3), abs=0.3)  # fresh weights: all classes about equally likely


def test_lenet_is_drawn_by_its_generator() -> None:
    first, again, other = (lenet(generator=random_generator(seed)).state_dict() for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["0.weight"], other["0.weight"])
    with pytest.raises(ArgumentError, match="size must be at least 4"):
        lenet(size=3)


# ---- numbers that are not finite -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("bad_step", "whole_epochs"), [(1, 0), (3, 0), (4, 1), (8, 2)])  # three steps an epoch
def test_a_loss_that_is_nan_restores_the_last_whole_epoch(bad_step: int, whole_epochs: int) -> None:
    calls = 0

    def spoil(x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.full_like(x, np.nan) if calls == bad_step else x

    class Keep(Callback):
        weights = None

        def on_epoch(self, trainer: Trainer, record: Any) -> None:
            self.weights = trainer.model.state_dict()

    keep = Keep()
    trainer = simple(augment=spoil, callbacks=[keep])
    keep.weights = trainer.model.state_dict()
    message = rf"training loss is nan at step {bad_step} \(epoch {whole_epochs + 1}\); first in the batch itself"
    with pytest.raises(TrainingError, match=message):
        trainer.run(5)
    assert len(trainer.records) == whole_epochs
    for name, array in trainer.model.state_dict().items():
        np.testing.assert_array_equal(array, keep.weights[name])
    with pytest.raises(ArgumentError, match="load a checkpoint first"):
        trainer.run(5)
    with pytest.raises(ArgumentError, match="there is no state to save"):
        trainer.state_dict()


class Root(nn.Module):
    """Infinite slope at 0."""

    def forward(self, x: Any) -> Any:
        return (x * 0.0) ** 0.5 + x


def test_the_first_layer_is_named() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    model[2].weight.data[0, 0] = 1e30
    model[0].weight.data[...] = 1e30
    with pytest.raises(TrainingError, match=r"step 1 \(epoch 1\); first forward, in the output of '2' \(Linear\); the"):
        simple(model).run(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    trainer = simple(model)
    model[2].bias.data[1] = np.nan
    with pytest.raises(TrainingError, match=r"output of '2' \(Linear\), whose bias is not finite itself"):
        trainer.run(1)
    model = nn.Sequential(nn.Linear(2, 4), Root(), nn.Linear(4, 3))
    before = model.state_dict()
    message = r"the gradient is not finite at step 1 .*; first backward, in the gradient of weight of '0' \(Linear\)"
    with pytest.raises(TrainingError, match=message):
        simple(model).run(1)
    assert all(np.array_equal(a, before[name]) for name, a in model.state_dict().items())


def test_the_failing_step_is_repeated_with_the_same_masks() -> None:
    """Only one draw in many lets the infinite weight through."""
    manual_seed(3)
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(2, 3))
    model[1].weight.data[0, 0] = np.float32(3e38)
    message = r"first forward, in the (output of '1'|loss)"
    with pytest.raises(TrainingError, match=message):
        simple(model, batch_size=1, lr=0.0).run(20)


def test_a_large_gradient_is_finite() -> None:
    """Its squares are not."""
    model = classifier()
    data = minibatches(N)

    def steep(batch: Any) -> Any:
        return model(tensor(batch[0])).sum() * 1e20, N

    trainer = Trainer(model, optim.SGD(model.parameters(), lr=1e-20), data, steep)
    trainer.run(1)
    assert trainer.step == 1


# ---- mixed precision -------------------------------------------------------------------------------------------------


class Dtypes(nn.Module):
    """Passes on what it gets, and remembers in which dtypes."""

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def forward(self, x: Any) -> Any:
        self.seen.add(str(x.dtype))
        return x


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16"), ("fp32", "float32")])
def test_weights_and_states_stay_float32(precision: str, dtype: str) -> None:
    spy, g = Dtypes(), random_generator(0)
    model = nn.Sequential(nn.Linear(2, 8, generator=g), spy, nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3, generator=g))
    adam = optim.Adam(model.parameters(), lr=0.05)
    measured = []

    def measure() -> dict[str, float]:
        training, spy.seen = set(spy.seen), set()
        measured.append((training, evaluate(model, *examples(1)).accuracy, set(spy.seen)))
        spy.seen = set()
        return {}

    ema = optim.EMA(model.parameters(), decay=0.5)
    settings: Any = {"measure": measure, "ema": ema, "precision": precision}
    trainer = Trainer(model, adam, minibatches(4), cross_entropy(model), **settings)
    trainer.run(20)
    assert all(training == {dtype} for training, *_ in measured)
    assert all(measuring == {"float32"} for *_, measuring in measured)
    assert measured[-1][1] > 0.9
    arrays = [*model.state_dict().values(), *(p.grad for p in model.parameters())]
    arrays += [a for part in (adam, ema) for a in part.state_dict().values() if isinstance(a, np.ndarray)]
    assert {a.dtype for a in arrays if a.dtype.kind != "i"} == {np.dtype(np.float32)}  # batches are counted, too


@pytest.mark.parametrize("accumulate", [1, 3])
def test_bf16_is_a_loop_under_autocast_and_fp16_one_with_a_scaler(accumulate: int) -> None:
    for precision in ("bf16", "fp16"):
        trained = []
        for by_hand in (True, False):
            model = classifier()
            sgd = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
            data = minibatches(5)
            if by_hand:
                scaler = optim.GradScaler(init_scale=256.0)
                for _ in range(2):
                    batches = list(data)
                    for start in range(0, len(batches), accumulate):
                        group = batches[start : start + accumulate]
                        total = sum(len(y) for _, y in group)
                        sgd.zero_grad()
                        for x, y in group:
                            with autocast(precision):
                                loss = F.cross_entropy(model(tensor(x)), y)
                            scaled = scaler.scale(loss) if precision == "fp16" else loss
                            scaled.backward(np.asarray(len(y) if accumulate > 1 else 1, np.float32))
                        for p in model.parameters():
                            p.grad = p.grad if accumulate == 1 else p.grad / total
                        if precision == "fp16":
                            scaler.step(sgd)
                            scaler.update()
                        else:
                            sgd.step()
            else:
                trainer = Trainer(model, sgd, data, cross_entropy(model), precision=precision, accumulate=accumulate)
                if trainer.scaler is not None:
                    trainer.scaler = optim.GradScaler(init_scale=256.0)
                trainer.run(2)
            trained.append(model.state_dict())
        for name, array in trained[0].items():
            np.testing.assert_array_equal(array, trained[1][name])


def test_a_step_that_overflows_is_skipped_and_counted() -> None:
    """In the second epoch the gradients of one batch are beyond float16."""
    model = classifier()
    seen = []

    def loss(batch: Any) -> Any:
        y, count = cross_entropy(model)(batch)
        return y * (1e6 if trainer.step == 4 else 1.0), count

    class Weights(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            assert trainer.scaler is not None
            average = ema.state_dict()["averages.0"]
            seen.append((model.weight.data.copy(), average, trainer.scaler.get_scale(), sgd.lr))

    sgd = optim.SGD(model.parameters(), lr=0.1)
    schedule = schedules.CosineAnnealingLR(sgd, T_max=20)
    ema = optim.EMA(model.parameters(), decay=0.5)
    trainer = Trainer(
        model, sgd, minibatches(8), loss, precision="fp16", callbacks=[Weights()], schedule=schedule, ema=ema
    )
    trainer.scaler = optim.GradScaler(init_scale=1024.0)
    records = trainer.run(3)
    assert [record["skipped_steps"] for record in records] == [0, 1, 0]
    for kind in (0, 1):
        assert np.array_equal(seen[3][kind], seen[4][kind])
    assert [scale for *_, scale, _ in seen] == [1024.0] * 4 + [512.0] * 5
    assert len({lr for *_, lr in seen}) == 9  # the schedule goes by batches
    assert "skipped_steps" not in simple().run(1)[0]


def test_a_gradient_that_no_scale_makes_finite() -> None:
    g = random_generator(0)
    model = nn.Sequential(nn.Linear(2, 4, generator=g), Root(), nn.Linear(4, 3, generator=g))
    trainer = simple(model, precision="fp16", measure=None)
    message = r"the gradient is not finite at step 17 .*; first backward, in the gradient of weight of '0' \(Linear\)"
    with pytest.raises(TrainingError, match=message):
        trainer.run(20)
    assert trainer.scaler is not None
    assert trainer.scaler.get_scale() == 1


def test_a_loss_beyond_float16_is_an_error_at_once() -> None:
    """And the layer is found as it was computed: in float32 it would be finite."""
    model = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))
    model[0].weight.data[...] = 1e5
    with pytest.raises(TrainingError, match=r"at step 1 \(epoch 1\); first forward, in the output of '0' \(Linear\)"):
        simple(model, precision="fp16").run(1)


def test_a_state_of_another_precision_is_refused() -> None:
    with pytest.raises(ArgumentError, match="trainer with other settings, .*'bf16'.*'fp32'"):
        simple().load_state_dict(simple(precision="bf16").state_dict())
    with pytest.raises(ArgumentError, match=r"other parts: the state has scaler, the trainer no more"):
        simple().load_state_dict(simple(precision="fp16").state_dict())
    with pytest.raises(ArgumentError, match="Trainer: precision must be one of fp32, bf16, fp16, got precision='half'"):
        simple(precision="half")
    with pytest.raises(ArgumentError, match="captured computes in fp32, got precision='bf16', cuda_graph=True"):
        simple(precision="bf16", cuda_graph=True)


def test_a_missing_package_is_told_of_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(PackageError, match="Trainer: bf16 needs ml_dtypes"):
        simple(precision="bf16")


def test_nan_that_only_the_test_loss_sees() -> None:
    class Spoil(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.step == 3:
                for p in trainer.model.parameters():
                    p.data[...] = np.nan

    trainer = simple(callbacks=[Spoil()])
    before = trainer.model.state_dict()
    with pytest.raises(TrainingError, match=r"test loss is nan at step 3 \(epoch 1\); the model is back"):
        trainer.run(2)
    assert all(np.array_equal(a, before[name]) for name, a in trainer.model.state_dict().items())


# ---- being stopped -------------------------------------------------------------------------------------------------


class Kill(Callback):
    """Sends this process a signal while a step is under way: from the loss function."""

    def __init__(self, number: signal.Signals, step: int, times: int = 1) -> None:
        self.number, self.step, self.times = number, step, times

    def wrap(self, trainer: Trainer) -> None:
        loss = trainer.loss

        def killing(batch: Any) -> Any:
            if trainer.step + 1 == self.step:
                for _ in range(self.times):
                    os.kill(os.getpid(), self.number)
            return loss(batch)

        trainer.loss = killing


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_when_the_step_is_whole(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background has it ignored
    try:
        kill, saving = Kill(number, 5), Checkpoint(tmp_path, every_epochs=None)
        trainer = simple(callbacks=[kill, saving])
        kill.wrap(trainer)
        with pytest.raises(KeyboardInterrupt, match=number.name):
            trainer.run(3)
        assert trainer.step == 5
        assert saving.checkpoints.steps() == [5]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def test_a_second_ctrl_c_is_not_waited_for_and_half_a_step_is_not_saved(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        kill, saving = Kill(signal.SIGINT, 5, times=2), Checkpoint(tmp_path)
        trainer = simple(callbacks=[kill, saving])
        kill.wrap(trainer)
        with pytest.raises(KeyboardInterrupt):
            trainer.run(3)
        assert saving.checkpoints.steps() == [3]  # of the first epoch
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_the_users_own_stays() -> None:
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        kill = Kill(signal.SIGTERM, 2)
        trainer = simple(callbacks=[kill])
        kill.wrap(trainer)
        trainer.run(1)
        assert heard == [1]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread() -> None:
    trainer = simple()
    thread = threading.Thread(target=trainer.run, args=(1,))
    thread.start()
    thread.join()
    assert trainer.epoch == 1


def test_early_stopping_counts_over_a_resumption(tmp_path: Path) -> None:
    def run(epochs: int, folder: Path) -> tuple[int, list[float]]:
        losses = [5, 4, 4.5, 4.5, 3.9, 4, 4, 4, 1]
        saving = Checkpoint(folder)
        trainer = simple(
            measure=lambda: {"test_loss": losses[trainer.epoch]}, callbacks=[EarlyStopping("test_loss", 3), saving]
        )
        saving.resume(trainer)
        trainer.run(epochs)
        return trainer.epoch, [r["test_loss"] for r in trainer.records]

    assert run(9, tmp_path / "whole")[0] == 8
    assert run(6, tmp_path / "parts")[0] == 6
    assert run(9, tmp_path / "parts") == (8, [5, 4, 4.5, 4.5, 3.9, 4, 4, 4])


def test_a_time_limit_ends_as_ctrl_c_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    class Clock(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            nonlocal now
            now += 10

    saving = Checkpoint(tmp_path, every_epochs=None)
    trainer = simple(callbacks=[Clock(), TimeLimit(35), saving])
    with pytest.raises(KeyboardInterrupt, match="the time limit of 35 s"):
        trainer.run(9)
    assert saving.checkpoints.steps() == [4]


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_the_last_and_the_best_stay(tmp_path: Path) -> None:
    accuracies = [0.5, 0.9, 0.7, 0.8, 0.6]
    saving = Checkpoint(tmp_path, keep=2, best="test_accuracy", mode="max")
    trainer = simple(measure=lambda: {"test_accuracy": accuracies[trainer.epoch]}, callbacks=[saving])
    trainer.run(5)
    assert saving.checkpoints.steps() == [6, 12, 15]
    assert saving.best_path == tmp_path / "step-000000006.safetensors"
    again = Checkpoint(tmp_path, best="test_accuracy", mode="max")
    again.resume(simple(callbacks=[again]))
    assert again.best_path == saving.best_path


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = Checkpoint(tmp_path)

    class Fill(Callback):
        def on_step(self, trainer: Trainer, loss: float) -> None:
            if trainer.step == 5:
                monkeypatch.setattr(os, "fsync", full)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    trainer = simple(callbacks=[Fill(), saving])
    with pytest.raises(
        FileError, match=r"step-000000006\.safetensors: the checkpoint cannot be written: No space left"
    ):
        trainer.run(3)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["step-000000003.safetensors"]
    resumed = simple(callbacks=[saving])
    assert saving.resume(resumed)
    assert resumed.step == 3


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    saving = Checkpoint(tmp_path, about={"batch_size": 8, "seed": 0})
    simple(callbacks=[saving]).run(1)
    other = Checkpoint(tmp_path, about={"batch_size": 4, "seed": 0})
    with pytest.raises(FileError, match=r"of another run: batch_size was 8, and is 4$"):
        other.resume(simple(callbacks=[other]))


def test_another_trainer_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    saving = Checkpoint(tmp_path)
    simple(callbacks=[saving]).run(1)
    state = saving.checkpoints.load_newest()

    def refuse(trainer: Trainer, message: str) -> None:
        before = comparable(trainer)
        with pytest.raises(GpunnError, match=message):
            trainer.load_state_dict(state)
        assert comparable(trainer) == before

    state.pop("about")
    state.pop("callback Checkpoint 0")
    refuse(
        simple(nn.Linear(2, 4)), r"another network: 'bias' is float32\[3\], where float32\[4\] is needed; 'weight' is"
    )
    refuse(
        simple(nn.Sequential(classifier())), r"it lacks '0\.bias', float32\[3\]; .*its 'bias', float32\[3\], is unknown"
    )
    refuse(
        simple(batch_size=4),
        r"a loader with other batches_per_epoch \(another batch size, or drop_last\), got state=3, loader=5",
    )
    refuse(simple(accumulate=2), "other settings, got state=.*'accumulate': 1.*own=.*'accumulate': 2")
    model = classifier()
    refuse(simple(model, ema=optim.EMA(model.parameters())), "other parts: the state has no more, the trainer ema")
    adam = Trainer(model, optim.Adam(model.parameters()), minibatches(8), cross_entropy(model))
    refuse(adam, "the state is of a trainer with another optimizer, got state='SGD', own='Adam'")


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": None}, {"epoch": -1}, {"step": 1.5}, {"skipped": True}, {"total": "1"}, {"examples": None},
        {"drained": 0}, {"records": {}}, {"records": [1]}, {"seconds": {"run": 1.0, "epoch": None}}, {"seconds": {}},
        {"settings": None}, {"optimizer": 3},
    ],
    ids=str,
)  # fmt: skip
def test_a_state_of_no_trainer_is_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    saved = simple(callbacks=[Checkpoint(tmp_path)])
    saved.run(1)
    (path,) = tmp_path.iterdir()
    state = load_checkpoint(path)
    save_checkpoint(state | {"trainer": state["trainer"] | change}, path)
    saving = Checkpoint(tmp_path)
    trainer = simple(callbacks=[saving])
    before = comparable(trainer)
    (name,) = change
    with pytest.raises(FileError, match=rf"^{re.escape(str(tmp_path))}: the newest checkpoint is not of this .*{name}"):
        saving.resume(trainer)
    assert comparable(trainer) == before


def test_json_lines_have_each_epoch_once(tmp_path: Path) -> None:
    log, folder = tmp_path / "metrics.jsonl", tmp_path / "checkpoints"

    class DieBeforeSaving(Callback):
        def on_epoch(self, trainer: Trainer, record: Any) -> None:
            if trainer.epoch == 2:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        simple(callbacks=[JsonLines(log), DieBeforeSaving(), Checkpoint(folder)]).run(3)
    assert len(log.read_text().splitlines()) == 2  # one more than is saved
    saving = Checkpoint(folder)
    trainer = simple(callbacks=[JsonLines(log), saving])
    saving.resume(trainer)
    trainer.run(3)
    assert [json.loads(line) for line in log.read_text().splitlines()] == trainer.records
    with pytest.raises(FileError, match="the records cannot be written there: Is a directory"):
        simple(callbacks=[JsonLines(tmp_path)]).run(1)


def test_data_without_a_state() -> None:
    model = classifier()
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), [examples()], cross_entropy(model))
    trainer.run(2)
    with pytest.raises(
        ArgumentError, match="data must have state_dict and load_state_dict to be saved, got data='list'"
    ):
        trainer.state_dict()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda y: y.item(), "loss must give the mean over a batch, a Tensor of one number, or .*, got loss='float'"),
        (lambda y: (y,), r"loss must give .* got loss='\(Tensor\[\]\)'"),
        (lambda y: (y, 8, 3), "loss must give .*int, int"),
        (lambda y: (float(y.item()), 8), r"loss must give .* got loss='\(float, int\)'"),
        (lambda y: None, "loss must give .* got loss='NoneType'"),
        (lambda y: F.concatenate([y.reshape(1)] * 2), r"loss must give .* got loss='\(Tensor\[2\], int\)'"),
        (lambda y: (y, 0), "a loss must be the mean of at least one example, got examples=0"),
        (lambda y: (y, -2), "got examples=-2"),
        (lambda y: (y, None), "got examples=None"),
        (lambda y: (y, np.nan), "got examples=nan"),
    ],
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_a_loss_must_give(given: Any, message: str, accumulate: int) -> None:
    model = classifier()
    before = model.weight.data.copy()
    mean = cross_entropy(model)
    trainer = Trainer(
        model, optim.SGD(model.parameters(), lr=0.1), minibatches(8), lambda batch: given(mean(batch)[0]),
        accumulate=accumulate,
    )  # fmt: skip
    with pytest.raises(ArgumentError, match=f"Trainer: .*{message}"):
        trainer.run(1)
    np.testing.assert_array_equal(model.weight.data, before)


@pytest.mark.parametrize("count", [8, np.int64(8), np.float32(8), np.array(8)])
def test_a_count_may_be_any_number(count: Any) -> None:
    model = classifier()
    mean = cross_entropy(model)
    trainer = Trainer(
        model, optim.SGD(model.parameters(), lr=0.1), minibatches(8), lambda batch: (mean(batch)[0], count)
    )
    assert np.isfinite(trainer.run(1)[0]["train_loss"])


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="epochs must be an integer of at least 1, got epochs=0"):
        simple().run(0)
    with pytest.raises(ArgumentError, match="accumulate must be an integer of at least 1, got accumulate=0"):
        simple(accumulate=0)
    model = classifier()
    with pytest.raises(ArgumentError, match="an epoch must have at least one batch"):
        Trainer(model, optim.SGD(model.parameters(), lr=0.1), [], cross_entropy(model)).run(1)
    for call, message in (
        (lambda: Checkpoint(tmp_path, every_steps=0), "every_steps must be an integer of at least 1"),
        (lambda: Checkpoint(tmp_path, keep=0), "keep must be an integer of at least 1"),
        (lambda: Checkpoint(tmp_path, mode="most"), "mode must be one of min, max"),
        (lambda: EarlyStopping("test_loss", 0), "patience must be an integer of at least 1"),
        (lambda: TimeLimit(0), "seconds must be above 0"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()
