import pytest
from conv_jobs import JOBS, Layer, measure, measure_training

LAYERS = {
    "3x3, 128": Layer(128, 56, 128, 3, 1, 1, 128, (4, 64)),
    "3x3, 128, stride 2": Layer(128, 56, 128, 3, 2, 1, 128, (4, 64)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("job", JOBS)
def bench_conv_depthwise(bench, name, job):
    measure(bench, "depthwise conv", name, LAYERS[name], job)


@pytest.mark.parametrize("name", LAYERS)
def bench_training(bench, name):
    measure_training(bench, f"depthwise {name}", LAYERS[name])
