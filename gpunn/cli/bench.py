"""Speed on the CPU, beside PyTorch's: ``gpunn bench`` runs the files of ``bench/`` by pytest-benchmark."""

import importlib.util
import json as json_module
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from gpunn.cli import help
from gpunn.cli.output import complain, table, tell
from gpunn.cli.progress import measuring
from gpunn.errors import ArgumentError, FileError, PackageError, check, install_command
from gpunn.files import shipped, write_atomically

SLOWER = 3
"""The exit code where ``--compare`` finds a job that became slower."""

_QUICK, _FULL = 0.2, 1.0  # seconds of measuring, for each side of a job
_TRAINING, _ALL = "cpu- and (training or ceilings)", "cpu-"  # as pytest's -k has them
_THREADS = ("GPUNN_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def add_to(app: typer.Typer) -> None:
    """Add the commands to ``app``."""

    @app.command(
        rich_help_panel=help.MACHINE,
        epilog=help.examples(
            "gpunn bench",
            "gpunn bench --only convolution --threads 2",
            "gpunn bench --full --json new.json --compare old.json --chart ratios.png",
        ),
    )
    def bench(
        full: Annotated[
            bool, typer.Option("--full/--quick", help="Every benchmark, each for longer; or a minute of training jobs.")
        ] = False,
        only: Annotated[
            str, typer.Option(metavar="PATTERN", help="Jobs whose name or shape has this in it; * stands for anything.")
        ] = "",
        threads: Annotated[int, typer.Option(min=1, help="Threads of each library.")] = 1,
        json: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the result, for --compare.")] = None,
        compare: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Say what became slower than in this result.")
        ] = None,
        chart: Annotated[Path | None, typer.Option(metavar="FILE", help="A PNG file for a bar chart.")] = None,
        readme: Annotated[
            Path | None, typer.Option(metavar="FILE", help="A page between whose marks a short table is written.")
        ] = None,
    ) -> None:
        """Measure gpunn on the CPU, beside PyTorch where that is installed.

        A training job goes forward and backward through public calls. With one thread the libraries take turns in one
        process, and the processor's time counts; with more each has a process of its own, these take turns, and the
        time on the wall counts. The table has medians, how far the quartiles lie from them, the ratio of gpunn's time
        to PyTorch's, and what part of its time gpunn needs at this machine's ceilings of copying and multiplying.
        With GPUNN_ONEDNN=off gpunn computes without oneDNN.

        With --compare the exit code is 3 if a job became slower beyond the spread. The option --json that prints the
        result stands before the command: gpunn --json bench.
        """
        report = _report()
        before = None if compare is None else _read_result(report, compare, threads)
        page = "" if readme is None else _read_page(report, readme)
        _check_packages("pytest", "pytest_benchmark", *([] if chart is None else ["matplotlib"]))

        result, failed = _measure(report, full, only, threads)
        rows = report.read_rows(result)
        any_job = bool(failed) or any(not row.job.startswith(report.CEILING) for row in rows)
        check(any_job, ArgumentError, "bench", "there must be a job whose name or shape matches", only=only)

        words = [report.headline(result), "", table([report.HEAD, *report.summary(rows)], "<<>>>>")]
        facts = {"result": report.headline(result), "jobs": [report.facts(row) for row in rows], "failed": failed}
        facts["means"] = {family: mean for family, (_, mean) in report.mean_ratios(rows).items()}
        if not _is_installed("torch"):
            words += ["", "gpunn alone: PyTorch is not installed"]
        slower = [] if before is None else report.slower(rows, before)
        if before is not None:
            words += ["", *report.compared(rows, before, slower, compare)]
            facts["slower"] = [report.facts(row) | {"before": was, "now": now} for row, was, now in slower]
        tell("\n".join(words), facts)

        if json is not None:
            _write(json, json_module.dumps(report.kept(result), indent=1) + "\n")
        if chart is not None:
            report.draw(rows, chart)
        if readme is not None:
            _write(readme, report.between_marks(page, report.readme_table(result)))
        for each in failed:
            complain("error", f"bench: {each}")
        if failed or slower:
            raise typer.Exit(1 if failed else SLOWER)


# ---- running --------------------------------------------------------------------------------------------------------


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _check_packages(*needed: str) -> None:
    if missing := [name for name in needed if not _is_installed(name)]:
        raise PackageError(f"bench: more packages are needed ({', '.join(missing)}): {install_command('bench')}")


def _measure(report: Any, full: bool, only: str, threads: int) -> tuple[dict[str, Any], list[str]]:
    """The result of all processes in one, and which benchmarks failed."""
    sides = ["gpunn", *(["peer"] if _is_installed("torch") else [])]
    options = ["-k", _ALL if full else _TRAINING, f"--only={only}", f"--seconds={_FULL if full else _QUICK}"]
    with tempfile.TemporaryDirectory() as folder, measuring() as on_job:
        files = [Path(folder) / f"{side}.json" for side in (sides if threads > 1 else ["both"])]
        each = [[*options, f"--benchmark-json={file}"] for file in files]
        if threads > 1:
            turns = [f"--turns={folder}"] if len(sides) > 1 else []
            each = [[*those, f"--side={side}", *turns] for those, side in zip(each, sides, strict=True)]
        failed = _run(each, threads, on_job)
        results = [json_module.loads(file.read_text(encoding="utf-8")) for file in files if file.exists()]
    if not results:
        raise RuntimeError("\n".join(failed))
    return report.merged(results), failed


def _run(each: Sequence[Sequence[str]], threads: int, on_line: Callable[[float, str], None]) -> list[str]:
    """Run pytest in ``bench/`` with the options of ``each`` at once, and give what failed.

    ``on_line`` gets the part of the first that is done and its benchmark.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= dict.fromkeys(_THREADS, str(threads)) | {"PYTHONUNBUFFERED": "1"}
    here = str(Path(__file__).parents[2])  # this gpunn, wherever the process starts
    environment["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [environment.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:xdist"]
    told: list[list[str]] = [[] for _ in each]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in each[1:]]
        outputs: list[int | IO[bytes]] = [subprocess.PIPE, *files]
        processes: list[subprocess.Popen[bytes]] = []
        try:
            for options, output in zip(each, outputs, strict=True):
                whole = [*command, *options]
                process = subprocess.Popen(
                    whole, cwd=shipped("bench"), env=environment, stdout=output, stderr=subprocess.STDOUT
                )
                processes.append(stack.enter_context(process))
            assert processes[0].stdout is not None
            for line in map(_text, processes[0].stdout):
                told[0].append(line)
                if done := re.match(r"\S+::(.*) [A-Z]+ .*\[ *(\d+)%\]", line):
                    on_line(int(done[2]) / 100, done[1])
            for process, file, lines in zip(processes[1:], files, told[1:], strict=True):
                process.wait()
                file.seek(0)
                lines += map(_text, file)
        except BaseException:
            for process in processes:
                process.kill()
            raise
    return [line for process, lines in zip(processes, told, strict=True) for line in _failed(process, lines)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip()


def _failed(process: subprocess.Popen[bytes], told: Sequence[str]) -> list[str]:
    failed = [line for line in told if line.startswith(("FAILED ", "ERROR "))]
    if process.returncode not in (0, 1):  # what ended it is no benchmark
        failed += [f"pytest ended with {process.returncode}: {' / '.join(filter(None, told[-5:]))}"]
    return failed


# ---- files ----------------------------------------------------------------------------------------------------------


def _report() -> Any:
    """The module ``bench/report.py``: that folder is no package."""
    path = shipped("bench") / "report.py"
    if not path.exists():
        raise FileError(f"bench: the benchmarks are not in this installation, got folder={str(path.parent)!r}")
    spec = importlib.util.spec_from_file_location("gpunn_bench_report", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: it cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _read_result(report: Any, path: Path, threads: int) -> Any:
    """The rows of a result that ``--json`` kept."""
    try:
        result = json_module.loads(_read(path))
    except ValueError as error:
        raise FileError(f"{path}: it must be JSON, as gpunn bench --json keeps it: {error}") from error
    try:
        rows, measured_with = report.read_rows(result), result["machine_info"]["threads"]
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: it must be a result as gpunn bench --json keeps it: {error!r}") from error
    same = measured_with == threads
    check(same, ArgumentError, "bench", f"{path} must be of as many threads", threads=threads, there=measured_with)
    return rows


def _read_page(report: Any, path: Path) -> str:
    text = _read(path)
    if report.between_marks(text, "") is None:
        raise FileError(f"{path}: it must have the two lines between which the table goes: {report.BEGIN} {report.END}")
    return text


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text.encode())
    except OSError as error:
        raise FileError(f"{path}: it cannot be written: {error.strerror or error}") from error
