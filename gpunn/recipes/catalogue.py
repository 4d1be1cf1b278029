"""What recipes there are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from gpunn.errors import ArgumentError, FileError, fail
from gpunn.recipes import alexnet, circles, classifier, digits, digits_rows, gradients, learning_rates, spell, text
from gpunn.recipes.options import Options, nearest
from gpunn.recipes.run import check_packages
from gpunn.runs.folder import read_config
from gpunn.runs.loaded import Loaded


class Recipe(NamedTuple):
    """A run that trains: its name on the command line, a line about it, its options, and what runs it.

    ``run(options, out, on_step, on_epoch)`` returns the run folder and the summary; ``headline(summary)`` says in a
    line what came of it. A ``run`` that can also go on with a folder has another argument, ``resume``.
    ``load(options, folder)`` opens a run again; None for a recipe that keeps no model.
    """

    name: str
    text: str
    options: type[Options]
    run: Callable[..., tuple[Path, dict[str, Any]]]
    headline: Callable[[dict[str, Any]], str]
    load: Callable[[Any, Path], Loaded] | None = None


RECIPES = (
    Recipe(
        "alexnet",
        "AlexNet on a folder of images, a folder for each class; by default digits drawn large.",
        alexnet.Options,
        alexnet.train_alexnet,
        classifier.headline,
        alexnet.load,
    ),
    Recipe(
        "circles",
        "Five dense layers tell two rings of points apart; films the decision surface.",
        circles.Options,
        circles.train_circles,
        classifier.headline,
        circles.load,
    ),
    Recipe(
        "digits",
        "A LeNet-style network on scikit-learn's handwritten digits.",
        digits.Options,
        digits.train_digits,
        classifier.headline,
        digits.load,
    ),
    Recipe(
        "digits-rows",
        "Many to one: the rows of a digit, read by an RNN, an LSTM and a GRU side by side.",
        digits_rows.Options,
        digits_rows.train_digits_rows,
        digits_rows.headline,
        digits_rows.load,
    ),
    Recipe(
        "gradients",
        "How gradients vanish and explode through time, and what clipping does about it.",
        gradients.Options,
        gradients.show_gradients,
        gradients.headline,
    ),
    Recipe(
        "learning-rates",
        "Gradient descent with a learning rate too small, right, and too large.",
        learning_rates.Options,
        learning_rates.compare_learning_rates,
        learning_rates.headline,
    ),
    Recipe(
        "spell",
        "One to many: the name of a digit, letter by letter, from its image.",
        spell.Options,
        spell.train_spell,
        spell.headline,
        spell.load,
    ),
    Recipe(
        "text",
        "Many to many: a text character by character, then writing some of its kind.",
        text.Options,
        text.train_text,
        text.headline,
        text.load,
    ),
)


def find(name: str) -> Recipe:
    """The recipe of that name; ArgumentError, with the nearest, if there is none.

    >>> find("circle")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: recipes: there is no recipe 'circle'; did you mean 'circles'?
    """
    by_name = {recipe.name: recipe for recipe in RECIPES}
    if name not in by_name:
        fail(ArgumentError, "recipes", f"there is no recipe {name!r}; {nearest(name, by_name)}")
    return by_name[name]


def resumable(folder: Path) -> tuple[Recipe, Options]:
    """The recipe of which ``folder`` holds a run, and its options; FileError if it cannot be gone on with."""
    recipe, options = begun(folder)
    if "resume" not in inspect.signature(recipe.run).parameters:
        raise FileError(f"{folder}: a run of train {recipe.name}, which is short, and is run again rather than resumed")
    return recipe, options


def load(folder: Path, device: str | None = None) -> tuple[Recipe, Loaded]:
    """Open the run in ``folder``, on the device where it was trained (emulated if it was), or on ``device``.

    The run may be finished, interrupted, or still going on. Raises FileError, which says what is wrong, for a folder
    without a run, a recipe that keeps no model, and weights that are missing, damaged or of another network.
    """
    recipe, options = begun(folder)
    if recipe.load is None:
        raise FileError(f"{folder}: a run of train {recipe.name}, which keeps no model")
    check_packages(options.command, ("safetensors", "threadpoolctl"))
    return recipe, recipe.load(replace(options, device=device, emulate=False) if device else options, folder)


def begun(folder: Path) -> tuple[Recipe, Options]:
    """The recipe of which ``folder`` holds a run, and its options; FileError if its config.json does not tell them."""
    config = read_config(folder)
    found = [recipe for recipe in RECIPES if recipe.name == config["recipe"]]
    if not found:
        written = str(config["recipe"]).endswith(".py")  # by gpunn new
        hint = ", which a file of yours begins and goes on with: resume=True" if written else ""
        raise FileError(f"{folder}: a run of an unknown recipe, {config['recipe']!r}{hint}")
    (recipe,) = found
    given = {field.name: config[field.name] for field in fields(recipe.options) if field.name in config}
    try:
        return recipe, recipe.options(**given)
    except (ArgumentError, TypeError) as error:
        raise FileError(f"{folder}: config.json does not hold the options of train {recipe.name}: {error}") from error
