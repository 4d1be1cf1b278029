import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"ResNet-50 head": (32, 2048, 7, 7), "large planes": (4, 96, 56, 56)}
PEERS = {"global_avg_pool2d": "adaptive_avg_pool2d", "global_max_pool2d": "adaptive_max_pool2d"}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", PEERS)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_global_pool(benchmark, name, job, backward, side):
    import torch

    (x,) = peer.arrays(SHAPES[name])
    (tx,) = peer.tensors(x)

    def run(function, *args):
        y = function(*args)
        if backward:
            y.sum().backward()

    ours = tensor(x, requires_grad=backward)
    theirs = tx.requires_grad_(backward)
    sides = {
        "gpunn": lambda: run(getattr(F, job), ours),
        "pytorch": lambda: run(getattr(torch.nn.functional, PEERS[job]), theirs, 1),
    }
    peer.measure(benchmark, side, f"{job} {'both ways' if backward else 'forward'}", name, sides)
