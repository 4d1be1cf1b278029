import numpy as np
import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"ImageNet": (128, 1000), "digits": (64, 10), "vocabulary": (16, 50000)}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_cross_entropy(benchmark, name, backward, side):
    import torch

    (x,) = peer.arrays(SHAPES[name])
    target = np.random.default_rng(1).integers(0, x.shape[1], len(x))
    tx, ttarget = peer.tensors(x, target)

    def run(function, leaf, classes):
        loss = function(leaf, classes)
        if backward:
            loss.backward()

    ours, theirs = tensor(x, requires_grad=backward), tx.requires_grad_(backward)
    sides = {
        "gpunn": lambda: run(F.cross_entropy, ours, target),
        "pytorch": lambda: run(torch.nn.functional.cross_entropy, theirs, ttarget),
    }
    peer.measure(benchmark, side, f"cross entropy {'both ways' if backward else 'forward'}", name, sides)
