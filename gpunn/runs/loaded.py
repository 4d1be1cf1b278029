"""A run that is opened again: its model with the weights that were kept, to be measured and asked.

Each recipe that keeps a model has a ``load(options, folder)`` that gives a :class:`Loaded`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.backend import Array, to_cpu
from gpunn.checkpoint import Checkpoints, differences, load_weights
from gpunn.errors import FileError
from gpunn.nn import Module
from gpunn.runs.folder import CHECKPOINTS, SUMMARY, WEIGHTS, check_own, read_json

Confusion = dict[str, dict[str, int]]
"""How many examples of a class were taken for which: ``{class: {answer: count}}``, without zeros."""


class Measured(NamedTuple):
    """The measures on the test data, by their names in summary.json, and what was taken for what.

    Where several models answer, each measure is a dict by the name of the model, and so is ``confusion``; one model
    alone has the name ``""`` there. It is empty for a recipe without classes.
    """

    measures: dict[str, Any]
    confusion: dict[str, Confusion]


class Answer(NamedTuple):
    """The classes of one input with their probabilities, the answer first.

    ``place`` is the number of the input in a file that holds several, ``reader`` the name of the model that answers
    where there are several.
    """

    ranked: list[tuple[str, float]]
    place: int | None = None
    reader: str | None = None


class Written(NamedTuple):
    """How a text goes on, how many characters it has, and what each costs in bits (None for a single one)."""

    continuation: str
    characters: int
    bits_per_character: float | None


@dataclass(frozen=True)
class Loaded:
    """The model of a run, and what it is good for.

    ``weights`` says where they were read, ``example`` is an input of batch 1, a tuple if the model takes several, and
    ``exporting`` what :func:`gpunn.interop.onnx.export` is given beside both. ``classes`` are the names of the classes,
    None for a model that writes text. ``evaluate()`` measures the test data. ``predict(path)`` gives a list of
    :class:`Answer` for an input file; of a text, ``predict(path, length)`` gives a list of one :class:`Written`.
    """

    model: Module
    weights: str
    example: Any
    classes: tuple[str, ...] | None
    evaluate: Callable[[], Measured]
    predict: Callable[..., list[Answer] | list[Written]]
    exporting: Mapping[str, Any]


def read_weights(model: Module, folder: Path, parts: Sequence[str] = ()) -> str:
    """Read the weights of a run into ``model``; say where they were.

    They are those of model.safetensors or, while a run has none or went on after it, those of its newest checkpoint.
    ``parts`` are the children of the model that were trained one by one, each with checkpoints of its own. Raises
    FileError, which names the file and what is wrong, where there are no weights yet, they are damaged, or of another
    network; names and shapes of what differs are told.
    """
    modules = dict(model.named_children())
    modules[""] = model
    kept = [(modules[part], Checkpoints(folder / CHECKPOINTS / part)) for part in parts or ("",)]
    whole = folder / WEIGHTS
    check_own(folder, (WEIGHTS, CHECKPOINTS))
    steps = read_json(folder / SUMMARY).get("steps")
    went_on = isinstance(steps, int) and sum(max(files.steps(), default=0) for _, files in kept) > steps
    if whole.exists() and not went_on:
        load_weights(model, whole)
        return whole.name
    for module, files in kept:
        _read_checkpoint(module, files, folder)
    return "the newest checkpoint"


def _read_checkpoint(module: Module, files: Checkpoints, folder: Path) -> None:
    state = files.load_newest()
    if state is None:
        where = files.folder.relative_to(folder)
        cause = f"neither {WEIGHTS} nor a checkpoint in {where}, which comes at the end of the first epoch"
        raise FileError(f"{folder}: the run has no weights yet: {cause}")
    if "model" not in state:
        raise FileError(f"{files.folder}: the newest checkpoint holds no model, but {sorted(state)}")
    if differing := differences(module.state_dict(), state["model"]):
        raise FileError(f"{files.folder}: the newest checkpoint is of another network: {'; '.join(differing)}")
    module.load_state_dict(state["model"])


def ranked(names: Sequence[str], probabilities: Iterable[float]) -> list[tuple[str, float]]:
    """The names with their probabilities, the likeliest first.

    >>> ranked(["cat", "dog"], [0.25, 0.75])
    [('dog', 0.75), ('cat', 0.25)]
    """
    return sorted(zip(names, map(float, probabilities), strict=True), key=lambda pair: -pair[1])


def answers(names: Sequence[str], rows: Array, several: bool, reader: str | None = None) -> list[Answer]:
    """An :class:`Answer` for each row of probabilities (N, C); they are numbered if the file holds ``several``."""
    places = range(len(rows)) if several else [None]
    return [Answer(ranked(names, row), place, reader) for place, row in zip(places, rows, strict=True)]


def tally(classes: Sequence[str], true: Array, given: Sequence[str]) -> Confusion:
    """Count what each class was taken for; ``true`` (N,) are numbers of classes, ``given`` the answers.

    >>> import numpy as np
    >>> tally(["cat", "dog"], np.array([0, 1, 0]), ["cat", "dog", "dog"])
    {'cat': {'cat': 1, 'dog': 1}, 'dog': {'dog': 1}}
    """
    counts: Confusion = {name: {} for name in classes}
    for number, answer in zip(to_cpu(true).tolist(), given, strict=True):
        of = counts[classes[number]]
        of[answer] = of.get(answer, 0) + 1
    return {name: of for name, of in counts.items() if of}
