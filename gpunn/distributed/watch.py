"""A thread in each rank that sees to it that all ranks end when one of them fails.

Each rank reports some times within ``timeout`` what it is at, in messages apart from those of the collectives: all
ranks to rank 0, and rank 0 to rank 1. Rank 0 judges, and rank 1 does where rank 0 is silent:

- a rank whose reports stop for ``timeout`` is stopped, or its machine or network is gone;
- a rank hangs that has neither entered a collective in which another waits for longer than ``timeout``, nor has done
  anything else together with others for as long, unless it is :meth:`World.busy`;
- a rank that has ended will not enter it any more;
- a rank that failed says so itself, by an exception that nobody caught or :meth:`World.fail`.

Then one message names the rank and the cause, and all ranks are ended (MPI_Abort), also those that are stopped. If all
ranks raise an error of gpunn's, as with bad input, it is shown once, and they leave by themselves with the exit code 2.
At the end of the program a rank waits until all have ended.

Time in which a rank's own thread did not run, as when the whole run was stopped for a while, does not count.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NoReturn

from gpunn.errors import GpunnError

_REPORT, _LEAVE = 1, 2
_GRACE = 1.0
"""Seconds in which the others may fail as well."""


@dataclass(frozen=True)
class Failure:
    """Why a rank cannot go on."""

    cause: str
    trace: str
    refused: bool
    """By one of gpunn's checks, so that all ranks may have come to the same."""


@dataclass
class Report:
    """What a rank is at; seconds are counted from when it was written."""

    rank: int
    place: str
    ended: bool = False
    failure: Failure | None = None
    busy: str = ""
    last: str = ""
    """The collective it was in last."""
    idle: float = 0
    """Since it was in one, or busy."""
    entered: dict[str, int] = field(default_factory=dict)
    """By world: the number of collectives."""
    members: dict[str, tuple[int, ...]] = field(default_factory=dict)
    inside: dict[str, tuple[str, float]] = field(default_factory=dict)
    """By world: the collective that has not ended, and since when."""


class Watch:
    """The watch of this rank, over all of ``comm``."""

    def __init__(self, comm: Any, timeout: float) -> None:
        self._rank, self._size = comm.Get_rank(), comm.Get_size()
        self._timeout, self._tick = timeout, min(1.0, timeout / 10)
        self.process = os.getpid()
        self._place = f"{socket.gethostname()}, pid {self.process}"
        self._comm = comm.Dup()
        self._clock = 0.0
        self._sent: list[Any] = []
        self._reports: dict[int, Report] = {}
        self._heard = dict.fromkeys({0: range(self._size), 1: [0]}.get(self._rank, []), 0.0)
        self._failed_at: float | None = None
        self._code: int | None = None
        self._gone = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._busy: list[str] = []
        self._mine = Report(self._rank, self._place)
        self._idle_since = 0.0
        self._thread = threading.Thread(target=self._work, name="gpunn watch", daemon=True)

    def start(self) -> None:
        """From now on watch, and take exceptions that nobody catches."""
        before = sys.excepthook

        def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            if self.watching:
                self.fail(error, "".join(traceback.format_exception(kind, error, trace)))
            before(kind, error, trace)

        sys.excepthook = hook
        self._tell()  # where this rank runs, should it be the last that is heard of it
        self._thread.start()

    @property
    def watching(self) -> bool:
        """Not before the start, after the end, nor in a child of this process."""
        return os.getpid() == self.process and not self._gone.is_set()

    # ---- what this rank is at --------------------------------------------------------------------------------------

    @contextmanager
    def inside(self, world: str, members: tuple[int, ...], text: str) -> Iterator[None]:
        """A context in which this rank is in a collective of the world of that name."""
        mine = self._mine
        with self._lock:
            number = mine.entered[world] = mine.entered.get(world, 0) + 1
            mine.members[world] = members
            mine.last = f"{text} (collective {number} of {world})"
            mine.inside[world] = mine.last, self._clock
        try:
            yield
        finally:
            with self._lock:
                del mine.inside[world]
                self._idle_since = self._clock

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """A context in which this rank is not waited for in vain."""
        self._busy.append(what)
        try:
            yield
        finally:
            self._idle_since = self._clock
            self._busy.remove(what)

    def fail(self, cause: BaseException | str, trace: str = "") -> NoReturn:
        """End all ranks, this one too, with one message."""
        text = cause if isinstance(cause, str) else _in_a_line(cause)
        self._mine.failure = Failure(text, trace, isinstance(cause, GpunnError))
        self._wake.set()
        if not self._gone.wait(2 * self._tick + _GRACE + 5):  # nobody is left who judges
            self._end(self._rank, text, trace)
        sys.exit(self._code)

    def leave(self) -> None:
        """At the end of the program: wait until all ranks are there."""
        self._mine.ended = True
        self._wake.set()
        self._gone.wait()
        self._thread.join()

    # ---- the thread ------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._look()
        except Exception as error:
            self._end(self._rank, f"its watch failed: {_in_a_line(error)}", traceback.format_exc())

    def _look(self) -> None:
        before = time.monotonic()
        while not self._gone.is_set():
            ending = self._mine.ended or self._mine.failure is not None
            self._wake.wait(min(0.01, self._tick) if ending else self._tick)
            self._wake.clear()
            now = time.monotonic()
            self._clock += min(now - before, 2 * self._tick)
            before = now
            self._tell()
            self._hear()
            if self._heard:
                self._judge()

    def _tell(self) -> None:
        with self._lock:
            mine, now = self._mine, self._clock
            inside = {world: (text, now - since) for world, (text, since) in mine.inside.items()}
            idle = now - self._idle_since if not inside and not self._busy else 0.0
            report = Report(
                self._rank, self._place, mine.ended, mine.failure, ", ".join(self._busy), mine.last, idle,
                dict(mine.entered), dict(mine.members), inside,
            )  # fmt: skip
        for watcher in [1] if self._rank == 0 else [0]:
            self._send(report, watcher, _REPORT)
        if self._rank == 0:
            self._reports[0], self._heard[0] = report, now

    def _send(self, message: Any, rank: int, tag: int) -> None:
        self._sent = [request for request in self._sent if not request.Test()]
        self._sent.append(self._comm.isend(message, rank, tag))

    def _hear(self) -> None:
        while (message := self._comm.improbe(tag=_REPORT)) is not None:
            report = message.recv()
            self._reports[report.rank], self._heard[report.rank] = report, self._clock
        if (message := self._comm.improbe(source=0, tag=_LEAVE)) is not None:
            self._code = message.recv()
            self._gone.set()

    # ---- the judgement ---------------------------------------------------------------------------------------------

    def _judge(self) -> None:
        for rank, heard in self._heard.items():
            silent = self._clock - heard
            if silent > self._timeout:
                at = self._at(rank)
                cause = f"no sign of life for {silent:.0f} s: it is stopped, or its machine or network is gone; {at}"
                self._end(rank, cause)
        if self._rank != 0:
            return
        failed = [report for report in self._reports.values() if report.failure is not None]
        if failed:
            self._judge_failures(failed)
            return
        self._judge_waiting()
        if len(self._reports) == self._size and all(report.ended for report in self._reports.values()):
            self._release(0)

    def _judge_failures(self, failed: list[Report]) -> None:
        if self._failed_at is None:
            self._failed_at = self._clock
        first = failed[0].failure
        assert first is not None
        if len(failed) == self._size and all(each.failure and each.failure.refused for each in failed):
            same = len({each.failure.cause for each in failed if each.failure}) == 1
            own = self._reports[0].failure
            assert own is not None
            _say(f"all {self._size} ranks: {own.cause}" if same else f"{self._name(0)}: {own.cause}", own.trace)
            self._release(2)
        elif self._clock - self._failed_at >= _GRACE or len(failed) == self._size:
            self._end(failed[0].rank, first.cause, first.trace)

    def _judge_waiting(self) -> None:
        for report in self._reports.values():
            for world, (text, waited) in report.inside.items():
                for other in self._missing(report, world):
                    if other.ended:
                        self._end(other.rank, f"it has ended, and {self._name(report.rank)} waits for it in {text}")
                    if min(waited, other.idle) > self._timeout:
                        who = f"{self._name(report.rank)} has waited {waited:.0f} s for it in {text}"
                        cause = f"it hangs, or computes for too long: {who}; {self._at(other.rank)}"
                        self._end(other.rank, cause)
            circle = self._circle(report)
            if circle:
                waits = " and ".join(f"{self._name(each.rank)} in {self._inside(each)}" for each in circle[1:])
                self._end(report.rank, f"it waits in {self._inside(report)}, but {waits}: they wait for one another")

    def _missing(self, report: Report, world: str) -> list[Report]:
        """Those who have not entered the collective of ``world`` that this rank is in."""
        others = (self._reports[rank] for rank in report.members[world] if rank in self._reports)
        return [each for each in others if each.entered.get(world, 0) < report.entered[world]]

    def _circle(self, report: Report) -> list[Report]:
        """This rank and all those for whom it waits, if they all have waited for too long for others among them."""
        found, follow = [], [report]
        while follow:
            each = follow.pop()
            found.append(each)
            missing = [other for world in each.inside for other in self._missing(each, world)]
            if not missing or max(waited for _, waited in each.inside.values()) <= self._timeout:
                return []
            follow += [other for other in missing if other not in found and other not in follow]
        return found

    def _inside(self, report: Report) -> str:
        return " and ".join(text for text, _ in report.inside.values())

    def _at(self, rank: int) -> str:
        """What a rank was last known to be at."""
        report = self._reports.get(rank)
        if report is None or not (report.busy or report.last):
            at = "just started"
        elif report.busy:
            at = report.busy
        else:
            at = f"in {self._inside(report)}" if report.inside else f"past {report.last}"
        return f"when last heard of it was {at}"

    def _name(self, rank: int) -> str:
        report = self._reports.get(rank)
        place = self._place if rank == self._rank else report.place if report else ""
        return f"rank {rank} of {self._size}" + f" ({place})" * bool(place)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _release(self, code: int) -> None:
        """Let all ranks leave by themselves."""
        for rank in range(1, self._size):
            self._send(code, rank, _LEAVE)
        while not all(request.Test() for request in self._sent):
            time.sleep(1e-3)
        self._code = code
        self._gone.set()

    def _end(self, rank: int, cause: str, trace: str = "") -> NoReturn:
        """Say why, and end all ranks at once."""
        _say(f"{self._name(rank)}: {cause}", trace)
        self._comm.Abort(1)
        os._exit(1)


Say = Callable[[str, str], None]
"""Prints what ended the ranks, and a traceback or nothing."""


def said_by(say: Say) -> None:
    """Let ``say`` print what ends the ranks, in place of a line on standard error."""
    global _print
    _print = say


def _in_words(message: str, trace: str) -> None:
    sys.stderr.write(f"{trace}gpunn: {message}\n")


_print: Say = _in_words


def _say(message: str, trace: str = "") -> None:
    """Print it, if that can be done: a full disk behind a stream must not keep the ranks from ending."""
    with suppress(Exception):
        sys.stdout.flush()
    with suppress(Exception):
        _print(message, trace)
        sys.stderr.flush()


def _in_a_line(error: BaseException) -> str:
    return " ".join("".join(traceback.format_exception_only(error)).split()).removeprefix("gpunn.errors.")
