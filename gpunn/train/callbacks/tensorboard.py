"""A callback for TensorBoard."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gpunn.errors import FileError, PackageError, check_sizes, install_command
from gpunn.train.trainer import Callback, Record, Trainer


class TensorBoard(Callback):
    """Writes the numbers of each epoch's record into ``folder`` as TensorBoard's event files.

    With ``every_steps``, also the loss and the learning rate of each so many steps, as ``step/loss`` and
    ``step/learning_rate`` (``_1`` and so on are those of further groups of parameters). All numbers stand at the step
    they belong to, an epoch's at its last one. A run that is resumed, or begun anew in the folder, takes the place of
    what was written for later steps.

    >>> board = TensorBoard("run/events", every_steps=100)  # doctest: +SKIP

    Raises PackageError where the package tensorboardX is missing, FileError if ``folder`` cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], every_steps: int | None = None) -> None:
        if every_steps is not None:
            check_sizes("TensorBoard", every_steps=every_steps)
        try:
            import tensorboardX  # noqa: F401
        except ImportError as error:
            raise PackageError(
                f"TensorBoard: event files are written by tensorboardX ({error}): {install_command('tensorboard')}"
            ) from error
        self._folder, self._every_steps = Path(folder), every_steps
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        from tensorboardX import SummaryWriter

        try:
            # Readers drop what they have of this step and later ones: a killed run wrote beyond its last checkpoint.
            first = trainer.step + 1 if trainer.step else 0
            # The writer names files by the second, and would write over that of a run which ended in this one.
            self._writer = SummaryWriter(str(self._folder), purge_step=first, filename_suffix=f".{first:012}")
        except OSError as error:
            raise self._unwritable(error) from error

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if self._every_steps is not None and trainer.step % self._every_steps == 0:
            groups = trainer.optimizer.groups
            names = ["step/learning_rate", *(f"step/learning_rate_{number}" for number in range(1, len(groups)))]
            rates = {name: group["lr"] for name, group in zip(names, groups, strict=True)}
            self._add(trainer, {"step/loss": loss} | rates)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        numbers = {name: value for name, value in record.items() if isinstance(value, int | float)}
        self._add(trainer, numbers)
        try:
            self._writer.flush()
        except OSError as error:
            raise self._unwritable(error) from error

    def on_end(self, trainer: Trainer) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                raise self._unwritable(error) from error

    def _add(self, trainer: Trainer, numbers: Record) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, trainer.step)

    def _unwritable(self, error: OSError) -> FileError:
        return FileError(f"{self._folder}: the event files cannot be written there: {error.strerror or error}")
