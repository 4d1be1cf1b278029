"""Callbacks that end a training."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from gpunn.checkpoint import State
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.train.callbacks.base import Callback

if TYPE_CHECKING:
    from gpunn.train.trainer import Record, Trainer


class EarlyStopping(Callback):
    """Ends the run when ``measure`` has not become better by more than ``min_delta`` for ``patience`` epochs.

    >>> stopping = EarlyStopping("test_loss", patience=5)
    """

    def __init__(self, measure: str, patience: int, min_delta: float = 0.0, mode: str = "min") -> None:
        op = "EarlyStopping"
        check_sizes(op, patience=patience)
        check(min_delta >= 0, ArgumentError, op, "min_delta must be at least 0", min_delta=min_delta)
        check(mode in ("min", "max"), ArgumentError, op, "mode must be one of min, max", mode=mode)
        self._measure, self._patience, self._min_delta = measure, patience, min_delta
        self._sign = 1 if mode == "min" else -1
        self._best, self._bad = math.inf, 0

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        value = self._sign * record[self._measure]
        if value < self._best - self._min_delta:
            self._best, self._bad = value, 0
        else:
            self._bad += 1
        if self._bad >= self._patience:
            trainer.stop()

    def state_dict(self) -> State:
        return {"best": self._best, "bad": self._bad}

    def load_state_dict(self, state: State) -> None:
        self._best, self._bad = float(state["best"]), int(state["bad"])


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
