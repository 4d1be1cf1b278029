"""The source of a recipe as one file for a user to change: ``gpunn new``.

What a recipe takes from :data:`SHARED`, the training that recipes have in common, is put into the file, so that its
options and its training loop stand in one place; the rest of gpunn is imported. What the run does not need, as the
methods that open it again, is left out.
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
from gpunn.recipes.recipe import Recipe

SHARED = "gpunn.recipes.training"
_LINE = 120


def write_source(recipe: type[Recipe], path: str | os.PathLike[str]) -> None:
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


def source(recipe: type[Recipe], name: str) -> str:
    """The source of ``recipe`` as a file called ``name`` that runs it.

    Its runs are of a recipe called ``name``, so that no command takes them for runs of gpunn's own.

    >>> from gpunn.recipes.catalogue import find
    >>> for line in source(find("digits"), "mine.py").splitlines()[-3:]:
    ...     print(line)
    if __name__ == "__main__":
        folder, summary = Digits.run(Options(), on_epoch=print)
        print(f"{Digits.headline(summary)}: {folder}")
    """
    rule = "the name of the file must be letters, digits, _, - and ., and end in .py"
    check(re.fullmatch(r"\w[\w.-]*\.py", name) is not None, ArgumentError, "new", rule, name=name)
    classes = {each.__name__ for each in recipe.__mro__}
    module, shared = (_Module(inspect.getsource(sys.modules[each]), classes) for each in (recipe.__module__, SHARED))
    reached = _reached([*module.definitions, *shared.definitions], {"Options", recipe.__name__})
    called = recipe.__name__
    tail = f"""if __name__ == "__main__":
    folder, summary = {called}.run(Options(), on_epoch=print)
    print(f"{{{called}.headline(summary)}}: {{folder}}")
"""
    parts = [shared.reduced(reached), _named(module.reduced(reached), recipe.name), tail]
    code = "\n\n\n".join(part for part in parts if part)
    used = _used(ast.parse(code)) | {"annotations"}
    imports = {each for each in module.imports | shared.imports if each.bound in used and each.module != SHARED}
    about = f'# The recipe of its runs, which begin in runs/{name}-<date>-<time>.\nRECIPE = "{name}"'
    between = "\n\n\n" if code.startswith(("class ", "def ", "@")) else "\n\n"
    return "\n\n".join([module.docstring, _written(imports), about]) + between + code


class _Import(NamedTuple):
    """``from module import name as alias``, or with no module ``import name``."""

    module: str
    name: str
    alias: str

    @property
    def bound(self) -> str:
        return self.alias or self.name.split(".")[0]


class _Definition(NamedTuple):
    """A function, a class, a method of a recipe, which is then no part of its class, or an assignment at the top."""

    names: set[str]  # of a method with a dot in front
    uses: set[str]  # attributes with a dot in front
    owner: str | None  # the class of a method
    lines: range  # counted from 0


class _Module:
    """The docstring, the imports and the definitions of a source file; ``recipes`` names the classes of the recipe."""

    def __init__(self, text: str, recipes: set[str]) -> None:
        head, *others = ast.parse(text).body
        importing = [node for node in others if isinstance(node, ast.Import | ast.ImportFrom)]
        self._text = text.splitlines()
        self.docstring = "\n".join(self._text[line] for line in _lines(head))
        self.imports = {each for node in importing for each in _imports(node)}
        self._begin = importing[-1].end_lineno or 0
        self.definitions = list(_definitions([node for node in others if node not in importing], recipes))

    def reduced(self, reached: set[str]) -> str:
        """What follows the imports, without the definitions that are not in ``reached``."""
        unused = [each for each in self.definitions if not _is_reached(each, reached)]
        dropped = {line for each in unused for line in each.lines}
        kept = (line for number, line in enumerate(self._text) if number >= self._begin and number not in dropped)
        text = re.sub(r"\n{3,}(?= )", "\n\n", "\n".join(kept))
        return re.sub(r"\n{4,}", "\n" * 3, text).strip()


def _definitions(nodes: list[ast.stmt], recipes: set[str]) -> Iterator[_Definition]:
    """What the statements at the top of a file define."""
    for node, following in zip(nodes, [*nodes[1:], None], strict=True):
        if isinstance(node, ast.ClassDef) and node.name in recipes:
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name[:2] != "__"]
            for each in methods:
                yield _Definition({f".{each.name}"}, _used(each), node.name, _lines(each))
            node.body = [each for each in node.body if each not in methods]
        lines = _lines(node)
        if isinstance(following, ast.Expr):  # the docstring of a constant
            lines = range(lines.start, _lines(following).stop)
        yield _Definition(_defined(node), _used(node), None, lines)


def _lines(node: ast.stmt) -> range:
    """The lines of a statement with its decorators, counted from 0."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return range(first - 1, node.end_lineno or first)


def _is_reached(definition: _Definition, reached: set[str]) -> bool:
    return bool(definition.names & reached) and (definition.owner is None or definition.owner in reached)


def _reached(definitions: list[_Definition], names: set[str]) -> set[str]:
    """``names``, what their definitions use, and the methods by which gpunn goes through a run."""
    reached = names | {f".{name}" for name in vars(Recipe)}
    before: set[str] = set()
    while reached != before:
        before = reached
        reached = reached.union(*(each.uses for each in definitions if _is_reached(each, before)))
    return reached


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[_Import]:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    return (_Import(module, each.name, each.asname or "") for each in node.names)


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file gives a meaning."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def _used(tree: ast.AST) -> set[str]:
    """The names in a tree, and the attributes with a dot in front."""
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return names | {f".{node.attr}" for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def _named(body: str, recipe: str) -> str:
    """``body`` with the constant RECIPE where the name of its recipe stands."""
    names = {recipe, f"train {recipe}"}
    constants = [node for node in ast.walk(ast.parse(body)) if isinstance(node, ast.Constant) and node.value in names]
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
