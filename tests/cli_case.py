"""What the tests of the command line share; the fixture ``command`` is in conftest.py."""

from __future__ import annotations

import io
from typing import NamedTuple, Protocol


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Command(Protocol):
    def __call__(self, *arguments: object) -> Ended: ...


class Terminal(io.StringIO):
    """A standard output that says it is a terminal."""

    def isatty(self) -> bool:
        return True
