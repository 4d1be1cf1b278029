"""The records of a run, read from its metrics.jsonl: numbers stay as they are written, and what is damaged is named."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.errors import FileError
from gpunn.files import read_file
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
    try:
        return read_file(folder / "metrics.jsonl", folder, _LARGEST)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise FileError(f"{folder / 'metrics.jsonl'}: cannot be read: {error.strerror or error}") from error


def text(value: Any) -> str:
    """A value of a JSON file in words, numbers as they are written there.

    >>> text("gpu"), text(0.1), text(None), text([1, 2])
    ('gpu', '0.1', 'none', '[1, 2]')
    """
    if value is None:
        return "none"
    return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
