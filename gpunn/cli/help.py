"""What the help of commands shares: panels, examples, and what a shell may complete."""

from __future__ import annotations

import inspect
import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from gpunn import backend
from gpunn.runs.folder import in_folder

PANELS = TRAIN, LOOK, MACHINE = "Train", "Look", "This machine"
"""The parts of ``gpunn --help``, in their order: a command says its own by ``rich_help_panel``."""


class InPanels(TyperGroup):
    """Commands by panel, groups of them where they come in it; typer would put them at the end."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of the help."""

        def place(name: str) -> tuple[int, bool]:
            panel = getattr(self.commands[name], "rich_help_panel", None)
            return PANELS.index(panel) if panel in PANELS else len(PANELS), name != "train"

        return sorted(self.commands, key=place)


_LEAST_FOR_PANELS = 60  # columns: with fewer the names of options are cut


def layout() -> dict[str, Any]:
    """What typer is told of the help: no panels where they would be cut, or drawn with letters that there are not.

    >>> layout()["context_settings"]["terminal_width"] > 0
    True
    """
    columns = max(shutil.get_terminal_size().columns, 20)
    settings = {"context_settings": {"terminal_width": columns}}
    return settings if _has_panels() else settings | {"rich_markup_mode": None}


def _is_narrow() -> bool:
    return shutil.get_terminal_size().columns < _LEAST_FOR_PANELS


def _has_panels() -> bool:
    try:
        "…│╭".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return not _is_narrow()


def command_of(app: typer.Typer) -> Any:
    """The command that ``app`` is; on a narrow terminal its help has what is said of a name below it, not beside it."""
    command = typer.main.get_command(app)
    if not _has_panels():
        _make_plain(command)
    return command


def _make_plain(command: Any) -> None:
    if _is_narrow():
        context = command.context_class
        below = type("Below", (_Below, context.formatter_class), {})
        command.context_class = type("NarrowContext", (context,), {"formatter_class": below})
    for each in getattr(command, "commands", {}).values():
        each.short_help = (each.help or "").partition("\n\n")[0]  # which is cut to a line otherwise
        _make_plain(each)


class _Below:
    """Before the class that lays help out."""

    current_indent: int

    def write_dl(self, rows: Any, *_: Any, **__: Any) -> None:
        end = f" /\n{'':{self.current_indent}}"  # of a pair of options
        within: Any = super()
        within.write_dl([(name.replace(" / ", end), text) for name, text in rows], col_max=4)


def examples(*commands: str) -> str:
    """The end of a command's help: command lines to copy, a comment behind # if one is wanted.

    >>> print(examples("gpunn info", "gpunn info --json  # for programs"))
    Examples:
    <BLANKLINE>
    gpunn info
    <BLANKLINE>
    gpunn info --json  # for programs
    """
    return "\n\n".join(["Examples:", *commands])  # single line breaks would be lost


def group(app: typer.Typer, name: str, text: str, panel: str, *commands: str) -> typer.Typer:
    """Add a group of commands to ``app``, ``gpunn name ...``, in a panel of its help; ``commands`` are examples."""
    added = typer.Typer()
    app.add_typer(added, name=name, help=text, epilog=examples(*commands), rich_help_panel=panel)
    return added


def in_paragraphs(command: Any) -> str:
    """The docstring of ``command`` with a line for each paragraph; the line breaks of the source would be kept.

    >>> def eat():
    ...     '''Eat.
    ...
    ...     Apples or
    ...     pears.'''
    >>> in_paragraphs(eat)
    'Eat.\\n\\nApples or pears.'
    """
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


# The shell is offered those that begin as the word does: typer sees to it.


Data = Annotated[
    Path | None,
    typer.Option(
        help="Where the text or the images are now that it trains on, if they were moved.",
        show_default="where they were",
    ),
]
"""The option of commands that need the data of a run again."""


def devices() -> list[str]:
    """The devices of this machine, for the shell.

    >>> devices()[0]
    'cpu'
    """
    numbered = [f"gpu:{index}" for index in range(backend.gpu_count())]
    return ["cpu", *(["gpu"] if numbered else []), *numbered]


def runs() -> list[str]:
    """The folders under ``runs/`` that hold a run, for the shell."""
    return [str(folder) for folder in in_folder(Path("runs"))]
