"""Has a test suite run on the emulated device: ``pytest -p gpunn.cuda.device.pytest --device "devices=2 late"``.

Without ``--device`` the settings are those of the environment variable GPUNN_EMULATED_DEVICE, else one device, run
eagerly. Where there is a real GPU that is used, and nothing is emulated.
"""

from __future__ import annotations

import os
from typing import Any

from gpunn.cuda import device
from gpunn.cuda.device import environment
from gpunn.cuda.device.settings import VARIABLE, Settings


def pytest_addoption(parser: Any) -> None:
    """Add ``--device``."""
    parser.getgroup("gpunn").addoption(
        "--device", metavar="SETTINGS", help='the emulated device, as "devices=2 memory=4G card=sm_90 late check"'
    )


def pytest_load_initial_conftests(early_config: Any) -> None:
    """Start the device before any test file can import CuPy."""
    given = early_config.known_args_namespace.device
    if device.running() is None and not environment.real_gpu():
        settings = Settings.parse(os.environ.get(VARIABLE, "") if given is None else given)
        os.environ.update(environment.extended(dict(os.environ), settings))  # for processes that tests start
        device.start(settings)


def pytest_report_header() -> str:
    """Say what the tests run on."""
    settings = device.running()
    return f"CUDA device: emulated ({settings.text()})" if settings else "CUDA device: a real GPU"
