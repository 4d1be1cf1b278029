"""What became of a run, to look at: ``gpunn plot RUN`` and ``gpunn watch RUN``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import help
from gpunn.cli.output import tell
from gpunn.errors import ArgumentError


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.report import Watch, redraw, write_page

    Run = Annotated[
        Path, typer.Argument(metavar="RUN", help="The folder of a run.", show_default=False, autocompletion=help.runs)
    ]
    folder = "runs/digits-20260101-120000"

    @app.command(rich_help_panel=help.LOOK, epilog=help.examples(f"gpunn plot {folder}", f"gpunn plot {folder} --html"))
    def plot(
        run: Run,
        html: Annotated[bool, typer.Option("--html", help="Write the run as one page instead.")] = False,
        out: Annotated[Path | None, typer.Option(help="The page's file.", show_default="report.html in RUN")] = None,
    ) -> None:
        """Draw a run's figures again, or write it as one page of HTML that works offline."""
        if html:
            page = out or run / "report.html"
            problems = write_page(run, page)
            words = [f"the page of {run}: {page}", *(f"not readable: {problem}" for problem in problems)]
            tell("\n".join(words), {"file": page, "problems": problems})
            return
        if out is not None:
            raise ArgumentError("plot: --out names the file of the page, so it needs --html")
        files = redraw(run)
        tell(f"drawn: {', '.join(map(str, files))}", {"files": list(map(str, files))})

    @app.command(rich_help_panel=help.LOOK, epilog=help.examples(f"gpunn watch {folder}"))
    def watch(
        run: Run,
        port: Annotated[int, typer.Option(help="The port of the page; 0 takes any that is free.")] = 8470,
        host: Annotated[
            str, typer.Option(help="The address to listen at; others may read at any but this.")
        ] = "127.0.0.1",
    ) -> None:
        """Show a run live in a browser, while it trains and after; Ctrl-C ends it."""
        try:
            with Watch(run, host, port) as server:
                tell(f"{run} live, until Ctrl-C: {server.url}", {"url": server.url, "folder": run})
                sys.stdout.flush()  # it may be a pipe, and this the only line for hours
                server.serve()
        except KeyboardInterrupt:
            return
