"""The guide: pages of Markdown beside this file, shown by ``gpunn guide PAGE`` and built as web pages by ``site``.

A page is a file ``<name>.md`` that begins with its title, ``# ...``. Its Python blocks are one program, which the tests
run; what a ``print`` prints stands behind it as a comment. A link to another page is ``[words](name.md)``.
"""

import re
from pathlib import Path

from gpunn.errors import ArgumentError, fail
from gpunn.recipes.options import nearest

__all__ = ["PARTS", "contents", "page", "title"]

PARTS = {
    "Begin": ("install", "first-steps", "arrays"),
    "Train": (
        "training",
        "data",
        "images",
        "sequences",
        "mixed-precision",
        "reproducibility",
        "performance",
        "scikit-learn",
    ),
    "Kernels and operations": ("own-operation", "kernels-without-a-gpu", "inside"),
    "Come from elsewhere": (
        "coming-from-pytorch",
        "coming-from-keras",
        "coming-from-chainer",
        "cudnn",
        "weights",
        "onnx",
    ),
    "Several devices and ranks": (
        "devices",
        "ranks-on-a-laptop",
        "ranks-on-slurm",
        "ranks-in-a-container",
        "large-batches",
    ),
}
"""Which pages stand together, and in which order; a page that is in none comes last."""

_FOLDER = Path(__file__).parent


def contents() -> dict[str, list[str]]:
    """The names of all pages, by part.

    >>> contents()["Come from elsewhere"][0]
    'coming-from-pytorch'
    """
    there = {path.stem for path in _FOLDER.glob("*.md")}
    parts = {part: [name for name in names if name in there] for part, names in PARTS.items()}
    others = sorted(there.difference(*parts.values()))
    return {part: names for part, names in (parts | {"More": others}).items() if names}


def page(name: str) -> str:
    """The Markdown of a page; ArgumentError with the nearest name if there is no such page.

    >>> page("weights").splitlines()[0]
    '# Weights of other libraries'
    >>> page("wieghts")
    Traceback (most recent call last):
    gpunn.errors.ArgumentError: guide: there is no page 'wieghts'; did you mean 'weights'?
    """
    names = [each for names in contents().values() for each in names]
    if name not in names:
        fail(ArgumentError, "guide", f"there is no page {name!r}; {nearest(name, names)}")
    return (_FOLDER / f"{name}.md").read_text(encoding="utf-8")


def title(text: str) -> str:
    """The title of a page, plain: without the marks of Markdown.

    >>> title(page("cudnn"))
    'Code written for cupy.cudnn'
    """
    return re.sub(r"[`*_]", "", text.partition("\n")[0].removeprefix("# "))
