import os
from collections.abc import Iterator
from pathlib import Path

# Before NumPy and PyTorch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import peer
import pytest
import report
import turns

from gpunn.cli.output import table

settings = pytest.StashKey[peer.Settings]()


def pytest_addoption(parser) -> None:
    group = parser.getgroup("gpunn")
    group.addoption("--only", default="", metavar="PATTERN", help="jobs whose name or shape matches, as *PATTERN*")
    group.addoption("--side", choices=peer.SIDES, default="", help="one library alone, by the time on the wall")
    group.addoption("--turns", metavar="FOLDER", help="with another process that has the other side and this folder")
    group.addoption("--seconds", type=float, default=0.25, help="of measuring, for each side of a job")


def pytest_configure(config) -> None:
    option = config.getoption
    side, folder = option("side"), option("turns")
    config.option.benchmark_quiet = not option("benchmark_compare")  # the table below says the same, shorter
    if folder and not side:
        raise pytest.UsageError("--turns: wants --side gpunn or --side peer")
    both = turns.meet(Path(folder), first=side == peer.SIDES[0]) if folder else None
    config.stash[settings] = peer.Settings(option("only"), side, option("seconds"), both)
    if peer.threads() > 1 and not side:
        raise pytest.UsageError("OMP_NUM_THREADS: more than 1 thread wants --side gpunn or --side peer, a process each")


@pytest.fixture(params=[(device, side) for device in peer.DEVICES for side in peer.SIDES], ids="-".join)
def bench(request) -> Iterator[peer.Bench]:
    """Each side on each device; what this machine does not have is skipped."""
    device, side = request.param
    asked = request.config.stash[settings]
    if asked.alone not in ("", side):
        pytest.skip(f"only {asked.alone} is asked for")
    if reason := peer.why_not(device, "gpunn"):
        pytest.skip(reason)
    yield peer.Bench(lambda: request.getfixturevalue("benchmark"), device, side, asked)
    if device == "gpu":
        peer.free_memory()


def pytest_benchmark_update_machine_info(config, machine_info) -> None:
    del machine_info["node"]  # a host's name says nothing of its speed
    for name in [name for name in machine_info["cpu"] if name.startswith("hz_actual")]:
        del machine_info["cpu"][name]  # other in each run: what is compared would never be of the same machine
    machine_info |= peer.measured_by(config.stash[settings].alone)


def pytest_terminal_summary(terminalreporter, config) -> None:
    """A line for each job, and the geometric means of the families."""
    benchmarks = [{"extra_info": one.extra_info} for one in config._benchmarksession.benchmarks]
    if benchmarks:
        lines = [report.HEAD, *report.summary(report.read_rows({"benchmarks": benchmarks}))]
        terminalreporter.write_line(table(lines, "<<>>>>"))


@pytest.fixture(scope="session", autouse=True)
def settings_of_pytorch(request) -> None:
    """Full float32 everywhere, the convolution algorithms that its own trials find fastest, the threads asked for."""
    if not peer.why_not("cpu", "peer") and request.config.stash[settings].alone != "gpunn":
        peer.torch_precision("fp32")
        peer.torch.backends.cudnn.benchmark = True
        peer.torch.set_num_threads(peer.threads())
