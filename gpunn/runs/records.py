"""What the files of a run say: its records, as they are written, its summary, and the text that it wrote.

Numbers of metrics.jsonl stay as they are written there, and what is damaged in it is named.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.errors import FileError
from gpunn.runs import lock
from gpunn.runs.folder import METRICS, SAMPLE, SUMMARY, read, read_json, write_text
from gpunn.train import Record

_LARGEST = 32 << 20  # bytes: some 200,000 epochs
_LONGEST_LINE = 64 << 10
_MOST_PROBLEMS = 100


class Field(NamedTuple):
    """A value of a record: its name, its text as in the file, and its number, None where it is none."""

    name: str
    text: str
    number: float | None


class Line(NamedTuple):
    """A line of metrics.jsonl, by its number from 1: its fields, or what is wrong with it."""

    number: int
    fields: list[Field]
    problem: str | None

    @property
    def record(self) -> Record:
        """The fields as a record of the trainer: numbers, and texts."""
        return {field.name: field.text if field.number is None else field.number for field in self.fields}


class _Written(str):
    """A number as it is written."""


def parse(lines: bytes, first: int = 1) -> Iterator[Line]:
    """The lines of metrics.jsonl, the first of them number ``first``; one that cannot be read says why.

    After a hundred of those the rest is taken for something else, and left.

    >>> for line in parse(b'{"epoch": 1, "train_loss": 1e-05}' + b"\\n" + b'{"epoch": 2, "tr'):
    ...     print(line.fields or line.problem)
    [Field(name='epoch', text='1', number=1), Field(name='train_loss', text='1e-05', number=1e-05)]
    metrics.jsonl, line 2: not JSON: Unterminated string starting at: line 1 column 14 (char 13)
    """
    problems = 0
    for number, line in enumerate(io.BytesIO(lines), first):
        line = line.rstrip(b"\n")
        if not line.strip():
            continue
        if problems == _MOST_PROBLEMS:
            yield Line(number, [], f"metrics.jsonl, line {number}: not read, after {problems} that cannot be")
            return
        try:
            if len(line) > _LONGEST_LINE:
                raise ValueError(f"longer than {_LONGEST_LINE >> 10} KiB")
            read = json.loads(line, parse_float=_Written, parse_int=_Written, parse_constant=_Written)
            if not isinstance(read, dict):
                raise ValueError(f"an object is needed, not {line.decode().strip()[:40]}")
            plain = json.loads(line)  # what is neither number nor text is shown as JSON
            fields = [_field(name, value, plain[name]) for name, value in read.items()]
        except (ValueError, OverflowError, RecursionError) as error:
            problems += 1
            reason = f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)
            yield Line(number, [], f"metrics.jsonl, line {number}: {reason}")
        else:
            yield Line(number, fields, None)


def _field(name: str, value: Any, plain: Any) -> Field:
    if not isinstance(value, _Written):
        return Field(name, text(plain), None)
    number = json.loads(value)  # one with too many digits is a ValueError
    if not math.isfinite(number):
        raise ValueError(f"{name} is not finite: {value}")
    return Field(name, str(value), number)


def content(folder: Path) -> bytes:
    """What the run's metrics.jsonl holds, nothing if it is missing; raises FileError if it cannot be read."""
    return read(folder / METRICS, _LARGEST) or b""


def whole_lines(content: bytes) -> bytes:
    """``content`` without a last line that is being written.

    >>> whole_lines(b'{"epoch": 1}' + b"\\n" + b'{"epo')
    b'{"epoch": 1}\\n'
    """
    return content[: content.rfind(b"\n") + 1]


def settled(folder: Path) -> bytes:
    """:func:`content`, without a last line that a run that still trains is writing."""
    found = content(folder)
    return whole_lines(found) if lock.state(folder) == lock.RUNNING else found


def write_records(folder: Path, records: Iterable[Record]) -> None:
    """Write metrics.jsonl anew; raises FileError if it cannot be written."""
    write_text(folder / METRICS, "".join(json.dumps(record) + "\n" for record in records))


def by_cell(records: Iterable[Record]) -> dict[str, list[Record]]:
    """The records of each network of a run that trains several, of the only one as ``""``.

    >>> list(by_cell([{"cell": "rnn", "epoch": 1}, {"cell": "gru", "epoch": 1}]))
    ['rnn', 'gru']
    """
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(str(record.get("cell", "")), []).append(record)
    return found


def diverged(curves: Sequence[Record] | Mapping[str, Sequence[Record]], status: object) -> list[str]:
    """Which curves of a run with this status ended as the loss was not finite any more; ``""`` is a single one.

    Of several networks that are trained in turn it is the first that lacks an epoch.

    >>> diverged([{"epoch": 1}], "diverged"), diverged([{"epoch": 1}], "finished")
    ([''], [])
    >>> diverged({"rnn": [{"epoch": 1}, {"epoch": 2}], "gru": [{"epoch": 1}]}, "diverged")
    ['gru']
    """
    if status != "diverged":
        return []
    return [min(curves, key=lambda name: len(curves[name]))] if isinstance(curves, Mapping) else [""]


# ---- the summary ---------------------------------------------------------------------------------------------------

UNFINISHED = "unfinished"
"""The status of a run without a summary, or with one of before it went on, of which no more is known."""

# A run that was interrupted and is resumed still has its old summary; its metrics are then younger by more than this,
# in seconds. Less would take a copied folder, whose files are as old as the copy, for a run that goes on.
_YOUNGER = 1.0


def read_summary(folder: Path) -> dict[str, Any]:
    """What the summary.json of a run folder holds, nothing while there is none, or one of before a resumption."""
    summary = read_json(folder / SUMMARY)
    before = summary.get("status") in ("interrupted", "diverged") and (_goes_on(folder) or lock.state(folder))
    return {} if before else summary


def status_of(folder: Path, summary: Mapping[str, Any]) -> str:
    """How a run ended, by its :func:`read_summary`: ``"finished"``, ``"interrupted"`` or ``"diverged"``.

    Without one it is ``"running"``, ``"killed"``, or :data:`UNFINISHED`.
    """
    return text(summary.get("status") or lock.state(folder) or UNFINISHED)


def _goes_on(folder: Path) -> bool:
    try:
        metrics, summary = ((folder / name).stat().st_mtime for name in (METRICS, SUMMARY))
    except OSError:
        return False
    return metrics - summary > _YOUNGER


# ---- texts ---------------------------------------------------------------------------------------------------------

_LARGEST_SAMPLE = 1 << 20  # bytes; that of a run has 400 characters


def read_sample(folder: Path) -> str | None:
    """The text that the model wrote, None if there is none; raises FileError if it cannot be read."""
    path = folder / SAMPLE
    written = read(path, _LARGEST_SAMPLE)
    try:
        return None if written is None else written.decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not a text in UTF-8: {error.reason} at byte {error.start}") from error


def text(value: Any) -> str:
    """A value of a JSON file in words, numbers as they are written there.

    >>> text("gpu"), text(0.1), text(None), text([1, 2])
    ('gpu', '0.1', 'none', '[1, 2]')
    """
    if value is None:
        return "none"
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
