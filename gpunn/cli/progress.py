"""What the command line shows while something takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpunn.cli.output import as_json, on_terminal
from gpunn.train.callbacks.display import Ticker


@contextmanager
def training(epochs: int | None) -> Iterator[dict[str, Any]]:
    """Show how a training goes, on the standard error; gives the callbacks of the recipe.

    With ``--json`` there is nothing to see.
    """
    if as_json():
        yield {}
        return
    with Ticker() as watch:
        status = watch.status
        status.epochs = epochs

        def on_step(step: int, steps: int, loss: float) -> None:
            if not status.steps:  # a run that is resumed begins at a later step
                status.first = step - 1
            status.step, status.steps = step, steps
            status.epoch = 1 + (step - 1) * epochs // steps if epochs else 0
            watch.step(loss)

        def on_epoch(record: dict[str, Any]) -> None:
            status.epoch = record["epoch"]
            watch.epoch(record)

        yield {"on_step": on_step, "on_epoch": on_epoch}


@contextmanager
def measuring() -> Iterator[Callable[[float, str], None]]:
    """A progress bar on a terminal, nothing elsewhere; gives a callback of the part that is done, and of what."""
    if not on_terminal():
        yield lambda part, name: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    with Progress(BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda part, name: progress.update(task, completed=part, description=name)


@contextmanager
def compiling() -> Iterator[Callable[[int, int, str], None] | None]:
    """A progress bar on a terminal, nothing elsewhere; gives the callback of ``warmup``."""
    if not on_terminal():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, name: progress.update(task, completed=done, total=total, description=name)
        progress.update(task, completed=progress.tasks[task].total or 0, description="done")
