import numpy as np
import peer
import pytest
from peer import torch

from gpunn.ops import loss

SHAPES = {"ImageNet": (1000, (128, 8192)), "digits": (10, (64, 64)), "vocabulary": (50000, (16, 512))}


def inputs_of(bench, name):
    classes, batch = SHAPES[name]
    (x,) = peer.arrays((bench.batch(*batch), classes))
    return [x, np.random.default_rng(1).integers(0, classes, len(x))]


@pytest.mark.parametrize("name", SHAPES)
def bench_forward(bench, name):
    inputs = inputs_of(bench, name)
    bench.measure(
        "cross entropy forward", f"{name} {inputs[0].shape}", inputs,
        lambda x, target: lambda: loss.cross_entropy(x, target),
        lambda x, target: lambda: torch.nn.functional.cross_entropy(x, target),
        moved=inputs[0].nbytes + inputs[1].nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def bench_backward(bench, name):
    inputs = [*inputs_of(bench, name), np.ones((), np.float32)]

    def theirs(x, target, gy):
        return peer.gradient(torch.nn.functional.cross_entropy(x.requires_grad_(), target), [x], gy)

    bench.measure(
        "cross entropy backward", f"{name} {inputs[0].shape}", inputs,
        lambda x, target, gy: lambda: loss.cross_entropy_backward(gy, x, target), theirs,
        moved=2 * inputs[0].nbytes + inputs[1].nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["ImageNet", "digits"])
def bench_training(bench, name):
    x, target = inputs_of(bench, name)
    bench.training(
        "losses, embedding, dropout", f"cross entropy, {name}", [x.shape], (),
        lambda F, x, target: F.cross_entropy(x, target), data=[target],
    )  # fmt: skip
