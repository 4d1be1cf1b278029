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
from gpunn.errors import ArgumentError, check

_INTEGER = re.compile(r"[+-]?[0-9]+")
_INT64 = range(-(1 << 63), 1 << 63)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_EXACT = 1 << 24  # float32 has every integer up to here
_LONGEST_LINE = 1 << 22  # as Python's texts, its fields take up to 30 times as much
_OTHER_NOTATION = re.compile(r"[+-]?[0-9][0-9.,_' ]*%?")
"""Numbers that float() does not take: with a decimal comma, separators of thousands, a percent sign."""
_MISSING = frozenset(("", "?", "na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none"))
"""What stands for a value that is missing, in small letters."""


class CsvTable(NamedTuple):
    """What :func:`read_csv` gives: features x float32 (N, F), target y (N,) or None, names of features and of classes.

    y is int64 if all targets are integers, else float32 if all are numbers. Other targets are names of classes: then
    ``classes`` are the different ones, sorted, and y int64 their places; ``classes`` is empty for numbers. ``guessed``
    says in words what the content decided, as no argument did.
    """

    x: np.ndarray[Any, np.dtype[np.float32]]
    y: np.ndarray[Any, Any] | None
    columns: tuple[str, ...]
    classes: tuple[str, ...]
    guessed: tuple[str, ...]


def read_csv(
    path: PathLike,
    target: str | int | None = None,
    header: bool | None = None,
    delimiter: str = ",",
    classes: bool | None = None,
) -> CsvTable:
    """Read a table of numbers, one sample a line, in UTF-8.

    ``target`` is the column of the targets, by name or by number (-1 is the last); without it all columns are features.
    ``header`` says whether the first line names the columns; without one they are ``"0"``, ``"1"``, ... ``classes``
    says whether the targets are names of classes, or numbers. Where these two are None the content decides: the first
    line names the columns if none of its fields is a number, or if ``target`` is a name; targets are numbers if all of
    them are, and names of classes if none is. Blank lines are skipped.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "iris.csv")
    >>> _ = path.write_text("length,width,kind\\n5.1,3.5,setosa\\n7.0,3.2,versicolor\\n")
    >>> table = read_csv(path, target="kind")
    >>> table.x.shape, table.y.tolist(), table.columns, table.classes
    ((2, 2), [0, 1], ('length', 'width'), ('setosa', 'versicolor'))
    >>> table.guessed
    ('the targets are names of 2 classes, as none is a number',)

    Raises FileError, with line and column, for a missing value, a feature that is no finite number, an integer that
    float32 cannot hold, and a line with more or fewer columns than the first. So it does for what can be read in two
    ways, and names both: numbers and texts as targets; among texts a mark such as ``NA``, or a number with a decimal
    comma; a first line that is 0, 1, 2, ... And for a file that is missing, empty, or no UTF-8 (with the byte).
    Raises ArgumentError for a delimiter that is not one character.
    """
    op = "read_csv"
    one = isinstance(delimiter, str) and len(delimiter) == 1
    check(one, ArgumentError, op, "delimiter must be one character", delimiter=delimiter)
    named = isinstance(target, str | int | np.integer | None) and not isinstance(target, bool)
    check(named, ArgumentError, op, "target must be the name or the number of a column", target=target)
    with opened(path) as file:
        reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
        try:
            return _Reading(path, reader, target, header, classes).table()
        except csv.Error as error:
            _bad_line(path, reader.line_num, str(error))


def _lines(path: PathLike, file: IO[bytes]) -> Iterator[str]:
    place = 0
    while raw := file.readline(_LONGEST_LINE + 1):
        if len(raw) > _LONGEST_LINE:
            bad_file(path, f"a line may have {_LONGEST_LINE} bytes", at=place)
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            bad_file(path, f"no UTF-8: {error.reason}", at=place + error.start)
        yield line.removeprefix("\ufeff") if place == 0 else line
        place += len(raw)


class _Reading:
    """A table while it is read."""

    def __init__(
        self, path: PathLike, reader: Any, target: str | int | None, header: bool | None, classes: bool | None
    ) -> None:
        self.path, self.reader, self.target, self.header, self.classes = path, reader, target, header, classes
        self.guessed: list[str] = []

    def table(self) -> CsvTable:
        rows = (row for row in self.reader if row)
        first = next(rows, None)
        if first is None:
            bad_file(self.path, "the file is empty", at=0)
        header = self._has_names(first) if self.header is None else self.header
        names = [name.strip() for name in first] if header else [str(i) for i in range(len(first))]
        chosen = None if self.target is None else _column(self.path, self.target, names)
        columns = [i for i in range(len(names)) if i != chosen]
        numbers, targets, lines = array("f"), list[str](), array("q")
        row = next(rows, None) if header else first
        while row is not None:
            line = self.reader.line_num
            if len(row) != len(names):
                _bad_line(self.path, line, f"{len(names)} columns are needed, got {len(row)}")
            unsure = row is first and self.header is None
            numbers.extend([_number(self.path, line, names[i], row[i], unsure) for i in columns])
            if chosen is not None:
                targets.append(row[chosen].strip())
                lines.append(line)
                if not targets[-1]:
                    _bad_line(self.path, line, f"column {names[chosen]!r}: the value is missing")
            row = next(rows, None)
        if not numbers and not targets:
            bad_file(self.path, "there is no line of values")
        samples = len(numbers) // len(columns) if columns else len(targets)
        x = np.array(numbers, np.float32).reshape(samples, len(columns))
        y, classes = (None, ()) if chosen is None else self._targets(targets, lines, names[chosen])
        return CsvTable(x, y, tuple(names[i] for i in columns), classes, tuple(self.guessed))

    def _has_names(self, first: list[str]) -> bool:
        """Whether the first line names the columns."""
        if isinstance(self.target, str):
            return True
        line = self.reader.line_num
        fields = [field.strip() for field in first]
        if len(fields) > 1 and fields == [str(i) for i in range(len(fields))]:
            counting = f"0 to {len(fields) - 1} may be the numbers of the columns, or the first sample"
            _bad_line(self.path, line, f"{counting}: pass header=True or header=False, or give the columns names")
        names = not any(_is_number(field) for field in fields) and not all(map(_is_missing, fields))
        if names and self.target is not None and len(fields) == 1:
            rule = f"column '0': {fields[0]!r} may be the name of the column, or the first target"
            _bad_line(self.path, line, f"{rule}: pass header=True or header=False")
        reason = "names the columns, as it has no number" if names else "is the first sample, as it has numbers"
        self.guessed.append(f"line {line} {reason}")
        return names

    def _targets(self, texts: list[str], lines: array[int], name: str) -> tuple[np.ndarray[Any, Any], tuple[str, ...]]:
        def bad(i: int, cause: str) -> NoReturn:
            _bad_line(self.path, lines[i], f"column {name!r}: {cause}")

        classes = self._are_classes(texts, bad) if self.classes is None else self.classes
        if classes:
            names = tuple(sorted(set(texts)))
            places = {each: i for i, each in enumerate(names)}
            return np.array([places[text] for text in texts], np.int64), names
        if all(map(_INTEGER.fullmatch, texts)):
            integers = [int(text) if len(text) < 99 else _INT64.stop for text in texts]  # int() refuses 4,300 digits
            large = next((i for i, each in enumerate(integers) if each not in _INT64), None)
            if large is not None:
                bad(large, f"the integer {texts[large]} is beyond int64: pass classes=True if it is a name")
            return np.array(integers, np.int64), ()
        numbers = [_number(self.path, line, name, text) for line, text in zip(lines, texts, strict=True)]
        return np.array(numbers, np.float32), ()

    def _are_classes(self, texts: list[str], bad: Any) -> bool:
        """Whether the targets are names of classes; refuses what may be that, or numbers."""
        kinds = ["missing" if _is_missing(text) else "number" if _is_number(text) else "text" for text in texts]
        numbers, others = kinds.count("number"), kinds.count("text")
        said = "pass classes=True if all targets are names of classes"
        if "missing" in kinds:
            i = kinds.index("missing")
            bad(i, f"{texts[i]!r} may say that the value is missing, or be the name of a class: {said}")
        for text, kind in zip(texts, kinds, strict=True):
            if kind == "text" and _OTHER_NOTATION.fullmatch(text):
                bad(texts.index(text), f"{text!r} may be a number in another notation, or the name of a class: {said}")
        if numbers and others:
            few, most = ("text", "number") if others <= numbers else ("number", "text")
            i, j = kinds.index(few), kinds.index(most)
            bad(i, f"{texts[i]!r} among {most}s such as {texts[j]!r} may be a mistake, or the name of a class: {said}")
        if not numbers:
            names = len(set(texts))
            self.guessed.append(f"the targets are names of {names} classes, as none is a number")
            return True
        kind = "integers" if all(map(_INTEGER.fullmatch, texts)) else "numbers"
        self.guessed.append(f"the targets are {kind}, as all of them are")
        return False


def _column(path: PathLike, target: str | int, names: list[str]) -> int:
    """The number of the target's column."""
    if isinstance(target, str):
        if names.count(target) != 1:
            bad_file(path, f"one column must be called {target!r}, got the columns {names}")
        return names.index(target)
    if not -len(names) <= target < len(names):
        bad_file(path, f"target must be a column from {-len(names)} to {len(names) - 1}, got target={target}")
    return target % len(names)


def _is_missing(text: str) -> bool:
    return text.strip().lower() in _MISSING


def _is_number(text: str) -> bool:
    return not math.isnan(_value(text))


def _value(text: str) -> float:
    """The number, NaN for what is none."""
    try:
        return math.nan if "_" in text else float(text)  # float() also takes 1_000; who writes it means something else
    except ValueError:
        return math.nan


def _number(path: PathLike, line: int, name: str, text: str, unsure: bool = False) -> float:
    """The number that a field holds; ``unsure`` if its line may name the columns."""
    value = _value(text)
    if abs(value) <= _EXACT:
        return value
    if not abs(value) <= _FLOAT32_MAX:
        cause = f"a finite float32 number is needed, got {text!r}" if text.strip() else "the value is missing"
        doubt = "; if this line names the columns, although it has numbers, pass header=True" if unsure else ""
        _bad_line(path, line, f"column {name!r}: {cause}{doubt}")
    integer, nearest = text.strip(), int(np.float32(abs(value)))
    if _INTEGER.fullmatch(integer) and integer.lstrip("+-").lstrip("0") != str(nearest):
        cause = f"float32 has no {integer}, the nearest is {nearest}"
        readings = "a number that tells samples apart must not be rounded; one that was measured may be"
        _bad_line(path, line, f"column {name!r}: {cause}: {readings}, as {integer}.0")
    return value


def _bad_line(path: PathLike, line: int, cause: str) -> NoReturn:
    bad_file(path, f"line {line}: {cause}")
