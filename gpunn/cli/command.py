"""The command itself: what it is made of, and how it ends.

Here, what depends on the command line's packages is imported inside functions: without them :func:`main` still runs,
to say what to install.
"""

import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import gpunn
from gpunn.cli.output import as_json, complain, print_any_letter, tell, use_json
from gpunn.errors import ArgumentError, GpunnError, PackageError, install_command

EXIT_CODES = "Exit codes: 0 done; 1 a fault of gpunn's; 2 a mistake of yours, or a training that cannot go on; \
3 a benchmark became slower; 130 interrupted."


def main() -> None:
    """Run the command line; the exit codes are :data:`EXIT_CODES`."""
    whole, rest = _apart(sys.argv[1:])
    _run(lambda: _app()(args=[*whole, *rest], prog_name="gpunn", standalone_mode=False), whole, rest)


def script(recipe: Any) -> None:
    """Run the command line of a file with a recipe, as ``gpunn new`` writes it: that of ``gpunn train``.

    ``python mine.py --help`` tells the options. Its runs are opened again by ``gpunn eval RUN`` and the other commands,
    in the folder of the file, whose code they run: it has one recipe with the name of the file, and is refused else.
    """
    whole, rest = _apart(sys.argv[1:])
    name = f"python {Path(sys.argv[0]).name}"
    _run(lambda: _script_app(recipe)(args=rest, prog_name=name, standalone_mode=False), whole, rest)


def _run(work: Callable[[], Any], whole: list[str], rest: list[str]) -> None:
    print_any_letter()
    use_json("--json" in whole)
    if "--distributed" in rest and as_json():
        _say_as_json()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain("warning", str(message))
        try:
            code = work()
        except KeyboardInterrupt:  # before or after the training, which sees to its own
            code = 130
        except Exception as error:
            if "--distributed" in rest:
                _fail_together(error)
            code = _ended_by(error, "--debug" in whole)
    sys.exit(code)


def _say_as_json() -> None:
    """Let what ends several ranks be JSON, too."""
    from gpunn.distributed.watch import said_by

    def say(message: str, trace: str) -> None:
        complain("error", message, **{"traceback": trace} if trace else {})

    said_by(say)


def _fail_together(error: Exception) -> None:
    """Of several ranks say once what ended this one, and leave; a mistake may come before they have met."""
    from gpunn import distributed

    world = distributed.current()
    if world is None and distributed.started():
        try:
            world = distributed.init()
        except GpunnError:  # without mpi4py each has to say it for itself
            return
    if world is None or world.size == 1 or type(error).__name__ == "Abort":
        return
    if hasattr(error, "format_message"):
        error = ArgumentError(_misuse(error))
    elif not isinstance(error, GpunnError):
        sys.excepthook(type(error), error, error.__traceback__)  # with its traceback, as what nobody catches
    world.fail(error)


def _apart(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The options of the whole command, which are understood anywhere on the line, and the rest of it.

    But behind ``bench``, ``--json`` names a file.

    >>> _apart(["train", "digits", "--json"]), _apart(["--debug", "bench", "--json", "file"])
    ((['--json'], ['train', 'digits']), (['--debug'], ['bench', '--json', 'file']))
    """
    words = [argument for argument in arguments if not argument.startswith("-")]
    end = arguments.index("bench") if words[:1] == ["bench"] else len(arguments)
    whole: list[str] = []
    rest: list[str] = []
    for place, argument in enumerate(arguments):
        of_all = argument == "--debug" or (argument == "--json" and place < end)
        (whole if of_all else rest).append(argument)
    return whole, rest


def _ended_by(error: Exception, debug: bool) -> int:
    """Say what ended the command; return its exit code."""
    if isinstance(error, GpunnError):
        if debug:
            traceback.print_exc()
        complain("error", str(error))
        return 2
    if type(error).__name__ == "Abort":  # what typer, which may be missing, makes of Ctrl-C
        return 130
    if hasattr(error, "format_message"):  # typer's errors about the command line have no common public type
        return _misused(error)
    if as_json():
        complain("error", f"a fault of gpunn's: {error!r}", traceback=traceback.format_exc())
    else:
        traceback.print_exc()
        complain("error", "a fault of gpunn's, not yours; a report of it needs the lines above")
    return 1


def _misused(error: Any) -> int:
    context = getattr(error, "ctx", None)
    if context and error.format_message() == "Missing command." and not as_json():
        print(context.get_help())
    else:
        complain("error", _misuse(error))
    return 2


def _misuse(error: Any) -> str:
    near = getattr(error, "possibilities", None)
    message = f"{error.message}. Did you mean {', '.join(near)}?" if near else " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "gpunn"
    said = message.replace("Value error, ", "").rstrip(".")
    return f"{command}: {said[:1].lower()}{said[1:]} ({command} --help says more)"


def _script_app(recipe: Any) -> Any:
    try:
        import typer

        from gpunn.cli import training
        from gpunn.recipes.catalogue import check_opens
    except ImportError as error:
        raise _needs_more(error) from error
    from gpunn.cli.help import command_of, examples, layout

    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, **layout())
    check_opens(recipe)
    opened = f"gpunn {'eval' if recipe.resumes else 'compare'} runs/{recipe.name}-20260101-120000"
    app.command(help=training.about(recipe), epilog=examples(f"python {recipe.name}", opened))(training.train(recipe))
    return command_of(app)


def _needs_more(error: ImportError) -> PackageError:
    return PackageError(f"the command gpunn needs more packages ({error}): {install_command('train')}")


def _app() -> Any:
    try:
        import typer

        from gpunn.cli import bench, drawing, guide, machine, plan, recipes, report, runs, training
    except ImportError as error:
        raise _needs_more(error) from error
    from gpunn.cli.help import InPanels, command_of, examples, in_paragraphs, layout

    # Plain tracebacks: an error that is no GpunnError is a fault of gpunn's, and its report should be easy to copy.
    app = typer.Typer(cls=InPanels, pretty_exceptions_enable=False, **layout())

    def print_version(wanted: bool) -> None:
        if wanted:
            tell(f"gpunn {gpunn.__version__}", {"version": gpunn.__version__})
            raise typer.Exit

    @app.callback(
        epilog=examples("gpunn train digits", "gpunn recipes", "gpunn guide", "gpunn info") + f"\n\n{EXIT_CODES}"
    )
    def whole(
        version: Annotated[
            bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
        json: Annotated[bool, typer.Option("--json", help="Print results and errors as JSON, a line each.")] = False,
    ) -> None:
        """Neural networks on NumPy and CuPy arrays."""

    for commands in (training, recipes, runs, report, drawing, guide, machine, bench, plan):
        commands.add_to(app)
    for each in app.registered_commands:
        each.help = each.help or in_paragraphs(each.callback)
    return command_of(app)
