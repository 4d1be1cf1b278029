"""Runs that train: ``gpunn train RECIPE`` and ``gpunn resume RUN``."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from gpunn.cli.output import tell
from gpunn.cli.progress import training


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes.catalogue import RECIPES, resumable

    train = typer.Typer(no_args_is_help=True, help="Train a network, and keep the run in a folder.")
    app.add_typer(train, name="train")

    for recipe in RECIPES:
        train.command(recipe.name, help=recipe.text)(_train(recipe))

    @app.command()
    def resume(
        run: Annotated[Path, typer.Argument(help="The folder of a run that was interrupted or killed.")],
    ) -> None:
        """Go on with a run from its newest checkpoint; the result is that of a run that was never stopped."""
        recipe, options = resumable(run)
        with training(getattr(options, "epochs", None)) as follow:
            _, summary = recipe.run(options, run, **follow, resume=True)
        _tell(recipe, run, summary)


def _train(recipe: Any) -> Callable[..., None]:
    """The command of a recipe: an option for each field of its options, and ``--out``."""

    def command(out: Path | None, **given: Any) -> None:
        options = recipe.options(**given)
        with training(getattr(options, "epochs", None)) as follow:
            folder, summary = recipe.run(options, out, **follow)
        _tell(recipe, folder, summary)

    common = {field.name for field in dataclasses.fields(recipe.options.__mro__[1])}
    own_first = sorted(dataclasses.fields(recipe.options), key=lambda field: field.name in common)
    types = get_type_hints(recipe.options)
    parameters = [_parameter(field.name, types[field.name], field.default, **field.metadata) for field in own_first]
    shown = f"runs/{recipe.name}-<date>-<time>"
    parameters.append(_parameter("out", Path | None, None, "Run folder; must not hold a run yet.", shown=shown))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _tell(recipe: Any, folder: Path, summary: dict[str, Any]) -> None:
    """Print what came of a run, and leave with 130 if it was interrupted."""
    tell(f"{recipe.headline(summary)}: {folder}", summary | {"folder": folder})
    if summary["status"] == "interrupted":
        raise typer.Exit(130)


def _parameter(
    name: str,
    kind: Any,
    default: Any,
    text: str,
    least: int | None = None,
    positive: bool = False,  # refused by the options themselves
    choices: tuple[str, ...] = (),
    shown: str | None = None,
) -> inspect.Parameter:
    """A parameter from which typer makes an option; see :func:`gpunn.recipes.options.option`."""
    names = (f"--{name}",) if kind is bool else ()  # without a --no- twin
    about = typer.Option(*names, help=text, min=least, show_default=shown or kind is not bool)
    values: Any = Literal.__getitem__(choices) if choices else kind
    annotation = Annotated[values, about]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
