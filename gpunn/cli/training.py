"""Runs that train: ``gpunn train RECIPE`` and ``gpunn resume RUN``."""

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gpunn.cli import help
from gpunn.cli.output import tell
from gpunn.cli.progress import training
from gpunn.recipes.options import own_first, read_options, types_of


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes.catalogue import RECIPES, resumable

    commands = "gpunn train digits", "gpunn train digits --help  # its options"
    train = help.group(app, "train", "Train a network, and keep the run in a folder.", help.TRAIN, *commands)

    for recipe in RECIPES:
        train.command(recipe.name, help=recipe.text, epilog=help.examples(*_examples(recipe)))(_train(recipe))

    @app.command(rich_help_panel=help.TRAIN, epilog=help.examples("gpunn resume runs/digits-20260101-120000"))
    def resume(
        run: Annotated[
            Path,
            typer.Argument(
                metavar="RUN", help="The folder of a run that was interrupted or killed.", autocompletion=help.runs
            ),
        ],
    ) -> None:
        """Go on with a run from its newest checkpoint; the result is that of a run that was never stopped."""
        recipe, options = resumable(run)
        with training(getattr(options, "epochs", None)) as follow:
            _, summary = recipe.run(options, run, **follow, resume=True)
        _tell(recipe, run, summary)


def _examples(recipe: Any) -> tuple[str, str]:
    chosen = f"gpunn train {recipe.name} --config run.toml --seed 1"
    return f"gpunn train {recipe.name}", f"{chosen}  # a file as gpunn recipes {recipe.name} prints it"


def _train(recipe: Any) -> Callable[..., None]:
    """The command of a recipe: an option for each field of its options, ``--config`` and ``--out``."""

    def command(context: typer.Context, config: Path | None, out: Path | None, **values: Any) -> None:
        typed = {name for name in values if _is_typed(context, name)}
        read = read_options(config, recipe.options_type) if config is not None else {}
        options = recipe.options_type(**values | read | {name: values[name] for name in typed})
        with training(getattr(options, "epochs", None)) as follow:
            folder, summary = recipe.run(options, out, **follow)
        _tell(recipe, folder, summary)

    types = types_of(recipe.options_type)
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(
            _parameter(each.name, types[each.name], each.default, **each.metadata)
            for each in own_first(recipe.options_type)
        ),
        _parameter("config", Path | None, None, f"A TOML file of options, as gpunn recipes {recipe.name} prints it."),
        _parameter(
            "out", Path | None, None, "Run folder; must not hold a run yet.", shown=f"runs/{recipe.name}-<date>-<time>"
        ),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _tell(recipe: Any, folder: Path, summary: dict[str, Any]) -> None:
    """Print what came of a run, and leave with 130 if it was interrupted, saying how to go on."""
    interrupted = summary["status"] == "interrupted"
    hint = f"; to go on: gpunn resume {shlex.quote(str(folder))}" if interrupted and recipe.resumes else ""
    tell(f"{recipe.headline(summary)}: {folder}{hint}", summary | {"folder": folder})
    if interrupted:
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
    path: bool = False,  # the run's affair
) -> inspect.Parameter:
    """A parameter from which typer makes an option; see :func:`gpunn.recipes.options.option`."""
    completing = help.devices if name == "device" else None
    shown_default = shown or (kind is not bool and default is not None)
    about = typer.Option(help=text, min=least, show_default=shown_default, autocompletion=completing)
    values: Any = Literal.__getitem__(choices) if choices else kind
    annotation = Annotated[values, about]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
