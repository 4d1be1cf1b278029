"""What a user's type checker says: nothing of a script that is right, and what is wrong with one that is not."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import user_script

import gpunn

SCRIPT = Path(user_script.__file__)
WRONG = {
    "no array": "nn.Linear(3, 2)([1.0])",
    "one argument too many": "nn.Conv2d(1, 2, 3)(x, x)",
    "a layer of one's own": "right.Residual(3)(x, scale='2')",
    "a method that is not there": "nn.Sequential(nn.ReLU())(x).backwards()",
    "a method of arrays": "F.relu(a).backward()",
    "a method of tensors": "(a * x).astype_(float)",
    "a list": "F.relu([1.0])",
    "an array where a Tensor learns": "nn.MSELoss()(x, 'target')",
    "the state of an LSTM": "nn.LSTM(3, 2)(x)[1][0].data_()",
    "a name of the package": "gpunn.dada",
    "a name in a part of it": "gpunn.data.digitz()",
    "a setting": "optim.Adam(nn.ReLU().parameters(), rate=0.1)",
    "what a loss of three arrays gives": "nn.TripletMarginLoss()(x, a, a).backwards()",
    "a setting of a Trainer": "gpunn.train.Trainer(nn.ReLU(), optim.SGD([x], 0.1), (a, a), F.mse_loss, epochs=3)",
    "parentheses left out": "optim.SGD(nn.ReLU().parameters, 0.1)",
    "a model for its parameters": "optim.SGD(nn.ReLU(), 0.1)",
    "a text for a number": "optim.Adam(nn.ReLU().parameters(), lr='0.1')",
    "a text for a size": "nn.Linear('3', 2)",
    "a setting of a layer": "nn.Linear(3, 2, biass=False)",
    "an int for an array": "F.relu(3)",
    "a way to reduce": "F.cross_entropy(x, a, reduction='men')",
    "a function for a layer": "nn.Sequential(F.relu)",
    "a class for a layer": "nn.Sequential(nn.ReLU)",
    "what a loss is called with": "nn.CrossEntropyLoss(x, a)",
    "a target left out": "nn.CrossEntropyLoss()(x)",
    "what backward gives": "x.backward().item()",
    "a text in a sum": "print(x + 'a')",
    "None in a product": "print(x * None)",
    "the loss of a step": "print(optim.SGD([x], 0.1).step(lambda: x).loss)",
    "a method of a figure": "gpunn.plot.confusion(a).savefigure('a.png')",
    "a name in a part of a part": "gpunn.interop.onnx.exports(nn.ReLU(), a, 'a.onnx')",
    "a callback alone": "gpunn.train.Trainer(nn.ReLU(), optim.SGD([x], 0.1), (a, a), callbacks=gpunn.train.Progress())",
    "a setting of data": "gpunn.data.DataLoader(gpunn.data.ArrayDataset(a), batchsize=32)",
    "an array of a Tensor": "np.sum(x, dtype='nothing')",
}
HEAD = """\
import numpy as np

import gpunn
import gpunn.functional as F
import right
from gpunn import nn, optim, tensor

a = np.zeros((2, 3), np.float32)
x = tensor(a)
"""
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-error-summary", "--show-error-codes"],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable, "--outputjson"],
    "basedpyright": ["-m", "basedpyright", "--pythonpath", sys.executable, "--outputjson"],
}


def complaints(checker: str, folder: Path) -> dict[str, dict[int, str]]:
    """What the checker, as strict as it can be, finds in ``right.py`` and ``wrong.py`` of the folder, by line."""
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}', encoding="utf-8")
    path = [str(Path(gpunn.__file__).parents[1]), str(SCRIPT.parent), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, *CHECKERS[checker], "right.py", "wrong.py"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert ended.returncode in (0, 1), ended.stdout + ended.stderr
    if checker == "mypy":
        errors = [line.split(":", 2) for line in ended.stdout.splitlines() if ": error: " in line]
    else:
        each = json.loads(ended.stdout)["generalDiagnostics"]
        told = [one for one in each if one["severity"] == "error"]
        errors = [[one["file"], one["range"]["start"]["line"] + 1, one["message"]] for one in told]
    found: dict[str, dict[int, str]] = {"right.py": {}, "wrong.py": {}}
    for file, line, message in errors:
        found[Path(file).name][int(line)] = message
    return found


def test_the_script_runs(tmp_path, capsys):
    result = user_script.main(tmp_path)
    assert result["last"] < result["first"]
    assert capsys.readouterr().out.startswith("12 weights, certain to ")


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_a_type_checker_says(checker, tmp_path):
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    (tmp_path / "right.py").write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "wrong.py").write_text(HEAD + "\n".join(WRONG.values()) + "\n", encoding="utf-8")
    found = complaints(checker, tmp_path)
    assert found["right.py"] == {}
    first = HEAD.count("\n") + 1
    assert [what for line, what in enumerate(WRONG, first) if line not in found["wrong.py"]] == []
    assert min(found["wrong.py"]) >= first
