"""The source of a recipe as one file for a user to change: ``gpunn new``.

What a recipe takes from :data:`SHARED`, the training that several recipes have in common, is put into the file, so
that its options and its training loop stand in one place; the rest of gpunn is imported. What the run does not need is
left out.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from gpunn.errors import ArgumentError, FileError, check
from gpunn.recipes.catalogue import Recipe

SHARED = "gpunn.recipes.classifier"
_LINE = 120


def write_source(recipe: Recipe, path: str | os.PathLike[str]) -> None:
    """Write :func:`source` of ``recipe`` to ``path``; FileError if it cannot be written, or is there already."""
    path = Path(path)
    content = source(recipe, path.name)
    try:
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except FileExistsError:
        raise FileError(f"{path}: is there already, and is not overwritten") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def source(recipe: Recipe, name: str) -> str:
    """The source of ``recipe`` as a file called ``name`` that runs it.

    Its runs are of a recipe called ``name``, so that no command takes them for runs of gpunn's own.

    >>> from gpunn.recipes.catalogue import find
    >>> for line in source(find("digits"), "mine.py").splitlines()[-3:]:
    ...     print(line)
    if __name__ == "__main__":
        folder, summary = train_digits(Options(), on_epoch=print)
        print(f"{headline(summary)}: {folder}")
    """
    rule = "the name of the file must be letters, digits, _, - and ., and end in .py"
    check(re.fullmatch(r"\w[\w.-]*\.py", name) is not None, ArgumentError, "new", rule, name=name)
    module, shared = (_Module(inspect.getsource(sys.modules[each])) for each in (recipe.run.__module__, SHARED))
    roots = {"Options", recipe.run.__name__, recipe.headline.__name__}
    body = _named(module.reduced(roots), recipe.name)
    wanted = {each.name for each in module.imports if each.module == SHARED} & _used(ast.parse(body))
    if recipe.headline.__module__ == SHARED:
        wanted.add(recipe.headline.__name__)
    tail = f"""if __name__ == "__main__":
    folder, summary = {recipe.run.__name__}(Options(), on_epoch=print)
    print(f"{{{recipe.headline.__name__}(summary)}}: {{folder}}")
"""
    code = "\n\n\n".join([body, *shared.taken(wanted), tail])
    used = _used(ast.parse(code)) | {"annotations"}
    imports = {each for each in module.imports | shared.imports if each.bound in used and each.module != SHARED}
    about = f'# The recipe of its runs, which begin in runs/{name}-<date>-<time>.\nRECIPE = "{name}"'
    return "\n\n".join([module.docstring, _written(imports), about, code])


class _Import(NamedTuple):
    """``from module import name as alias``, or with no module ``import name``."""

    module: str
    name: str
    alias: str

    @property
    def bound(self) -> str:
        return self.alias or self.name.split(".")[0]


class _Module:
    """The docstring, the imports and the rest of a source file."""

    def __init__(self, text: str) -> None:
        head, *others = ast.parse(text).body
        importing = [node for node in others if isinstance(node, ast.Import | ast.ImportFrom)]
        self._text = text.splitlines()
        self._rest = [node for node in others if node not in importing]
        self.docstring = self._lines(head)
        self.imports = {each for node in importing for each in _imports(node)}
        self._begin = importing[-1].end_lineno or 0

    def _range(self, node: ast.stmt) -> range:
        """The lines of a statement, counted from 0."""
        first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        return range(first - 1, node.end_lineno or first)

    def _lines(self, node: ast.stmt) -> str:
        return "\n".join(self._text[line] for line in self._range(node))

    def _reached(self, names: set[str]) -> set[str]:
        """``names``, and what their definitions use, if the file defines it."""
        by_name = {name: node for node in self._rest for name in _defined(node)}
        reached, to_see = set(), list(names)
        while to_see:
            name = to_see.pop()
            if name in by_name and name not in reached:
                reached.add(name)
                to_see += _used(by_name[name])
        return reached

    def reduced(self, names: set[str]) -> str:
        """What follows the imports, without the functions and classes that ``names`` do not need."""
        reached = self._reached(names)
        definitions = [node for node in self._rest if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        dropped = {line for node in definitions if node.name not in reached for line in self._range(node)}
        kept = (line for number, line in enumerate(self._text) if number >= self._begin and number not in dropped)
        return re.sub(r"\n{4,}", "\n" * 3, "\n".join(kept)).strip()

    def taken(self, names: set[str]) -> list[str]:
        """The definitions of ``names`` and of what they use, in the order of the file."""
        reached = self._reached(names)
        return [self._lines(node) for node in self._rest if reached & _defined(node)]


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[_Import]:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    return (_Import(module, each.name, each.asname or "") for each in node.names)


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file gives a meaning."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def _used(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _named(body: str, recipe: str) -> str:
    """``body`` with the constant RECIPE where the name of its recipe stands."""
    tree = ast.parse(body)
    names = {f"train {recipe}"}
    begin = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "run.begin"]
    constants = [node.args[0] for node in begin]
    constants += [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in names]
    lines = body.encode().split(b"\n")  # a node says its place in bytes
    for node in sorted(constants, key=lambda node: -node.col_offset):
        line = lines[node.lineno - 1]
        lines[node.lineno - 1] = line[: node.col_offset] + b"RECIPE" + line[node.end_col_offset :]
    return b"\n".join(lines).decode()


def _written(imports: Iterable[_Import]) -> str:
    """The import statements in the order of isort: by section, module and name."""
    by_statement: dict[tuple[str, str], list[_Import]] = {}
    for each in imports:  # an alias has a statement of its own, as has a module
        by_statement.setdefault((each.module, each.name if each.alias or not each.module else ""), []).append(each)
    statements = []
    for (module, _), names in by_statement.items():
        names.sort(key=lambda each: _rank(each.name))
        statements.append(
            (_section(module or names[0].name), bool(module), module, _rank(names[0].name), _statement(module, names))
        )
    statements.sort()
    return "\n\n".join("\n".join(line for *_, line in group) for _, group in groupby(statements, lambda each: each[0]))


def _section(module: str) -> int:
    """``__future__``, the standard library, the rest: to a user's file gpunn is as any other package."""
    return 0 if module == "__future__" else 1 if module.split(".")[0] in sys.stdlib_module_names else 2


def _rank(name: str) -> tuple[int, str]:
    """Constants first, then classes, then the rest."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), name


def _statement(module: str, names: list[_Import]) -> str:
    parts = [f"{each.name} as {each.alias}" if each.alias else each.name for each in names]
    if not module:
        return f"import {parts[0]}"
    line = f"from {module} import {', '.join(parts)}"
    return line if len(line) <= _LINE else f"from {module} import (\n" + "".join(f"    {p},\n" for p in parts) + ")"
