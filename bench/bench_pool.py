import numpy as np
import peer
import pytest

from gpunn.ops import pool

SHAPES = {"AlexNet pool1": (96, 55, 55), "LeNet digits pool1": (32, 8, 8)}
BATCH = {"AlexNet pool1": (4, 128), "LeNet digits pool1": (64, 64)}
WINDOW = (3, 2)
JOBS = ["max_pool2d", "avg_pool2d"]


def of_pytorch(job):
    import torch

    return lambda x: getattr(torch.nn.functional, job)(x, *WINDOW)


def sizes(bench, name):
    """The shapes of x and y, and the bytes that must move: a place in a window is a byte."""
    c, h, w = SHAPES[name]
    n = bench.batch(*BATCH[name])
    x, y = (n, c, h, w), (n, c, (h - 3) // 2 + 1, (w - 3) // 2 + 1)
    return x, y, {"max_pool2d": 4 * np.prod(x) + 5 * np.prod(y), "avg_pool2d": 4 * (np.prod(x) + np.prod(y))}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", JOBS)
def bench_forward(bench, name, job):
    shape, _, moved = sizes(bench, name)
    ours, theirs = getattr(pool, job), of_pytorch(job)
    bench.measure(
        f"{job} forward", f"{name} {shape}", peer.arrays(shape), lambda x: lambda: ours(x, *WINDOW),
        lambda x: lambda: theirs(x), moved=int(moved[job]),
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", JOBS)
def bench_backward(bench, name, job):
    shape, y_shape, moved = sizes(bench, name)
    forward, backward, function = getattr(pool, job), getattr(pool, f"{job}_backward"), of_pytorch(job)

    def ours(x, gy):
        if job == "avg_pool2d":
            return lambda: backward(gy, shape, *WINDOW)
        _, place = forward(x, *WINDOW)
        return lambda: backward(gy, place, shape, *WINDOW)

    def theirs(x, gy):
        return peer.gradient(function(x.requires_grad_()), [x], gy)

    inputs = peer.arrays(shape, y_shape)
    bench.measure(f"{job} backward", f"{name} {shape}", inputs, ours, theirs, moved=int(moved[job]))
