"""Reader of tables as comma-separated values. Source: RFC 4180."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, NoReturn

import numpy as np

from gpunn.data.reading import PathLike, bad_file, opened

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")  # what surely fits into int64
_FLOAT32_MAX = float(np.finfo(np.float32).max)


class CsvTable(NamedTuple):
    """What :func:`read_csv` gives: features x float32 (N, F), target y (N,) or None, names of features and of classes.

    y is int64 if all targets are integers, else float32 if all are numbers. Other targets are texts: then ``classes``
    are the different ones, sorted, and y int64 their places; ``classes`` is empty for numbers.
    """

    x: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, Any] | None
    columns: tuple[str, ...]
    classes: tuple[str, ...]


def read_csv(path: PathLike, target: str | int | None = None, header: bool = True, delimiter: str = ",") -> CsvTable:
    """Read a table of numbers, one sample a line, in UTF-8.

    ``header`` says that the first line names the columns; without it they are ``"0"``, ``"1"``, ... ``target`` is
    the column of the targets, by name or by number (-1 is the last); without it all columns are features. Blank lines
    are skipped.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "iris.csv")
    >>> _ = path.write_text("length,width,kind\\n5.1,3.5,setosa\\n7.0,3.2,versicolor\\n")
    >>> table = read_csv(path, target="kind")
    >>> table.x.shape, table.y.tolist(), table.columns, table.classes
    ((2, 2), [0, 1], ('length', 'width'), ('setosa', 'versicolor'))

    Raises FileError, with line and column, for a missing value, a feature that is no finite number, and a line with
    more or fewer columns than the first; and for a file that is missing, empty, or no UTF-8 (with the byte).
    """
    with opened(path) as file:
        reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
        try:
            return _read(path, reader, target, header)
        except csv.Error as error:
            _bad_line(path, reader.line_num, str(error))


def _lines(path: PathLike, file: IO[bytes]) -> Iterator[str]:
    place = 0
    for raw in file:
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad_file(path, f"no UTF-8: {error.reason}", at=place + error.start)
        yield line.removeprefix("\ufeff") if place == 0 else line
        place += len(raw)


def _read(path: PathLike, reader: Any, target: str | int | None, header: bool) -> CsvTable:
    rows = (row for row in reader if row)
    first = next(rows, None)
    if first is None:
        bad_file(path, "the file is empty", at=0)
    names = [name.strip() for name in first] if header else [str(i) for i in range(len(first))]
    chosen = None if target is None else _column(path, target, names)
    columns = [i for i in range(len(names)) if i != chosen]
    numbers, targets = array("f"), []
    row = next(rows, None) if header else first
    while row is not None:
        line = reader.line_num
        if len(row) != len(names):
            _bad_line(path, line, f"{len(names)} columns are needed, got {len(row)}")
        numbers.extend(_number(path, line, names[i], row[i]) for i in columns)
        if chosen is not None:
            targets.append(row[chosen].strip())
            if not targets[-1]:
                _bad_line(path, line, f"column {names[chosen]!r}: the value is missing")
        row = next(rows, None)
    if not numbers and not targets:
        bad_file(path, "there is no line of values")
    samples = len(numbers) // len(columns) if columns else len(targets)
    x = np.array(numbers, np.float32).reshape(samples, len(columns))
    y, classes = (None, ()) if chosen is None else _targets(targets)
    return CsvTable(x, y, tuple(names[i] for i in columns), classes)


def _column(path: PathLike, target: str | int, names: list[str]) -> int:
    """The number of the target's column."""
    if isinstance(target, str):
        if names.count(target) != 1:
            bad_file(path, f"one column must be called {target!r}, got the columns {names}")
        return names.index(target)
    if not -len(names) <= target < len(names):
        bad_file(path, f"target must be a column from {-len(names)} to {len(names) - 1}, got target={target}")
    return target % len(names)


def _number(path: PathLike, line: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # float() also takes 1_000; a table that has it means something else.
    if not abs(value) <= _FLOAT32_MAX or "_" in text:
        cause = f"a finite float32 number is needed, got {text!r}" if text.strip() else "the value is missing"
        _bad_line(path, line, f"column {name!r}: {cause}")
    return value


def _targets(texts: list[str]) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
    if all(_INTEGER.fullmatch(text) for text in texts):
        return np.array([int(text) for text in texts], np.int64), ()
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        numbers = np.array([math.nan])
    if bool(np.all(np.abs(numbers) <= _FLOAT32_MAX)) and not any("_" in text for text in texts):
        return numbers.astype(np.float32), ()
    classes = tuple(sorted(set(texts)))
    places = {name: i for i, name in enumerate(classes)}
    return np.array([places[text] for text in texts], np.int64), classes


def _bad_line(path: PathLike, line: int, cause: str) -> NoReturn:
    bad_file(path, f"line {line}: {cause}")
