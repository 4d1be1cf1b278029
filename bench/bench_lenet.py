"""A whole training step, by launches and as CUDA graphs; the same, of AlexNet with 128 images, belongs beside it."""

import numpy as np
import peer
import pytest

from gpunn import functional as F
from gpunn import optim, tensor
from gpunn.backend import device_of
from gpunn.models import lenet
from gpunn.train.captured import CapturedStep
from gpunn.train.random_state import RandomStreams

BATCH = 64


def inputs():
    return [*peer.arrays((BATCH, 1, 8, 8)), np.arange(BATCH) % 10]


def theirs(x, labels):
    import torch

    nn = torch.nn
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.LocalResponseNorm(5),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    ).to(x.device)  # fmt: skip
    adam = torch.optim.Adam(model.parameters())

    def step():
        adam.zero_grad()
        nn.functional.cross_entropy(model(x), labels).backward()
        adam.step()

    return step


def bench_training_step(bench):
    def ours(x, labels):
        model = lenet().to(device_of(x))
        adam = optim.Adam(model.parameters())

        def step():
            adam.zero_grad()
            F.cross_entropy(model(tensor(x)), labels).backward()
            adam.step()

        return step

    bench.measure("training step", f"LeNet, {BATCH} digits", inputs(), ours, theirs, rotate=False)


def bench_training_step_of_graphs(bench):
    """Against PyTorch launch by launch. A step reads its loss, as a trainer's does."""
    if bench.device == "cpu":
        pytest.skip("a CPU has no CUDA graphs")

    def ours(x, labels):
        model = lenet().to(device_of(x))
        adam = optim.Adam(model.parameters())

        def loss(batch):
            return F.cross_entropy(model(tensor(batch[0])), batch[1]), BATCH

        captured = CapturedStep(model, adam, loss, adam.step, RandomStreams(model, {}))

        def step():
            captured.take((x, labels), pytest.fail)

        return step

    bench.measure("training step, CUDA graphs", f"LeNet, {BATCH} digits", inputs(), ours, theirs, rotate=False)
