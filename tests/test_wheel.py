"""What pip installs works without the checkout: a kernel runs from the wheel, a run's page is written."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

USE = """
from pathlib import Path
import numpy as np, gpunn, gpunn.functional as F
from gpunn.cuda.source import kernels_folder
assert kernels_folder().parent.name == "gpunn" and "site-packages" in str(kernels_folder()), kernels_folder()
x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
with gpunn.cuda.emulate():
    print(F.max_pool2d(x, 2).ravel().tolist())

assert Path(gpunn.__file__).with_name("py.typed").exists()  # type checkers read what gpunn says of itself

from gpunn.files import shipped
assert shipped("bench").parent.name == "gpunn" and (shipped("bench") / "bench_conv.py").exists()

from gpunn.report import write_page
Path("config.json").write_text('{"recipe": "digits"}')
assert write_page(Path(), Path("page.html")) == []
assert "EventSource" in Path("page.html").read_text(encoding="utf-8")
"""


@pytest.mark.slow
def test_a_kernel_runs_from_the_installed_wheel(tmp_path):
    def run(*command: object, cwd: Path = tmp_path) -> str:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=cwd, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["GPUNN_CACHE_DIR"] = str(tmp_path / "cache")
    # The build backend is in the test extra, so the build fetches nothing.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile")
    run(*install, next(tmp_path.glob("*.whl")))
    assert run(python, "-c", USE).strip() == "[5.0, 7.0, 13.0, 15.0]"
