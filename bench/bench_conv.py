import pytest
from conv_jobs import JOBS, Layer, measure

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
