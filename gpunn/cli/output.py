"""What a command says when it is done: words for people or, with ``--json``, an object for programs."""

import io
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpunn.errors import FileError

_as_json = False


def print_any_letter() -> None:
    """Let a letter that a terminal, a file or a pipe cannot have be printed as an escape, such as ``\\xfc``.

    Else it would be an error, and perhaps of a training that is done.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it is None where a program has no console
            stream.reconfigure(errors="backslashreplace")


def use_json(wanted: bool) -> None:
    """Let :func:`tell` and :func:`complain` print JSON from now on, or words."""
    global _as_json
    _as_json = wanted


def as_json() -> bool:
    """Whether a program reads: then nothing but JSON is printed."""
    return _as_json


def on_terminal() -> bool:
    """Whether a person looks on: only then are there tables and progress bars."""
    return sys.stdout.isatty() and not _as_json


def tell(words: str, facts: Mapping[str, Any]) -> None:
    """Print ``words`` or, with ``--json``, ``facts`` as one line of JSON; FileError if that cannot be written.

    >>> use_json(False)
    >>> tell("accuracy 50.00%", {"accuracy": 0.5})
    accuracy 50.00%
    >>> use_json(True)
    >>> tell("accuracy 50.00%", {"accuracy": 0.5})
    {"accuracy": 0.5}
    >>> use_json(False)
    """
    try:
        print(json.dumps(facts, default=str) if _as_json else words, flush=True)
    except BrokenPipeError:  # who read has enough
        raise
    except OSError as error:
        raise FileError(f"the standard output cannot be written: {error.strerror or error}") from error


def check_new(file: Path, force: bool) -> None:
    """Raise FileError if there is such a file already, and ``--force`` was not given."""
    if os.path.lexists(file) and not force:
        raise FileError(f"{file}: there is such a file already; --force writes over it")


def table(lines: Sequence[Sequence[str]], alignment: str) -> str:
    """Columns of the width of their widest cell, each to the left ``<`` or to the right ``>``.

    >>> print(table([["", "a"], ["loss", "0.25"]], "<>"))
             a
    loss  0.25
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = [f"{side}{width}" for side, width in zip(alignment, widths, strict=True)]
    cells = [[f"{cell:{side}}" for cell, side in zip(line, sides, strict=True)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in cells)


def complain(kind: str, message: str, **more: Any) -> None:
    """Print an ``"error"`` or a ``"warning"`` on standard error; with ``--json`` as one line of JSON, with ``more``."""
    print(json.dumps({kind: message} | more) if _as_json else f"{kind}: {message}", file=sys.stderr)
