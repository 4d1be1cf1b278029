"""The base of what watches a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpunn.checkpoint import State

if TYPE_CHECKING:
    from gpunn.train.trainer import Record, Trainer


class Callback:
    """The base of the callbacks: a subclass has the methods that it needs. Each is called between two steps.

    ``trainer.step``, ``trainer.epoch``, ``trainer.records`` and ``trainer.model`` may be read;
    ``trainer.stop()`` ends the run after the epoch, ``trainer.interrupt()`` after the step, as Ctrl-C does. What a
    callback must remember over a resumption is its :meth:`state_dict`.

    >>> class Losses(Callback):
    ...     def __init__(self):
    ...         self.seen = []
    ...     def on_step(self, trainer, loss):
    ...         self.seen.append(loss)
    """

    def on_start(self, trainer: Trainer) -> None:
        """A run begins; ``trainer.step`` is above 0 if it goes on from a checkpoint."""

    def on_step(self, trainer: Trainer, loss: float) -> None:
        """A step is whole; ``loss`` is the mean over its examples, before it."""

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        """An epoch is whole and measured."""

    def on_interrupt(self, trainer: Trainer) -> None:
        """The run is left after a step; the weights are still those of this step."""

    def on_end(self, trainer: Trainer) -> None:
        """The run is over, however it ended."""

    def state_dict(self) -> State:
        """What must be saved: nothing, here."""
        return {}

    def load_state_dict(self, state: State) -> None:
        """Go on from a :meth:`state_dict`."""
