"""The recipes themselves: ``gpunn recipes`` and ``gpunn new``."""

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import help
from gpunn.cli.output import on_terminal, tell
from gpunn.recipes.options import as_toml, own_first, types_of


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes.catalogue import RECIPES, find
    from gpunn.recipes.one_file import write_source

    def names() -> list[tuple[str, str]]:
        return [(recipe.name, recipe.text) for recipe in RECIPES]

    @app.command(
        rich_help_panel=help.TRAIN,
        epilog=help.examples(
            "gpunn recipes", "gpunn recipes digits > run.toml  # then: gpunn train digits --config run.toml"
        ),
    )
    def recipes(
        name: Annotated[
            str | None, typer.Argument(metavar="NAME", help="A recipe.", autocompletion=names, show_default=False)
        ] = None,
    ) -> None:
        """List what can be trained; or print the options of one recipe as a TOML file for train --config."""
        if name is None:
            rows = {recipe.name: recipe.text for recipe in RECIPES}
            tell(_table(rows) if on_terminal() else _aligned(rows), {"recipes": rows})
            return
        recipe = find(name)
        types = types_of(recipe.options_type)
        options = [
            {"name": each.name, "type": getattr(types[each.name], "__name__", str(types[each.name]))}
            | {"default": each.default, **each.metadata}
            for each in own_first(recipe.options_type)
        ]
        head = f"# {recipe.text}\n# gpunn train {recipe.name} --config FILE\n\n"
        facts = {"recipe": recipe.name, "text": recipe.text, "options": options}
        tell(head + as_toml(recipe.options_type()).rstrip(), facts)

    @app.command(
        rich_help_panel=help.TRAIN, epilog=help.examples("gpunn new digits mine.py  # change it, then: python mine.py")
    )
    def new(
        recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="What to begin with.", autocompletion=names)],
        file: Annotated[Path, typer.Argument(metavar="FILE", help="The Python file to write; must not exist yet.")],
    ) -> None:
        """Write the source of a recipe, for you to change: one Python file that runs."""
        write_source(find(recipe), file)
        tell(f"{file}: train {recipe}, for you to change; run it with: python {file}", {"recipe": recipe, "file": file})


def _aligned(rows: dict[str, str]) -> str:
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows.items())


def _table(rows: dict[str, str]) -> str:
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    for name, text in rows.items():
        table.add_row(name, text)
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
