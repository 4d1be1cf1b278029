import peer
import pytest

from gpunn import functional as F
from gpunn import optim, tensor
from gpunn.models import lenet


@pytest.mark.parametrize("side", peer.SIDES)
def bench_training_step(benchmark, side):
    import torch

    x, labels = peer.arrays((64, 1, 8, 8))[0], peer.np.arange(64) % 10
    tx, tl = peer.tensors(x, labels)
    ours = lenet()
    adam = optim.Adam(ours.parameters())
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.LocalResponseNorm(5),
        torch.nn.Conv2d(32, 64, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(256, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10),
    )  # fmt: skip
    peer_adam = torch.optim.Adam(theirs.parameters())

    def our_step():
        adam.zero_grad()
        F.cross_entropy(ours(tensor(x)), labels).backward()
        adam.step()

    def their_step():
        peer_adam.zero_grad()
        torch.nn.functional.cross_entropy(theirs(tx), tl).backward()
        peer_adam.step()

    sides = {"gpunn": our_step, "pytorch": their_step}
    peer.measure(benchmark, side, "training step", "LeNet, 64 digits", sides)
