"""What takes long, made once for all processes of a test run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

LONGEST = 600  # seconds that making one of them may take


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The path that ``make(path)`` made, in whichever process came first; not to be changed."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own, side by side
        base = base.parent
    path, mine, done = base / "once" / name, base / "once" / f"{name}.begun", base / "once" / f"{name}.done"
    mine.parent.mkdir(exist_ok=True)
    try:
        mine.mkdir()
    except FileExistsError:
        end = time.monotonic() + LONGEST
        while not done.exists():
            assert time.monotonic() < end, f"{name}: the process that makes it did not end"
            time.sleep(0.05)
        assert path.exists(), f"{name} could not be made: see the process that came first"
        return path
    try:
        make(path)
    finally:
        done.touch()
    return path
