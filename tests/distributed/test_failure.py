"""One rank fails; all end soon, with one message that names it."""

import re
import time
from pathlib import Path

import pytest
from ranks import Ranks, needs_mpirun, run_ranks

pytestmark = [pytest.mark.distributed, needs_mpirun]

PROGRAM = """
    import os, signal, subprocess, sys, time
    import numpy as np
    import gpunn
    from gpunn import distributed

    how, bad, timeout = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
    if how == "version" and rank == bad:
        gpunn.__version__ = "0.0.9"
    world = distributed.init("gpu" if how == "device" and rank == bad else "cpu", timeout=timeout)
    x = np.ones(4, np.float32)
    world.all_reduce(x)
    pids = world.gather_objects(os.getpid())
    if rank == 0:
        print("pids", *pids, flush=True)
    time.sleep(timeout / 4)  # so that all have reported this
    if rank == bad:
        print("failed", time.time(), flush=True)
        if how == "raise":
            raise ValueError("broken\\nthing")
        if how == "interrupt":
            os.kill(os.getpid(), signal.SIGINT)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if how == "hang":
            time.sleep(100)
        if how == "exit":
            sys.exit(3)
        if how == "fail":
            world.fail("the disk is full")
        if how == "busy":
            with world.busy("writing a checkpoint"):
                time.sleep(1.7 * timeout)
    if how == "busy stop":
        with world.busy("writing a checkpoint"):
            time.sleep(timeout / 2)
            rank == bad and os.kill(os.getpid(), signal.SIGSTOP)
    if how == "pause":
        pids = " ".join(map(str, world.broadcast_object(pids)))
        if rank == bad:
            subprocess.Popen(["sh", "-c", f"kill -STOP {pids}; sleep {1.7 * timeout}; kill -CONT {pids}"])
        for _ in range(20):
            time.sleep(timeout / 20)
            world.all_reduce(x)
    if how == "chain":  # rank 2 waits for rank 0, which waits for rank 1, which is busy
        pair = world.split(int(rank == 2), 0)
        if rank == 1:
            with world.busy("compiling kernels"):
                time.sleep(1.7 * timeout)
        rank < 2 and pair.barrier()
    if how == "deadlock":
        other = world.split(0, 0)
        (world if rank == bad else other).barrier()
    if how == "shape":
        world.all_reduce(np.ones(3 + (rank == bad)))
    if how == "call":
        world.all_reduce(x) if rank == bad else world.broadcast(x)
    if how == "seed":
        world.agree("the seed", int(rank == bad))
    if how == "refused":
        world.all_reduce(x, "product")
    if how == "unseen":
        world.start_all_reduce(np.ones(3 + (rank == bad)))
        sys.exit(0)
    if how == "fork":
        child = os.fork()
        if child == 0:
            for wrong in (world.all_reduce, world.start_all_reduce, lambda x: world.fail("a child has no say")):
                try:
                    wrong(x)
                except distributed.world.DistributedError as error:
                    print(error, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
    if how == "no stderr":
        os.close(2)
        rank == bad and world.fail("the disk is full")
    if how == "leave":
        rank != bad and time.sleep(1.7 * timeout)
        sys.exit(0)
    world.start_all_reduce(np.ones(1 << 20, np.float32)).wait()
    print("done", flush=True)
"""


def run(how: str, bad: int = 1, count: int = 2, timeout: float = 2, **settings) -> Ranks:
    ended = run_ranks(count, PROGRAM, how, bad, timeout, **settings)
    pids = " ".join(re.findall(r"pids (.*)", ended.out)).split()
    limit = time.monotonic() + 5  # mpirun may end a moment before its ranks do
    while any(map(runs, pids)):
        assert time.monotonic() < limit, f"still there: {[pid for pid in pids if runs(pid)]}"
        time.sleep(0.01)
    return ended


def runs(pid: str) -> bool:
    """Whether the process is there, and no mere entry of one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def message(ended: Ranks) -> str:
    """The only one."""
    (found,) = re.findall(r"gpunn: (.*)", ended.err)
    return re.sub(r" \([\w.-]+, pid \d+\)", "", found)


def test_a_rank_that_raises_ends_all_with_its_traceback_and_its_name():
    ended = run("raise", code=1)
    assert message(ended) == "rank 1 of 2: ValueError: broken thing"
    assert ended.err.count("Traceback") == 1
    assert 'Traceback (most recent call last):\n  File "<string>"' in ended.err
    assert re.search(r"gpunn: rank 1 of 2 \(\S+, pid \d+\): ValueError", ended.err)


DIFFER = "all 2 ranks: DistributedError:"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("refused", "all 2 ranks: ArgumentError: all_reduce: the reduction must be one of sum, mean, max, min, "),
        ("seed", f"{DIFFER} agree: the seed must be the same on all ranks, got rank 0: 0, rank 1: 1"),
        ("version", f"{DIFFER} agree: the version of gpunn must be the same on all ranks, got rank 0: '"),
        ("device", f"{DIFFER} agree: the device must be the same on all ranks, got rank 0: 'cpu', rank 1: 'gpu'"),
        ("shape", f"{DIFFER} distributed: all ranks must call the same, got rank 0: 'all_reduce sum of NumPy float64 "
                  "(3,)', rank 1: 'all_reduce sum of NumPy float64 (4,)'"),
        ("call", f"{DIFFER} distributed: all ranks must call the same, got rank 0: 'broadcast from 0 of NumPy float32"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_what_all_ranks_find_wrong_is_shown_once(how, expected):
    ended = run(how, code=2)
    assert message(ended).startswith(expected)
    assert ended.err.count("Traceback") == 1
    assert ended.seconds < 15


def test_what_went_wrong_in_a_collective_that_nobody_waits_for_is_shown_at_the_end():
    ended = run("unseen", code=2)
    assert message(ended).startswith(f"{DIFFER} distributed: all ranks must call the same, got rank 0: 'all_reduce sum")


def test_a_wrong_setting_of_the_start_is_shown_once():
    ended = run("any", code=2, GPUNN_LINK="fast")
    rule = "init: link must be more than 0 bytes a second, got link='fast'"
    assert message(ended) == f"all 2 ranks: ArgumentError: {rule}"


@pytest.mark.slow
@pytest.mark.parametrize("bad", [0, 1])
def test_all_end_where_one_does_not_begin(bad):
    program = f"""
    import os, sys
    if os.environ["OMPI_COMM_WORLD_RANK"] == "{bad}":
        sys.exit(0)
    import gpunn.distributed.mpi
    gpunn.distributed.mpi._MEETING = 3
    gpunn.distributed.init(timeout=2)
    """
    ended = run_ranks(2, program, code=None)
    assert ended.code != 0
    assert re.fullmatch(
        r"pid \d+ has waited 3 s for all ranks to start MPI: one has ended, or hangs, .*", message(ended)
    )
    assert ended.seconds < 15


@pytest.mark.slow
def test_ranks_may_wait_for_ever():
    program = """
    import os, time
    time.sleep(1.5 * (os.environ["OMPI_COMM_WORLD_RANK"] == "1"))  # the guard of rank 0 is at work
    from gpunn import distributed
    distributed.init(timeout=float("inf")).barrier()
    """
    assert run_ranks(2, program).err == ""


@pytest.mark.slow
def test_a_child_of_a_rank_has_no_part_in_what_ranks_do():
    ended = run("fork")
    assert ended.out.count("distributed: a process that a rank has forked is no rank, got pid=") == 4
    assert ended.out.count("a child has no say") == ended.out.count("done") == 2


@pytest.mark.slow
def test_all_end_where_the_message_cannot_be_written():
    assert run("no stderr", code=1).seconds < 15


IN = r"in all_reduce sum of NumPy float32 \(1048576,\) \(collective \d+ of world\)"


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("interrupt", "rank BAD of 3: KeyboardInterrupt"),
        ("fail", "rank BAD of 3: the disk is full"),
        ("exit", f"rank BAD of 3: it has ended, and rank . of 3 waits for it {IN}"),
        ("stop", "rank BAD of 3: no sign of life for 2 s: it is stopped, or its machine or network is gone; when last "
                 r"heard of it was past gather_objects \(collective \d of world\)"),
        ("busy stop", "rank BAD of 3: no sign of life for 2 s: .*; when last heard of it was writing a checkpoint"),
        ("hang", f"rank BAD of 3: it hangs, or computes for too long: rank . of 3 has waited 2 s for it {IN}; "
                 r"when last heard of it was past gather_objects \(collective \d of world\)"),
        ("deadlock", r"rank . of 3: it waits in barrier \(collective .*: they wait for one another"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_rank_that_stops_or_hangs_ends_all_with_its_name_and_what_it_was_at(how, expected, bad):
    ended = run(how, bad, 3, code=1)
    assert re.fullmatch(expected.replace("BAD", str(bad)), message(ended))
    assert "done" not in ended.out
    assert ended.seconds < 20


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all(bad):
    ended = run("kill", bad, 3, code=None)
    assert ended.code != 0
    assert re.search(rf"process rank {bad} with PID \d+ .*\s*signal 9", ended.err)  # mpirun's own
    assert ended.seconds < 15


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_all_where_mpirun_lets_the_others_run():
    ended = run("kill", 1, 3, code=None, options=("--enable-recovery",))
    assert message(ended).startswith("rank 1 of 3: no sign of life for 2 s")
    assert ended.seconds < 30


@pytest.mark.slow
def test_all_have_left_within_30_s_with_the_default_limit():
    ended = run("stop", 2, 4, 25, code=1, limit=90)
    began = float(re.search(r"failed (.*)", ended.out)[1])
    assert message(ended).startswith("rank 2 of 4: ")
    assert ended.at - began <= 30


@pytest.mark.parametrize("bad", [0, 1])
@pytest.mark.parametrize(("how", "said"), [("busy", ["done"] * 2), ("pause", ["done"] * 2), ("leave", [])])
@pytest.mark.slow
def test_ranks_wait_for_one_that_is_busy_for_all_that_were_stopped_and_for_the_end_of_all(how, said, bad):
    ended = run(how, bad)
    assert ended.seconds > 1.7 * 2
    assert re.findall("done", ended.out) == said
    assert ended.err == ""


@pytest.mark.slow
def test_ranks_wait_for_those_who_wait_for_one_that_is_busy():
    ended = run("chain", 9, 3)
    assert re.findall("done", ended.out) == ["done"] * 3
    assert ended.err == ""
