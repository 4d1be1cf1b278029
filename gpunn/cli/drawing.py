"""Pictures that need no training: ``gpunn draw``."""

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli.output import tell


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes import drawings

    draw = typer.Typer(no_args_is_help=True, help="Draw a picture that needs no training.")
    app.add_typer(draw, name="draw")

    @draw.command()
    def activations(
        out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("activations.png"),
    ) -> None:
        """The activation functions and their derivatives."""
        drawings.draw_activations(out)
        names = list(drawings.ACTIVATIONS)
        tell(f"{len(names)} activations and their derivatives: {out}", {"activations": names, "file": out})

    @draw.command()
    def skeleton(
        image: Annotated[
            Path | None, typer.Argument(help="An image file.", show_default="scikit-learn's digits, enlarged")
        ] = None,
        out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("skeleton.png"),
        threshold: Annotated[float, typer.Option(help="Between black, 0, and white, 1.")] = 0.5,
        dark: Annotated[bool, typer.Option("--dark", help="The shape is what is below the threshold.")] = False,
    ) -> None:
        """An image and its skeleton."""
        before, after = drawings.draw_skeleton(out, image, threshold, dark)
        tell(f"{before} pixels thinned to {after}: {out}", {"before": before, "after": after, "file": out})
