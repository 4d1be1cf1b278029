"""Pictures that need no training: ``gpunn draw``."""

from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import help
from gpunn.cli.output import check_new, tell

Out = Annotated[Path, typer.Option(help="The file to write: .png, .svg, .pdf, .jpg or .webp.")]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    from gpunn.recipes import drawings

    draw = help.group(app, "draw", "Draw a picture that needs no training.", help.LOOK, "gpunn draw activations")

    @draw.command(epilog=help.examples("gpunn draw activations --out activations.png"))
    def activations(out: Out = Path("activations.png"), force: Force = False) -> None:
        """The activation functions and their derivatives."""
        check_new(out, force)
        drawings.draw_activations(out)
        names = list(drawings.ACTIVATIONS)
        tell(f"{len(names)} activations and their derivatives: {out}", {"activations": names, "file": out})

    @draw.command(epilog=help.examples("gpunn draw skeleton", "gpunn draw skeleton scan.png --out lines.svg"))
    def skeleton(
        image: Annotated[
            Path | None,
            typer.Argument(help="An image file.", metavar="IMAGE", show_default="scikit-learn's digits, enlarged"),
        ] = None,
        out: Out = Path("skeleton.png"),
        threshold: Annotated[float, typer.Option(help="Between black, 0, and white, 1.")] = 0.5,
        dark: Annotated[
            bool | None,
            typer.Option(
                "--dark/--light",
                help="The shape is what is below the threshold, or above.",
                show_default="dark where the border is light",
            ),
        ] = None,
        force: Force = False,
    ) -> None:
        """An image and its skeleton."""
        check_new(out, force)
        drawn = drawings.draw_skeleton(out, image, threshold, dark)
        ground = "dark on light" if drawn.dark else "light on dark"
        tell(f"{drawn.before} pixels, {ground}, thinned to {drawn.after}: {out}", drawn._asdict() | {"file": out})
