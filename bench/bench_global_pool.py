from functools import partial

import peer
import pytest
from peer import torch

from gpunn.ops.pool import global_pool

SHAPES = {"ResNet-50 head": (2048, 7, 7), "large planes": (96, 56, 56)}
BATCH = {"ResNet-50 head": (32, 256), "large planes": (4, 128)}
PEERS = {"global_avg_pool2d": "adaptive_avg_pool2d", "global_max_pool2d": "adaptive_max_pool2d"}


def of_pytorch(job):
    return lambda x: getattr(torch.nn.functional, PEERS[job])(x, 1)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", PEERS)
def bench_forward(bench, name, job):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs = peer.arrays(shape)
    ours, theirs = partial(getattr(global_pool, job.removesuffix("2d")), 2), of_pytorch(job)
    bench.measure(
        f"{job} forward", f"{name} {shape}", inputs, lambda x: lambda: ours(x), lambda x: lambda: theirs(x),
        moved=inputs[0].nbytes + 4 * shape[0] * shape[1],
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", PEERS)
def bench_backward(bench, name, job):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs = peer.arrays(shape, (*shape[:2], 1, 1))
    backward, pool = partial(getattr(global_pool, f"{job.removesuffix('2d')}_backward"), 2), of_pytorch(job)

    def ours(x, gy):
        if job == "global_avg_pool2d":
            return lambda: backward(gy, shape)
        _, place = global_pool.global_max_pool(2, x)
        return lambda: backward(gy, place, shape)

    def theirs(x, gy):
        return peer.gradient(pool(x.requires_grad_()), [x], gy)

    bench.measure(f"{job} backward", f"{name} {shape}", inputs, ours, theirs, moved=inputs[0].nbytes + inputs[1].nbytes)


@pytest.mark.parametrize("name", SHAPES)
def bench_training(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    bench.training(
        "pooling", f"global average, {name}", [shape], (*shape[:2], 1, 1), lambda F, x: F.global_avg_pool2d(x),
        theirs=lambda F, x: F.adaptive_avg_pool2d(x, 1), read_again=False,
    )  # fmt: skip
