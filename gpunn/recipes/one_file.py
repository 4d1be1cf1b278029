"""A recipe as a file for a user to change: ``gpunn new``.

The file has the options of the recipe, its data, its network and what else a user changes first, in a subclass of the
recipe; the loop, the files of a run and its pictures are inherited.
"""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from gpunn.errors import ArgumentError, FileError, check
from gpunn.recipes.recipe import NOT_RESUMED, Recipe

PARTS = ("network", "data", "optimizer", "loss", "augment")
"""The methods of a recipe that the file has, in this order as far as :data:`MOST_LINES` allow."""

MOST_LINES = 80

FILE_NAME = r"\w[\w.-]*\.py"
"""The names that such a file may have, which the folders of its runs begin with."""

_LINE = 120
_BASE = "Base"


def write_source(recipe: type[Recipe], path: str | os.PathLike[str]) -> None:
    """Write :func:`source` of ``recipe`` to ``path``; FileError if it cannot be written, or is there already.

    ArgumentError for a name that cannot be that of such a file, or that is a module's: what is run in its folder would
    import the file in place of it.
    """
    path = Path(path)
    content = source(recipe, path.name)
    modules = {*sys.stdlib_module_names, *importlib.metadata.packages_distributions(), "gpunn"}
    rule = f"the file would hide the module {path.stem} from what is run in its folder; give it another name"
    check(path.stem not in modules, ArgumentError, "new", rule, name=path.name)
    try:
        with open(path, "x", encoding="utf-8", newline="\n") as file:
            file.write(content)
    except FileExistsError:
        raise FileError(f"{path}: is there already, and is not overwritten") from None
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror or error}") from error


def source(recipe: type[Recipe], name: str) -> str:
    """The source of a file called ``name``, whose recipe has the name of the file, to begin with as ``recipe``.

    >>> from gpunn.recipes.catalogue import find
    >>> for line in source(find("digits"), "mine.py").splitlines()[-2:]:
    ...     print(line)
    if __name__ == "__main__":
        script(Mine)
    """
    check_name("new", name)
    text = inspect.getsource(sys.modules[recipe.__module__])
    module, lines = ast.parse(text), text.splitlines()
    own = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == recipe.__name__)
    there = {node.name: node for node in own.body if isinstance(node, ast.FunctionDef)}
    methods: list[ast.stmt] = []
    written = _whole(recipe, name, module, lines, own, methods)
    for part in PARTS:
        if part in there:
            longer = _whole(recipe, name, module, lines, own, [*methods, there[part]])
            if longer.count("\n") <= MOST_LINES:
                methods.append(there[part])
                written = longer
    return written


def check_name(op: str, name: str) -> None:
    """Raise ArgumentError unless ``name`` can be that of such a file."""
    rule = "the name of the file must be letters, digits, _, - and ., and end in .py"
    check(re.fullmatch(FILE_NAME, name) is not None, ArgumentError, op, rule, name=name)


def _whole(
    recipe: type[Recipe], name: str, module: ast.Module, lines: list[str], own: ast.ClassDef, methods: list[ast.stmt]
) -> str:
    """The file with those ``methods`` of the recipe's class ``own``, which is in ``module`` of these ``lines``."""
    importing = [node for node in module.body if isinstance(node, ast.Import | ast.ImportFrom)]
    tops = [node for node in module.body[1:] if node is not own and node not in importing]
    needed = _reached(tops, {"Options"}.union(*map(_used, methods)))
    kinds = groupby((each for each in tops if _defined(each) & needed), lambda each: isinstance(each, ast.Assign))
    above = "\n\n\n".join(
        ("\n" if assigned else "\n\n\n").join(_code(lines, each) for each in some) for assigned, some in kinds
    )
    in_order = sorted(methods, key=lambda node: node.lineno)
    code = f'''{above.replace(f'"train {recipe.name}"', "Path(__file__).name")}


class Mine({_BASE}):
    """{(ast.get_docstring(own) or "").split(chr(10) * 2)[0]}"""

    name = Options.command
    text = "{recipe.text}"
    options: Options
    options_type = Options

{"".join(f"{_code(lines, each)}{chr(10)}{chr(10)}" for each in in_order)}
if __name__ == "__main__":
    script(Mine)
'''
    used = _used(ast.parse(code)) | {"annotations"}
    added = {
        _Import("pathlib", "Path", ""),
        _Import(recipe.__module__, recipe.__name__, _BASE),
        _Import("gpunn.cli", "script", ""),
    }
    imports = added | {each for node in importing for each in _imports(node) if each.bound in used}
    opened = "eval RUN    in the folder of this file; so do predict, resume, export, plot and compare"
    compared = f"compare RUN RUN    {NOT_RESUMED}"
    docstring = f'''"""{recipe.text}

    python {name} --help    its options
    python {name}           a run, in runs/{name}-<date>-<time>
    gpunn {opened if recipe.resumes else compared}

What is not here, the loop, the files of a run and its pictures, is that of gpunn train {recipe.name}:
{recipe.__module__}.
"""'''
    between = "\n\n\n" if code.startswith(("class ", "def ", "@")) else "\n\n"
    return f"{docstring}\n\n{_written(imports)}{between}{code}"


def _code(lines: list[str], node: ast.stmt) -> str:
    """The lines of a statement with its decorators."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def _reached(nodes: list[ast.stmt], names: set[str]) -> set[str]:
    """``names``, and what their definitions use."""
    before: set[str] = set()
    while names != before:
        before = names
        names = names.union(*(_used(each) for each in nodes if _defined(each) & before))
    return names


class _Import(NamedTuple):
    """``from module import name as alias``, or with no module ``import name``."""

    module: str
    name: str
    alias: str

    @property
    def bound(self) -> str:
        return self.alias or self.name.split(".")[0]


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[_Import]:
    module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
    return (_Import(module, each.name, each.asname or "") for each in node.names)


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a file gives a meaning."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}


def _used(tree: ast.AST) -> set[str]:
    """The names in a tree."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


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
