import peer
import pytest
from peer import torch

from gpunn.ops.norm import local_response_norm, local_response_norm_backward, lrn_plan

SHAPES = {"AlexNet norm1": (96, 27, 27), "AlexNet norm1, before the pool": (96, 55, 55), "LeNet digits": (32, 4, 4)}
BATCH = {"AlexNet norm1": (4, 128), "AlexNet norm1, before the pool": (4, 128), "LeNet digits": (64, 64)}
SETTINGS = (5, 1e-4, 0.75, 2.0)


@pytest.mark.parametrize("name", SHAPES)
def bench_forward(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs, plan = peer.arrays(shape), lrn_plan(shape, *SETTINGS)
    bench.measure(
        "LRN forward", f"{name} {shape}", inputs, lambda x: lambda: local_response_norm(plan, x),
        lambda x: lambda: torch.nn.functional.local_response_norm(x, *SETTINGS), moved=2 * inputs[0].nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def bench_backward(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs, plan = peer.arrays(shape, shape), lrn_plan(shape, *SETTINGS)

    def theirs(gy, x):
        return peer.gradient(torch.nn.functional.local_response_norm(x.requires_grad_(), *SETTINGS), [x], gy)

    bench.measure(
        "LRN backward", f"{name} {shape}", inputs,
        lambda gy, x: lambda: local_response_norm_backward(plan, gy, x), theirs, moved=3 * inputs[0].nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def bench_training(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    bench.training("LRN", name, [shape], shape, lambda F, x: F.local_response_norm(x, *SETTINGS))
