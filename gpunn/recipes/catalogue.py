"""What recipes there are."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import gpunn
from gpunn.errors import ArgumentError, FileError, check, fail
from gpunn.recipes.alexnet import AlexNet
from gpunn.recipes.circles import Circles
from gpunn.recipes.digits import Digits
from gpunn.recipes.digits_rows import DigitsRows
from gpunn.recipes.gradients import Gradients
from gpunn.recipes.learning_rates import LearningRates
from gpunn.recipes.one_file import FILE_NAME, check_name
from gpunn.recipes.options import Options, moved, nearest
from gpunn.recipes.recipe import DATA_DIGEST, Recipe
from gpunn.recipes.run import check_packages, choose_again
from gpunn.recipes.spell import Spell
from gpunn.recipes.text import Text
from gpunn.recipes.training import Training
from gpunn.runs.folder import read_config
from gpunn.runs.loaded import Loaded

RECIPES: tuple[type[Recipe], ...] = (AlexNet, Circles, Digits, DigitsRows, Gradients, LearningRates, Spell, Text)
"""The one list of them: commands, captions, warm-up and what opens a run go by it."""


def known(name: object) -> type[Recipe] | None:
    """The recipe of that name, None if there is none."""
    return next((recipe for recipe in RECIPES if recipe.name == name), None)


def find(name: str) -> type[Recipe]:
    """The recipe of that name; ArgumentError, with the nearest, if there is none.

    >>> find("circle")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: recipes: there is no recipe 'circle'; did you mean 'circles'?
    """
    recipe = known(name)
    if recipe is None:
        names = [each.name for each in RECIPES]
        fail(ArgumentError, "recipes", f"there is no recipe {name!r}; {nearest(name, names)}")
    return recipe


def resumable(folder: Path, data: Path | None = None) -> tuple[type[Recipe], Options]:
    """The recipe of which ``folder`` holds a run, and its options; FileError if it cannot be resumed.

    ``data`` is as :func:`load` has it.
    """
    recipe, options = begun(folder, data)
    recipe.check_resumes(folder)
    return recipe, options


def load(folder: Path, device: str | None = None, data: Path | None = None) -> tuple[type[Recipe], Loaded]:
    """Open the run in ``folder``, on the device where it was trained (emulated if it was), or on ``device``.

    ``data`` is where the text or the images are now that it trains on, if they were moved since.
    The run may be finished, interrupted, or still going on. Raises FileError, which says what is wrong, for a folder
    without a run, a recipe that keeps no model, and weights that are missing, damaged or of another network;
    DeviceError where the device of the run is none of this machine's.
    """
    recipe, options = begun(folder, data)
    if not issubclass(recipe, Training):
        raise FileError(f"{folder}: a run of {options.command}, which keeps no model")
    check_packages(options.command, ("safetensors", "threadpoolctl"))
    if device is None:
        choose_again(folder, options, "; --device cpu opens it on the CPU")
    return recipe, recipe.load(replace(options, device=device, emulate=False) if device else options, folder)


def _of_file(folder: Path, name: str) -> type[Recipe]:
    """The recipe of a file of the user's, in the current folder: its code is run."""
    if not re.fullmatch(FILE_NAME, name):
        raise FileError(f"{folder}: a run of an unknown recipe, {name!r}")
    path = Path(name).absolute()
    if not path.is_file():
        raise FileError(f"{folder}: a run of {name}, which is opened in the folder of that file; here is no {path}")
    about = importlib.util.spec_from_file_location(f"gpunn_file_{path.stem}", path)
    assert about is not None, "the name ends in .py"
    assert about.loader is not None
    module = importlib.util.module_from_spec(about)
    sys.modules[about.name] = module  # dataclasses look there
    try:
        about.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise FileError(f"{folder}: {path} cannot be run: {type(error).__name__}: {error}") from error
    recipes = _called(name, module)
    if len(recipes) != 1:
        raise FileError(f"{folder}: {path} has {len(recipes)} recipes called {name!r}, not one")
    return recipes[0]


def _called(name: str, module: ModuleType) -> list[type[Recipe]]:
    """The recipes of that name which a module defines."""
    classes = {each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__}
    return [each for each in classes if issubclass(each, Recipe) and each.name == name]


def check_opens(recipe: type[Recipe]) -> None:
    """Raise ArgumentError unless the runs of a file's recipe will be opened as what they are, by the file's name."""
    module = sys.modules[recipe.__module__]
    name = Path(module.__file__ or "").name
    check_name(name, name)
    rule = "its recipe must have the name of the file, by which its runs are opened"
    check(recipe.name == name, ArgumentError, name, rule, name=recipe.name)
    named = [each.__qualname__ for each in _called(name, module)]
    rule = "the recipe that is run must be the only one with the name of the file"
    check(named == [recipe.__qualname__], ArgumentError, name, rule, recipes=", ".join(sorted(named)))


def begun(folder: Path, data: Path | None = None) -> tuple[type[Recipe], Options]:
    """The recipe of which ``folder`` holds a run, and its options; FileError if its config.json does not tell them.

    ``data`` is as :func:`load` has it.
    """
    config = read_config(folder)
    recipe = known(config["recipe"]) or _of_file(folder, str(config["recipe"]))
    given = {field.name: config[field.name] for field in fields(recipe.options_type) if field.name in config}
    if unknown := sorted(config.keys() - given.keys() - {"recipe", "device", DATA_DIGEST}):
        about = f"which this gpunn, {gpunn.__version__}, does not have: it is of a newer or an older one"
        raise FileError(
            f"{folder}: config.json has {', '.join(map(repr, unknown))} for {recipe.options_type.command}, {about}"
        )
    try:
        options = recipe.options_type(**given)
    except (ArgumentError, TypeError) as error:
        raise FileError(
            f"{folder}: config.json does not hold the options of {recipe.options_type.command}: {error}"
        ) from error
    return recipe, options if data is None else moved(options, data)
