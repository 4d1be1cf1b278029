"""A callback that draws while the run trains."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from gpunn.errors import FileError, check_sizes
from gpunn.train.trainer import Callback, Record, Trainer


class Plots(Callback):
    """Draws curves.png in ``folder`` anew every so many epochs, and at the end; a reader never sees half of one.

    ``draw(records, path)`` draws it: :func:`gpunn.plot.curves`, or a function of your own.

    >>> from gpunn import plot
    >>> drawing = Plots("run", plot.curves, every=5)

    Raises FileError if ``folder`` cannot be written, and what ``draw`` raises.
    """

    def __init__(
        self, folder: str | os.PathLike[str], draw: Callable[[list[Record], Path], object], every: int = 1
    ) -> None:
        check_sizes("Plots", every=every)
        self._folder, self._draw, self._every = Path(folder), draw, every
        self._drawn = 0

    def on_start(self, trainer: Trainer) -> None:
        self._drawn = trainer.epoch

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        if trainer.epoch % self._every == 0:
            self._write(trainer)

    def on_end(self, trainer: Trainer) -> None:
        if trainer.epoch > self._drawn:
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        self._drawn = trainer.epoch
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Beside the picture: from another file system it could not take its place at once.
            with tempfile.TemporaryDirectory(dir=self._folder, prefix=".curves") as unfinished:
                drawn = Path(unfinished) / "curves.png"
                self._draw(trainer.records, drawn)
                os.replace(drawn, self._folder / "curves.png")
        except OSError as error:
            raise FileError(f"{self._folder}: curves.png cannot be drawn there: {error.strerror or error}") from error
