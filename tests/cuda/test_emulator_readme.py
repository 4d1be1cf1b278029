"""The example of gpunn/cuda/emulator/README.md, run as printed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import gpunn
from gpunn import backend
from gpunn.cuda.emulator import build, report, sass

TEXT = (Path(gpunn.__file__).parent / "cuda" / "emulator" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.S | re.M)
FILES = re.findall(r"^## [^`\n]*`([^`]+)`\n.*?^```\w+\n(.*?)^```", TEXT, re.S | re.M)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name, content in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def run(folder, *command):
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_every_block_is_in_a_test():
    names = ["kernels.cu", "conftest.py", "test_kernels.py", ".github/workflows/test.yml", ".github/workflows/cupy.yml"]
    assert [name for name, _ in FILES] == names
    languages = ["cuda", "python", "python", "yaml", "python", "", "", "python", "", "", "python", "yaml"]
    assert [language for language, _ in BLOCKS] == languages


def test_every_kind_of_report_is_told():
    assert [kind for kind in report.KINDS if f"`{kind}`" not in TEXT] == []


@pytest.mark.skipif("clang" in build.host_compiler().version, reason="clang counts each access of the source")
def test_the_counts_are_those_printed(monkeypatch, capsys):
    (_, code), (_, output) = BLOCKS[7:9]
    monkeypatch.setattr(sass, "program", lambda *_: sass.Program({}, ""))  # what is installed may differ
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out == output


@pytest.mark.slow
def test_the_workflow_runs_the_tests(project):
    steps = re.findall(r"- run: ([^#\n]+)", (project / ".github/workflows/test.yml").read_text())
    (install, tests) = (shlex.split(step) for step in steps)
    assert install == ["python", "-m", "pip", "install", "pytest", "./gpunn"]
    code, output = run(project, *tests[1:], "-p", "no:cacheprovider")
    assert code == 0, output
    assert f"{7 if backend.gpu_count() else 7 * 4} passed" in output


@pytest.mark.gpu
def test_the_workflow_runs_a_suite_on_the_emulated_device(project, tmp_path):
    steps = re.findall(r"- run: ([^#\n]+)", (project / ".github/workflows/cupy.yml").read_text())
    _, *suites = (shlex.split(step) for step in steps)
    (tmp_path / "test_sum.py").write_text("import cupy\n\ndef test_sum():\n    assert cupy.arange(4).sum() == 6\n")
    assert len(suites) == 2
    for suite in suites:
        code, output = run(tmp_path, *suite[1:], "-p", "no:cacheprovider")
        assert code == 0, output
        assert "1 passed" in output


@pytest.mark.gpu
def test_the_device_starts_in_python_as_shown(tmp_path):
    (example,) = (code for language, code in BLOCKS if language == "python" and "device.start" in code)
    assert run(tmp_path, "-c", example) == (0, "83.0 2\n")


@pytest.mark.slow
@pytest.mark.skipif(backend.gpu_count() > 0, reason="there is a GPU, and the example uses it")
def test_a_planted_mistake_fails_the_tests(project, tmp_path):
    for name, content in FILES:
        if "/" not in name:
            (tmp_path / name).write_text(content.replace("    __syncthreads();\n", ""), encoding="utf-8")
    code, output = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert code == 1
    assert "row_sums: race: kernel.cu:" in output


def test_the_report_is_as_printed(project):
    code, output = run(project, "-c", BLOCKS[4][1])
    assert code == 0, output
    assert output == BLOCKS[5][1]


def test_the_commands_run(project):
    scale, sums, counts = (shlex.split(line) for line in BLOCKS[6][1].replace("\\\n", "").splitlines())
    code, output = run(project, *scale[1:])
    assert (code, "argument 0, float32 (1000,): [   0.    2.    4. " in output) == (0, True)
    code, output = run(project, *sums[1:])
    assert (code, "argument 1, float32 (8,): [" in output) == (0, True), output
    code, output = run(project, *counts[1:])
    assert (code, "row_sums: 1 launch, grid (8, 1, 1), block (64, 1, 1), on A100" in output) == (0, True), output
