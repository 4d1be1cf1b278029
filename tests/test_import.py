import json
import os
import subprocess
import sys

HEAVY = [
    "cupy", "torch", "matplotlib", "sklearn", "PIL", "safetensors", "typer", "rich", "onnx", "ml_dtypes",
    "cuda.core", "cuda.bindings",
]  # fmt: skip


def python(*args: str) -> subprocess.CompletedProcess:
    # Users import bytecode: without it every import compiles.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True, env=environment)


def test_import_brings_numpy_and_nothing_heavier():
    code = f"import sys, json, gpunn; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    assert json.loads(python("-c", code).stdout) == []


def test_import_takes_under_60_ms_beyond_numpy():
    # Processor time, and the best of five: what else the machine does is not gpunn's.
    code = "import time, numpy; begin = time.process_time(); import gpunn; print(time.process_time() - begin)"
    assert min(float(python("-c", code).stdout) for _ in range(5)) < 0.060
