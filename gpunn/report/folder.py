"""What a run folder holds, read for a page: numbers stay as they are written, and what is damaged is named."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.errors import FileError
from gpunn.recipes.catalogue import RECIPES
from gpunn.recipes.run import read_config, read_json

Json = dict[str, Any]

_ENVIRONMENT = ("versions", "device", "emulate")
_ENDED = ("status", "error")
# A run that was interrupted and is resumed still has its old summary; its metrics are then younger by more than this,
# in seconds. Less would take a copied folder, whose files are as old as the copy, for a run that goes on.
_YOUNGER = 1.0


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
    def record(self) -> Json:
        """The fields as a record of the trainer: numbers, and texts."""
        return {field.name: field.text if field.number is None else field.number for field in self.fields}


class _Written(str):
    """A number as it is written."""


def parse(content: bytes, first: int = 1) -> Iterator[Line]:
    """The lines of metrics.jsonl, the first of them number ``first``; one that cannot be read says why.

    >>> for line in parse(b'{"epoch": 1, "train_loss": 1e-05}' + b"\\n" + b'{"epoch": 2, "tr'):
    ...     print(line.fields or line.problem)
    [Field(name='epoch', text='1', number=1), Field(name='train_loss', text='1e-05', number=1e-05)]
    metrics.jsonl, line 2: not JSON: Unterminated string starting at: line 1 column 14 (char 13)
    """
    for number, line in enumerate(content.split(b"\n"), first):
        if not line.strip():
            continue
        try:
            read = json.loads(line, parse_float=_Written, parse_int=_Written, parse_constant=_Written)
            if not isinstance(read, dict):
                raise ValueError(f"an object is needed, not {line.decode().strip()[:40]}")
            plain = json.loads(line)  # what is neither number nor text is shown as JSON
            fields = [_field(name, value, plain[name]) for name, value in read.items()]
        except (ValueError, OverflowError, RecursionError) as error:
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


def metrics(folder: Path) -> bytes:
    """What the run's metrics.jsonl holds, nothing if it is missing; raises FileError if it cannot be read."""
    try:
        return (folder / "metrics.jsonl").read_bytes()
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


def rows(values: Json, prefix: str = "") -> list[tuple[str, str]]:
    """Names and texts of ``values``, those inside of objects too.

    >>> rows({"device": "cpu", "test_loss": {"rnn": 0.5, "gru": 0.25}})
    [('device', 'cpu'), ('test_loss rnn', '0.5'), ('test_loss gru', '0.25')]
    """
    found = []
    for name, value in values.items():
        inside = isinstance(value, dict) and value
        found += rows(value, f"{prefix}{name} ") if inside else [(f"{prefix}{name}", text(value))]
    return found


def about(folder: Path) -> Json:
    """What the files of a run say, but for its records and figures; raises FileError if it is no run.

    ``status`` is that of summary.json, and "unfinished" while there is none, or one of before a resumption.
    """
    config = read_config(folder)
    problems = []
    try:
        summary = read_json(folder / "summary.json")
    except FileError as error:
        summary = {}
        problems.append(str(error))
    if summary.get("status") in ("interrupted", "diverged") and _goes_on(folder):
        summary = {}
    recipe, epochs = str(config["recipe"]), config.get("epochs")
    return {
        "name": name_of(folder),
        "recipe": recipe,
        "status": text(summary.get("status", "unfinished")),
        "error": None if summary.get("error") is None else text(summary["error"]),
        "headline": _headline(recipe, summary),
        "epochs": epochs if isinstance(epochs, int) else None,
        "config": rows({name: value for name, value in config.items() if name != "recipe"}),
        "summary": rows({name: value for name, value in summary.items() if name not in (*_ENVIRONMENT, *_ENDED)}),
        "environment": rows({name: summary[name] for name in _ENVIRONMENT if name in summary}),
        "sample": _sample(folder),
        "problems": problems,
    }


def name_of(folder: Path) -> str:
    """The name of the folder, as far as it is a text."""
    return os.fsencode(folder.resolve().name).decode(errors="replace")


def _goes_on(folder: Path) -> bool:
    try:
        metrics, summary = ((folder / name).stat().st_mtime for name in ("metrics.jsonl", "summary.json"))
    except OSError:
        return False
    return metrics - summary > _YOUNGER


def _headline(recipe: str, summary: Json) -> str | None:
    """The line with which the command ended; None without a summary that it can be made of."""
    for known in RECIPES:
        if known.name == recipe and summary:
            try:
                return known.headline(summary | {"sample": ""}).strip()  # the sample has a place of its own
            except (KeyError, TypeError, ValueError, AttributeError):  # a summary of another version, or changed
                return None
    return None


def _sample(folder: Path) -> str | None:
    """The text that the model wrote, where there is one."""
    try:
        return (folder / "sample.txt").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
