import math

import pytest
from conv_jobs import JOBS, Layer, measure, measure_training

LAYERS = {
    "AlexNet conv1": Layer(3, 227, 96, 11, 4, 0, 1),
    "AlexNet conv2": Layer(96, 27, 256, 5, 1, 2, 2),
    "AlexNet conv3": Layer(256, 13, 384, 3, 1, 1, 1),
    "ResNet 3x3, 64": Layer(64, 56, 64, 3, 1, 1, 1, (4, 64)),
    "ResNet 3x3, 128, stride 2": Layer(128, 56, 128, 3, 2, 1, 1, (4, 64)),
    "1x1, 256": Layer(256, 56, 64, 1, 1, 0, 1, (4, 64)),
    "LeNet digits conv1": Layer(1, 8, 32, 3, 1, 1, 1, (64, 64)),
    "LeNet digits conv2": Layer(32, 4, 64, 3, 1, 1, 1, (64, 64)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("job", JOBS)
def bench_conv(bench, name, job):
    measure(bench, "conv", name, LAYERS[name], job)


TRAINED = LAYERS | {
    "AlexNet conv4": Layer(384, 13, 384, 3, 1, 1, 2),
    "AlexNet conv5": Layer(384, 13, 256, 3, 1, 1, 2),
    "VGG 3x3, 128": Layer(128, 56, 128, 3, 1, 1, 1, (2, 64)),
}


@pytest.mark.parametrize("name", TRAINED)
def bench_training(bench, name):
    measure_training(bench, name, TRAINED[name])


OTHER_RANKS = {  # function, images (C, ...), filters, stride, padding, batch
    "1-D, 64": ("conv1d", (64, 256), (64, 64, 3), 1, 1, (16, 512)),
    "3-D, 16": ("conv3d", (16, 16, 32, 32), (32, 16, 3, 3, 3), 1, 1, (2, 32)),
    "transposed 4x4, stride 2": ("conv_transpose2d", (128, 28, 28), (128, 64, 4, 4), 2, 1, (4, 64)),
}


@pytest.mark.parametrize("name", OTHER_RANKS)
def bench_training_other(bench, name):
    function, image, w, stride, padding, batch = OTHER_RANKS[name]
    n, filters = bench.batch(*batch), w[1] if "transpose" in function else w[0]
    if "transpose" in function:
        sizes = [(size - 1) * stride - 2 * padding + window for size, window in zip(image[1:], w[2:], strict=True)]
        operations = 3 * 2 * n * math.prod(image) * math.prod(w[1:])
    else:
        sizes = [(size + 2 * padding - window) // stride + 1 for size, window in zip(image[1:], w[2:], strict=True)]
        operations = 3 * 2 * n * filters * math.prod(sizes) * math.prod(w[1:])
    bench.training(
        "convolution", name, [(n, *image), w, (filters,)], (n, filters, *sizes),
        lambda F, x, w, b: getattr(F, function)(x, w, b, stride=stride, padding=padding), operations=operations,
    )  # fmt: skip
