import peer
import pytest

from gpunn.ops import conv

# N, C, H = W, K, F, stride, padding
SHAPES = {
    "AlexNet conv2": (4, 96, 27, 256, 5, 1, 2),
    "AlexNet conv3": (4, 256, 13, 384, 3, 1, 1),
    "ResNet 3x3, 64": (4, 64, 56, 64, 3, 1, 1),
    "ResNet 1x1, 256": (4, 256, 56, 64, 1, 1, 0),
    "LeNet digits conv1": (64, 1, 8, 32, 3, 1, 1),
    "LeNet digits conv2": (64, 32, 4, 64, 3, 1, 1),
}


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", ["conv2d", "conv2d_backward_x", "conv2d_backward_w"])
def bench_conv2d(benchmark, name, job, side):
    n, c, h, k, f, stride, padding = SHAPES[name]
    out = (h + 2 * padding - f) // stride + 1
    x, w, gy = peer.arrays((n, c, h, h), (k, c, f, f), (n, k, out, out))
    tx, tw, tg = peer.tensors(x, w, gy)
    import torch

    grad = torch.nn.grad
    sides = {
        "conv2d": (
            lambda: conv.conv2d(x, w, None, stride, padding),
            lambda: torch.nn.functional.conv2d(tx, tw, None, stride, padding),
        ),
        "conv2d_backward_x": (
            lambda: conv.conv2d_backward_x(gy, w, x.shape, stride, padding),
            lambda: grad.conv2d_input(tx.shape, tw, tg, stride, padding),
        ),
        "conv2d_backward_w": (
            lambda: conv.conv2d_backward_w(gy, x, w.shape, stride, padding),
            lambda: grad.conv2d_weight(tx, tw.shape, tg, stride, padding),
        ),
    }
    peer.measure(benchmark, side, job, name, dict(zip(peer.SIDES, sides[job], strict=True)))
