"""What shows how a training goes: a bar on a terminal, one display in a notebook, lines in a log.

Nothing here may break a training: a display that cannot be written is dropped.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol, Self, TextIO

from gpunn.cuda.compilation import Compilation, Compiled, listening


class Status:
    """Where a training is: what a display shows."""

    def __init__(self) -> None:
        self.epoch = self.step = 0
        self.epochs: int | None = None
        self.steps: int | None = None
        self.loss: float | None = None
        self.measured = ""
        self.note = ""
        """What it waits for."""
        self.first = 0
        """The step from which it was resumed, or 0."""
        self.waited = 0.0
        """The time in which kernels were compiled, which the rest of the training does not take again."""
        self.begun = time.monotonic()

    @property
    def rate(self) -> float:
        """Steps a second, with all that lies between them but compiling."""
        return (self.step - self.first) / max(time.monotonic() - self.begun - self.waited, 1e-9)

    @property
    def left(self) -> str:
        """The time that the rest will take at this rate, or nothing."""
        if self.steps is None or self.step <= self.first:
            return ""
        return f"{_clock(max(self.steps - self.step, 0) / self.rate)} left"

    @property
    def place(self) -> str:
        if self.epoch or self.epochs:
            return f"epoch {self.epoch or 1}" + (f"/{self.epochs}" if self.epochs else "")
        return f"step {self.step:,}" + (f"/{self.steps:,}" if self.steps else "")

    @property
    def figures(self) -> list[str]:
        """In words, those that are known."""
        loss = "" if self.loss is None else f"loss {self.loss:.4f}"
        rate = f"{self.rate:,.{1 if self.rate < 10 else 0}f} steps/s" if self.step > self.first else ""
        return [text for text in (loss, self.measured, rate, self.left) if text]


class Display(Protocol):
    """One way to show it."""

    pause: float
    """The least time between two calls of show, in seconds."""

    def show(self, status: Status) -> None: ...
    def epoch(self, status: Status, record: Mapping[str, Any]) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self, status: Status) -> None: ...


class Lines:
    """A plain line an epoch and every ``pause`` seconds, for a file or a pipe."""

    def __init__(self, file: TextIO, pause: float) -> None:
        self._file, self.pause = file, pause

    def show(self, status: Status) -> None:
        self.say("  ".join([status.place, *status.figures]))

    def epoch(self, status: Status, record: Mapping[str, Any]) -> None:
        seconds = f"{record['seconds']:.1f} s" if "seconds" in record else ""
        self.say("  ".join(text for text in (status.place, *_shown(record), seconds, status.left) if text))

    def say(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()

    def close(self, status: Status) -> None:
        pass


def _told(status: Status) -> str:
    return "  ".join([status.place, *([status.note] if status.note else status.figures)])


class Bar:
    """A bar on a terminal, drawn by rich, with the lines that are said above it; words alone where it has no room."""

    pause = 0.1
    _WIDTH, _LEAST_FOR_BAR = 24, 60

    def __init__(self, console: Any) -> None:
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        # One column of words: where the line is too long it is cut at its end.
        words = TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True))
        columns = (BarColumn(bar_width=self._WIDTH), words) if console.width >= self._LEAST_FOR_BAR else (words,)
        self._streams = sys.stdout, sys.stderr
        # No thread that draws: its errors could not be caught. Prints go above the bar, those into a file stay there.
        self._bar = Progress(*columns, console=console, auto_refresh=False, redirect_stdout=_is_terminal(sys.stdout),
                             redirect_stderr=_is_terminal(sys.stderr))  # fmt: skip
        self._task = self._bar.add_task("", total=None, words="")
        self._bar.start()

    def show(self, status: Status) -> None:
        self._bar.update(self._task, completed=status.step, total=status.steps, words=_told(status))
        self._bar.refresh()

    def epoch(self, status: Status, record: Mapping[str, Any]) -> None:
        self.show(status)

    def say(self, line: str) -> None:
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self, status: Status) -> None:
        try:
            self.show(status)
            self._bar.stop()
        finally:
            self.give_up()

    def give_up(self) -> None:
        """Give the streams back that prints go to."""
        sys.stdout, sys.stderr = self._streams


class Notebook:
    """One display in a notebook, that is updated: a bar, and the lines that are said below it."""

    pause = 0.25

    def __init__(self) -> None:
        from IPython.display import display

        self._display, self._handle, self._said = display, None, [""]

    def show(self, status: Status) -> None:
        words, bar = _told(status), ""
        if status.steps:
            bar = f'<progress value="{status.step}" max="{status.steps}"></progress> '
        lines = [bar + html.escape(words), *map(html.escape, self._said[1:])]
        content = {"text/plain": "\n".join([words, *self._said[1:]]), "text/html": "<br>".join(lines)}
        if self._handle is None:
            self._handle = self._display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)

    def epoch(self, status: Status, record: Mapping[str, Any]) -> None:
        self.show(status)

    def say(self, line: str) -> None:
        self._said.append(line)

    def close(self, status: Status) -> None:
        self.show(status)


def choose_display(file: TextIO, every: float) -> Display:
    """What fits ``file``: a display for what a notebook shows, a bar, drawn by rich, for a terminal, else lines.

    Lines, too, where the display or the bar cannot be made.
    """
    try:
        if file in (sys.stdout, sys.stderr) and _in_notebook():
            return Notebook()
        from rich.console import Console

        console = Console(file=file)
        # FORCE_COLOR makes rich take a log for a terminal: colours are wanted then, but a bar would be in the way.
        if _is_terminal(file) and console.is_terminal and not console.is_dumb_terminal:
            return Bar(console)
    except Exception:
        pass
    return Lines(file, every)


class Ticker:
    """Shows a training in the way that fits ``file``, by default the standard error; within ``with``, and never fails.

    ``every`` is the time between two lines within an epoch, in seconds, where lines are written. That a kernel is
    compiled is said when it begins, and how many there were and how long they took after the next step.
    """

    def __init__(self, file: TextIO | None = None, every: float = 30.0) -> None:
        self.status = Status()
        self._file, self._every = file, every
        self._display: Display | None = None
        self._shown = 0.0
        self._compiled = Compiled(0, 0.0)
        self._under_way = False
        self._contexts = ExitStack()

    def __enter__(self) -> Self:
        file = self._file or sys.stderr
        if file is not None:  # there is none where a program has no console
            self._display = choose_display(file, self._every)
        self._contexts.enter_context(listening(self._hear))
        self.status.begun = self._shown = time.monotonic()
        return self

    def __exit__(self, *raised: object) -> None:
        self._contexts.close()
        self._end_pause()
        self._draw(lambda display: display.close(self.status))
        self._display = None

    def step(self, loss: float | None = None) -> None:
        """Say that ``status`` has moved by a step."""
        self._end_pause()
        self.status.loss = loss
        self._show()

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Say that an epoch is whole."""
        self._end_pause()
        self.status.measured = "  ".join(_short(record))
        self._draw(lambda display: display.epoch(self.status, record))
        self._shown = time.monotonic()

    def _show(self, now: bool = False) -> None:
        if self._display is not None and (now or time.monotonic() - self._shown >= self._display.pause):
            self._draw(lambda display: display.show(self.status))
            self._shown = time.monotonic()

    def _hear(self, compilation: Compilation) -> None:
        if compilation.seconds is not None:
            self._compiled = self._compiled.plus(compilation)
            self.status.waited += compilation.seconds
            return
        if not self._under_way:
            self._under_way = True
            self._draw(lambda display: display.say(str(compilation)))
        self.status.note = f"compiling {compilation.what}"
        self._show_note()

    def _show_note(self) -> None:
        if not isinstance(self._display, Lines):
            self._show(now=True)

    def _end_pause(self) -> None:
        if not self._under_way:
            return
        done, self._compiled = self._compiled, Compiled(0, 0.0)
        self._under_way, self.status.note = False, ""
        self._show_note()
        if done.kernels:
            self._draw(lambda display: display.say(str(done)))

    def _draw(self, draw: Callable[[Display], None]) -> None:
        display = self._display
        if display is None:
            return
        try:
            draw(display)
        except Exception:  # a closed file, a full disk, an encoding without the letter: none may end a training
            self._display = None
            if isinstance(display, Bar):
                display.give_up()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")  # it runs the notebook: nothing to import
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty())
    except (AttributeError, ValueError):  # no file, or a closed one
        return False


def _short(record: Mapping[str, Any]) -> list[str]:
    """What was measured, without the training loss and, where there is more than it, without the test loss.

    >>> _short({"epoch": 1, "train_loss": 0.5, "test_loss": 0.25, "test_accuracy": 0.9})
    ['test accuracy 90.00%']
    >>> _short({"epoch": 1, "train_loss": 0.5, "test_loss": 0.25})
    ['test loss 0.25']
    """
    measures = {name: value for name, value in record.items() if name != "train_loss"}
    return _shown({name: value for name, value in measures.items() if name != "test_loss"}) or _shown(measures)


def _shown(record: Mapping[str, Any]) -> list[str]:
    """What was measured, in words.

    >>> _shown({"cell": "gru", "epoch": 1, "train_loss": 0.5, "test_accuracy": 0.9, "seconds": 1.0})
    ['GRU', 'train loss 0.5', 'test accuracy 90.00%']
    """
    return [_words(name, value) for name, value in record.items() if name not in ("epoch", "seconds")]


def _words(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value.upper()
    number = f"{value:.2%}" if name.endswith("accuracy") else f"{value:.4g}"
    return f"{name.replace('_per_', '/').replace('_', ' ')} {number}"


def _clock(seconds: float) -> str:
    """
    >>> [_clock(seconds) for seconds in (0.2, 75, 3700)]
    ['0:00', '1:15', '1:01:40']
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
