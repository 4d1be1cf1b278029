"""What the machine itself can do, by the arrays' own libraries: the ceilings that report.py holds the jobs against."""

import numpy as np
import peer
import pytest
from peer import torch

from gpunn.backend import get_array_module

MEGABYTES = {"cpu": 256, "gpu": 1024}
SIZE = {"cpu": 2048, "gpu": 8192}


def bench_copy(bench):
    count = MEGABYTES[bench.device] << 18

    def copy(x, y):
        xp = get_array_module(x)
        return lambda: xp.copyto(y, x)

    inputs = peer.arrays((count,), (count,))
    name = f"{MEGABYTES[bench.device]} MB"
    bench.measure(
        f"{peer.CEILING}copy", name, inputs, copy, lambda x, y: lambda: y.copy_(x), moved=8 * count, rotate=False
    )


@pytest.mark.parametrize("unit", ["fp32", "tf32", "bf16", "fp16"])
def bench_matrix(bench, unit):
    if bench.device == "cpu" and unit != "fp32":
        pytest.skip("a GPU's")
    n = SIZE[bench.device]
    peer.torch_precision(unit)

    def theirs(a, b):
        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(unit, torch.float32)
        a, b = a.to(kind), b.to(kind)
        return lambda: a @ b

    ours = (lambda a, b: lambda: a @ b) if unit == "fp32" else None
    inputs = peer.arrays((n, n), (n, n))
    try:
        bench.measure(
            f"{peer.CEILING}{unit}", f"{n} × {n}", inputs, ours, theirs, operations=2 * n**3, unit=unit, rotate=False
        )
    finally:
        peer.torch_precision("fp32")


def bench_launch(bench):
    """A kernel that does next to nothing; on the CPU, an operation on one element."""

    def ours(x):
        xp = get_array_module(x)
        return lambda: xp.add(x, 1, out=x)

    bench.measure(
        f"{peer.CEILING}one small launch", "1 element", [np.ones(1, np.float32)], ours, lambda x: lambda: x.add_(1),
        rotate=False,
    )  # fmt: skip
