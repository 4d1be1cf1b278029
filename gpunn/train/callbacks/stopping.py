"""Callbacks that end a training."""

from __future__ import annotations

import math
import time

from gpunn.checkpoint import State
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.train.trainer import Callback, Record, Trainer


class EarlyStopping(Callback):
    """Ends the run when ``measure`` has not become better by more than ``min_delta`` for ``patience`` epochs.

    A run that is resumed after it was ended has ``patience`` epochs more to become better than the best; one that
    starts again, with another trainer, has a best of its own.

    >>> stopping = EarlyStopping("test_loss", patience=5)

    Raises ArgumentError for a measure that epochs do not have, when the run begins or after its first epoch.
    """

    every_rank = True

    def __init__(self, measure: str, patience: int, min_delta: float = 0.0, mode: str = "min") -> None:
        op = "EarlyStopping"
        check_sizes(op, patience=patience)
        check(min_delta >= 0, ArgumentError, op, "min_delta must be at least 0", min_delta=min_delta)
        check(mode in ("min", "max"), ArgumentError, op, "mode must be one of min, max", mode=mode)
        self._measure, self._patience, self._min_delta = measure, patience, min_delta
        self._sign = 1 if mode == "min" else -1
        self._best, self._bad = math.inf, 0
        self._ended = False  # a run in this process

    def on_start(self, trainer: Trainer) -> None:
        trainer.check_measure("EarlyStopping", self._measure)
        if not trainer.records:
            self._best, self._bad = math.inf, 0
        elif self._ended:
            self._bad = 0
        elif self._bad >= self._patience:  # the run was ended when it was saved
            trainer.stop()
        self._ended = False

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        value = self._sign * trainer.measured("EarlyStopping", self._measure)
        if value < self._best - self._min_delta:
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._bad >= self._patience:
            self._ended = True
            trainer.stop()

    def state_dict(self) -> State:
        return {"best": self._best, "bad": self._bad}

    def load_state_dict(self, state: State) -> None:
        self._best, self._bad, self._ended = float(state["best"]), int(state["bad"]), False


class TimeLimit(Callback):
    """Interrupts the run, as Ctrl-C does, at the first step that ends ``seconds`` after its start.

    >>> limit = TimeLimit(3600)
    """

    def __init__(self, seconds: float) -> None:
        check(seconds > 0, ArgumentError, "TimeLimit", "seconds must be above 0", seconds=seconds)
        self._seconds, self._end = seconds, math.inf

    def on_start(self, trainer: Trainer) -> None:
        self._end = time.monotonic() + self._seconds

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if time.monotonic() >= self._end:
            trainer.interrupt(f"the time limit of {self._seconds} s")
