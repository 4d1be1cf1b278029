import peer
import pytest
from peer import torch

from gpunn.ops import dropout

SHAPES = {"AlexNet fc6": (4096,), "images": (96, 27, 27), "LeNet digits": (128,)}
BATCH = {"AlexNet fc6": (128, 2048), "images": (32, 128), "LeNet digits": (64, 64)}


@pytest.mark.parametrize("name", SHAPES)
def bench_forward(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs = peer.arrays(shape)
    bench.measure(
        "dropout forward", f"{name} {shape}", inputs, lambda x: lambda: dropout.dropout(x, 0.5, 7),
        lambda x: lambda: torch.nn.functional.dropout(x, 0.5), moved=2 * inputs[0].nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def bench_backward(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    inputs = peer.arrays(shape, shape)

    def theirs(gy, x):
        return peer.gradient(torch.nn.functional.dropout(x.requires_grad_(), 0.5), [x], gy)

    def ours(gy, x):
        keep = dropout.dropout_mask(x, 0.5, 7)  # None on a GPU, where the mask is drawn again
        return lambda: dropout.dropout_backward(gy, 0.5, 7, keep=keep)

    bench.measure(
        "dropout backward", f"{name} {shape}", inputs, ours, theirs, moved=2 * inputs[0].nbytes,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["AlexNet fc6", "images"])
def bench_training(bench, name):
    shape = (bench.batch(*BATCH[name]), *SHAPES[name])
    bench.training(
        "losses, embedding, dropout", f"dropout, {name}", [shape], shape, lambda F, x: F.dropout(x, 0.5),
        read_again=False,
    )  # fmt: skip
