"""The guide in the terminal, and as web pages: ``gpunn guide``."""

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from gpunn.cli import help
from gpunn.cli.output import on_terminal, tell
from gpunn.errors import ArgumentError

_IN_ASCII = str.maketrans({
    "…": "...", "×": "x", "·": ".", "→": "->", "↔": "<->", "–": "-", "≤": "<=", "≥": ">=", "√": "sqrt ", "²": "^2",
    "−": "-", "⊙": "*", "σ": "sigma", "δ": "delta", "ŷ": "y^", "β": "beta", "α": "alpha", "Σ": "sum", "±": "+-",
    "ᵀ": "^T",
})  # fmt: skip
"""Words for the letters of pages, where the terminal lacks them."""

_ORNAMENTS = str.maketrans({"•": "*", "▌": "|", "─": "-", "━": "="})
"""Letters as wide for those that rich adds."""


def add_to(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    from gpunn.guide import contents, page, title

    def names() -> list[tuple[str, str]]:
        return [(name, title(page(name))) for names in contents().values() for name in names]

    @app.command(
        rich_help_panel=help.LOOK,
        epilog=help.examples(
            "gpunn guide", "gpunn guide first-steps", "gpunn guide --html site  # then open site/index.html"
        ),
    )
    def guide(
        name: Annotated[
            str | None, typer.Argument(metavar="PAGE", help="A page.", autocompletion=names, show_default=False)
        ] = None,
        html: Annotated[
            Path | None,
            typer.Option(help="A folder, for the guide and the reference as web pages.", show_default=False),
        ] = None,
    ) -> None:
        """Show a page of the guide, or list the pages; or write all of it, and the reference, as web pages."""
        if html is not None:
            if name is not None:
                raise ArgumentError("guide: --html writes all pages, so it takes no PAGE")
            from gpunn.guide.site import build

            files = build(html)
            tell(f"{len(files)} files: open {files[0]}", {"files": files})
        elif name is None:
            parts = {part: {each: title(page(each)) for each in listed} for part, listed in contents().items()}
            tell(_shown(_listed(parts)) if on_terminal() else _aligned(parts), {"pages": parts})
        else:
            text = page(name)
            plain = text.translate(_IN_ASCII) if _ascii_only() else text
            tell(_shown(_with_commands(text)) if on_terminal() else plain.rstrip(), {"page": name, "text": text})


def _listed(parts: dict[str, dict[str, str]]) -> str:
    """The pages as Markdown."""
    lines = ["# The guide: gpunn guide PAGE"]
    for part, pages in parts.items():
        lines += ["", f"## {part}", "", *(f"- `{name}`: {words}" for name, words in pages.items())]
    return "\n".join(lines)


def _aligned(parts: dict[str, dict[str, str]]) -> str:
    pages = {name: words for each in parts.values() for name, words in each.items()}
    width = max(map(len, pages))
    return "\n".join(f"{name:<{width}}  {words}" for name, words in pages.items())


def _with_commands(text: str) -> str:
    """``text`` with a command where there is a link to a page: a terminal opens none.

    >>> _with_commands("see [weights](weights.md) and [the paper](https://arxiv.org)")
    'see weights (`gpunn guide weights`) and [the paper](https://arxiv.org)'
    """
    return re.sub(r"\[([^]]+)\]\(([\w-]+)\.md(?:#[\w-]+)?\)", r"\1 (`gpunn guide \2`)", text)


def _ascii_only() -> bool:
    return not (sys.stdout.encoding or "utf-8").lower().startswith("utf")


def _shown(text: str) -> str:
    """Markdown as the terminal shows it, in its width; in ASCII where it has no other letters."""
    if not _ascii_only():
        return _rendered(text)
    return _rendered(text.translate(_IN_ASCII)).translate(_ORNAMENTS)


def _rendered(text: str) -> str:
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(Markdown(text, code_theme="ansi_dark", hyperlinks=False))
    shown = captured.get().rstrip("\n")
    cut = shown.count("…") > text.count("…")  # a word is longer than its column
    return _rendered(_as_lists(text)) if cut and "\n|" in text else shown


def _as_lists(text: str) -> str:
    """``text`` with a list in place of each table: a row is an item, its other cells are items under it.

    >>> print(_as_lists("| extra | for |\\n|---|---|\\n| `onnx` | files |\\n"))
    - `onnx`
      - for: files
    <BLANKLINE>
    """
    lines: list[str] = []
    head: list[str] = []
    for line in text.split("\n"):
        cells = [cell.strip() for cell in line.strip("|").split(" |")] if line.startswith("|") else []
        if not cells:
            head = []
            lines.append(line)
        elif not head:
            head = cells
        elif set(line) - set("|-: "):
            lines.append(f"- {cells[0]}")
            named = zip(head[1:], cells[1:], strict=True)
            lines += [f"  - {name}: {cell}" if name else f"  - {cell}" for name, cell in named if cell]
    return "\n".join(lines)
