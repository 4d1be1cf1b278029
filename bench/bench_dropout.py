import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"AlexNet fc6": (128, 4096), "LeNet digits": (64, 128), "images": (32, 96, 27, 27)}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_dropout(benchmark, name, backward, side):
    import torch

    (x,) = peer.arrays(SHAPES[name])
    (tx,) = peer.tensors(x)

    def run(function, leaf):
        y = function(leaf, 0.5)
        if backward:
            y.sum().backward()

    ours, theirs = tensor(x, requires_grad=backward), tx.requires_grad_(backward)
    sides = {"gpunn": lambda: run(F.dropout, ours), "pytorch": lambda: run(torch.nn.functional.dropout, theirs)}
    peer.measure(benchmark, side, f"dropout {'both ways' if backward else 'forward'}", name, sides)
