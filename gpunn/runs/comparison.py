"""Runs side by side: what differs in their options, what they came to, and their curves in one figure."""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gpunn import notebook, plot
from gpunn.errors import ArgumentError, FileError, check, warn
from gpunn.plot.training import MEASURED
from gpunn.runs import records
from gpunn.runs.folder import SUMMARY, read_config
from gpunn.runs.records import by_cell, diverged, read_summary, status_of
from gpunn.train import Record

_NO_RESULTS = ("status", "error", "device", "emulate", "versions", "classes", "epochs", "seconds", "parameters")


class Run(NamedTuple):
    """What the files of a run folder say, whether the run is over or not."""

    folder: Path
    config: dict[str, Any]
    records: list[Record]
    summary: dict[str, Any]

    @property
    def status(self) -> str:
        """How the run ended, or that it is running, was killed, or is unfinished."""
        return status_of(self.folder, self.summary)

    @property
    def epochs(self) -> int:
        """How many epochs are whole."""
        last = max((record["epoch"] for record in self.records), default=0)
        return max(int(last), int(self.summary.get("epochs", 0)))

    def _repr_html_(self) -> str:
        parts = [f"<p><b>{html.escape(str(self.folder))}</b>: {html.escape(self.status)}</p>"]
        if curves := _curves({"": self}):
            drawn: Any = plot.curves(curves[0], diverged=curves[1])
            image = base64.b64encode(drawn._repr_png_()).decode()
            parts.append(f'<img alt="curves" style="max-width:100%" src="data:image/png;base64,{image}">')
        results = {name: value for name, value in _results(self).items() if name != "status"}
        for head, values in (("option", self.config), ("result", results)):
            rows = [[name, records.text(value)] for name, value in values.items()]
            parts.append(notebook.table([[head, ""], *rows]))
        return "".join(parts)


class Row(NamedTuple):
    """A line of the comparison: what it is about, its value for each run that has one, and which of them are best.

    ``kind`` is ``"option"`` or ``"result"``. The best are those of each recipe with several runs: the loss on one data
    set says nothing of that on another. None is best where all are equal, or more is not better or worse.
    """

    name: str
    kind: str
    values: dict[str, Any]
    best: list[str]


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read config.json, metrics.jsonl and summary.json of a run; the latter two may not be there yet.

    A notebook shows the run: its curves, options and results.

    Raises FileError, which names the file and what is wrong, for a folder without a run and for damaged files. A last
    line of the metrics that is being written does not count; one that was left half written does not, with a warning.
    """
    folder = Path(folder)
    config, summary = read_config(folder), read_summary(folder)
    if not isinstance(summary.get("epochs", 0), int):
        raise FileError(f"{folder / SUMMARY}: epochs must be an integer, got {summary['epochs']!r}")
    return Run(folder, config, _records(folder), summary)


def _records(folder: Path) -> list[Record]:
    found, content = [], records.settled(folder)
    unfinished = 0 if content.endswith(b"\n") else content.count(b"\n") + 1
    for line in records.parse(content):
        if line.problem is not None and line.number == unfinished:
            warn(f"{folder}: {line.problem}; the rest is read")
            continue
        if line.problem is not None:
            raise FileError(f"{folder}: {line.problem}")
        if not all(_is_number(line.record.get(key)) for key in ("epoch", "seconds")):
            rule = "not the record of an epoch, with its epoch and seconds"
            raise FileError(f"{folder}: metrics.jsonl, line {line.number}: {rule}")
        found.append(line.record)
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def labels(folders: Sequence[Path]) -> list[str]:
    """A short name for each run: that of its folder, or its path where names are not different.

    >>> labels([Path("runs/a"), Path("runs/b")]), labels([Path("x/a"), Path("y/a")])
    (['a', 'b'], ['x/a', 'y/a'])

    Raises ArgumentError for a run that is given twice.
    """
    given = [folder.resolve() for folder in folders]
    twice = [str(folder) for folder, path in zip(folders, given, strict=True) if given.count(path) > 1]
    check(not twice, ArgumentError, "compare", "each run must be given once", twice=twice)
    names = [path.name for path in given]
    return names if len(set(names)) == len(names) else [str(folder) for folder in folders]


def compare(runs: Mapping[str, Run], every: bool = False) -> list[Row]:
    """The rows of a comparison: options that differ (or, with ``every``, all), then results.

    A measure has its best and its last value over the epochs, and the epoch of the best. Runs of different recipes
    lack each other's rows.
    """
    options = _rows({label: run.config for label, run in runs.items()})
    shown = [Row(name, "option", values, []) for name, values in options if every or _differs(values, len(runs))]
    recipes = {label: str(run.config["recipe"]) for label, run in runs.items()}
    results = _rows({label: _results(run) for label, run in runs.items()})
    return shown + [Row(name, "result", values, _best(name, values, recipes)) for name, values in results]


def _rows(columns: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    names = dict.fromkeys(name for column in columns.values() for name in column)
    return [(name, {label: column[name] for label, column in columns.items() if name in column}) for name in names]


def _differs(row: Mapping[str, Any], runs: int) -> bool:
    values = list(row.values())
    return len(values) < runs or any(value != values[0] for value in values)


def _results(run: Run) -> dict[str, Any]:
    summary = run.summary
    found = {"status": run.status, "epochs": run.epochs}
    if not summary:
        found["seconds"] = sum(record["seconds"] for record in run.records)
    elif "seconds" in summary:
        found["seconds"] = summary["seconds"]
    found |= _flat({"parameters": summary["parameters"]} if "parameters" in summary else {})
    for cell, lines in by_cell(run.records).items():
        for name in dict.fromkeys(name for record in lines for name in record):
            if name.startswith(MEASURED):
                values = [(record[name], record["epoch"]) for record in lines if _is_number(record.get(name))]
                whole = f"{name} {cell}".strip()
                if values and (choose := _better(name)):
                    found[f"best {whole}"], found[f"epoch of best {whole}"] = choose(values, key=lambda pair: pair[0])
                if values:
                    found[f"last {whole}"] = values[-1][0]
    if not run.records:
        found |= _flat({name: value for name, value in summary.items() if name not in _NO_RESULTS})
    return found


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers by name, those of an object as ``name key``."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inside = value if isinstance(value, dict) else {"": value}
        found |= {f"{name} {key}".strip(): each for key, each in inside.items() if _is_number(each)}
    return found


def _better(name: str) -> Callable[..., Any] | None:
    """``min`` or ``max``, whichever finds the better value of a measure."""
    if "accuracy" in name or "exact" in name:
        return max
    return min if "loss" in name or "bits" in name else None


def _best(name: str, values: Mapping[str, Any], recipes: Mapping[str, str]) -> list[str]:
    choose = None if name.startswith("epoch of") else _better(name)
    if choose is None:
        return []
    found = []
    for recipe in dict.fromkeys(recipes.values()):
        own = {label: value for label, value in values.items() if recipes[label] == recipe}
        if len(set(own.values())) > 1:
            found += [label for label, value in own.items() if value == choose(own.values())]
    return found


def draw(runs: Mapping[str, Run], path: str | os.PathLike[str]) -> None:
    """Draw the curves of all runs over each other into the PNG file ``path``; those without an epoch are left out.

    Raises FileError if none has an epoch, or ``path`` cannot be written.
    """
    curves = _curves(runs)
    if curves is None:
        raise FileError(f"{path}: none of the runs has a whole epoch to draw: {', '.join(runs)}")
    plot.curves(curves[0], path, curves[1])


def _curves(runs: Mapping[str, Run]) -> tuple[Any, Any] | None:
    """The curves of all runs by label, and which of them diverged; None if there is no epoch."""
    curves: dict[str, list[Record]] = {}
    crosses: list[str] = []
    for label, run in runs.items():
        own = {f"{label} {cell.upper()}".strip(): lines for cell, lines in by_cell(run.records).items()}
        curves |= own
        crosses += diverged(own, run.status) if own else []
    return (curves, crosses) if curves else None
