"""The command itself: what it is made of, and how it ends.

Here, what depends on the command line's packages is imported inside functions: without them :func:`main` still runs,
to say what to install.
"""

import sys
from typing import Annotated, Any

import gpunn
from gpunn.cli.output import use_json
from gpunn.errors import GpunnError


def main() -> None:
    """Run the command line; exit code 2 for the user's mistakes, 130 for Ctrl-C."""
    # They belong to the whole command; moved to the front they are understood anywhere on the line.
    arguments = sorted(sys.argv[1:], key=lambda argument: argument not in ("--debug", "--json"))
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

    from gpunn.cli import drawing, machine, report, training

    # Plain tracebacks: an error that is no GpunnError is a fault of gpunn's, and its report should be easy to copy.
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

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
        json: Annotated[bool, typer.Option("--json", help="Print results as JSON, a line each.")] = False,
    ) -> None:
        """Neural networks on NumPy and CuPy arrays."""
        use_json(json)

    for commands in (machine, training, report, drawing):
        commands.add_to(app)
    return app
