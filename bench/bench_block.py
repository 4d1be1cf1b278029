import numpy as np
import peer
import pytest
from peer import torch

from gpunn.ops import block

SHAPES = {"AlexNet conv1": (96, 55, 55), "AlexNet conv2": (256, 27, 27)}
JOBS = ["bias_relu_pool_lrn", "bias_relu_lrn_pool"]
SETTINGS = (3, 2, 0, 5, 1e-4, 0.75, 2.0, "mean")


def composed(job):
    def pool(v):
        return torch.nn.functional.max_pool2d(v, 3, 2)

    def norm(v):
        return torch.nn.functional.local_response_norm(v, 5, 1e-4, 0.75, 2.0)

    def function(x, b):
        r = torch.relu(x + b[:, None, None])
        return norm(pool(r)) if job == "bias_relu_pool_lrn" else pool(norm(r))

    return function


def sizes(bench, name):
    """The shapes of x and y, and their bytes, with a byte for each place."""
    c, h, w = SHAPES[name]
    n = bench.batch(4, 128)
    x, y = (n, c, h, w), (n, c, (h - 3) // 2 + 1, (w - 3) // 2 + 1)
    return x, y, 4 * int(np.prod(x)), 4 * int(np.prod(y)), int(np.prod(y))


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", JOBS)
def bench_forward(bench, name, job):
    shape, _, x_bytes, y_bytes, places = sizes(bench, name)
    inputs = peer.arrays(shape, shape[1:2])
    forward, function = getattr(block, job), composed(job)
    plan = block.plan(job.removeprefix("bias_relu_"), shape, *SETTINGS)
    pooled = y_bytes if job == "bias_relu_pool_lrn" else 0  # kept for the backward pass
    bench.measure(
        f"{job} forward", f"{name} {shape}", inputs, lambda x, b: lambda: forward(plan, x, b),
        lambda x, b: lambda: function(x, b), moved=x_bytes + y_bytes + pooled + places,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", JOBS)
def bench_backward(bench, name, job):
    shape, y_shape, x_bytes, y_bytes, places = sizes(bench, name)
    inputs = peer.arrays(shape, shape[1:2], y_shape)
    forward, backward, function = getattr(block, job), getattr(block, f"{job}_backward"), composed(job)
    plan = block.plan(job.removeprefix("bias_relu_"), shape, *SETTINGS)

    def ours(x, b, gy):
        if job == "bias_relu_lrn_pool":
            _, place = forward(plan, x, b)
            return lambda: backward(plan, gy, x, b, place)
        _, pooled, place = forward(plan, x, b)
        return lambda: backward(plan, gy, pooled, place)

    def theirs(x, b, gy):
        leaves = [x.requires_grad_(), b.requires_grad_()]
        return peer.gradient(function(*leaves), leaves, gy)

    read = y_bytes if job == "bias_relu_pool_lrn" else x_bytes
    moved = y_bytes + read + places + x_bytes
    bench.measure(f"{job} backward", f"{name} {shape}", inputs, ours, theirs, moved=moved)
