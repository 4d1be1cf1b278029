"""Pictures that need no training: ``gpunn draw``."""

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import help
from gpunn.cli.output import tell


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes import drawings

    draw = help.group(app, "draw", "Draw a picture that needs no training.", help.LOOK, "gpunn draw activations")

    @draw.command(epilog=help.examples("gpunn draw activations --out activations.png"))
    def activations(
        out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("activations.png"),
    ) -> None:
        """The activation functions and their derivatives."""
        drawings.draw_activations(out)
        names = list(drawings.ACTIVATIONS)
        tell(f"{len(names)} activations and their derivatives: {out}", {"activations": names, "file": out})

    @draw.command(
        epilog=help.examples("gpunn draw skeleton", "gpunn draw skeleton scan.png --dark  # black ink on white paper")
    )
    def skeleton(
        image: Annotated[
            Path | None,
            typer.Argument(help="An image file.", metavar="IMAGE", show_default="scikit-learn's digits, enlarged"),
        ] = None,
        out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("skeleton.png"),
        threshold: Annotated[float, typer.Option(help="Between black, 0, and white, 1.")] = 0.5,
        dark: Annotated[bool, typer.Option("--dark", help="The shape is what is below the threshold.")] = False,
    ) -> None:
        """An image and its skeleton."""
        before, after = drawings.draw_skeleton(out, image, threshold, dark)
        tell(f"{before} pixels thinned to {after}: {out}", {"before": before, "after": after, "file": out})
