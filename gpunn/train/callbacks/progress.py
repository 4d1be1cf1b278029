"""A callback that shows how a training goes."""

from __future__ import annotations

from collections.abc import Sized
from typing import TextIO

from gpunn.errors import ArgumentError, check, check_number
from gpunn.train.callbacks.display import Ticker
from gpunn.train.trainer import Callback, Record, Trainer


class Progress(Callback):
    """Shows epoch, loss, measures, steps a second and the time left: on a terminal, in a notebook, or in a log.

    On a terminal that is a bar at the bottom (drawn by rich, of the extra ``train``), in a notebook one display
    that is updated, and in a file or a pipe a plain line an epoch and, within an epoch, every ``every`` seconds.
    It goes to ``file``, by default the standard error. While kernels are compiled it says so. It never ends a
    training: a display that cannot be written is dropped.

    >>> import sys, numpy as np
    >>> from gpunn import functional as F, nn, optim, tensor
    >>> from gpunn.train import Trainer
    >>> model = nn.Linear(1, 1, bias=False)
    >>> def loss(batch):
    ...     return F.mse_loss(model(tensor(batch)), batch), len(batch)
    >>> data = [np.ones((1, 1), np.float32)]
    >>> sgd = optim.SGD(model.parameters(), lr=0.5)
    >>> trainer = Trainer(model, sgd, data, loss, callbacks=[Progress(file=sys.stdout)])
    >>> records = trainer.run(epochs=2)  # doctest: +ELLIPSIS
    epoch 1/2  train loss ...
    epoch 2/2  train loss ...
    """

    def __init__(self, every: float = 30.0, file: TextIO | None = None) -> None:
        check_number("Progress", every=every)
        check(every > 0, ArgumentError, "Progress", "every must be above 0", every=every)
        self._every, self._file = every, file
        self._watch = Ticker(file, every)

    def on_start(self, trainer: Trainer) -> None:
        self._watch.__exit__()  # of a run that was left with no end
        self._watch = Ticker(self._file, self._every)
        status = self._watch.status
        status.epochs, status.epoch = trainer.epochs, trainer.epoch + 1
        status.step = status.first = trainer.step
        batches = len(trainer.data) if isinstance(trainer.data, Sized) else 0
        if batches and trainer.epochs:
            status.steps = trainer.epochs * -(-batches // trainer.accumulate)
        self._watch.__enter__()

    def on_step(self, trainer: Trainer, loss: float) -> None:
        status = self._watch.status
        status.step, status.epoch = trainer.step, trainer.epoch + 1
        self._watch.step(loss)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        self._watch.status.epoch = trainer.epoch
        self._watch.epoch(record)

    def on_end(self, trainer: Trainer) -> None:
        self._watch.__exit__()
