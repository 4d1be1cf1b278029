"""The README's Python examples run as printed, and print what it says."""

import re
from pathlib import Path

import pytest

import gpunn
from gpunn.cuda.emulator import CheckError

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.S | re.M)
PYTHON = [code for language, code in BLOCKS if language == "python"]


def test_example_on_plain_arrays(capsys):
    exec(PYTHON[0], {})
    printed = capsys.readouterr().out.strip()
    assert PYTHON[0].rstrip().endswith(f"# {printed}")


def test_examples_that_train(capsys, tmp_path, monkeypatch):
    names = {}
    exec(PYTHON[1], names)
    *summary, accuracy = capsys.readouterr().out.splitlines()
    assert summary[-1].split()[0] == "total"
    assert float(accuracy) > 0.95
    monkeypatch.chdir(tmp_path)
    exec(PYTHON[2], names)
    exec(PYTHON[2], names)  # it is all done then
    assert [record["epoch"] for record in names["records"]] == [1, 2, 3, 4]
    assert names["records"][-1]["train_loss"] < 0.05
    assert names["trainer"].step == 4 * len(names["loader"])


def test_example_of_check_mode():
    with pytest.raises(CheckError) as caught:
        exec(PYTHON[3], {})
    report = next(code for language, code in BLOCKS if not language)
    assert str(caught.value) == report.strip()


@pytest.mark.parametrize("page", ["coming-from-pytorch", "weights", "large-batches"])
def test_examples_of_the_guide(page, capsys):
    """What is printed stands behind each print, or below."""
    text = (Path(gpunn.__file__).parent / "guide" / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.S | re.M))
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)\s+# (.*)", code)


def test_the_two_commands_come_first():
    assert [language for language, _ in BLOCKS[:2]] == ["sh", "sh"]
    assert "gpunn train digits" in BLOCKS[0][1]
    assert "pytest" in BLOCKS[1][1]
