"""``gpunn bench``: a job really measured; the rest on made-up times, which a fake of the process writes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_case import Command

from gpunn.cli import bench
from gpunn.errors import install_command
from gpunn.files import shipped

pytestmark = pytest.mark.usefixtures("undrawn")

JOBS = {  # seconds of gpunn and of PyTorch
    ("training: convolution", "AlexNet conv1 (4, 3)"): (2e-3, 1e-3),
    ("training: convolution", "AlexNet conv2 (4, 96)"): (1e-3, 2e-3),
    ("training: steps", "circles"): (1e-3, 4e-3),
}
PASS = ("conv forward", "AlexNet conv1 (4, 3)")
CEILING = ("ceiling: copy", "1 MB")


def benchmark(job: tuple[str, str], side: str, seconds: float) -> dict[str, Any]:
    times = {"seconds": seconds, "quartiles": [0.98 * seconds, 1.02 * seconds], "rounds": 9}
    about = {"device": "cpu", "side": side, "peer": "PyTorch", "job": job[0], "shape": job[1], "operations": 0}
    return {"extra_info": about | times | {"bytes": 10**6, "unit": "fp32"}}


class Fake:
    """What pytest's processes would have written: ``jobs`` and a ceiling, which may be changed between two runs."""

    def __init__(self) -> None:
        self.jobs, self.failed = dict(JOBS), []
        self.calls: list[tuple[list[str], int]] = []

    def __call__(self, each: list[list[str]], threads: int, on_line: Any) -> list[str]:
        for options in each:
            self.calls.append((options, threads))
            self.write(options, threads)
        on_line(0.5, "a job")
        return self.failed

    def write(self, options: list[str], threads: int) -> None:
        given = dict(option.partition("=")[::2] for option in options if option.startswith("--"))
        sides = [given["--side"]] if "--side" in given else ["gpunn", "peer"]
        if not importlib.util.find_spec("torch"):
            sides = [side for side in sides if side != "peer"]
        benchmarks = []
        for job, seconds in ({CEILING: (1e-3, 1e-3)} | self.jobs).items():
            if given["--only"] in " ".join(job) or job == CEILING:
                benchmarks += [benchmark(job, s, dict(zip(("gpunn", "peer"), seconds, strict=True))[s]) for s in sides]
        machine = {"cpu": {"brand_raw": "a processor", "count": 2}, "python_version": "3.12.1", "threads": threads}
        machine |= {"libraries": ["gpunn without oneDNN"], "packages": {"gpunn": "1"}, "clock": "processor time"}
        commit = {"id": "0123456789abcdef", "dirty": False}
        result = {"machine_info": machine, "commit_info": commit, "datetime": "2026-01-02T03:04:05"}
        Path(given["--benchmark-json"]).write_text(json.dumps(result | {"benchmarks": benchmarks}))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    played = Fake()
    monkeypatch.setattr(bench, "_run", played)
    pretend(monkeypatch)
    return played


def pretend(monkeypatch: pytest.MonkeyPatch, *missing: str) -> None:
    """All packages are installed, but for those ``missing``."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name in missing else real(name, *more) or real("json")
    )


# ---- the process ----------------------------------------------------------------------------------------------------


def test_a_job_is_measured(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytest_benchmark")
    monkeypatch.setattr(bench, "_TRAINING", "cpu-gpunn and bench_training and digits and bench_loss.py")
    monkeypatch.setattr(bench, "_QUICK", 0.0)
    monkeypatch.setenv("PYTEST_ADDOPTS", "--nonsense")
    code, out, err = command("bench", "--only", "cross*digits", "--json", "r.json")
    assert (code, err) == (0, "")
    head, _, columns, row, *_ = out.splitlines()
    assert "; 1 thread (" in head
    assert columns.split() == ["job", "shape", "gpunn,", "ms", "peer,", "ms", "ratio", "of", "ceiling"]
    assert row.startswith("losses, embedding, dropout  cross entropy, digits (64, 10)")
    (one,) = json.loads(Path("r.json").read_text())["benchmarks"]
    assert one["extra_info"]["rounds"] == 3


@pytest.mark.slow
def test_results_are_compared_by_the_plugin(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    job = ["-k", "cpu-gpunn and bench_training and digits", "bench_loss.py", "--only", "cross*digits", "--seconds", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    measure = [sys.executable, "-m", "pytest", "-q", *job, f"--benchmark-storage=file://{tmp_path}"]
    for options, said in ([["--benchmark-save=before"], ""], [["--benchmark-compare"], "(0001_before)"]):
        done = subprocess.run(
            [*measure, *options], cwd=shipped("bench"), capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
        assert said in done.stdout
        assert "machine_info is different" not in done.stdout + done.stderr


@pytest.mark.peer
def test_two_processes_measure_a_job(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytest_benchmark")
    pytest.importorskip("torch")
    monkeypatch.setattr(bench, "_TRAINING", "cpu- and bench_training and digits and bench_loss.py")
    code, out, err = command("bench", "--only", "cross*digits", "--threads", 2, "--json", "r.json")
    assert (code, err) == (0, "")
    assert "; 2 threads (" in out
    both = [one["extra_info"] for one in json.loads(Path("r.json").read_text())["benchmarks"]]
    assert [one["side"] for one in both] == ["gpunn", "peer"]
    assert len({one["rounds"] for one in both}) == 1  # as they took turns


@pytest.mark.slow
def test_every_benchmark_runs(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for those that take long however little is asked."""
    pytest.importorskip("pytest_benchmark")
    monkeypatch.setattr(bench, "_FULL", 0.0)
    monkeypatch.setattr(
        bench, "_ALL", "cpu- and not 227 and not bench_trainer and not bench_loader and not bench_import"
    )
    code, out, err = command("bench", "--full", "--chart", "ratios.png")
    assert (code, err) == (0, "")
    assert "not measured" not in out or "gpunn alone" in out
    assert Path("ratios.png").stat().st_size > 0


def test_what_fails_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark")
    (tmp_path / "test_a.py").write_text("def test_a():\n    assert 1 == 2\n\n\ndef test_b():\n    pass\n")
    monkeypatch.setattr(bench, "shipped", lambda name: tmp_path)
    lines: list[tuple[float, str]] = []
    told = bench._run([["-k", "test_b"], []], 2, lambda part, name: lines.append((part, name)))
    assert told == ["FAILED test_a.py::test_a - assert 1 == 2"]
    assert lines == [(1.0, "test_b")]
    assert bench._run([[], ["-k", "test_b"]], 2, lambda part, name: lines.append((part, name))) == told
    assert lines[1:] == [(0.5, "test_a"), (1.0, "test_b")]
    (tmp_path / "test_a.py").write_text(
        "import os, signal\n\n\ndef test_a():\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    (killed,) = bench._run([[]], 1, lambda part, name: None)
    assert killed.startswith("pytest ended with -15: ")
    (ended,) = bench._run([["--nonsense"]], 1, lambda part, name: None)
    assert ended.startswith("pytest ended with 4: ")
    assert "--nonsense" in ended


# ---- what is asked --------------------------------------------------------------------------------------------------


def test_the_table(fake: Fake, command: Command) -> None:
    code, out, err = command("bench")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "a processor, 2 cores; 1 thread (gpunn without oneDNN), by processor time; Python 3.12.1, gpunn 1",
        "",
        "job            shape                   gpunn, ms    peer, ms  ratio  of ceiling",
        "ceiling: copy  1 MB                   1.000 ± 2%  1.000 ± 2%   1.00        100%",
        "convolution    AlexNet conv1 (4, 3)   2.000 ± 2%  1.000 ± 2%   2.00         50%",
        "convolution    AlexNet conv2 (4, 96)  1.000 ± 2%  2.000 ± 2%   0.50        100%",
        "steps          circles                1.000 ± 2%  4.000 ± 2%   0.25        100%",
        "convolution    geometric mean of 2                             1.00",
        "steps          geometric mean of 1                             0.25",
        "all            geometric mean of 3                             0.63",
    ]
    ((options, threads),) = fake.calls
    assert threads == 1
    assert options[:4] == ["-k", "cpu- and (training or ceilings)", "--only=", "--seconds=0.2"]


def test_threads_want_a_process_for_each_library(fake: Fake, command: Command) -> None:
    assert command("bench", "--threads", 2).code == 0
    assert command("bench", "--threads", 2, "--full").code == 0
    sides = [option for options, threads in fake.calls for option in options if option.startswith("--side")]
    assert sides == ["--side=gpunn", "--side=peer"] * 2
    assert {threads for _, threads in fake.calls} == {2}
    turns = [option for options, _ in fake.calls for option in options if option.startswith("--turns=")]
    assert turns[0] == turns[1] != turns[2] == turns[3]
    assert fake.calls[-1][0][:4] == ["-k", "cpu-", "--only=", "--seconds=1.0"]


def test_without_pytorch(fake: Fake, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "torch")
    for threads in (1, 2):
        code, out, _ = command("bench", "--threads", threads)
        assert code == 0
        assert out.endswith("\n\ngpunn alone: PyTorch is not installed\n")
        assert out.count("not measured") == 8
    assert len(fake.calls) == 2


def test_as_json(fake: Fake, command: Command) -> None:
    code, out, err = command("--json", "bench", "--only", "circles", "--json", "kept.json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["means"] == {"steps": 0.25, "all": 0.25}
    assert [job["shape"] for job in told["jobs"]] == ["1 MB", "circles"]
    assert told["jobs"][1]["ratio"] == 0.25
    assert len(json.loads(Path("kept.json").read_text())["benchmarks"]) == 4


def test_a_chart(fake: Fake, command: Command) -> None:
    assert command("bench", "--chart", "ratios.png").code == 0
    assert Path("ratios.png").exists()


def test_a_table_for_a_page(fake: Fake, command: Command) -> None:
    report = bench._report()
    fake.jobs[PASS] = (1e-3, 9e-3)  # has no part in it
    Path("page.md").write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for _ in range(2):
        assert command("bench", "--readme", "page.md").code == 0
    assert Path("page.md").read_text().splitlines() == [
        "before",
        report.BEGIN,
        "| forward + backward | jobs | gpunn's time over PyTorch's, mean | from, to |",
        "|---|---|---|---|",
        "| convolution | 2 | 1.00 | 0.50 to 2.00 |",
        "| steps | 1 | 0.25 | 0.25 to 0.25 |",
        "| all | 3 | 0.63 | 0.25 to 2.00 |",
        "| step: circles | 1 | 0.25 |  |",
        "",
        "2026-01-02: a processor, 2 cores; 1 thread (gpunn without oneDNN), by processor time; Python 3.12.1, gpunn 1.",
        report.END,
        "after",
    ]


def test_the_readme_has_the_marks() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert bench._report().between_marks(text, "table") is not None


# ---- comparing ------------------------------------------------------------------------------------------------------


def test_what_became_slower(fake: Fake, command: Command) -> None:
    assert command("bench", "--json", "old.json").code == 0
    code, out, _ = command("bench", "--compare", "old.json")
    assert (code, out.splitlines()[-1]) == (0, "nothing is slower than in old.json beyond the spread")
    circles, conv = ("training: steps", "circles"), ("training: convolution", "AlexNet conv2 (4, 96)")
    fake.jobs |= {circles: (1.05e-3, 4e-3), conv: (3e-3, 6e-3), ("training: steps", "new"): (1e-3, 1e-3)}
    code, out, _ = command("bench", "--compare", "old.json")  # within the spread; the machine is slower
    assert code == 0
    assert out.splitlines()[-2:] == [
        "nothing is slower than in old.json beyond the spread",
        "not in old.json: training: steps new",
    ]
    fake.jobs[circles] = (2e-3, 4e-3)
    code, out, _ = command("bench", "--compare", "old.json")
    assert code == bench.SLOWER == 3
    assert "slower than in old.json: training: steps circles, 0.5 times the peer's, before 0.25" in out.splitlines()


def test_times_are_compared_where_a_result_lacks_the_peer(
    fake: Fake, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("bench", "--json", "old.json").code == 0
    pretend(monkeypatch, "torch")
    fake.jobs["training: steps", "circles"] = (3e-3, 9.0)
    code, out, _ = command("bench", "--compare", "old.json")
    assert code == bench.SLOWER
    assert out.splitlines()[-1] == "slower than in old.json: training: steps circles, 0.003 s, before 0.001"


def timed(seconds: str) -> str:
    """A result of one job, with ``seconds`` as the file has it."""
    names = '"device": "cpu", "job": "training: steps", "shape": "circles", "side": "gpunn", "peer": "PyTorch"'
    counts = '"bytes": 0, "operations": 0, "unit": "fp32", "quartiles": [1, 1]'
    about = f'{{{names}, {counts}, "seconds": {seconds}}}'
    return f'{{"benchmarks": [{{"extra_info": {about}}}], "machine_info": {{"threads": 1}}}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "error: old.json: it cannot be read: No such file or directory\n"),
        ("{", "error: old.json: it must be JSON, as gpunn bench --json keeps it: "),
        ("[]", "error: old.json: it must be a result as gpunn bench --json keeps it: "),
        ('{"benchmarks": [{"stats": 1}]}', "error: old.json: it must be a result as gpunn bench --json keeps it: "),
        (timed("null"), "error: old.json: it must be a result as gpunn bench --json keeps it: TypeError"),
        (timed('"soon"'), "error: old.json: it must be a result as gpunn bench --json keeps it: ValueError"),
        (
            timed('1, "quartiles": []'),
            "error: old.json: it must be a result as gpunn bench --json keeps it: ValueError",
        ),
        (
            '{"benchmarks": [], "machine_info": {"threads": 2}}',
            "error: bench: old.json must be of as many threads, got threads=1, there=2\n",
        ),
    ],
)
def test_a_result_that_cannot_be_compared(text: str | None, message: str, fake: Fake, command: Command) -> None:
    if text is not None:
        Path("old.json").write_text(text)
    code, out, err = command("bench", "--compare", "old.json")
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert not fake.calls  # before a minute is spent


def test_a_result_of_other_jobs(fake: Fake, command: Command) -> None:
    assert command("bench", "--only", "conv1", "--json", "old.json").code == 0
    old = json.loads(Path("old.json").read_text())
    old["benchmarks"] = old["benchmarks"][2:]
    Path("old.json").write_text(json.dumps(old))
    code, _, err = command("bench", "--only", "circles", "--compare", "old.json")
    assert (code, err) == (2, "error: old.json: it must have a job of those that were measured\n")


# ---- mistakes -------------------------------------------------------------------------------------------------------


def test_a_pattern_of_no_job(fake: Fake, command: Command) -> None:
    message = "error: bench: there must be a job whose name or shape matches, got only='cats'\n"
    assert command("bench", "--only", "cats") == (2, "", message)


@pytest.mark.parametrize(
    ("missing", "options"), [("pytest", ()), ("pytest_benchmark", ()), ("matplotlib", ("--chart", "a.png"))]
)
def test_a_package_that_is_missing(
    missing: str, options: tuple[str, ...], fake: Fake, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, missing)
    message = f"error: bench: more packages are needed ({missing}): {install_command('bench')}\n"
    assert command("bench", *options) == (2, "", message)


def test_a_page_without_marks(fake: Fake, command: Command) -> None:
    Path("page.md").write_text("no marks")
    code, _, err = command("bench", "--readme", "page.md")
    assert (code, fake.calls) == (2, [])
    assert err.startswith("error: page.md: it must have the two lines between which the table goes: <!-- speed")


def test_a_benchmark_that_fails(fake: Fake, command: Command) -> None:
    fake.failed = ["FAILED bench_conv.py::bench_training[x] - ValueError"]
    code, out, err = command("bench")
    assert (code, err) == (1, "error: bench: FAILED bench_conv.py::bench_training[x] - ValueError\n")
    assert "circles" in out


def test_an_installation_without_the_benchmarks(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench, "shipped", lambda name: tmp_path / name)
    code, _, err = command("bench")
    assert code == 2
    assert err.startswith("error: bench: the benchmarks are not in this installation, got folder=")


def test_a_file_that_cannot_be_written(fake: Fake, command: Command) -> None:
    Path("folder").mkdir()
    code, out, err = command("bench", "--json", "folder")
    assert code == 2
    assert "circles" in out  # a minute's work is not lost
    assert err.startswith("error: folder: it cannot be written: ")
