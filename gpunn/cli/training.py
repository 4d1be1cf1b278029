"""Runs that train: ``gpunn train RECIPE`` and ``gpunn resume RUN``."""

import inspect
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from gpunn.cli import help
from gpunn.cli.output import tell
from gpunn.cli.progress import training
from gpunn.distributed import World, on_first
from gpunn.errors import GpunnError
from gpunn.recipes.options import own_first, read_options, types_of
from gpunn.recipes.recipe import NOT_RESUMED
from gpunn.recipes.run import join

DISTRIBUTED = "Share the work among the ranks that mpirun started."
SHARD_OPTIMIZER = "With --distributed: each rank keeps a part of the optimizer's states alone, to save memory."


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes.catalogue import RECIPES, resumable

    commands = "gpunn train digits", "gpunn train digits --help  # its options"
    group = help.group(app, "train", "Train a network, and keep the run in a folder.", help.TRAIN, *commands)

    for recipe in RECIPES:
        group.command(recipe.name, help=about(recipe), epilog=help.examples(*_examples(recipe)))(train(recipe))

    @app.command(rich_help_panel=help.TRAIN, epilog=help.examples("gpunn resume runs/digits-20260101-120000"))
    def resume(
        run: Annotated[
            Path,
            typer.Argument(
                metavar="RUN", help="The folder of a run that was interrupted or killed.", autocompletion=help.runs
            ),
        ],
        distributed: Annotated[bool, typer.Option(help=DISTRIBUTED)] = False,
        shard_optimizer: Annotated[bool, typer.Option(help=SHARD_OPTIMIZER)] = False,
        data: help.Data = None,
    ) -> None:
        """Go on with a run from its newest checkpoint; the result is that of a run that was never stopped."""
        recipe, options, world = _begun_together(run, data) if distributed else (*resumable(run, data), None)
        with _followed(options, world) as follow:
            shared: dict[str, Any] = {"world": world, "shard_optimizer": shard_optimizer}
            _, summary = recipe.run(options, run, **follow, **shared, resume=True)
        _tell(recipe, run, summary, world)


def _begun_together(run: Path, data: Path | None) -> tuple[Any, Any, World]:
    """What rank 0 reads of a run; the others, who may not see its disk, need it for their device alone."""
    from gpunn.recipes.catalogue import resumable

    options, failed = None, None
    try:
        recipe, options = resumable(run, data)
    except GpunnError as error:
        failed = error
    device = getattr(options, "device", None)
    kind = device and device.partition(":")[0]  # rank 0's had a number
    world = join(f"resume {shlex.quote(str(run))}", kind, getattr(options, "emulate", False))

    def read() -> Any:
        if failed is not None:
            raise failed
        return recipe, options

    return *on_first(world, read), world


@contextmanager
def _followed(options: Any, world: World | None) -> Iterator[dict[str, Any]]:
    """What shows the training, on rank 0."""
    if world is not None and world.rank:
        yield {}
        return
    with training(getattr(options, "epochs", None)) as follow:
        yield follow


def _examples(recipe: Any) -> tuple[str, str]:
    chosen = f"gpunn train {recipe.name} --config run.toml --seed 1"
    return f"gpunn train {recipe.name}", f"{chosen}  # a file as gpunn recipes {recipe.name} prints it"


def about(recipe: Any) -> str:
    """What the help of a recipe's command begins with."""
    return str(recipe.text) if recipe.resumes else f"{recipe.text} {NOT_RESUMED.capitalize()}."


def train(recipe: Any) -> Callable[..., None]:
    """The command of a recipe: an option for each field of its options, ``--config`` and ``--out``."""

    def command(
        context: typer.Context,
        config: Path | None,
        out: Path | None,
        distributed: bool = False,
        shard_optimizer: bool = False,
        **values: Any,
    ) -> None:
        typed = {name for name in values if _is_typed(context, name)}
        read = read_options(config, recipe.options_type) if config is not None else {}
        options = recipe.options_type(**values | read | {name: values[name] for name in typed})
        world = join(options.command, options.device, options.emulate) if distributed else None
        with _followed(options, world) as follow:
            folder, summary = recipe.run(options, out, **follow, world=world, shard_optimizer=shard_optimizer)
        _tell(recipe, folder, summary, world)

    types = types_of(recipe.options_type)
    printed = "" if recipe.name.endswith(".py") else f", as gpunn recipes {recipe.name} prints it"
    parameters = [
        inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context),
        *(
            _parameter(each.name, types[each.name], each.default, **each.metadata)
            for each in own_first(recipe.options_type)
        ),
        _parameter("config", Path | None, None, f"A TOML file of options{printed}."),
        _parameter(
            "out", Path | None, None, "Run folder; must not hold a run yet.", shown=f"runs/{recipe.name}-<date>-<time>"
        ),
    ]
    if recipe.distributes:
        parameters.append(_parameter("distributed", bool, False, DISTRIBUTED))
        parameters.append(_parameter("shard_optimizer", bool, False, SHARD_OPTIMIZER))
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _tell(recipe: Any, folder: Path, summary: dict[str, Any], world: World | None) -> None:
    """Print what came of a run, on rank 0, and leave with 130 if it was interrupted, saying how to go on."""
    interrupted = summary["status"] == "interrupted"
    go_on = f"to go on: gpunn resume {shlex.quote(str(folder))}" if recipe.resumes else NOT_RESUMED
    hint = f"; {go_on}" * interrupted
    if world is None or world.rank == 0:
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
