"""``gpunn recipes`` lists what there is; what ``gpunn new`` writes runs, reads well and gives the recipe's results."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from cli_case import Command, Terminal
from finished import finished, settings, told
from undrawn import undraw

import gpunn
from gpunn.errors import ArgumentError, FileError
from gpunn.guide.site import REFERENCE
from gpunn.recipes.catalogue import RECIPES, find, resumable
from gpunn.recipes.one_file import source, write_source
from gpunn.recipes.recipe import Recipe

ROOT = Path(gpunn.__file__).parents[1]
each_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def test_the_list(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = command("recipes")
    assert (code, err) == (0, "")
    assert [re.split(r"  +", line) for line in out.splitlines()] == [[each.name, each.text] for each in RECIPES]
    assert len({line.index(each.text) for line, each in zip(out.splitlines(), RECIPES, strict=True)}) == 1
    assert json.loads(command("recipes", "--json").out) == {"recipes": {each.name: each.text for each in RECIPES}}
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    command("recipes")
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert max(map(len, shown.splitlines())) <= 60  # a table wraps
    assert len(shown.splitlines()) > len(RECIPES)
    assert all(re.search(rf"^ *{each.name} ", shown, re.M) for each in RECIPES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("recipes", "digitz"), "recipes: there is no recipe 'digitz'; did you mean 'digits'?"),
        (("recipes", "?"), "recipes: there is no recipe '?'; there are alexnet, circles, "),
        (("new", "circle", "x.py"), "recipes: there is no recipe 'circle'; did you mean 'circles'?"),
        (("new", "circles", "there.py"), "there.py: is there already, and is not overwritten\n"),
        (("new", "circles", "no/x.py"), "no/x.py: cannot be written: No such file or directory\n"),
        (("new", "circles", "x"), "new: the name of the file must be letters, digits, _, - and ., and end in .py, got"),
        (("new", "circles", "%s.py"), "new: the name of the file must be letters"),
        (("new", "circles", ".py"), "new: the name of the file must be letters"),
        (("new", "circles", "json.py"), "new: the file would hide the module json from what is run in its folder"),
        (("new", "circles", "numpy.py"), "new: the file would hide the module numpy from"),
        (("new", "circles", "gpunn.py"), "new: the file would hide the module gpunn from"),
    ],
)  # fmt: skip
def test_mistakes(arguments: tuple[str, ...], message: str, command: Command) -> None:
    Path("there.py").write_text("mine")
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert os.listdir() == ["there.py"]
    assert Path("there.py").read_text() == "mine"


# ---- gpunn new -----------------------------------------------------------------------------------------------------


@each_recipe
def test_every_file_reads_well(recipe: type[Recipe], tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    write_source(recipe, path)
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 80
    assert "import _" not in text
    imports = [each for each in ast.parse(text).body if isinstance(each, ast.ImportFrom)]
    for module, name in ((each.module or "", alias.name) for each in imports for alias in each.names):
        if module.startswith("gpunn"):
            assert module in REFERENCE or f"{module}.{name}" in REFERENCE
            public = getattr(importlib.import_module(module), "__all__", ())
            assert name in public or not (public or name.startswith("_"))
    ruff = shutil.which("ruff", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if ruff is None:
        pytest.skip("ruff is not installed")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    for arguments in (("format", "--check"), ("check",)):
        ended = subprocess.run([ruff, *arguments, "--no-cache", str(path)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stdout


def test_what_a_run_does_not_need_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else a recipe's module defines, with the imports that only this uses."""
    before, read = source(find("circles"), "mine.py"), inspect.getsource
    more = (
        "\n@dataclass\nclass Other:\n    at: float = math.pi\n\n\ndef other():\n    Other(network)\n\n\nclass Circles("
    )

    def getsource(module: ModuleType) -> str:
        text = read(module)
        if not module.__name__.endswith("circles"):
            return text
        assert "Other" not in text
        return text.replace("import itertools\n", "import itertools\nimport math\n").replace("\nclass Circles(", more)

    monkeypatch.setattr(inspect, "getsource", getsource)
    assert "Other" in inspect.getsource(sys.modules[find("circles").__module__])
    assert source(find("circles"), "mine.py") == before


def loaded(recipe: type[Recipe], folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    write_source(recipe, folder / "mine.py")
    return loaded_file(folder / "mine.py", monkeypatch)


def loaded_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mine", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mine", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@each_recipe
def test_every_file_gives_what_the_recipe_gives(
    recipe: type[Recipe], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So both repeat, to the byte."""
    folder = finished(tmp_path_factory, recipe.name)
    options, summary = settings(folder), told(folder)["summary"]
    mine = loaded(recipe, tmp_path, monkeypatch)
    if (folder / "model.safetensors").exists():  # without one it is the pictures that are compared
        undraw(monkeypatch)
    other, own = mine.Mine.run(mine.Options(**options), tmp_path / "mine")
    assert sorted(os.listdir(other)) == sorted(os.listdir(folder))
    for name in ("model.safetensors", "sample.txt", "names.json", "through_time.png", "learning_rates.png"):
        assert not (folder / name).exists() or (folder / name).read_bytes() == (other / name).read_bytes()
    unequal = {name for name in summary if summary[name] != json.loads(json.dumps(own))[name]}
    assert unequal <= {"seconds", "samples_per_second", "characters_per_second"}
    config = json.loads((other / "config.json").read_text())
    assert config["recipe"] == "mine.py"
    assert config | {"recipe": recipe.name} == json.loads((folder / "config.json").read_text())
    assert mine.Mine.headline(summary) == recipe.headline(summary)
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(
        FileError, match=r"a run of mine.py, which is opened in the folder of that file; here is no /.*"
    ):
        resumable(other)
    with pytest.raises(ArgumentError, match="^mine.py: seed must be at least 0, got seed=-1$"):
        mine.Options(seed=-1)


def python(*words: str) -> subprocess.CompletedProcess[str]:
    line, env = [sys.executable, "-W", "error", *words], {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=env)


@pytest.mark.slow
def test_a_copy_of_a_file_is_a_recipe_of_its_own(command: Command) -> None:
    write_source(find("digits"), "mine.py")
    network = "nn.Sequential(nn.Flatten(), nn.Linear(64, 10))"
    copied = re.sub(r"lenet\(.*?\)\)", network, Path("mine.py").read_text())
    Path("copy.2.py").write_text(copied)
    ended = python("copy.2.py", "--epochs", "1", "--out", "run", "--json")
    assert ended.returncode == 0, ended.stderr
    shown = json.loads(command("--json", "eval", "run").out)
    assert shown["test_accuracy"] == json.loads(ended.stdout)["test_accuracy"]
    assert json.loads(Path("run/config.json").read_text())["recipe"] == "copy.2.py"


@pytest.mark.parametrize(
    ("file", "before", "after", "message"),
    [
        ("x.py", "name = Options.command", 'name = "mine.py"',
         "x.py: its recipe must have the name of the file, by which its runs are opened, got name='mine.py'"),
        ("x.py", "class Mine(Base)", "class Other(Base):\n    name = Options.command\n\n\nclass Mine(Other)",
         "x.py: the recipe that is run must be the only one with the name of the file, got recipes='Mine, Other'"),
        ("a b.py", "Options", "Options",
         "a b.py: the name of the file must be letters, digits, _, - and ., and end in .py, got name='a b.py'"),
    ],
)  # fmt: skip
def test_a_file_whose_runs_could_not_be_opened_is_not_run(
    file: str, before: str, after: str, message: str, command: Command
) -> None:
    Path(file).write_text(source(find("gradients"), "x.py").replace(before, after))
    ended = python(file)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"error: {message}\n")
    assert os.listdir() == [file]


def test_a_file_of_runs_that_cannot_be_resumed_says_so(command: Command) -> None:
    text = source(find("gradients"), "mine.py")
    assert "eval" not in text
    assert "such a run keeps no model and no checkpoint" in text
    Path("mine.py").write_text(text)
    said = " ".join(python("mine.py", "--help").stdout.replace("│", " ").split())
    assert "Usage: python mine.py [OPTIONS]" in said
    assert "Such a run keeps no model and no checkpoint, and is begun again if it was stopped." in said
    assert "gpunn eval" not in said


def test_the_commands_go_on_with_a_file(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = "mine.py: train digits, for you to change; run it with: python mine.py\n"
    assert command("new", "digits", "mine.py") == (0, told, "")
    path = Path("mine.py")
    network = "nn.Sequential(nn.Flatten(), nn.Linear(64, 10, generator=random_generator(1)))"
    text = re.sub(r"lenet\(.*?\)\)", network, path.read_text()).replace("lenet", "lenet5")
    path.write_text(f"{text}\nimport os\nassert not os.path.exists('no')\n")

    ended = python("mine.py", "--epochs", "1", "--out", "mine", "--json")
    assert (ended.returncode, json.loads(ended.stdout)["epochs"]) == (0, 1), ended.stderr
    ended = python("mine.py", "--epochs", "0")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: python mine.py: invalid value for '--epochs'")

    def cut(step: int, *_: object) -> None:
        if step == 60:
            raise KeyboardInterrupt

    module = loaded_file(Path("mine.py"), monkeypatch)
    assert module.Mine.run(module.Options(epochs=2), "cut", on_step=cut)[1]["status"] == "interrupted"
    np.save("one.npy", np.zeros((1, 8, 8)))
    for words in (
        ("eval", "mine"), ("predict", "mine", "one.npy"), ("export", "mine", "m.onnx"), ("plot", "mine"),
        ("compare", "mine", "cut"), ("resume", "cut"),
    ):  # fmt: skip
        assert command(*words).code == 0, words
    assert json.loads(Path("cut/summary.json").read_text())["epochs"] == 2
    Path("no").touch()
    code, _, err = command("eval", "mine")
    assert (code, err) == (2, f"error: mine: {Path('mine.py').absolute()} cannot be run: AssertionError: \n")


@pytest.mark.parametrize("name", ["../mine.py", "mine", 3, "/mine.py"])
def test_a_run_of_what_is_no_file_of_this_folder(name: Any, command: Command) -> None:
    Path("run").mkdir()
    Path("mine.py").write_text("raise SystemExit")
    Path("run/config.json").write_text(json.dumps({"recipe": name, "seed": 0, "device": "cpu"}))
    assert command("eval", "run")[::2] == (2, f"error: run: a run of an unknown recipe, {str(name)!r}\n")


def test_facts_of_a_new_file(command: Command) -> None:
    facts = json.loads(command("new", "digits", "a-b.c.py", "--json").out)
    assert facts == {"recipe": "digits", "file": "a-b.c.py"}
    assert Path("a-b.c.py").read_text(encoding="utf-8") == source(find("digits"), "a-b.c.py")
