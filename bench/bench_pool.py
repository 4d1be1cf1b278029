import numpy as np
import peer
import pytest
from peer import torch

from gpunn.ops import pool

SHAPES = {"AlexNet pool1": (96, 55, 55), "LeNet digits pool1": (32, 8, 8)}
BATCH = {"AlexNet pool1": (4, 128), "LeNet digits pool1": (64, 64)}
WINDOW = (3, 2)
JOBS = ["max_pool2d", "avg_pool2d"]


def plan(job, shape):
    return (pool.max_plan if job == "max_pool2d" else pool.avg_plan)(2, shape, *WINDOW)


def of_pytorch(job):
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
    ours, theirs, planned = getattr(pool, job.removesuffix("2d")), of_pytorch(job), plan(job, shape)
    bench.measure(
        f"{job} forward", f"{name} {shape}", peer.arrays(shape), lambda x: lambda: ours(planned, x),
        lambda x: lambda: theirs(x), moved=int(moved[job]),
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", JOBS)
def bench_backward(bench, name, job):
    shape, y_shape, moved = sizes(bench, name)
    function, planned = of_pytorch(job), plan(job, shape)

    def ours(x, gy):
        if job == "avg_pool2d":
            return lambda: pool.avg_pool_backward(planned, gy)
        _, place = pool.max_pool(planned, x)
        return lambda: pool.max_pool_backward(planned, gy, place)

    def theirs(x, gy):
        return peer.gradient(function(x.requires_grad_()), [x], gy)

    inputs = peer.arrays(shape, y_shape)
    bench.measure(f"{job} backward", f"{name} {shape}", inputs, ours, theirs, moved=int(moved[job]))


TRAINED = {  # function, shape, window, stride, padding
    "max 3/2, AlexNet pool1": ("max_pool2d", (96, 55, 55), 3, 2),
    "max 3/2, LeNet digits": ("max_pool2d", (32, 8, 8), 3, 2),
    "max 2x2, LeNet digits": ("max_pool2d", (32, 8, 8), 2, 2),
    "max 2x2, VGG": ("max_pool2d", (64, 56, 56), 2, 2),
    "average 3/2, AlexNet pool1": ("avg_pool2d", (96, 55, 55), 3, 2),
}


@pytest.mark.parametrize("name", TRAINED)
def bench_training(bench, name):
    job, image, window, stride = TRAINED[name]
    n = bench.batch(*BATCH["LeNet digits pool1" if "LeNet" in name else "AlexNet pool1"])
    shape = (n, *image)
    out = (n, image[0], *((size - window) // stride + 1 for size in image[1:]))
    bench.training(
        "pooling", name, [shape], out, lambda F, x: getattr(F, job)(x, window, stride), read_again=False
    )  # fmt: skip


def bench_training_adaptive(bench):
    shape = (bench.batch(32, 256), 512, 7, 7)
    bench.training(
        "pooling", "adaptive average to 1x1", [shape], (*shape[:2], 1, 1), lambda F, x: F.adaptive_avg_pool2d(x, 1),
        read_again=False,
    )  # fmt: skip
