import peer
import pytest
from peer import torch

from gpunn.ops.norm import batch as batch_norm

SHAPES = {"ResNet stage 1": (64, 56, 56), "AlexNet conv5": (256, 13, 13), "LeNet digits": (128,)}
BATCH = {"ResNet stage 1": (8, 64), "AlexNet conv5": (8, 128), "LeNet digits": (64, 64)}
EPS = 1e-5


@pytest.mark.parametrize("name", SHAPES)
def bench_forward(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs = peer.arrays(shape, shape[1:2], shape[1:2])

    def ours(x, weight, bias):
        return lambda: batch_norm.batch_norm(x, *batch_norm.batch_norm_statistics(x), weight, bias, EPS)

    def theirs(x, weight, bias):
        return lambda: torch.nn.functional.batch_norm(x, None, None, weight, bias, True, 0.1, EPS)

    # x is read twice: for the statistics, and again to normalise it.
    bench.measure("batch norm forward", f"{name} {shape}", inputs, ours, theirs, moved=3 * inputs[0].nbytes)


@pytest.mark.parametrize("name", SHAPES)
def bench_backward(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs = peer.arrays(shape, shape, shape[1:2], shape[1:2])

    def ours(gy, x, weight, bias):
        mean, var = batch_norm.batch_norm_statistics(x)
        return lambda: batch_norm.batch_norm_backward(gy, x, mean, var, weight, bias, EPS)

    def theirs(gy, x, weight, bias):
        leaves = [a.requires_grad_() for a in (x, weight, bias)]
        return peer.gradient(torch.nn.functional.batch_norm(x, None, None, weight, bias, True, 0.1, EPS), leaves, gy)

    bench.measure("batch norm backward", f"{name} {shape}", inputs, ours, theirs, moved=5 * inputs[0].nbytes)


@pytest.mark.parametrize("name", SHAPES)
def bench_training(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    bench.training(
        "normalisation", f"batch norm, {name}", [shape, shape[1:2], shape[1:2]], shape,
        lambda F, x, weight, bias: F.batch_norm(x, None, None, weight, bias, True, 0.1, EPS),
    )  # fmt: skip
