import peer
import pytest

from gpunn import optim, tensor

OPTIMIZERS = {
    "SGD with momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "Adam": ("Adam", {}),
    "RMSprop": ("RMSprop", {}),
}
SHAPES = {  # of the parameters: many small ones, and a few large ones
    "LeNet": [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 256), (120,), (84, 120), (84,), (10, 84), (10,)],
    "4 million": [(1000, 2000), (2000,), (2000, 1000), (1000,)],
}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", OPTIMIZERS)
def bench_optimizer(benchmark, name, shapes, side):
    torch = pytest.importorskip("torch")
    kind, settings = OPTIMIZERS[name]
    starts = peer.arrays(*SHAPES[shapes])
    ours = [tensor(p.copy(), requires_grad=True) for p in starts]
    theirs = [torch.tensor(p, requires_grad=True) for p in starts]
    sides = {
        "gpunn": getattr(optim, kind)(ours, **settings).step,
        "pytorch": getattr(torch.optim, kind)(theirs, **settings).step,
    }
    for p, q, g in zip(ours, theirs, starts, strict=True):
        p.grad, q.grad = g, torch.from_numpy(g)
    peer.measure(benchmark, side, f"{name} step", shapes, sides)
