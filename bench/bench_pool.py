import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"AlexNet pool1": (4, 96, 55, 55), "LeNet digits pool1": (64, 32, 8, 8)}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_pool(benchmark, name, job, backward, side):
    import torch

    (x,) = peer.arrays(SHAPES[name])
    (tx,) = peer.tensors(x)
    window = (3, 2)

    def run(function, leaf):
        y = function(leaf, *window)
        if backward:
            y.sum().backward()

    ours = tensor(x, requires_grad=backward)
    theirs = tx.requires_grad_(backward)
    sides = {
        "gpunn": lambda: run(getattr(F, job), ours),
        "pytorch": lambda: run(getattr(torch.nn.functional, job), theirs),
    }
    peer.measure(benchmark, side, f"{job} {'both ways' if backward else 'forward'}", name, sides)
