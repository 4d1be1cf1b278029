"""The command ``gpunn``.

What depends on the command line's packages is imported inside functions: without them :func:`main` still runs, to
say what to install.
"""

import dataclasses
import importlib.metadata
import inspect
import os
import platform
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import gpunn
from gpunn import backend
from gpunn.cuda import cache, tuning
from gpunn.cuda.compiler import nvrtc_version
from gpunn.cuda.emulator.build import host_compiler
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

    from gpunn.recipes import drawings
    from gpunn.recipes.catalogue import RECIPES, resumable
    from gpunn.recipes.warmup import present_architectures
    from gpunn.recipes.warmup import warmup as warm

    # Plain tracebacks: an error that is no GpunnError is a fault of gpunn's, and its report should be easy to copy.
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
    train = typer.Typer(no_args_is_help=True, help="Train a network, and keep the run in a folder.")
    draw = typer.Typer(no_args_is_help=True, help="Draw a picture that needs no training.")
    app.add_typer(train, name="train")
    app.add_typer(draw, name="draw")

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

    for recipe in RECIPES:
        train.command(recipe.name, help=recipe.text)(_train(recipe))

    @app.command()
    def resume(
        run: Annotated[Path, typer.Argument(help="The folder of a run that was interrupted or killed.")],
    ) -> None:
        """Go on with a run from its newest checkpoint; the result is that of a run that was never stopped."""
        recipe, options = resumable(run)
        with _progress(getattr(options, "epochs", None)) as follow:
            _, summary = recipe.run(options, run, **follow, resume=True)
        _tell(recipe, run, summary)

    @draw.command()
    def activations(
        out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("activations.png"),
    ) -> None:
        """The activation functions and their derivatives."""
        drawings.draw_activations(out)
        print(f"{len(drawings.ACTIVATIONS)} activations and their derivatives: {out}")

    @draw.command()
    def skeleton(
        image: Annotated[
            Path | None, typer.Argument(help="An image file.", show_default="scikit-learn's digits, enlarged")
        ] = None,
        out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("skeleton.png"),
        threshold: Annotated[float, typer.Option(help="Between black, 0, and white, 1.")] = 0.5,
        dark: Annotated[bool, typer.Option("--dark", help="The shape is what is below the threshold.")] = False,
    ) -> None:
        """An image and its skeleton."""
        before, after = drawings.draw_skeleton(out, image, threshold, dark)
        print(f"{before} pixels thinned to {after}: {out}")

    return app


def _train(recipe: Any) -> Callable[..., None]:
    """The command of a recipe: an option for each field of its options, and ``--out``."""

    def command(out: Path | None, **given: Any) -> None:
        options = recipe.options(**given)
        with _progress(getattr(options, "epochs", None)) as follow:
            folder, summary = recipe.run(options, out, **follow)
        _tell(recipe, folder, summary)

    common = {field.name for field in dataclasses.fields(recipe.options.__mro__[1])}
    own_first = sorted(dataclasses.fields(recipe.options), key=lambda field: field.name in common)
    types = get_type_hints(recipe.options)
    parameters = [_parameter(field.name, types[field.name], field.default, **field.metadata) for field in own_first]
    shown = f"runs/{recipe.name}-<date>-<time>"
    parameters.append(_parameter("out", Path | None, None, "Run folder; must not hold a run yet.", shown=shown))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _tell(recipe: Any, folder: Path, summary: dict[str, Any]) -> None:
    """Print what came of a run, and leave with 130 if it was interrupted."""
    import typer

    print(f"{recipe.headline(summary)}: {folder}")
    if summary["status"] == "interrupted":
        raise typer.Exit(130)


def _parameter(
    name: str,
    kind: Any,
    default: Any,
    text: str,
    least: int | None = None,
    positive: bool = False,  # refused by the options themselves
    choices: tuple[str, ...] = (),
    shown: str | None = None,
) -> inspect.Parameter:
    """A parameter from which typer makes an option; see :func:`gpunn.recipes.options.option`."""
    import typer

    names = (f"--{name}",) if kind is bool else ()  # without a --no- twin
    about = typer.Option(*names, help=text, min=least, show_default=shown or kind is not bool)
    values: Any = Literal.__getitem__(choices) if choices else kind
    annotation = Annotated[values, about]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


@contextmanager
def _progress(epochs: int | None) -> Iterator[dict[str, Any]]:
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
