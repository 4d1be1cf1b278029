"""The training loop: what it computes, what it yields, and what it leaves when it is stopped."""

from __future__ import annotations

import numpy as np
import pytest

from gpunn import nn, optim
from gpunn.backend import random_generator
from gpunn.errors import ArgumentError, TrainingError
from gpunn.models import lenet
from gpunn.train import evaluate, fit

N = 20


def examples(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points of three classes around three far corners."""
    generator = random_generator(seed)
    labels = np.arange(N) % 3
    corners = np.array([[4, 0], [0, 4], [-4, -4]], np.float32)
    return corners[labels] + generator.standard_normal((N, 2), np.float32), labels


def classifier(seed: int = 0) -> nn.Linear:
    return nn.Linear(2, 3, generator=random_generator(seed))


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return dict(module.state_dict())


def assert_weights(module: nn.Module, expected: dict[str, np.ndarray]) -> None:
    assert set(module.state_dict()) == set(expected)
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


def numpy_loss(model: nn.Linear, x: np.ndarray, y: np.ndarray) -> float:
    """The mean cross entropy in float64, straight from its formula."""
    state = {name: array.astype(np.float64) for name, array in model.state_dict().items()}
    logits = x @ state["weight"].T + state["bias"]
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))


def test_fit_learns_and_reports_each_epoch() -> None:
    train, test = examples(0), examples(1)
    model = classifier()
    before = numpy_loss(model, *train)
    sgd = optim.SGD(model.parameters(), lr=0.1)
    losses = []
    records = []
    generator = random_generator(0)
    for record in fit(
        model,
        sgd,
        train,
        test,
        epochs=5,
        batch_size=8,
        generator=generator,
        on_step=lambda step, loss: losses.append((step, loss)),
    ):
        records.append(record)
        assert record.test_loss == pytest.approx(numpy_loss(model, *test), rel=1e-5)
    assert [r.epoch for r in records] == [1, 2, 3, 4, 5]
    assert [step for step, _ in losses] == list(range(1, 16))  # three batches an epoch: 8, 8, 4
    sizes = np.array([8, 8, 4])
    for i, record in enumerate(records):
        mean = np.dot(sizes, [loss for _, loss in losses[3 * i : 3 * i + 3]]) / N
        assert record.train_loss == pytest.approx(mean, rel=1e-6)
        assert record.seconds > 0
    assert records[-1].train_loss < before / 2
    assert records[-1].test_accuracy == 1.0


def test_a_step_is_gradient_descent_on_the_mean_loss() -> None:
    """One batch of all examples, against the gradient (softmax - onehot)ᵀ x / N."""
    x, y = examples()
    model = classifier()
    old = weights(model)
    logits = x.astype(np.float64) @ old["weight"].T + old["bias"]
    error = np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - np.eye(3)[y]
    sgd = optim.SGD(model.parameters(), lr=0.5)
    list(fit(model, sgd, (x, y), (x, y), epochs=1, batch_size=N, generator=random_generator(0)))
    # float32 sums of 20 terms of order 1
    np.testing.assert_allclose(model.state_dict()["weight"], old["weight"] - 0.5 * error.T @ x / N, atol=2e-6)
    np.testing.assert_allclose(model.state_dict()["bias"], old["bias"] - 0.5 * error.mean(0), atol=2e-6)


def test_augment_sees_training_batches_only() -> None:
    x, y = examples()
    model = classifier()
    seen = []

    def blank(batch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        seen.append(len(batch))
        return np.zeros_like(batch)

    before = weights(model)["weight"]
    sgd = optim.SGD(model.parameters(), lr=1.0)
    generator = random_generator(0)
    (record,) = fit(model, sgd, (x, y), (x, y), epochs=1, batch_size=8, generator=generator, augment=blank)
    assert seen == [8, 8, 4]
    np.testing.assert_array_equal(model.state_dict()["weight"], before)  # blank images give w no gradient
    assert record.test_loss == pytest.approx(numpy_loss(model, x, y), rel=1e-5)


def run(seed: int) -> dict[str, np.ndarray]:
    model = classifier()
    adam = optim.Adam(model.parameters(), lr=0.1)
    list(fit(model, adam, examples(), examples(1), epochs=2, batch_size=3, generator=random_generator(seed)))
    return weights(model)


def test_the_generator_decides_the_order() -> None:
    assert all(np.array_equal(a, b) for a, b in zip(run(1).values(), run(1).values(), strict=True))
    assert not np.array_equal(run(1)["weight"], run(2)["weight"])


@pytest.mark.parametrize(("bad_step", "whole_epochs"), [(1, 0), (3, 0), (4, 1), (8, 2)])  # three steps an epoch
def test_nan_loss_restores_the_last_whole_epoch(bad_step: int, whole_epochs: int) -> None:
    model = classifier()
    kept = [weights(model)]
    calls = 0

    def spoil(batch: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        nonlocal calls
        calls += 1
        return np.full_like(batch, np.nan) if calls == bad_step else batch

    sgd = optim.SGD(model.parameters(), lr=0.1)
    epoch = whole_epochs + 1
    training = fit(
        model, sgd, examples(), examples(1), epochs=5, batch_size=8, generator=random_generator(0), augment=spoil
    )
    with pytest.raises(TrainingError, match=rf"training loss is nan at step {bad_step} \(epoch {epoch}\)"):
        kept.extend(weights(model) for _ in training)
    assert len(kept) == epoch
    assert_weights(model, kept[-1])


def test_nan_that_only_the_test_loss_sees() -> None:
    """The last step of an epoch spoils the weights: no training loss of that epoch shows it."""
    model = classifier()
    before = weights(model)
    sgd = optim.SGD(model.parameters(), lr=0.1)

    def spoil(step: int, loss: float) -> None:
        if step == 3:
            for parameter in model.parameters():
                parameter.data[...] = np.nan

    with pytest.raises(TrainingError, match=r"test loss is nan at step 3 \(epoch 1\)"):
        list(
            fit(
                model,
                sgd,
                examples(),
                examples(1),
                epochs=2,
                batch_size=8,
                generator=random_generator(0),
                on_step=spoil,
            )
        )
    assert_weights(model, before)


def test_ctrl_c_restores_the_last_whole_epoch() -> None:
    model = classifier()
    sgd = optim.SGD(model.parameters(), lr=0.1)
    kept = []

    def interrupt(step: int, loss: float) -> None:
        if step == 5:
            assert not np.array_equal(model.state_dict()["weight"], kept[0]["weight"])
            raise KeyboardInterrupt

    training = fit(
        model, sgd, examples(), examples(1), epochs=5, batch_size=8, generator=random_generator(0), on_step=interrupt
    )
    with pytest.raises(KeyboardInterrupt):
        kept.extend(weights(model) for _ in training)
    assert len(kept) == 1
    assert_weights(model, kept[0])


def test_epochs_below_one() -> None:
    model = classifier()
    sgd = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ArgumentError, match="epochs must be at least 1, got epochs=0"):
        list(fit(model, sgd, examples(), examples(), epochs=0, batch_size=8, generator=random_generator(0)))


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
    sgd = optim.SGD(model.parameters(), lr=0.1)
    list(fit(model, sgd, examples(), examples(), epochs=2, batch_size=N, generator=random_generator(0)))
    assert model[0].modes == [True, False, True, False]


@pytest.mark.parametrize("size", [4, 8, 13])  # the smallest, that of the digits, one that halves to a rounded size
def test_lenet_fits_its_images(size: int) -> None:
    model = lenet(in_channels=2, size=size, classes=3, generator=random_generator(0))
    result = evaluate(model, random_generator(1).random((5, 2, size, size), np.float32), np.arange(5) % 3)
    assert result.predictions.shape == (5,)
    assert result.loss == pytest.approx(np.log(3), abs=0.3)  # fresh weights: all classes about equally likely


def test_lenet_is_drawn_by_its_generator() -> None:
    first, again, other = (weights(lenet(generator=random_generator(seed))) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["0.weight"], other["0.weight"])
    with pytest.raises(ArgumentError, match="size must be at least 4"):
        lenet(size=3)
