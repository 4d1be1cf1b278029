"""A fresh process that imports the library, and nothing else."""

import subprocess
import sys
import time

import pytest


def bench_import(bench):
    if bench.device == "gpu":
        pytest.skip("the same on the CPU")

    def imports(name):
        return lambda: lambda: subprocess.run([sys.executable, "-c", f"import {name}"], check=True)

    bench.measure("import", "a fresh process", [], imports("gpunn"), imports("torch"), timer=time.perf_counter)
