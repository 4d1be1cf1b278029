import pytest
from bench_conv import LAYERS
from conv_jobs import JOBS, measure

from gpunn.ops.conv import warpgroups

NAMES = [name for name in LAYERS if not name.startswith("LeNet")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize("precision", ["tf32", "bf16", "fp16"])
def bench_conv_mma(bench, name, job, precision, monkeypatch):
    if bench.device == "cpu":
        pytest.skip("tensor cores are a GPU's")
    monkeypatch.setattr(warpgroups, "takes", lambda *_: False)  # bench_conv_hopper.py has those
    measure(bench, f"conv {precision}", name, LAYERS[name], job, precision)
