import gc
import os
import signal
import sys
from pathlib import Path

# Before NumPy and PyTorch are loaded, here and in children: tests run side by side, and threads of the two libraries
# that wait for a core, or for each other, take most of its time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from cli_case import Command, Ended
from runners import WITH_KERNEL, WITHOUT_KERNEL, Runner
from undrawn import undraw

from gpunn import backend, cli

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell leaves it to what it runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=WITH_KERNEL)
def run(request) -> Runner:
    """Every way to run an operation that has a kernel."""
    return Runner(request.param)


@pytest.fixture(params=WITHOUT_KERNEL)
def run_xp(request) -> Runner:
    """Every way to run an operation that has none."""
    return Runner(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return backend.random_generator(0)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put pictures together without drawing them."""
    undraw(monkeypatch)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")

    def command(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["gpunn", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    return command


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What is collected lives on: no search for garbage goes through it, neither now nor in tests that ask for one."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items):
    reason = backend.why_no_gpu()
    if reason:
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))
