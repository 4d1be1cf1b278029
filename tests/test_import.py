import json
import os
import pydoc
import subprocess
import sys

import pytest

import gpunn
from gpunn.errors import PackageError

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


LATE = ["checkpoint", "data", "distributed", "functional", "interop", "models", "nn", "optim", "plot", "profiler",
        "sklearn", "testing", "train"]  # fmt: skip


def test_parts_are_loaded_on_first_use():
    code = f"""
import json, sys, gpunn
late = {LATE!r}
before = [name for name in late if "gpunn." + name in sys.modules]
listed = [name for name in late if name not in dir(gpunn)]
names = [getattr(gpunn, name).__name__ for name in late]
of_interop = [getattr(gpunn.interop, name).__name__ for name in ("cudnn", "onnx", "torch")]
print(json.dumps([before, listed, names, of_interop]))"""
    before, unlisted, names, of_interop = json.loads(python("-c", code).stdout)
    assert before == unlisted == []
    assert names == [f"gpunn.{name}" for name in LATE]
    assert of_interop == ["gpunn.interop.cudnn", "gpunn.interop.onnx", "gpunn.interop.torch"]


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="module 'gpunn' has no attribute 'dada'"):
        gpunn.dada  # noqa: B018


def test_help_does_not_need_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "gpunn.sklearn", raising=False)
    monkeypatch.delattr(gpunn, "sklearn", raising=False)
    assert "manual_seed" in pydoc.render_doc(gpunn)
    with pytest.raises(AttributeError, match="gpunn.sklearn needs scikit-learn and safetensors"):
        gpunn.sklearn  # noqa: B018
    with pytest.raises(PackageError):
        from gpunn import sklearn  # noqa: F401
