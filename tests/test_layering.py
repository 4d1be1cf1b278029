"""A file imports only from lower floors (see CONTRIBUTING.md), or from its own package; imports in functions count."""

import ast
from pathlib import Path

import pytest

import gpunn

ROOT = Path(gpunn.__file__).parent
FLOORS = [
    ["errors", "files", "observer"],
    ["context"],
    ["backend"],
    ["cuda"],
    ["ops"],
    ["graph", "casting"],
    ["tensor"],
    ["functional"],
    ["testing"],
    ["nn", "optim"],
    ["data", "checkpoint", "distributed", "interop", "profiler"],
    ["models", "train", "plot"],
    ["runs"],
    ["recipes", "sklearn"],
    ["report"],
    ["cli"],
]
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def modules(path: Path) -> set[str]:
    """The parts of gpunn (``ops``, ``tensor`` ...) that a file imports; ``from gpunn import ops`` counts as ops."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("gpunn.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_come_from_lower_floors(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__", "kernels"):
        return
    for imported in modules(path) - {part, "__version__"}:
        assert LEVEL[imported] < LEVEL[part], f"{path} is on floor {part} and imports gpunn.{imported}"


def test_the_check_sees_imports_inside_functions(tmp_path):
    file = tmp_path / "sample.py"
    file.write_text(
        "def f():\n    from gpunn.nn import Linear\n    import gpunn.optim.sgd\n    from gpunn import ops\n"
    )
    assert modules(file) == {"nn", "optim", "ops"}
