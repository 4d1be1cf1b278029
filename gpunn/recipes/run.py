"""What the recipes share: device, versions, the learning rate, and how a run can end."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gpunn
from gpunn import distributed
from gpunn.backend import check_device, default_device, use_device
from gpunn.cuda import emulate as emulation
from gpunn.cuda.emulator.build import host_compiler
from gpunn.distributed import World
from gpunn.errors import ArgumentError, DeviceError, PackageError, TrainingError, check, install_command
from gpunn.optim import Optimizer
from gpunn.optim.schedule import Schedule
from gpunn.recipes.options import Options
from gpunn.train import Callback, Record, Trainer

# ---- before a run --------------------------------------------------------------------------------------------------


def check_packages(command: str, packages: Sequence[str]) -> None:
    """Raise PackageError, with the command that mends it, unless all of ``packages`` can be imported."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageError(f"{command}: {', '.join(missing)} not installed: {install_command('train')}")


def choose_device(command: str, device: str | None, emulate: bool) -> str:
    """The device to compute on, by default the default one, if it and a compiler for ``emulate`` can be used."""
    chosen = check_device(device) if device is not None else default_device()
    if emulate and chosen != "cpu":
        raise ArgumentError(f"{command}: the emulator takes arrays of the CPU, got device={chosen!r}")
    if emulate:
        host_compiler()  # raises CompileError, while there is no folder yet, where there is none
    return chosen


def choose_again(folder: Path, options: Options, hint: str = "") -> str:
    """:func:`choose_device` for a run in ``folder``; the DeviceError where it cannot be used names both."""
    try:
        return choose_device(options.command, options.device, options.emulate)
    except (ArgumentError, DeviceError) as error:
        told = f"{folder}: the device of the run, {options.device!r}, cannot be used here: {error}"
        raise DeviceError(told + hint) from error


def join(command: str, device: str | None, emulate: bool) -> World:
    """The ranks that ``mpirun`` started, each with its device.

    Raises ArgumentError where it started none, and for one GPU by its number, which several ranks would have.
    """
    started = distributed.started()
    check(started, ArgumentError, command, f"ranks are started by mpirun: mpirun -n 4 gpunn {command} --distributed")
    chosen = choose_device(command, device, emulate)
    world = distributed.init(chosen.partition(":")[0])
    numbered = world.size > 1 and ":" in (device or "")
    rule = "each rank has a GPU of its own: leave out the number"
    check(not numbered, ArgumentError, command, rule, device=device, ranks=world.size)
    return world


@contextlib.contextmanager
def computing(device: str, emulate: bool, threads: int = 1) -> Iterator[None]:
    """A context that computes on ``device``, emulated if asked, with ``threads`` BLAS threads.

    A fixed number of threads: the order of sums in a product, so every byte of the weights, depends on it.
    """
    from threadpoolctl import threadpool_limits

    with use_device(device), threadpool_limits(threads, "blas"), emulation() if emulate else contextlib.nullcontext():
        yield


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The learning rate after ``step`` of ``steps`` steps: up to ``peak`` over a fifth, then down half a cosine.

    >>> [round(learning_rate(step, 10, 1.0), 3) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.5, 0.0]

    Source: I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, for the cosine.
    """
    warm = 0.2 * steps
    if step < warm:
        return peak * step / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


class WarmupCosine(Schedule):
    """:func:`learning_rate`, up to the rate that the optimizer was given.

    >>> import gpunn
    >>> sgd = gpunn.optim.SGD([gpunn.tensor([1.0], requires_grad=True)], lr=2.0)
    >>> schedule = WarmupCosine(sgd, steps=10)
    >>> schedule.step()
    >>> sgd.lr
    1.0
    """

    def __init__(self, optimizer: Optimizer, steps: int) -> None:
        self._steps = steps
        super().__init__(optimizer)

    def rate(self, t: int, base: float) -> float:
        return learning_rate(t, self._steps, base)


def versions(*packages: str) -> dict[str, str]:
    """The versions of gpunn, Python, NumPy and ``packages``.

    >>> list(versions())
    ['gpunn', 'python', 'numpy']
    """
    installed = {name: importlib.metadata.version(name) for name in ("numpy", *packages)}
    return {"gpunn": gpunn.__version__, "python": platform.python_version()} | installed


# ---- the training --------------------------------------------------------------------------------------------------

OnStep = Callable[[int, int, float], None]
OnEpoch = Callable[[Record], None]


class Follow(Callback):
    """Tells ``on_step(step, steps, loss)`` and ``on_epoch(record)`` of the training."""

    def __init__(self, steps: int, on_step: OnStep | None, on_epoch: OnEpoch | None) -> None:
        self._steps, self._on_step, self._on_epoch = steps, on_step, on_epoch

    def on_step(self, trainer: Trainer, loss: float) -> None:
        if self._on_step is not None:
            self._on_step(trainer.step, self._steps, loss)

    def on_epoch(self, trainer: Trainer, record: Record) -> None:
        if self._on_epoch is not None:
            self._on_epoch(record)


class Outcome(NamedTuple):
    """How a training ended: ``"finished"``, ``"interrupted"`` or ``"diverged"``, and then the error."""

    status: str
    error: TrainingError | None

    @property
    def summary(self) -> dict[str, Any]:
        """The first lines of summary.json."""
        return {"status": self.status, "error": None if self.error is None else str(self.error)}


def finish(training: Callable[[], object]) -> Outcome:
    """Call ``training``, and say how it ended: at its end, at Ctrl-C or at a TrainingError."""
    try:
        training()
    except KeyboardInterrupt:
        return Outcome("interrupted", None)
    except TrainingError as error:
        return Outcome("diverged", error)
    return Outcome("finished", None)


def headline(figures: str, summary: dict[str, Any]) -> str:
    """The last line of a command: how the run ended, its figures, and how long it took.

    >>> headline("test loss 0.1", {"status": "interrupted", "epochs": 2, "seconds": 1.25})
    'interrupted, test loss 0.1 after 2 epochs, 1.2 s'
    """
    ended = "" if summary["status"] == "finished" else f"{summary['status']}, "
    return f"{ended}{figures} after {summary['epochs']} epochs, {summary['seconds']:.1f} s"
