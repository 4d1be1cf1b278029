"""What the files of a run say of it, in words for a page; what is damaged is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gpunn.errors import FileError
from gpunn.recipes.catalogue import known
from gpunn.runs.folder import name_of, read_config
from gpunn.runs.records import read_sample, read_summary, status_of, text

Json = dict[str, Any]

_ENVIRONMENT = ("versions", "device", "emulate")
_ENDED = ("status", "error")


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

    ``status`` is that of :func:`gpunn.runs.records.status_of`.
    """
    config = read_config(folder)
    problems = []
    try:
        summary = read_summary(folder)
    except FileError as error:
        summary = {}
        problems.append(str(error))
    try:
        sample = read_sample(folder)
    except FileError as error:
        sample = None
        problems.append(str(error))
    recipe, epochs = str(config["recipe"]), config.get("epochs")
    return {
        "name": name_of(folder),
        "recipe": recipe,
        "status": status_of(folder, summary),
        "error": None if summary.get("error") is None else text(summary["error"]),
        "headline": _headline(recipe, summary),
        "epochs": epochs if isinstance(epochs, int) else None,
        "config": rows({name: value for name, value in config.items() if name != "recipe"}),
        "summary": rows({name: value for name, value in summary.items() if name not in (*_ENVIRONMENT, *_ENDED)}),
        "environment": rows({name: summary[name] for name in _ENVIRONMENT if name in summary}),
        "sample": sample,
        "problems": problems,
    }


def _headline(recipe: str, summary: Json) -> str | None:
    """The line with which the command ended; None without a summary that it can be made of."""
    run = known(recipe)
    if run is None or not summary:
        return None
    try:
        return run.headline(summary).strip()
    except (KeyError, TypeError, ValueError, AttributeError):  # a summary of another version, or changed
        return None
