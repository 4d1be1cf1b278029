"""A run of each recipe with the options of its row, made once for all tests that look at it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from once import once
from PIL import Image
from recipe_cases import CASES
from undrawn import draw

from gpunn.backend import random_generator
from gpunn.recipes.catalogue import find

WORDS = ["one fish ", "two fish ", "red fish ", "blue fish "]


def finished(factory: pytest.TempPathFactory, name: str) -> Path:
    """The folder of the run, with its pictures; not to be changed, copies may be."""
    return once(factory, f"run of {name}", lambda root: _train(name, root)) / "runs" / name


def told(folder: Path) -> dict[str, Any]:
    """What the run in a folder of :func:`finished` told: the ``summary`` it returned, ``steps`` and their number."""
    found: dict[str, Any] = json.loads((folder.parents[1] / "told.json").read_text())
    return found


def settings(folder: Path) -> dict[str, Any]:
    """The options of the run in a folder of :func:`finished`."""
    return _settings(folder.name, folder.parents[1])


def _settings(name: str, root: Path) -> dict[str, Any]:
    data = {"alexnet": {"images": str(root / "images")}, "text": {"file": str(root / "story.txt")}}
    return CASES[name].options | data.get(name, {})


def prepare(name: str, root: Path) -> Any:
    """The options of the row of a recipe, whose data are put into the new folder ``root``."""
    root.mkdir()
    if name == "text":
        (root / "story.txt").write_text("".join(WORDS[i] for i in random_generator(0).integers(4, size=500)))
    if name == "alexnet":
        generator = random_generator(1)
        for label, brightness in (("dark", 60), ("light", 200)):
            (root / "images" / label).mkdir(parents=True)
            for number in range(5):
                pixels = generator.integers(brightness - 40, brightness + 40, (40, 50, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / "images" / label / f"{number}.png")
    return find(name).options_type(**_settings(name, root))


def _train(name: str, root: Path) -> None:
    options, recipe, seen = prepare(name, root), find(name), []
    with pytest.MonkeyPatch.context() as patch:
        draw(patch)
        _, summary = recipe.run(
            options, root / "runs" / name, on_step=lambda step, steps, loss: seen.append((step, steps))
        )
    (root / "told.json").write_text(json.dumps({"summary": summary, "steps": seen}))
