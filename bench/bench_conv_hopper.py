import numpy as np
import pytest
from bench_conv import LAYERS
from bench_conv_mma import NAMES
from conv_jobs import measure

from gpunn import backend, cuda


@pytest.mark.parametrize("name", NAMES)
def bench_conv_hopper(bench, name):
    if bench.device == "cpu" or not cuda.has_warpgroups(backend.to_gpu(np.zeros(1))):
        pytest.skip("warpgroups are those of compute capability 9.0")
    measure(bench, "conv bf16 by warpgroups", name, LAYERS[name], "forward", "bf16")
