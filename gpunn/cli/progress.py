"""What the command line shows while something takes long."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def training(epochs: int | None) -> Iterator[dict[str, Any]]:
    """A progress display on a terminal, nothing elsewhere; gives the callbacks of the recipe."""
    if not sys.stdout.isatty():
        yield {}
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[epoch]}"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[measured]}"),
        TextColumn("{task.fields[rate]:.0f} steps/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=None, epoch="", loss="-", measured="", rate=0.0)

        def on_step(step: int, steps: int, loss: float) -> None:
            rate = progress.tasks[task].speed or 0.0
            epoch = f"epoch {1 + (step - 1) * epochs // steps}/{epochs}" if epochs else ""
            progress.update(task, completed=step, total=steps, epoch=epoch, loss=f"{loss:.4f}", rate=rate)

        def on_epoch(record: dict[str, Any]) -> None:
            progress.update(task, measured=_measured(record))

        yield {"on_step": on_step, "on_epoch": on_epoch}


def _measured(record: dict[str, Any]) -> str:
    cell = f"{record['cell'].upper()} " if "cell" in record else ""
    if "test_bits_per_character" in record:
        return f"{cell}test bits/character {record['test_bits_per_character']:.3f}"
    return f"{cell}test accuracy {record['test_accuracy']:.2%}"


@contextmanager
def compiling() -> Iterator[Callable[[int, int, str], None] | None]:
    """A progress bar on a terminal, nothing elsewhere; gives the callback of ``warmup``."""
    if not sys.stdout.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total, name: progress.update(task, completed=done, total=total, description=name)
        progress.update(task, completed=progress.tasks[task].total or 0, description="done")
