"""Run folders for the tests of the report, made by hand: what a recipe writes, and what it never would."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpunn.report import Watch

CONFIG = {"recipe": "digits", "seed": 0, "epochs": 5, "batch_size": 32, "lr": 0.005, "device": "cpu", "emulate": False}
SUMMARY = {
    "status": "finished", "error": None, "test_accuracy": 0.9, "test_loss": 0.25, "parameters": 1234, "seconds": 1.5,
    "epochs": 5, "steps": 10, "device": "cpu", "emulate": False, "versions": {"gpunn": "0.1.0", "numpy": "2.4.6"},
}  # fmt: skip


def record(epoch: int, **more: Any) -> dict[str, Any]:
    """A record as the trainer's, with numbers of every length."""
    loss = 2.3 / epoch**2
    return {"epoch": epoch, "train_loss": loss, "test_loss": loss / 3, "test_accuracy": 1 - 0.5**epoch} | more


def lines(*records: dict[str, Any]) -> str:
    """The records as the trainer writes them."""
    return "".join(json.dumps(each) + "\n" for each in records)


def make_run(folder: Path, metrics: str | None = None, summary: dict[str, Any] | None = None, **config: Any) -> Path:
    """A run folder with these files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config), encoding="utf-8")
    if metrics is not None:
        (folder / "metrics.jsonl").write_text(metrics, encoding="utf-8")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


def save_arrays(folder: Path, **arrays: np.ndarray[Any, Any]) -> None:
    """Write the weights of a run, ``_`` for the dots in their names."""
    from safetensors.numpy import save_file

    save_file({name.replace("_", "."): array for name, array in arrays.items()}, folder / "model.safetensors")


@contextlib.contextmanager
def serving(folder: Path, **where: Any) -> Iterator[Watch]:
    """The live page of a run, served by a thread of its own."""
    with Watch(folder, **where) as server:
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()
