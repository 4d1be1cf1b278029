import peer
import pytest

from gpunn import functional as F
from gpunn import tensor

SHAPES = {"AlexNet conv1": (4, 96, 55, 55), "AlexNet conv2": (4, 256, 27, 27)}
SETTINGS = (3, 2, 0, 5, 1e-4, 0.75, 2.0, "mean")


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", ["bias_relu_pool_lrn", "bias_relu_lrn_pool"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "both ways"])
def bench_block(benchmark, name, job, backward, side):
    import torch

    x, b = peer.arrays(SHAPES[name], SHAPES[name][1:2])
    tx, tb = peer.tensors(x, b)

    def pool(v):
        return torch.nn.functional.max_pool2d(v, 3, 2)

    def norm(v):
        return torch.nn.functional.local_response_norm(v, 5, 1e-4, 0.75, 2.0)

    def composed(x, b):
        r = torch.relu(x + b[:, None, None])
        return norm(pool(r)) if job == "bias_relu_pool_lrn" else pool(norm(r))

    def run(function, *args):
        y = function(*args)
        if backward:
            y.sum().backward()

    ours = [tensor(a, requires_grad=backward) for a in (x, b)]
    theirs = [a.requires_grad_(backward) for a in (tx, tb)]
    sides = {
        "gpunn": lambda: run(lambda x, b: getattr(F, job)(x, b, *SETTINGS), *ours),
        "pytorch": lambda: run(composed, *theirs),
    }
    peer.measure(benchmark, side, f"{job} {'both ways' if backward else 'forward'}", name, sides)
