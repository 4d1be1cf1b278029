"""Whole training steps: the gradients cleared, a batch forward and backward, the parameters moved."""

import itertools

import numpy as np
import peer
import pytest
from peer import torch

from gpunn import functional as F
from gpunn import nn, optim, tensor
from gpunn.backend import device_of
from gpunn.models import alexnet, lenet
from gpunn.train.captured import CapturedStep
from gpunn.train.random_state import RandomStreams

DIGITS = 64


def lenet_layers(nn):
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.LocalResponseNorm(5),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


def circles_layers(nn):
    sizes = (2, 16, 16, 16, 16)
    inside = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*inside, nn.Linear(16, 1), nn.Sigmoid())


def batch_norm_layers(nn):
    def block(channels, out):
        return nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()

    return nn.Sequential(
        *block(3, 32), *block(32, 32), nn.MaxPool2d(2), *block(32, 64), *block(64, 64), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(4096, 10),
    )  # fmt: skip


def alexnet_layers(nn):
    def response():
        return nn.ReLU(), nn.MaxPool2d(3, 2), nn.LocalResponseNorm(5, 1e-4, 0.75, 2.0)

    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), *response(), nn.Conv2d(96, 256, 5, padding=2), *response(),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 1000),
    )  # fmt: skip


def adam(optim, parameters):
    return optim.Adam(parameters)


def sgd(optim, parameters):
    return optim.SGD(parameters, lr=1e-3, momentum=0.9)


def cross_entropy(F, y, labels):
    return F.cross_entropy(y, labels)


def binary(F, y, labels):
    return F.binary_cross_entropy(y, labels)


def images(*shape, classes=10):
    return [*peer.arrays(shape), np.arange(shape[0]) % classes]


def points():
    x, labels = peer.arrays((50, 2), (50, 1))
    return [x, (labels > 0).astype(np.float32)]


STEPS = {  # gpunn's model, PyTorch's, the loss, the optimizer, the batch
    f"LeNet, {DIGITS} digits": (
        lenet, lenet_layers, cross_entropy, adam, lambda bench: images(DIGITS, 1, 8, 8),
    ),
    "circles, 50 points": (
        lambda: circles_layers(nn), circles_layers, binary, adam, lambda bench: points(),
    ),
    "batch norm, images of 32x32": (
        lambda: batch_norm_layers(nn), batch_norm_layers, cross_entropy, adam,
        lambda bench: images(64, 3, 32, 32),
    ),
    "AlexNet, images of 227x227": (
        alexnet, alexnet_layers, cross_entropy, sgd, lambda bench: images(bench.batch(8, 128), 3, 227, 227),
    ),
}  # fmt: skip


def step_of_gpunn(network, loss_of, optimizer_of):
    def prepare(x, labels):
        model = network().to(device_of(x))
        optimizer = optimizer_of(optim, model.parameters())

        def step():
            optimizer.zero_grad()
            loss_of(F, model(tensor(x)), labels).backward()
            optimizer.step()

        return step

    return prepare


def step_of_pytorch(network, loss_of, optimizer_of):
    def prepare(x, labels):
        model = network(torch.nn).to(x.device)
        optimizer = optimizer_of(torch.optim, model.parameters())

        def step():
            optimizer.zero_grad()
            loss_of(torch.nn.functional, model(x), labels).backward()
            optimizer.step()

        return step

    return prepare


@pytest.mark.parametrize("name", STEPS)
def bench_training(bench, name):
    ours, theirs, loss_of, optimizer_of, batch = STEPS[name]
    bench.measure(
        f"{peer.TRAINING}steps", name, lambda: batch(bench), step_of_gpunn(ours, loss_of, optimizer_of),
        step_of_pytorch(theirs, loss_of, optimizer_of), rotate=False,
    )  # fmt: skip


def bench_step_of_graphs(bench):
    """As CUDA graphs, against PyTorch launch by launch. A step reads its loss, as a trainer's does."""
    if bench.device == "cpu":
        pytest.skip("a CPU has no CUDA graphs")

    def ours(x, labels):
        model = lenet().to(device_of(x))
        optimizer = optim.Adam(model.parameters())

        def loss(batch):
            return F.cross_entropy(model(tensor(batch[0])), batch[1]), DIGITS

        captured = CapturedStep(model, optimizer, loss, optimizer.step, RandomStreams(model, {}))

        def step():
            captured.take((x, labels), pytest.fail)

        return step

    bench.measure(
        "step, CUDA graphs", f"LeNet, {DIGITS} digits", images(DIGITS, 1, 8, 8), ours,
        step_of_pytorch(lenet_layers, cross_entropy, adam), rotate=False,
    )  # fmt: skip
