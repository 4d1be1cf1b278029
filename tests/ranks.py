"""Programs run by several ranks, with the real mpirun."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

MPIRUN = shutil.which("mpirun") or shutil.which("mpirun", path=str(Path(sys.executable).parent))

needs_mpirun = pytest.mark.skipif(MPIRUN is None, reason="there is no mpirun")


@dataclass(frozen=True)
class Ranks:
    """What a program of several ranks left."""

    code: int
    out: str
    err: str
    seconds: float
    at: float
    """The time at which all had ended."""


def command(count: int, *program: object, options: tuple[str, ...] = ()) -> list[str]:
    """What starts ``program``, a command with its arguments, on ``count`` ranks."""
    assert MPIRUN is not None
    return [MPIRUN, "--oversubscribe", *options, "-n", str(count), *map(str, program)]


def environment(**settings: str) -> dict[str, str]:
    """That of ranks on one machine with few cores, where root may start them too."""
    mpi = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}
    mpi["OMPI_MCA_btl"] = "self,sm"  # no network, which takes Open MPI a second to look for
    found = {**os.environ, **mpi, "OMP_NUM_THREADS": "1", **settings}
    tests = Path(__file__).parent
    found["PYTHONPATH"] = os.pathsep.join([str(tests.parent), str(tests), *filter(None, [found.get("PYTHONPATH")])])
    return found


def run_ranks(
    count: int,
    program: str,
    *arguments: object,
    folder: Path | None = None,
    limit: float = 60,
    code: int | None = 0,
    options: tuple[str, ...] = (),
    before: tuple[object, ...] = (sys.executable,),
    **settings: str,
) -> Ranks:
    """Run ``program``, Python's source or ``-m module``, on ``count`` ranks; it must end with ``code`` (None: any).

    ``before`` is what runs it, ``options`` are mpirun's, ``settings`` of the environment. After ``limit`` seconds all
    of it is killed, and the test fails.
    """
    source = program.split() if program.startswith("-m ") else ["-c", textwrap.dedent(program)]
    whole = command(count, *before, *source, *arguments, options=options)
    started = time.monotonic()
    process = subprocess.Popen(
        whole, cwd=folder, env=environment(**settings), text=True, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # mpirun ends its ranks, which are in sessions of their own
        try:
            out, err = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        pytest.fail(f"not ended after {limit} s\n{out}\n{err}")
    ended = Ranks(process.returncode, out, err, time.monotonic() - started, time.time())
    if code is not None:
        assert ended.code == code, f"ended with {ended.code}\n{out}\n{err}"
    return ended


def interrupted(step: int) -> str:
    """The command line, as a program whose rank 1 gets SIGTERM when that step is to be counted."""
    return f"""
        import os, signal
        from gpunn import distributed
        from gpunn.cli.command import main
        from gpunn.train import Trainer

        count = Trainer._count_step

        def counted(self, *arguments):
            if self.step == {step} and distributed.current().rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return count(self, *arguments)

        Trainer._count_step = counted
        main()
    """
