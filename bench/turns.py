"""Turns of two processes that measure the same jobs, a library each: while one computes, the other waits.

So both are measured in the same minute, and in the same state of the machine; and no threads of one are still waiting,
awake, when the other begins.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

_PATIENCE = 60.0  # seconds, until the other process has come
_LOOK = 2e-3  # seconds between two looks at what this process computes
_AT_REST = 0.1  # part of that time, and less, in which it computes
_MOST_LOOKS = 150


class Turns:
    """This process's end of a connection with the other; ``first`` if its turns come first."""

    def __init__(self, connection: socket.socket, first: bool) -> None:
        self._connection, self._first = connection, first
        self._lines = connection.makefile("rb")
        self._there = self._with_other = True

    def begin(self) -> None:
        """Begin a job that both processes have."""
        self._with_other = self._there

    def take(self, work: Callable[[], float]) -> float:
        """Do ``work`` in this process's turn, and give the larger of what it gives in the two of them.

        Where it fails in one, the other goes on alone until the next :meth:`begin`, with its own numbers.
        """
        if not self._with_other:
            return work()
        theirs = None if self._first else self._receive()
        try:
            ours = work()
        except BaseException:
            if self._with_other:
                self._send("failed")
            raise
        if self._with_other:
            _rest()
            self._send(repr(ours))
            if self._first:
                theirs = self._receive()
        return ours if theirs is None else max(ours, theirs)

    def _send(self, word: str) -> None:
        try:
            self._connection.sendall(word.encode() + b"\n")
        except OSError:
            self._there = self._with_other = False

    def _receive(self) -> float | None:
        try:
            word = self._lines.readline().decode().strip()
        except OSError:
            word = ""
        if word and word != "failed":
            return float(word)
        self._there, self._with_other = bool(word), False
        return None


def meet(folder: Path, first: bool) -> Turns:
    """Meet the process that is called with the same empty ``folder`` and the other ``first``."""
    place = folder / "port"
    if first:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(_PATIENCE)
            (folder / "written").write_text(str(server.getsockname()[1]))
            os.replace(folder / "written", place)
            connection, _ = server.accept()
    else:
        until = time.monotonic() + _PATIENCE
        while not place.exists():
            if time.monotonic() > until:
                raise TimeoutError(f"the other process did not come within {_PATIENCE:g} s")
            time.sleep(_LOOK)
        connection = socket.create_connection(("127.0.0.1", int(place.read_text())), _PATIENCE)
    connection.settimeout(None)
    return Turns(connection, first)


def _rest() -> None:
    """Wait until no thread of this process computes any more: those of OpenBLAS stay awake for a tenth of a second."""
    used = time.process_time()
    for _ in range(_MOST_LOOKS):
        time.sleep(_LOOK)
        before, used = used, time.process_time()
        if used - before < _AT_REST * _LOOK:
            return
