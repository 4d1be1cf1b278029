"""Callbacks that end a training."""

from __future__ import annotations

import math
import time
from typing import Any, cast

from gpunn.checkpoint import State
from gpunn.errors import ArgumentError, check, check_sizes
from gpunn.train.trainer import Callback, Record, Trainer


class EarlyStopping(Callback):
    """Ends the run when ``measure`` has not become better by more than ``min_delta`` for ``patience`` epochs.

    With ``restore_best`` the model, and the averages of ``ema``, have the weights of the best epoch then. A checkpoint
    that is saved at the end, or has been, ends a run that is resumed from it at once, if that is not given more
    patience. In the process that was ended, another ``run`` has ``patience`` epochs more to become better than the
    best. A run that starts again, with another trainer, has a best of its own.

    >>> stopping = EarlyStopping("validation_loss", patience=5, restore_best=True)

    Raises ArgumentError, when the run begins, for a measure that epochs do not have.
    """

    every_rank = True

    def __init__(
        self, measure: str, patience: int, min_delta: float = 0.0, mode: str = "min", restore_best: bool = False
    ) -> None:
        op = "EarlyStopping"
        check_sizes(op, patience=patience)
        check(min_delta >= 0, ArgumentError, op, "min_delta must be at least 0", min_delta=min_delta)
        check(mode in ("min", "max"), ArgumentError, op, "mode must be one of min, max", mode=mode)
        self.monitored, self._patience, self._min_delta = measure, patience, min_delta
        self._sign = 1 if mode == "min" else -1
        self._restores = restore_best
        self._best, self._bad = math.inf, 0
        self._best_epoch, self._weights = 0, dict[str, State]()
        self._ended = False  # a run in this process

    @property
    def best_epoch(self) -> int:
        """The number of the epoch with the best measure, from 1; 0 before there is one."""
        return self._best_epoch

    def on_start(self, trainer: Trainer) -> None:
        if not trainer.records:
            self._best, self._bad, self._best_epoch, self._weights = math.inf, 0, 0, {}
        elif self._ended:
            self._bad = 0
        elif self._bad >= self._patience:  # the run was ended when it was saved
            self._end(trainer)
        self._ended = False

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        value = self._sign * trainer.measured("EarlyStopping", cast(str, self.monitored))
        if value < self._best - self._min_delta:
            self._best, self._bad, self._best_epoch = value, 0, trainer.epoch
            if self._restores:
                self._weights = {name: part.state_dict() for name, part in _holding_weights(trainer).items()}
        else:
            self._bad += 1
        if self._bad >= self._patience:
            self._ended = True
            self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        trainer.stop()
        if self._weights:
            for name, part in _holding_weights(trainer).items():
                part.load_state_dict(self._weights[name])

    def state_dict(self) -> State:
        own = {"best": self._best, "bad": self._bad, "best_epoch": self._best_epoch}
        weights = {f"{part}: {name}": x for part, values in self._weights.items() for name, x in values.items()}
        return own | weights

    def load_state_dict(self, state: State) -> None:
        self._best, self._bad, self._ended = float(state["best"]), int(state["bad"]), False
        self._best_epoch, self._weights = int(state.get("best_epoch", 0)), {}
        for key, value in state.items():
            part, separator, name = key.partition(": ")
            if separator:
                self._weights.setdefault(part, {})[name] = value


def _holding_weights(trainer: Trainer) -> dict[str, Any]:
    return {"model": trainer.model} | ({} if trainer.ema is None else {"ema": trainer.ema})


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
