"""The guide and the reference as web pages, by pdoc: ``gpunn guide --html FOLDER``.

A page of the guide is for pdoc a module whose docstring is the page, so that both have one search, one look, and names
in the guide lead to the reference. Whatever pdoc warns of, a link that leads nowhere, and a name in a docstring that
there is not, is an error.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import posixpath
import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import gpunn
from gpunn.errors import DataError, FileError, PackageError, install_command
from gpunn.files import write_atomically
from gpunn.guide import contents, page, title

__all__ = ["REFERENCE", "build"]

_ROOMS = (
    "activation", "array", "block", "conv", "dropout", "image", "linear", "loss", "norm", "optimizer", "pool",
    "recurrent", "resample",
)  # fmt: skip

REFERENCE = (
    "gpunn", "gpunn.functional", "gpunn.nn", "gpunn.nn.init", "gpunn.nn.utils", "gpunn.optim", "gpunn.optim.schedule",
    "gpunn.data", "gpunn.train", "gpunn.checkpoint", "gpunn.models", "gpunn.plot", "gpunn.profiler", "gpunn.sklearn",
    "gpunn.interop", "gpunn.interop.onnx", "gpunn.interop.torch", "gpunn.interop.cudnn", "gpunn.distributed",
    "gpunn.distributed.cost", "gpunn.testing", "gpunn.backend", "gpunn.cuda", "gpunn.cuda.emulator", "gpunn.errors",
    "gpunn.report", "gpunn.cli", "gpunn.recipes.recipe", "gpunn.recipes.training", "gpunn.recipes.options",
    "gpunn.recipes.alexnet", "gpunn.recipes.circles", "gpunn.recipes.digits", "gpunn.recipes.digits_rows",
    "gpunn.recipes.gradients", "gpunn.recipes.learning_rates", "gpunn.recipes.spell", "gpunn.recipes.text",
    *(f"gpunn.ops.{room}" for room in _ROOMS),
)  # fmt: skip
"""The modules of the reference."""

_HOME = "guide"


class _Written(str):
    """An annotation as it stands in the source: what it means only a checker of types knows."""

    __repr__ = str.__str__


def _as_written(annotation: Any, *_: object) -> Any:
    return _Written(annotation) if isinstance(annotation, str) else annotation


_AFTER_CALL = re.compile(r"(?<=[^\w.])(?=\.[^\W\d])|(?<=\W)(?=</span><span class=\"o\">\.</span><span class=\"n\">)")
_NOT_HERE = "\0="  # pdoc takes nothing behind = for a name


def build(folder: Path) -> list[Path]:
    """Write the guide and the reference to ``folder``; return the files, the first of which is the one to open.

    Raises PackageError without pdoc, FileError if a file cannot be written, DataError that lists what is wrong in the
    pages: nothing is written then.
    """
    try:
        import pdoc  # noqa: F401
    except ImportError as error:
        raise PackageError(f"guide --html needs pdoc ({error}): {install_command('docs')}") from error
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        files = _rendered()
    problems = [str(each.message) for each in caught]
    problems += [*_broken_links(files), *_unknown_names()]
    if problems:
        raise DataError("\n".join([f"guide: {len(problems)} faults in the pages", *problems]))
    for name, text in files.items():
        try:
            write_atomically(folder / name, text.encode())
        except OSError as error:
            raise FileError(f"{folder / name}: cannot be written: {error.strerror or error}") from error
    return [folder / name for name in files]


def _rendered() -> dict[str, str]:
    """All pages: the path in the folder, and the HTML."""
    import pdoc.doc
    import pdoc.doc_types
    import pdoc.render
    import pdoc.render_helpers
    from jinja2 import pass_context
    from markupsafe import Markup
    from pygments.formatters import HtmlFormatter

    links = pdoc.render_helpers.linkify

    @pass_context
    def without_relative(context: Any, code: str, *where: Any, **how: Any) -> Markup:
        """Links for names, but not for ``.data`` behind a call, in which pdoc sees a module beside this one."""
        return Markup(links(context, _AFTER_CALL.sub(_NOT_HERE, code), *where, **how).replace(_NOT_HERE, ""))

    pdoc.render.env.filters["linkify"] = without_relative
    for user in (pdoc.doc, pdoc.doc_types):
        vars(user)["safe_eval_type"] = _as_written
    modules = {name: pdoc.doc.Module(module) for name, module in _pages()}
    modules |= {name: pdoc.doc.Module(_whole(name)) for name in REFERENCE}
    pdoc.render.configure(
        docformat="restructuredtext",
        template_directory=Path(__file__).parent / "theme",
        show_source=False,
        footer_text=f"gpunn {gpunn.__version__}",
    )
    pdoc.render.env.globals.update(
        guide={part: [(name, title(page(name))) for name in names] for part, names in contents().items()},
        home=_HOME,
        reference=REFERENCE,
        dark=HtmlFormatter(style="github-dark").get_style_defs(".pdoc-code"),
    )
    files = {"index.html": f'<!doctype html>\n<meta http-equiv="refresh" content="0; url={_HOME}.html">\n'}
    for name, module in modules.items():
        html = pdoc.render.html_module(module, modules)
        files[f"{name.replace('.', '/')}.html"] = html.replace("::</p>", ":</p>")  # pdoc leaves reStructuredText's mark
    with contextlib.redirect_stdout(io.StringIO()):  # that there is no node to prepare the search, which works without
        files["search.js"] = pdoc.render.search_index(modules)
    return files


def _whole(name: str) -> ModuleType:
    """A module with all its names: pdoc does not see those that come when they are first used."""
    module = importlib.import_module(name)
    for each in getattr(module, "__all__", ()):
        vars(module).setdefault(each, getattr(module, each))
    return module


def _pages() -> Iterator[tuple[str, ModuleType]]:
    """The pages of the guide as modules, first that of contents."""
    lines = ["Neural networks on NumPy and CuPy arrays, with CUDA kernels that can be read, and that run on a CPU."]
    for part, names in contents().items():
        lines += ["", f"## {part}", "", *(f"- [{title(page(name))}]({_HOME}/{name}.html)" for name in names)]
    lines += ["", "## Reference", "", *(f"- `{name}`" for name in REFERENCE)]
    texts = {_HOME: "\n".join(["# The guide to gpunn", "", *lines])}
    texts |= {f"{_HOME}.{name}": page(name) for names in contents().values() for name in names}
    for name, text in texts.items():
        module = ModuleType(name, re.sub(r"\]\(([\w-]+)\.md(#[\w-]+)?\)", r"](\1.html\2)", text))
        module.__dict__.update(__docformat__="markdown", __all__=[])
        yield name, module


class _Links(HTMLParser):
    """Where a page leads to, and what in it can be led to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.to: list[str] = []
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "a" and (to := given.get("href")):
            self.to.append(to)
        if here := given.get("id"):
            self.ids.add(here)


def _broken_links(files: dict[str, str]) -> Iterator[str]:
    """What leads to no page, or to no place in it.

    >>> list(_broken_links({"a.html": '<p id="x"><a href="#x"></a><a href="b.html#y"></a>'}))
    ['a.html: leads to b.html#y, which there is not']
    """
    read = {name: _Links(text) for name, text in files.items() if name.endswith(".html")}
    for name, links in read.items():
        for to in dict.fromkeys(links.to):
            target, _, place = to.partition("#")
            if re.match(r"\w+:", to):
                continue
            path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
            if path not in read or (place and place not in read[path].ids):
                yield f"{name}: leads to {to}, which there is not"


def _unknown_names() -> Iterator[str]:
    """Names of gpunn in the docstrings of the reference, as ``:func:`gpunn.tensor```, that lead to nothing."""
    for place in REFERENCE:
        module = importlib.import_module(place)
        for held in {id(each): each for each in vars(module).values()}.values():
            for name in re.findall(r":\w+:`~?(gpunn\.[\w.]+)`", getattr(held, "__doc__", None) or ""):
                if not _there(name):
                    yield f"{place}.{getattr(held, '__name__', '')}: names {name}, which there is not"


def _there(name: str) -> bool:
    """Whether there is a module, class, function or attribute of this name.

    >>> _there("gpunn.nn.Linear"), _there("gpunn.nn.Lineal")
    (True, False)
    """
    parts = name.split(".")
    found: Any = gpunn
    for end, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            try:
                importlib.import_module(".".join(parts[:end]))
            except ImportError:
                return False
        found = getattr(found, part)
    return True
