"""What is asked of the C library: once, and only where nobody else has said what it should do."""

import os
import platform
import subprocess
import sys

import pytest

ASKED = "from gpunn.cpu.memory import keep_freed; print(keep_freed())"


def said(**environment: str) -> str:
    names = ("GPUNN_MALLOC", "GLIBC_TUNABLES")
    given = {name: value for name, value in os.environ.items() if name not in names and not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", ASKED]
    return subprocess.run(command, env=given | environment, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_glibc_is_asked_unless_somebody_else_has():
    assert said() == "True"
    others = {"GPUNN_MALLOC": "off", "MALLOC_TRIM_THRESHOLD_": "1000000", "GLIBC_TUNABLES": "glibc.malloc.perturb=0"}
    for name, value in others.items():
        assert said(**{name: value}) == "False"
