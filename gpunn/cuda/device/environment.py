"""The environment in which the processes of a program find the emulated device."""

from __future__ import annotations

import importlib.util
import os
import sysconfig
from pathlib import Path

from gpunn.cuda.device.settings import VARIABLE, Settings

_SITE = Path(__file__).parent / "site"
_DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/dev/dxg")


def real_gpu() -> bool:
    """Whether there seems to be a GPU of NVIDIA's: its driver is not asked, for then it would be in the process."""
    return any(Path(place).exists() for place in _DRIVER)


def extended(environment: dict[str, str], settings: Settings) -> dict[str, str]:
    """``environment`` with what has each Python process start the device when it imports CuPy."""
    spec = importlib.util.find_spec("gpunn")
    assert spec is not None
    assert spec.origin is not None
    package = str(Path(spec.origin).resolve().parents[1])
    installed = {str(Path(sysconfig.get_path(kind)).resolve()) for kind in ("purelib", "platlib")}
    folders = [str(_SITE), *([] if package in installed else [package])]
    before = [folder for folder in environment.get("PYTHONPATH", "").split(os.pathsep) if folder]
    path = os.pathsep.join([*folders, *(folder for folder in before if folder not in folders)])
    return {**environment, VARIABLE: settings.text(), "PYTHONPATH": path}
