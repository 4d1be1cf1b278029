"""What ``Trainer`` costs: one run by it and by a loop written by hand, a step of each in turn.

``cd bench && python -m pytest bench_trainer.py``. The report's row is the time of an epoch, with its measure of the
test images. The two take turns after each step, and what is counted is the processor's time of their one thread, which
on a quiet machine is all the time there is; an epoch is the sum, over its steps and its end, of the least of all
epochs. So a busy machine disturbs it little.
"""

import time
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from gpunn import functional as F
from gpunn import optim, tensor
from gpunn.backend import random_generator
from gpunn.data import ArrayDataset, DataLoader, digits
from gpunn.models import lenet
from gpunn.train import Callback, Trainer, evaluate

BATCH, EPOCHS = 32, 30


def parts():
    train, test = digits(0)
    model = lenet(generator=random_generator(0))
    loader = DataLoader(ArrayDataset(*train), BATCH, shuffle=True, seed=0)
    return model, optim.Adam(model.parameters(), lr=0.005), loader, test


def by_hand() -> tuple[Iterator[None], Callable[[], dict]]:
    """A generator that stops after each step and each epoch, and a function that gives the weights."""
    model, adam, loader, test = parts()

    def loop():
        records = []
        for epoch in range(1, EPOCHS + 1):
            total, examples = 0.0, 0
            model.train()
            for images, labels in loader:
                adam.zero_grad()
                loss = F.cross_entropy(model(tensor(images)), labels)
                loss.backward()
                adam.step()
                total, examples = total + float(loss.item()) * len(labels), examples + len(labels)
                yield
            records.append({"epoch": epoch, "loss": total / examples, "accuracy": evaluate(model, *test).accuracy})
            yield

    return loop(), model.state_dict


class InTurn(Callback):
    """After each step and epoch of the trainer, one of ``other``; ``spent`` has the seconds of both."""

    def __init__(self, other: Iterator[None]) -> None:
        self.other, self.spent = other, []

    def on_start(self, trainer):
        self.start = time.thread_time()

    def take_turns(self):
        middle = time.thread_time()
        next(self.other)
        end = time.thread_time()
        self.spent.append((middle - self.start, end - middle))
        self.start = time.thread_time()

    def on_step(self, trainer, loss):
        self.take_turns()

    def on_epoch(self, trainer, record):
        self.take_turns()


@cache
def seconds_of_an_epoch() -> dict[str, float]:
    with threadpool_limits(1, "blas"):  # as the recipe has it
        other, weights_by_hand = by_hand()
        model, adam, loader, test = parts()

        def loss(batch):
            images, labels = batch
            return F.cross_entropy(model(tensor(images)), labels), len(labels)

        def measure():
            return {"test_accuracy": evaluate(model, *test).accuracy}

        turns = InTurn(other)
        Trainer(model, adam, loader, loss, measure=measure, callbacks=[turns]).run(EPOCHS)
    for name, weights in weights_by_hand().items():
        np.testing.assert_array_equal(model.state_dict()[name], weights)
    by_place = np.array(turns.spent).reshape(EPOCHS, len(loader) + 1, 2)
    ours, theirs = by_place.min(axis=0).sum(axis=0).tolist()
    return {"gpunn": ours, "peer": theirs}


def bench_trainer(bench):
    if bench.device == "gpu":
        pytest.skip("measured on the CPU")
    bench.record(
        "own: an epoch by Trainer", f"LeNet, batches of {BATCH} digits",
        lambda: [seconds_of_an_epoch()[bench.side]], "a loop by hand",
    )  # fmt: skip
