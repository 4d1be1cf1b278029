"""A file imports only from lower floors (see CONTRIBUTING.md), or from its own package, and never in a circle.

Imports in functions count, and those for types alone.
"""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import gpunn

ROOT = Path(gpunn.__file__).parent
FLOORS = [
    ["errors", "files", "notebook", "observer"],
    ["context", "spelling"],
    ["backend"],
    ["cuda", "cpu"],
    ["ops"],
    ["graph", "casting"],
    ["tensor"],
    ["functional"],
    ["testing"],
    ["optim"],
    ["nn"],
    ["data", "checkpoint", "distributed", "profiler"],
    ["interop"],
    ["models", "train", "plot"],
    ["runs"],
    ["recipes", "sklearn"],
    ["report"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def imported(path: Path) -> set[str]:
    """What a file imports of gpunn, by whole names: ``from gpunn.ops import conv`` gives ``gpunn.ops.conv``."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("gpunn.")}


def modules(path: Path) -> set[str]:
    """The parts of gpunn (``ops``, ``tensor`` ...) that a file imports; ``from gpunn import ops`` counts as ops."""
    return {name.split(".")[1] for name in imported(path)}


def graph(root: Path) -> dict[str, set[str]]:
    """The modules that each module of a package imports; a name that is no module counts as the module it is in."""
    paths = {}
    for path in root.rglob("*.py"):
        parts = path.relative_to(root.parent).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {
        module: {name if name in paths else name.rpartition(".")[0] for name in imported(path)} & paths.keys()
        for module, path in paths.items()
    }


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_lower_floors(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__", "kernels"):
        return
    for other in modules(path) - {part, "__version__"}:
        assert LEVEL[other] < LEVEL[part], f"{path} is on floor {part} and imports gpunn.{other}"


def test_the_check_sees_imports_inside_functions(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text(
        "def f():\n    from gpunn.nn import Linear\n    import gpunn.optim.sgd\n    from gpunn import ops\n"
    )
    assert modules(file) == {"nn", "optim", "ops"}


def test_every_operation_is_in_a_room():
    assert [path.name for path in (ROOT / "ops").glob("*.py")] == ["__init__.py"]


def test_no_imports_in_a_circle():
    TopologicalSorter(graph(ROOT)).prepare()


def test_the_check_sees_circles_of_types_and_of_functions(tmp_path):
    package = tmp_path / "gpunn"
    (package / "train").mkdir(parents=True)
    (package / "train" / "__init__.py").write_text("from gpunn.train.loop import Loop\n")
    loop, watcher = package / "train" / "loop.py", package / "train" / "watcher.py"
    loop.write_text("def f():\n    from gpunn.train import watcher\n")
    watcher.write_text("if TYPE_CHECKING:\n    from gpunn.train.loop import Loop\n")
    with pytest.raises(CycleError):
        TopologicalSorter(graph(package)).prepare()
    watcher.write_text("")
    TopologicalSorter(graph(package)).prepare()
    expected = {"gpunn.train": {"gpunn.train.loop"}, "gpunn.train.loop": {"gpunn.train.watcher"}}
    assert graph(package) == {**expected, "gpunn.train.watcher": set()}
