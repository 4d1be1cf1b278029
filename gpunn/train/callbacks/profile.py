"""A callback that profiles some steps."""

from __future__ import annotations

import os
from pathlib import Path

from gpunn import profiler
from gpunn.errors import ArgumentError, FileError, check
from gpunn.files import write_atomically
from gpunn.train.trainer import Callback, Trainer


class Profile(Callback):
    """Profiles the steps ``first`` to ``last``, counted from 1, and writes profile.txt and trace.json into ``folder``.

    The first step compiles kernels and fills caches, so that it says little of the others. Give this callback after
    the others: what they do in these steps counts as outside of layers. With ``memory``, memory is measured, too, and
    times are longer; see :func:`gpunn.profile`. A run that ends earlier, or is resumed later, profiles the steps that
    it has of these, and without any writes nothing.

    >>> profiling = Profile("run/profile", steps=(2, 11))

    Raises FileError if ``folder`` cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], steps: tuple[int, int] = (2, 11), memory: bool = False) -> None:
        first, last = steps
        rule = "steps must be (first, last) with 1 <= first <= last"
        check(1 <= first <= last, ArgumentError, "Profile", rule, steps=steps)
        self._folder, self._first, self._last, self._memory = Path(folder), first, last, memory
        self._profile: profiler.Profile | None = None

    def on_start(self, trainer: Trainer) -> None:
        self._profile = None
        self._begin(trainer)

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if trainer.step >= self._last:
            self._write()
        self._begin(trainer)

    def on_end(self, trainer: Trainer) -> None:
        self._write()

    def _begin(self, trainer: Trainer) -> None:
        """If the next step is among those wanted."""
        if self._profile is None and self._first <= trainer.step + 1 <= self._last:
            self._profile = profiler.profile(trainer.model, self._memory)
            self._profile.__enter__()

    def _write(self) -> None:
        if self._profile is None:
            return
        done, self._profile = self._profile, None
        done.__exit__(None, None, None)
        try:
            write_atomically(self._folder / "profile.txt", f"{done.table()}\n".encode())
        except OSError as error:
            raise FileError(
                f"{self._folder}: the profile cannot be written there: {error.strerror or error}"
            ) from error
        done.chrome_trace(self._folder / "trace.json")
