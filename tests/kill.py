"""Kill runs of ``gpunn train digits`` without warning, look at what is left, resume, and compare with a whole run.

``python tests/kill.py 50`` tries 50 moments: half at random times, half inside the writing of a file, with a part of
its bytes on the disk, where they are synced, or where the finished file is about to take its name. Each run, of two
workers, is killed twice, the second time while resumed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gpunn.backend import random_generator
from gpunn.checkpoint import load_checkpoint, load_weights
from gpunn.models import lenet
from gpunn.recipes.digits import Options, train_digits

OPTIONS = Options(epochs=4, batch_size=256, seed=3, workers=2)
# Each process is forked from one that has imported what a run needs.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["__main__", "gpunn.recipes.digits", "matplotlib.backends.backend_agg"])


class Moment(NamedTuple):
    """When to kill: so many "seconds" after the training began, or in the "fsync" or "replace" of that number.

    In a "write", 3.25 is a quarter of the third file.
    """

    kind: str
    number: float


def train(folder: Path, moment: Moment | None, resume: bool, begins: Connection, complaints: Path) -> None:
    """Train in this process, which kills itself inside the call that ``moment`` names."""
    os.dup2(os.open(complaints, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    if moment is not None and moment.kind != "seconds":
        kill_in(moment)
    begins.close()
    train_digits(OPTIONS, folder, resume=resume)


def kill_in(moment: Moment) -> None:
    """Let the call that ``moment`` names be this process's last."""
    name = "fdopen" if moment.kind == "write" else moment.kind
    real, calls = getattr(os, name), 0

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal calls
        if arguments[1:] == ("rb",):  # a file that is read
            return real(*arguments, **settings)
        calls += 1
        if calls != int(moment.number):
            return real(*arguments, **settings)
        if moment.kind == "write":
            return Dying(arguments[0], moment.number % 1)
        return os.kill(os.getpid(), signal.SIGKILL)

    setattr(os, name, counted)


class Dying:
    """A file that gets a part of what is written to it; then the process is killed."""

    def __init__(self, handle: int, part: float) -> None:
        self.handle, self.part = handle, part

    def __enter__(self) -> Dying:
        return self

    def __exit__(self, *_: object) -> None:
        raise AssertionError("nothing was written")

    def write(self, content: bytes) -> None:
        os.write(self.handle, content[: int(self.part * len(content))])
        os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, moment: Moment | None, resume: bool) -> bool:
    """Train in a process of its own; True if it was killed, False if it came to its end before."""
    begun, begins = PROCESSES.Pipe(duplex=False)
    complaints = folder.with_name(f"{folder.name}.txt")
    child = PROCESSES.Process(target=train, args=(folder, moment, resume, begins, complaints))
    child.start()
    begins.close()
    begun.poll(None)  # until the child closes its end
    begun.close()
    if moment is not None and moment.kind == "seconds":
        time.sleep(moment.number)
        child.kill()
    child.join()
    errors = complaints.read_text() if complaints.exists() else ""
    assert child.exitcode in (0, -signal.SIGKILL), errors
    assert not errors, errors
    return child.exitcode != 0


def check_readable(folder: Path) -> None:
    """Every file that a kill left is whole; only files under a temporary name may be cut."""
    for path in folder.rglob("*"):
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            [json.loads(line) for line in path.read_text().splitlines()]
        elif path.parent.name == "checkpoints" and path.suffix == ".safetensors":
            load_checkpoint(path)
        elif path.suffix == ".safetensors":
            load_weights(lenet(), path)


def try_moments(folder: Path, first: Moment, second: Moment) -> str:
    """Kill, look, resume and kill, look, resume to the end; return how often it was killed."""
    kills = killed(folder, first, resume=False)
    check_readable(folder)
    if not (folder / "config.json").exists():  # killed before there was a run
        killed(folder, None, resume=False)
    elif kills:
        again = killed(folder, second, resume=True)
        check_readable(folder)
        if again:
            killed(folder, None, resume=True)
        kills += again
    check_readable(folder)
    assert json.loads((folder / "summary.json").read_text())["status"] == "finished"
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == OPTIONS.epochs
    return f"killed {int(kills)} times"


def drawn(g: np.random.Generator, within_a_file: bool) -> Moment:
    """A random moment."""
    if not within_a_file:
        return Moment("seconds", round(float(g.uniform(0, 2)), 3))
    kind = str(g.choice(["fsync", "replace", "write"]))
    number = int(g.integers(1, 11 if kind == "fsync" else 8))  # as many as a whole run has
    return Moment(kind, round(number + float(g.uniform(0, 0.99)), 2) if kind == "write" else number)


def main(count: int) -> None:
    """Try ``count`` pairs of moments."""
    g = random_generator(count)
    with tempfile.TemporaryDirectory() as parent:
        killed(Path(parent, "whole"), None, resume=False)
        whole = Path(parent, "whole", "model.safetensors").read_bytes()
        for i in range(count):
            moments = [drawn(g, within_a_file=i % 2 == 0) for _ in range(2)]
            folder = Path(parent, str(i))
            told = try_moments(folder, *moments)
            assert (folder / "model.safetensors").read_bytes() == whole, moments
            print(f"{i + 1:3} {told}, same weights: " + ", ".join(f"{m.kind} {m.number}" for m in moments), flush=True)
    print(f"{count} moments: no folder unreadable, every model the same to the byte")


if __name__ == "__main__":
    main(int(sys.argv[1]))
