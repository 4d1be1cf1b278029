"""How ranks start and end, and what one process has without mpirun."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ranks import environment, needs_mpirun, run_ranks

from gpunn import distributed
from gpunn.distributed.mpi import differences, same
from gpunn.errors import ArgumentError, DistributedError, DtypeError, ShapeError

pytestmark = pytest.mark.distributed


@pytest.fixture
def world():
    return distributed.init()


def python(program: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], env=environment(**settings), text=True, capture_output=True)


def test_one_process_needs_no_mpi():
    ended = python(
        "import gpunn, sys; assert 'gpunn.distributed' not in sys.modules; from gpunn import distributed;"
        "print(distributed.current(), distributed.init(), distributed.current() is distributed.init());"
        "assert 'mpi4py' not in sys.modules"
    )
    assert (ended.stdout, ended.stderr) == ("None World(rank=0, size=1, device='cpu') True\n", "")


def test_mpi_without_mpi4py_is_an_error_that_names_the_extra():
    program = "import sys; sys.modules['mpi4py'] = None; from gpunn import distributed; distributed.init()"
    ended = python(program, OMPI_COMM_WORLD_SIZE="2")
    assert "PackageError: init: several ranks need mpi4py (import of mpi4py halted" in ended.stderr
    assert "[mpi]" in ended.stderr


def test_the_mpirun_of_another_mpi_is_an_error():
    ended = python("from gpunn import distributed; distributed.init()", PMI_SIZE="2")
    assert "DistributedError: init: mpi4py must use the MPI whose mpirun started the ranks" in ended.stderr
    assert "got started=2, mpi4py=1" in ended.stderr


def test_another_number_of_ranks_is_an_error():
    with pytest.raises(DistributedError, match="init: start the program with mpirun -n 4, got ranks=4, started=1"):
        distributed.init(ranks=4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"device": "tpu"}, 'init: device must be "cpu" or "gpu", got device=\'tpu\''),
        ({"device": "gpu"}, "init: the device may not change, got device='gpu', before='cpu'"),
        ({"timeout": 0}, "init: timeout must be more than 0, got timeout=0"),
        ({"timeout": "long"}, "init: timeout must be a number, got timeout='long'"),
        ({"via": "post"}, "init: via must be nccl, mpi or host, got via='post'"),
    ],
)
def test_wrong_settings_are_errors(world, settings, expected):
    with pytest.raises(ArgumentError) as raised:
        distributed.init(**settings)
    assert str(raised.value) == expected


@pytest.mark.parametrize("link", ["0", "-1", "fast", "nan"])
def test_a_wrong_link_is_an_error(link):
    ended = python("from gpunn import distributed; distributed.init()", GPUNN_LINK=link)
    assert f"ArgumentError: init: link must be more than 0 bytes a second, got link='{link}'" in ended.stderr


@pytest.mark.parametrize(
    ("call", "kind", "expected"),
    [
        (lambda w: w.all_reduce([1.0]), DtypeError, "all_reduce: array must be a NumPy or CuPy array, got type='list'"),
        (lambda w: w.all_reduce(np.ones(2), "prod"), ArgumentError, "all_reduce: the reduction must be one of sum, me"),
        (lambda w: w.all_reduce(np.ones(2, int), "mean"), DtypeError, "all_reduce: a mean is of floats, a sum of floa"),
        (lambda w: w.all_reduce(np.ones(2, bool)), DtypeError, "all_reduce: a mean is of floats, a sum of floats or i"),
        (lambda w: w.all_reduce(np.ones(2, complex)), DtypeError, "all_reduce: a mean is of floats, a sum of floats o"),
        (lambda w: w.all_reduce(np.ones((2, 3)).T), ArgumentError, "all_reduce: the array must be contiguous, got sha"),
        (lambda w: w.broadcast(np.ones((4, 3))[::2]), ArgumentError, "broadcast: the array must be contiguous, got sh"),
        (lambda w: w.broadcast(np.broadcast_to(1.0, ())), ArgumentError, "broadcast: the array must be writable, got"),
        (lambda w: w.broadcast(np.ones(2), 1), ArgumentError, "broadcast: root must be one of the ranks, got root=1,"),
        (lambda w: w.broadcast(np.ones(2), -1), ArgumentError, "broadcast: root must be an integer of at least 0, got"),
        (lambda w: w.start_all_reduce(np.ones(2, object)), DtypeError, "start_all_reduce: array must hold numbers, go"),
        (lambda w: w.reduce_scatter(np.ones((2, 2))), ShapeError, "reduce_scatter: the array must be flat, of a lengt"),
        (lambda w: w.split(-1, 0), ArgumentError, "split: color must be an integer of at least 0, got color=-1"),
        (lambda w: w.gather_objects(1, 2), ArgumentError, "gather_objects: root must be one of the ranks, got root=2,"),
        (lambda w: w.fail("the disk is full"), DistributedError, "the disk is full"),
        (lambda w: w.fail(ShapeError("x")), ShapeError, "x"),
    ],
)  # fmt: skip
def test_wrong_calls_are_errors_with_one_rank_too(world, call, kind, expected):
    with pytest.raises(kind) as raised:
        call(world)
    assert str(raised.value).startswith(expected)


def test_values_that_differ_are_told_with_their_ranks():
    assert differences([1, 2, 1, 3]) == "ranks 0, 2: 1, rank 1: 2, rank 3: 3"
    assert same({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert same(np.arange(2), np.arange(2))
    assert not same(np.arange(2), np.arange(3))


OVERLAP = """
    import sys, time
    import numpy as np
    import gpunn
    from gpunn import distributed, nn, tensor

    world = distributed.init()
    model = nn.Sequential(nn.Linear(16, 8), nn.ReLU())
    buckets = [np.ones(1 << 20, np.float32) for _ in range(2)]  # 4 MB, of which each rank sends as much
    with gpunn.profile(model) as profile:
        pending = [world.start_all_reduce(bucket) for bucket in buckets]
        until = time.monotonic() + float(sys.argv[1])
        while time.monotonic() < until:
            model(tensor(np.ones((4, 16), np.float32), requires_grad=True)).sum().backward()
        for each in pending:
            assert (each.wait() == 2).all()
    if world.rank == 0:
        profile.chrome_trace("trace.json")
        print(profile.communication_seconds, profile.waiting_seconds, profile.hidden_share)
"""


@needs_mpirun
@pytest.mark.parametrize(
    ("busy", "least", "most"), [(0.6, 0.9, 1), pytest.param(0.1, 0.2, 0.8, marks=pytest.mark.slow)]
)
def test_a_profile_shows_how_much_of_a_slow_link_is_hidden(tmp_path, busy, least, most):
    ended = run_ranks(2, OVERLAP, busy, folder=tmp_path, GPUNN_LINK="4e7")
    communication, waiting, hidden = map(float, ended.out.split())
    assert communication >= 2 * (1 << 22) / 4e7
    assert waiting <= communication
    assert least <= hidden <= most
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    threads = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert threads == {1: "computation (wall clock)", 2: "communication (wall clock)"}
    first, second = (event for event in events if event["tid"] == 2 and event["ph"] == "X")
    assert first["name"] == second["name"] == "all_reduce sum of NumPy float32 (1048576,)"
    assert first["ts"] + first["dur"] <= second["ts"]
    backward = [event for event in events if event.get("cat") == "autograd"]
    assert any(first["ts"] < event["ts"] < first["ts"] + first["dur"] for event in backward)


ORDER = """
    import numpy as np
    from gpunn import distributed

    world = distributed.init()
    started = []
    for number in range(200):
        x = np.full(1 + number * 37 % 5000, float(world.rank + number), np.float32)
        started.append(world.start_all_reduce(x, ("sum", "max")[number % 2]))
        if number % 50 == 49:  # takes its turn behind those that were started
            assert world.all_reduce(np.full(7, world.rank), "max").tolist() == [world.size - 1] * 7
            assert all(each.done for each in started)
    for number, each in enumerate(started):
        n = world.size
        expected = n * number + n * (n - 1) / 2 if number % 2 == 0 else number + n - 1
        assert (each.wait() == expected).all()
    rng = np.random.default_rng(world.rank)
    x = rng.normal(size=100_003).astype(np.float32)
    whole = world.all_reduce(x.copy())
    every = world.all_gather(whole)
    assert (every == whole).all()  # the same bits on all
    parts = np.concatenate([world.all_reduce(part.copy()) for part in np.split(x, [1, 77, 50_000])])
    assert parts.tobytes() == whole.tobytes()  # however it is cut
    # The end does not wait for those that nobody waited for.
    world.start_all_reduce(np.ones(10))
"""


@needs_mpirun
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_what_is_started_runs_in_order_and_gives_the_same_bits(count):
    assert run_ranks(count, ORDER).err == ""


@needs_mpirun
@pytest.mark.slow
def test_an_array_is_as_large_as_memory_allows():
    """Beyond the blocks in which it goes."""
    program = """
    import numpy as np
    from gpunn import distributed
    world = distributed.init()
    x = np.full(20_000_003, world.rank + 1, np.float32)
    assert (world.all_reduce(x) == 3).all()
    assert (world.reduce_scatter(x[:20_000_002]) == 6).all()
    assert (world.broadcast(np.full(20_000_003, world.rank), 1) == 1).all()
    assert (world.all_gather(x) == 3).all()
    """
    run_ranks(2, program)
