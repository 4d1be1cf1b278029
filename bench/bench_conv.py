import peer
import pytest

from gpunn.ops import conv

# N, C, H = W, K, F, stride, padding, groups
SHAPES = {
    "AlexNet conv1": (4, 3, 227, 96, 11, 4, 0, 1),
    "AlexNet conv2": (4, 96, 27, 256, 5, 1, 2, 2),
    "AlexNet conv3": (4, 256, 13, 384, 3, 1, 1, 1),
    "ResNet 3x3, 64": (4, 64, 56, 64, 3, 1, 1, 1),
    "ResNet 3x3, 128, stride 2": (4, 128, 56, 128, 3, 2, 1, 1),
    "ResNet 1x1, 256": (4, 256, 56, 64, 1, 1, 0, 1),
    "depthwise 3x3, 128": (4, 128, 56, 128, 3, 1, 1, 128),
    "LeNet digits conv1": (64, 1, 8, 32, 3, 1, 1, 1),
    "LeNet digits conv2": (64, 32, 4, 64, 3, 1, 1, 1),
}
JOBS = ["conv2d", "conv2d_bias_relu", "conv2d_backward_x", "conv2d_backward_w"]


@pytest.mark.parametrize("side", peer.SIDES)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("job", JOBS)
def bench_conv2d(benchmark, name, job, side):
    n, c, h, k, f, *settings = SHAPES[name]
    stride, padding, groups = settings
    out = (h + 2 * padding - f) // stride + 1
    x, w, b, gy = peer.arrays((n, c, h, h), (k, c // groups, f, f), (k,), (n, k, out, out))
    tx, tw, tb, tg = peer.tensors(x, w, b, gy)
    import torch

    grad, forward = torch.nn.grad, torch.nn.functional.conv2d
    here, there = (stride, padding, 1, groups), {"stride": stride, "padding": padding, "groups": groups}
    sides = {
        "conv2d": (lambda: conv.conv2d(x, w, None, *here), lambda: forward(tx, tw, **there)),
        "conv2d_bias_relu": (
            lambda: conv.conv2d_bias_relu(x, w, b, *here),
            lambda: torch.relu_(forward(tx, tw, tb, **there)),
        ),
        "conv2d_backward_x": (
            lambda: conv.conv2d_backward_x(gy, w, x.shape, *here),
            lambda: grad.conv2d_input(tx.shape, tw, tg, **there),
        ),
        "conv2d_backward_w": (
            lambda: conv.conv2d_backward_w(gy, x, w.shape, *here),
            lambda: grad.conv2d_weight(tx, tw.shape, tg, **there),
        ),
    }
    peer.measure(benchmark, side, job, name, dict(zip(peer.SIDES, sides[job], strict=True)))
