"""Callbacks that keep what a training comes to: checkpoints, and records as lines of JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gpunn
from gpunn.checkpoint import Checkpoints, State
from gpunn.distributed import on_first, share_state
from gpunn.errors import ArgumentError, FileError, GpunnError, check, check_sizes
from gpunn.files import write_atomically
from gpunn.train.trainer import Callback, Record, Trainer


class Checkpoint(Callback):
    """Saves into ``folder`` every so many epochs and steps, and when the run is interrupted; resumes from there.

    The last ``keep`` stay, and, with ``best``, that of the epoch with the lowest (or, with ``mode="max"``, the
    highest) measure of that name. ``about`` is saved too: what a resumed run must have in common with this one, such
    as its options.

    >>> import tempfile
    >>> saving = Checkpoint(tempfile.mkdtemp(), every_epochs=1, best="test_loss", about={"lr": 0.1})

    Give it after the callbacks whose state it is to save. Of several ranks rank 0 writes. Raises FileError if a
    checkpoint cannot be written; those before it are then as they were.
    """

    every_rank = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        every_epochs: int | None = 1,
        every_steps: int | None = None,
        keep: int = 2,
        best: str | None = None,
        mode: str = "min",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        for name, every in (("every_epochs", every_epochs), ("every_steps", every_steps)):
            if every is not None:
                check_sizes("Checkpoint", **{name: every})
        check(mode in ("min", "max"), ArgumentError, "Checkpoint", "mode must be one of min, max", mode=mode)
        self.checkpoints = Checkpoints(folder, keep)
        self._every_epochs, self._every_steps = every_epochs, every_steps
        self.monitored, self._sign, self._about = best, 1 if mode == "min" else -1, dict(about or {})
        self._best, self._best_step = math.inf, -1

    def resume(self, trainer: Trainer) -> bool:
        """Take ``trainer`` to its newest whole checkpoint; False if there is none. Of several ranks rank 0 reads it.

        Raises FileError, which names what differs, if it is of a run with another ``about``, or of another trainer,
        or has no state of a trainer.
        """
        world = trainer.world
        if world is None:
            state = self._newest()
        else:
            read: list[Any] = [None]

            def there() -> bool:
                read[0] = self._newest()
                return read[0] is not None

            state = share_state(world, read[0]) if on_first(world, there) else None
        if state is None:
            return False
        try:
            trainer.load_state_dict(state)
        except (GpunnError, LookupError, TypeError, ValueError, AttributeError) as error:
            whose = f"the newest checkpoint is not of this training, or of another gpunn than this, {gpunn.__version__}"
            raise FileError(f"{self.checkpoints.folder}: {whose}: {error}") from error
        return True

    def _newest(self) -> dict[str, State] | None:
        """The newest whole checkpoint, if it is of this run."""
        state = self.checkpoints.load_newest()
        if state is None:
            return None
        saved = state.pop("about", {})
        differing = [
            f"{name} was {saved.get(name)!r}, and is {self._about.get(name)!r}"
            for name in sorted(saved.keys() | self._about.keys())
            if saved.get(name) != self._about.get(name)
        ]
        if differing:
            raise FileError(f"{self.checkpoints.folder}: the checkpoint is of another run: {'; '.join(differing)}")
        return state

    def on_start(self, trainer: Trainer) -> None:
        if not trainer.records:
            self._best, self._best_step = math.inf, -1

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if self._every_steps is not None and trainer.step % self._every_steps == 0:
            self._save(trainer)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        value = math.inf if self.monitored is None else self._sign * trainer.measured("Checkpoint", self.monitored)
        better = value < self._best
        if better:
            self._best, self._best_step = value, trainer.step
        if better or (self._every_epochs is not None and trainer.epoch % self._every_epochs == 0):
            self._save(trainer)

    def on_interrupt(self, trainer: Trainer) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        best = self._best_step if self._best_step >= 0 else None
        state = trainer.state_dict() | {"about": self._about}  # on every rank: some may have a part of it
        if trainer.first:
            with trainer.busy("writing a checkpoint"):
                self.checkpoints.save(trainer.step, state, best)

    @property
    def best_path(self) -> Path | None:
        """The checkpoint of the best epoch so far, if there is one."""
        return self.checkpoints.path(self._best_step) if self._best_step >= 0 else None

    def state_dict(self) -> State:
        """The best measure, its sign turned where more is better, and its step."""
        return {"best": self._best, "best_step": self._best_step}

    def load_state_dict(self, state: State) -> None:
        self._best, self._best_step = float(state["best"]), int(state["best_step"])


class JsonLines(Callback):
    """Writes each epoch's record as a line of JSON to ``path``, when it ends; a resumed run has each epoch once.

    >>> log = JsonLines("metrics.jsonl")

    Raises FileError if it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    def on_start(self, trainer: Trainer) -> None:
        if trainer.records or self._path.exists():
            self._write(trainer.records)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as error:
            raise self._unwritable(error) from error

    def _write(self, records: list[Record]) -> None:
        try:
            write_atomically(self._path, "".join(map(_line, records)).encode())
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> FileError:
        return FileError(f"{self._path}: the records cannot be written there: {error.strerror or error}")


def _line(record: Record) -> str:
    return json.dumps(record, allow_nan=False) + "\n"
