import numpy as np
import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"ResNet stage 1": (8, 64, 56, 56), "AlexNet conv5": (8, 256, 13, 13), "LeNet digits": (64, 128)}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_batch_norm(benchmark, name, backward, side):
    import torch

    channels = SHAPES[name][1]
    x, weight, bias = peer.arrays(SHAPES[name], (channels,), (channels,))
    zeros, ones = np.zeros(channels, np.float32), np.ones(channels, np.float32)
    tx, tweight, tbias, tzeros, tones = peer.tensors(x, weight, bias, zeros.copy(), ones.copy())

    def run(function, leaf, mean, var, *affine):
        y = function(leaf, mean, var, *affine, training=True)
        if backward:
            y.sum().backward()

    ours = [tensor(a, requires_grad=backward) for a in (x, weight, bias)]
    theirs = [t.requires_grad_(backward) for t in (tx, tweight, tbias)]
    sides = {
        "gpunn": lambda: run(F.batch_norm, ours[0], zeros, ones, *ours[1:]),
        "pytorch": lambda: run(torch.nn.functional.batch_norm, theirs[0], tzeros, tones, *theirs[1:]),
    }
    peer.measure(benchmark, side, f"batch norm {'both ways' if backward else 'forward'}", name, sides)
