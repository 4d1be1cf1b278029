"""The command ``gpunn``.

What depends on the command line's packages is imported inside functions: without them :func:`main` still runs, to
say what to install.
"""

import importlib.metadata
import math
import os
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import gpunn
from gpunn import backend
from gpunn.cuda import cache, tuning
from gpunn.cuda.compiler import nvrtc_version
from gpunn.cuda.emulator.build import host_compiler
from gpunn.data.digits import TRAINING_IMAGES
from gpunn.errors import GpunnError


def main() -> None:
    """Run the command line; exit code 2 for the user's mistakes, 130 for Ctrl-C."""
    # --debug belongs to the whole command; moved to the front it is understood anywhere on the line.
    arguments = sorted(sys.argv[1:], key=lambda argument: argument != "--debug")
    try:
        try:
            app = _app()
        except ImportError as error:
            sys.exit(_error(f'the command gpunn needs more packages ({error}): pip install "gpunn[train]"'))
        app(args=arguments, prog_name="gpunn")
    except GpunnError as error:
        if "--debug" in arguments:
            raise
        sys.exit(_error(str(error)))
    except KeyboardInterrupt:  # before or after the training, which sees to its own
        sys.exit(130)


def _error(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _app() -> Any:
    import typer

    from gpunn.recipes import digits_rows as rows
    from gpunn.recipes import spell as spelling
    from gpunn.recipes import text as texts
    from gpunn.recipes.digits import Options, train_digits
    from gpunn.recipes.warmup import present_architectures
    from gpunn.recipes.warmup import warmup as warm

    # Plain tracebacks: an error that is no GpunnError is a fault of gpunn's, and its report should be easy to copy.
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    train = typer.Typer(no_args_is_help=True, help="Train a network, and keep the run in a folder.")
    app.add_typer(train, name="train")

    def print_version(wanted: bool) -> None:
        if wanted:
            print(f"gpunn {gpunn.__version__}")
            raise typer.Exit

    @app.callback()
    def whole(
        version: Annotated[
            bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    ) -> None:
        """Neural networks on NumPy and CuPy arrays."""

    @app.command()
    def info() -> None:
        """Print versions, devices and the kernel cache."""
        for name, value in _facts():
            print(f"{name:<13} {value}")

    @app.command()
    def warmup(
        arch: Annotated[
            list[str] | None,
            typer.Option(help="sm_90, say; may be given several times.", show_default="those of the GPUs present"),
        ] = None,
    ) -> None:
        """Compile the kernels of the recipes ahead of time; needs no GPU."""
        names = list(dict.fromkeys(arch or present_architectures()))
        begin = time.perf_counter()
        with _compiling() as on_kernel:
            compiled, found = warm(names, on_kernel)
        of = f"kernel files for {', '.join(names)}"
        if compiled:
            seconds = time.perf_counter() - begin
            had = f", {found} were there" if found else ""
            print(f"compiled {compiled} specialised {of} in {seconds:.1f} s{had}: {cache.folder()}")
        else:
            print(f"nothing to do: all {found} specialised {of} are in {cache.folder()}")

    Lr = Annotated[float, typer.Option(help="Highest learning rate, above 0.")]
    Device = Annotated[
        str | None,
        typer.Option(help="cpu, gpu or gpu:N.", show_default="the environment variable GPUNN_DEVICE, or cpu"),
    ]
    Emulate = Annotated[
        bool, typer.Option("--emulate", help="Run the CUDA kernels on the CPU (slow; needs g++ or clang++).")
    ]
    Images = Annotated[int, typer.Option(min=1, help="Images per training step.")]
    ImageEpochs = Annotated[int, typer.Option(min=1, help="Passes over the training images.")]
    ImageSeed = Annotated[int, typer.Option(min=0, help="Draws the split, the weights, the batches and the jitter.")]
    Hidden = Annotated[int, typer.Option(min=1, help="Hidden units of a recurrent layer.")]

    def run_folder(recipe: str) -> Any:
        default = f"runs/{recipe}-<date>-<time>"
        return typer.Option(help="Run folder; must not hold a run yet.", show_default=default)

    def report(figures: str, folder: Path, summary: dict[str, Any]) -> None:
        """The line at the end of a training, and the exit code of an interrupted one."""
        ended = "" if summary["status"] == "finished" else f"{summary['status']}, "
        print(f"{ended}{figures} after {summary['epochs']} epochs, {summary['seconds']:.1f} s: {folder}")
        if summary["status"] == "interrupted":
            raise typer.Exit(130)

    @train.command()
    def digits(
        epochs: ImageEpochs = Options.epochs,
        batch_size: Images = Options.batch_size,
        lr: Lr = Options.lr,
        seed: ImageSeed = Options.seed,
        device: Device = None,
        out: Annotated[Path | None, run_folder("digits")] = None,
        emulate: Emulate = False,
    ) -> None:
        """Train a LeNet-style network on scikit-learn's handwritten digits."""
        options = Options(epochs, batch_size, lr, seed, device, emulate)
        with _progress(epochs, TRAINING_IMAGES, _test_accuracy) as follow:
            folder, summary = train_digits(options, out, **follow)
        report(f"test accuracy {summary['test_accuracy']:.2%}", folder, summary)

    @train.command()
    def digits_rows(
        epochs: ImageEpochs = rows.Options.epochs,
        batch_size: Images = rows.Options.batch_size,
        lr: Lr = rows.Options.lr,
        hidden_size: Hidden = rows.Options.hidden_size,
        seed: ImageSeed = rows.Options.seed,
        device: Device = None,
        out: Annotated[Path | None, run_folder("digits-rows")] = None,
        emulate: Emulate = False,
    ) -> None:
        """Read the digits row by row with an RNN, an LSTM and a GRU, side by side."""
        options = rows.Options(epochs, batch_size, lr, hidden_size, seed, device, emulate)
        each = len(rows.CELLS) * TRAINING_IMAGES
        with _progress(epochs, each, lambda record: f"{record.cell} {_test_accuracy(record)}") as follow:
            folder, summary = rows.train_digits_rows(options, out, **follow)
        found = ", ".join(f"{cell.upper()} {value:.2%}" for cell, value in summary["test_accuracy"].items())
        report(f"test accuracy {found}", folder, summary)

    @train.command()
    def spell(
        epochs: ImageEpochs = spelling.Options.epochs,
        batch_size: Images = spelling.Options.batch_size,
        lr: Lr = spelling.Options.lr,
        hidden_size: Hidden = spelling.Options.hidden_size,
        seed: ImageSeed = spelling.Options.seed,
        device: Device = None,
        out: Annotated[Path | None, run_folder("spell")] = None,
        emulate: Emulate = False,
    ) -> None:
        """Spell the name of each digit, letter by letter, from its image."""
        options = spelling.Options(epochs, batch_size, lr, hidden_size, seed, device, emulate)
        shown = lambda record: f"exact names {record.test_accuracy:.2%}"  # noqa: E731
        with _progress(epochs, TRAINING_IMAGES, shown) as follow:
            folder, summary = spelling.train_spell(options, out, **follow)
        report(f"exact test names {summary['exact_names']:.2%}", folder, summary)

    @train.command()
    def text(
        file: Annotated[
            Path | None, typer.Option(help="A text in UTF-8.", show_default="the topics of Python's own help")
        ] = None,
        cell: Annotated[str, typer.Option(help="rnn, lstm or gru.")] = texts.Options.cell,
        hidden_size: Hidden = texts.Options.hidden_size,
        num_layers: Annotated[int, typer.Option(min=1, help="Recurrent layers.")] = texts.Options.num_layers,
        epochs: Annotated[int, typer.Option(min=1, help="Passes over the text.")] = texts.Options.epochs,
        batch_size: Annotated[
            int, typer.Option(min=1, help="Parts of the text that are read side by side.")
        ] = texts.Options.batch_size,
        sequence_length: Annotated[
            int, typer.Option(min=1, help="Characters of each part per training step.")
        ] = texts.Options.sequence_length,
        lr: Lr = texts.Options.lr,
        temperature: Annotated[
            float, typer.Option(help="Of the sample, above 0: below 1 it is tamer.")
        ] = texts.Options.temperature,
        seed: Annotated[int, typer.Option(min=0, help="Draws the weights and the sample.")] = texts.Options.seed,
        device: Device = None,
        out: Annotated[Path | None, run_folder("text")] = None,
        emulate: Emulate = False,
    ) -> None:
        """Learn a text character by character, and write some of its kind."""
        sizes = hidden_size, num_layers, epochs, batch_size, sequence_length
        options = texts.Options(file, cell, *sizes, lr, temperature, seed, device, emulate)
        shown = lambda record: f"test bits/character {record.test_loss / math.log(2):.3f}"  # noqa: E731
        with _progress(epochs, None, shown) as follow:
            folder, summary = texts.train_text(options, out, **follow)
        print(summary["sample"], end="\n\n")
        report(f"test bits/character {summary['test_bits']:.3f}", folder, summary)

    return app


def _test_accuracy(record: Any) -> str:
    return f"test accuracy {record.test_accuracy:.2%}"


@contextmanager
def _progress(epochs: int, samples: int | None, shown: Callable[[Any], str]) -> Iterator[dict[str, Any]]:
    """A progress display on a terminal, nothing elsewhere; gives the callbacks of the recipe.

    ``samples`` are those of an epoch, None to count steps; ``shown(record)`` is what an epoch came to.
    """
    if not sys.stdout.isatty():
        yield {}
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("epoch {task.fields[epoch]}/" + str(epochs)),
        BarColumn(),
        TextColumn("loss {task.fields[loss]}  {task.fields[shown]}"),
        TextColumn("{task.fields[rate]:.0f} " + ("steps/s" if samples is None else "samples/s")),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("", total=None, epoch=1, loss="-", shown="", rate=0.0)

        def on_step(step: int, steps: int, loss: float) -> None:
            rate = (progress.tasks[task].speed or 0.0) * (1 if samples is None else samples * epochs / steps)
            epoch = 1 + (step - 1) * epochs // steps
            progress.update(task, completed=step, total=steps, epoch=epoch, loss=f"{loss:.4f}", rate=rate)

        def on_epoch(record: Any) -> None:
            progress.update(task, shown=shown(record))

        yield {"on_step": on_step, "on_epoch": on_epoch}


@contextmanager
def _compiling() -> Iterator[Callable[[int, int, str], None] | None]:
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


def _facts() -> Iterator[tuple[str, str]]:
    """The lines of ``gpunn info``: name and value."""
    yield "gpunn", f"{gpunn.__version__}  {Path(gpunn.__file__).parent}"
    yield "Python", f"{platform.python_version()}  {platform.platform()}"
    yield "NumPy", _version("numpy")
    yield "CuPy", _version("cupy-cuda13x", "cupy-cuda12x", "cupy")
    yield "cuda-core", _version("cuda-core")
    yield "NVRTC", _or_reason(nvrtc_version)
    yield "C++ compiler", _or_reason(lambda: f"{host_compiler().command}  {host_compiler().version.splitlines()[0]}")
    yield "device", "cpu" + (f"  {os.cpu_count()} cores" if os.cpu_count() else "")
    for index in range(backend.gpu_count()):
        yield "device", f"gpu:{index}  {_gpu(index)}"
    if reason := backend.why_no_gpu():
        yield "no GPU", reason
    files = [path for path in cache.folder().rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    yield "kernel cache", f"{cache.folder()}  {len(files)} files, {size / 2**20:.1f} MiB"
    archs = Counter(match[1] for path in files if (match := re.search(r"-(sm_\w+)-\w+\.cubin$", path.name)))
    yield "compiled", ", ".join(f"{arch} {count}" for arch, count in sorted(archs.items())) or "nothing: gpunn warmup"
    yield "autotuned", f"choices {tuning.kept()}"
    yield "emulated", f"libraries {sum(path.suffix == '.so' for path in files)}"


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _or_reason(fact: Callable[[], str]) -> str:
    try:
        return fact()
    except GpunnError as error:
        return " ".join(str(error).split())


def _gpu(index: int) -> str:
    import cupy

    about = cupy.cuda.runtime.getDeviceProperties(index)
    return f"{about['name'].decode()}, {about['totalGlobalMem'] / 2**30:.0f} GiB, sm_{about['major']}{about['minor']}"


if __name__ == "__main__":
    main()
