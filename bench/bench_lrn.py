import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"AlexNet norm1": (4, 96, 27, 27), "LeNet digits": (64, 32, 4, 4)}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_lrn(benchmark, name, backward, side):
    import torch

    (x,) = peer.arrays(SHAPES[name])
    (tx,) = peer.tensors(x)

    def run(function, leaf):
        y = function(leaf, 5, 1e-4, 0.75, 2.0)
        if backward:
            y.sum().backward()

    ours, theirs = tensor(x, requires_grad=backward), tx.requires_grad_(backward)
    sides = {
        "gpunn": lambda: run(F.local_response_norm, ours),
        "pytorch": lambda: run(torch.nn.functional.local_response_norm, theirs),
    }
    peer.measure(benchmark, side, f"LRN {'both ways' if backward else 'forward'}", name, sides)
