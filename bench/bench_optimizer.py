import peer
import pytest
from peer import torch

from gpunn import optim, tensor

OPTIMIZERS = {  # with the bytes that move for each parameter: everything is float32
    "SGD with momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}, 20),
    "Adam": ("Adam", {}, 28),
    "RMSprop": ("RMSprop", {}, 20),
}
SHAPES = {  # of the parameters: many small ones, and a few large ones
    "LeNet": [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 256), (120,), (84, 120), (84,), (10, 84), (10,)],
    "4 million": [(1000, 2000), (2000,), (2000, 1000), (1000,)],
    "61 million": [(4096, 9216), (4096,), (4096, 4096), (4096,), (1000, 4096), (1000,)],
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("kind", OPTIMIZERS)
def bench_training(bench, kind, name):
    if name == "61 million" and bench.device == "cpu":
        pytest.skip("a GPU's")
    title, settings, bytes_each = OPTIMIZERS[kind]
    inputs = peer.arrays(*SHAPES[name])

    def ours(*starts):
        parameters = [tensor(p, requires_grad=True) for p in starts]
        optimizer = getattr(optim, title)(parameters, **settings)
        for p in parameters:
            p.grad = p.data.copy()
        return optimizer.step

    def theirs(*starts):
        parameters = [p.requires_grad_() for p in starts]
        for p in parameters:
            p.grad = p.detach().clone()
        return getattr(torch.optim, title)(parameters, **settings).step

    moved = bytes_each * sum(a.size for a in inputs)
    bench.measure(f"{peer.TRAINING}optimizers", f"{kind}, {name}", inputs, ours, theirs, moved=moved)
