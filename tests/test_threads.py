import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import no_grad, tensor
from gpunn.cpu import blas, onednn, threads
from gpunn.cpu.library import found
from gpunn.graph import is_recording


@pytest.fixture(params=["python", "openmp"])
def three(request, monkeypatch):
    """Three threads, whatever the machine has, and NumPy."""
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(threads, "_pool", None)
    library, why = found()
    if request.param == "python":
        monkeypatch.setattr(threads, "_of_openmp", lambda: None)
    elif library is None or not hasattr(library.c, "GOMP_parallel"):
        pytest.skip(why or "oneDNN has no threads here")
    else:
        request.getfixturevalue("openmp_of_three")
        assert threads._of_openmp() is not None
    with onednn.engine("numpy"):
        yield request.param


@pytest.fixture
def openmp_of_three():
    library, why = found()
    if library is None:
        pytest.skip(why)
    before = library.threads()
    library.set_threads(3)
    yield
    library.set_threads(before)


def used(parts=30):
    """The threads that took part, each of which waits for the others."""
    seen = []

    def work(part):
        seen.append(threading.get_ident())
        time.sleep(0.002)

    threads.run(work, range(parts))
    assert len(seen) == parts
    return set(seen)


@pytest.mark.parametrize(("value", "expected"), [("3", 3), ("2,1", 2), (" 4 ", 4), ("1", 1)])
def test_the_number_of_threads_is_openmps(monkeypatch, value, expected):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert threads.count.__wrapped__() == expected


@pytest.mark.parametrize("value", ["", "0", "-1", "many"])
def test_otherwise_it_is_that_of_the_cpus_of_this_process(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads.count.__wrapped__() == cpus


def test_the_caller_and_others_work(three):
    assert threading.get_ident() in used()
    assert len(used()) == 3


def test_a_thread_has_the_same_parts_in_every_call(openmp_of_three, monkeypatch):
    """Where two cores have no cache in common, it takes long to read what the other wrote."""
    monkeypatch.setattr(threads, "count", lambda: 3)
    if threads._of_openmp() is None:
        pytest.skip("OpenMP has no threads here")
    seen = set()
    for _ in range(10):
        together = threading.Barrier(3)

        def work(part, together=together):
            seen.add((part, threading.get_ident()))
            together.wait(10)

        threads.run(work, range(3))
    assert len(seen) == 3
    assert (0, threading.get_ident()) in seen


def test_who_is_done_takes_the_last_parts_of_others():
    left = threads._shares(7, 3)
    assert [list(share) for share in left] == [[0, 1], [2, 3], [4, 5, 6]]
    first, second = threads._own_first(left, 0), threads._own_first(left, 1)
    assert [next(first), next(second), next(first), next(first), next(first)] == [0, 2, 1, 3, 6]
    assert [*second, *first] == [5, 4]
    assert not any(left)


def test_one_thread_works_alone(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 1)
    assert used() == {threading.get_ident()}


def test_a_call_within_another_stays_in_its_thread(three):
    inner = []
    threads.run(lambda part: inner.append(used(5)), range(6))
    assert all(len(idents) == 1 for idents in inner)


def test_the_error_of_the_first_part_that_failed_is_raised_when_all_have_stopped(three):
    running = []

    def work(part):
        running.append(part)
        time.sleep(0.01)
        running.remove(part)
        raise ValueError(part)

    with pytest.raises(ValueError, match="^0$"):
        threads.run(work, range(50))
    assert not running


def test_of_several_errors_that_of_the_first_part_is_raised(three):
    def fail(part):
        if part in (3, 5, 9):
            raise ValueError(part)

    for _ in range(50):
        with pytest.raises(ValueError, match="^3$"):
            threads.run(fail, range(10))


def test_an_interrupt_is_raised_when_all_have_stopped(three):
    main, running = threading.main_thread().ident, []

    def work(part):
        running.append(part)
        time.sleep(0.005)
        if threading.get_ident() == main:
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.005)
        running.remove(part)

    with pytest.raises(KeyboardInterrupt):
        threads.run(work, range(50))
    assert len(running) == 1  # that of the part that was interrupted
    assert len(used()) == 3


def ended(program, **environment):
    """What a process prints that runs the program and ends by itself, without an error or a warning."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"OMP_NUM_THREADS": "3"} | environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer")
@pytest.mark.skipif(found()[0] is None, reason=found()[1])
def test_no_interrupt_is_lost_wherever_it_comes():
    """Of what is raised in a function that C has called, Python only tells, and goes on."""
    program = """
        import itertools, signal, time
        from gpunn.cpu import blas, threads

        told, raised = [], 0

        def handle(number, frame):
            told.append(number)
            raise KeyboardInterrupt

        def work(part):
            sum(range(300))

        threads.run(work, range(4))
        assert threads._of_openmp() is not None
        signal.signal(signal.SIGALRM, handle)
        until = time.monotonic() + 0.5
        for turn in itertools.count():
            try:
                known = len(told)
                signal.setitimer(signal.ITIMER_REAL, 2e-5 * (1 + turn % 20))
                while len(told) == known:
                    threads.run(work, range(8))
            except KeyboardInterrupt:
                raised += 1
            if time.monotonic() > until:
                break
        assert raised == len(told) > 100
        print(blas._uses)
    """
    assert ended(program) == "0\n"


@pytest.mark.parametrize("engine", ["", "off"])
def test_what_computes_while_python_ends(engine):
    program = """
        import atexit
        import numpy as np
        from gpunn import functional as F

        class Last:
            def __init__(self):
                self.x, self.function, self.say = np.zeros((4, 1_000_000), np.float32), F.elu, print

            def __del__(self):
                self.say(self.function(self.x).sum())

        last = Last()
        atexit.register(lambda: print(F.elu(last.x).sum()))
    """
    assert ended(program, GPUNN_ONEDNN=engine) == "0.0\n0.0\n"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timer")
def test_a_handler_of_a_signal_multiplies_while_a_product_begins():
    program = """
        import signal, time
        import numpy as np
        from gpunn import functional as F

        a, b = np.ones((300, 100)), np.ones((100, 300))

        def handle(number, frame):
            F.matmul(a, b)
            signal.setitimer(signal.ITIMER_REAL, 5e-5)

        signal.signal(signal.SIGALRM, handle)
        F.elu(np.ones((4, 1_000_000), np.float32))
        signal.setitimer(signal.ITIMER_REAL, 5e-5)
        until = time.monotonic() + 1
        while time.monotonic() < until:
            F.matmul(a, b)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print("done")
    """
    assert ended(program) == "done\n"


def test_a_library_that_cannot_be_used_does_not_keep_numpy_from_computing():
    program = """
        import numpy as np
        from gpunn import functional as F
        from gpunn.cpu import onednn
        with onednn.engine("numpy"):
            print(F.elu(np.zeros(4_000_000)).sum(), F.matmul(np.ones((300, 300)), np.ones((300, 300))).sum())
    """
    assert ended(program, GPUNN_ONEDNN="/nowhere.so") == "0.0 27000000.0\n"


def test_a_thread_keeps_what_it_has(three):
    known, times = threading.local(), dict[int, int]()

    def work(part):
        known.times = getattr(known, "times", 0) + 1
        times[threading.get_ident()] = known.times
        time.sleep(0.002)

    for _ in range(5):
        threads.run(work, range(12))
    assert len(times) == 3
    assert sum(times.values()) == 60


def test_a_process_ends_as_usual():
    program = """
        import numpy as np
        from gpunn import functional as F
        from gpunn.cpu import threads
        x = np.ones((8, 1_000_000), np.float32)
        F.elu(x), F.gelu(x), F.sigmoid(x)
        threads.run(lambda part: np.negative(x[part]), range(8))
        print("done")
    """
    assert ended(program) == "done\n"


def test_blas_has_one_thread_beside_several(three):
    functions = blas._functions()
    if functions is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")
    before, seen = functions[0](), []
    threads.run(lambda part: seen.append(functions[0]()), range(6))
    assert seen == [1] * 6
    with blas.one_thread(), blas.one_thread():
        pass
    assert functions[0]() == before


def test_blas_has_one_thread_beside_those_of_onednn(monkeypatch, openmp_of_three):
    """For all that it would have several for: while its own wait for more, they take a processor from the others."""
    functions, seen, multiply = blas._functions(), [], np.matmul
    if functions is None:
        pytest.skip("NumPy's BLAS is not OpenBLAS")
    monkeypatch.setattr(np, "matmul", lambda *a, **k: seen.append(functions[0]()) or multiply(*a, **k))
    before = functions[0]()
    functions[1](2)
    try:
        x, w = np.ones((300, 100)), np.ones((100, 300))
        np.testing.assert_array_equal(F.matmul(x, w), 100)
        np.testing.assert_array_equal(F.matmul(x, w[:, 0]), 100)
        np.testing.assert_array_equal(F.matmul(x[:3], w[:, :3]), 100)
        assert seen == [1, 1, 2]
        assert functions[0]() == 2
    finally:
        functions[1](before)


def test_settings_hold_in_every_thread(three):
    seen = set()

    def work(part):
        time.sleep(0.002)
        seen.add((threading.get_ident(), np.geterr()["divide"], is_recording()))

    with np.errstate(divide="raise"), no_grad():
        threads.run(work, range(30))
    assert len(seen) == 3
    assert {kept[1:] for kept in seen} == {("raise", False)}


def test_an_arithmetic_error_reaches_the_caller(three):
    x = np.ones(2_000_000, np.float32)
    x[-1] = np.inf
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        F.layer_norm(x.reshape(-1, 8), 8)


def test_many_callers_at_a_time(three):
    x = np.random.default_rng(0).standard_normal((8, 800_000)).astype(np.float32)
    expected = [F.elu(row) for row in x]
    with ThreadPoolExecutor(8) as pool:
        for actual, wanted in zip(pool.map(F.elu, [*x] * 4), expected * 4, strict=True):
            np.testing.assert_array_equal(actual, wanted)


@pytest.mark.skipif(not hasattr(os, "fork") or sys.platform == "darwin", reason="no fork, or none after threads")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(three):
    assert len(used()) == 3
    child = os.fork()
    if child == 0:
        os._exit(0 if len(used()) == 3 else 1)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)


FUNCTIONS = {
    "relu": (F.relu, [(1000, 1000)]),
    "gelu": (F.gelu, [(1000, 1000)]),
    "softmax": (F.softmax, [(1000, 1000)]),
    "layer norm": (lambda x, w, b: F.layer_norm(x, 500, w, b), [(2000, 500), (500,), (500,)]),
    "group norm": (lambda x, w, b: F.group_norm(x, 4, w, b), [(20, 8, 80, 80), (8,), (8,)]),
    "short rows, log softmax": (F.log_softmax, [(30_000, 50)]),
    "short rows, layer norm": (lambda x, w, b: F.layer_norm(x, 50, w, b), [(30_000, 50), (50,), (50,)]),
    "small images, group norm": (lambda x, w, b: F.group_norm(x, 4, w, b), [(3000, 8, 7, 7), (8,), (8,)]),
    "cross entropy": (lambda x: F.cross_entropy(x, np.arange(len(x.data)) % 50, reduction="none"), [(30_000, 50)]),
    "convolution": (lambda x, w, b: F.conv2d(x, w, b), [(7, 3, 64, 64), (32, 3, 5, 5), (32,)]),
    "rows that one thread takes": (lambda x, w, b: F.layer_norm(x, 50, w, b), [(9_000, 50), (50,), (50,)]),
    "few rows": (lambda x: F.cross_entropy(x, np.arange(len(x.data)) % 50, reduction="none"), [(300, 50)]),
    "global average": (F.global_avg_pool2d, [(40, 50, 20, 20)]),
    "max pool": (lambda x: F.max_pool2d(x, 3, 2), [(20, 50, 31, 31)]),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_number_of_threads_changes_no_bit(three, monkeypatch, name, rng):
    function, shapes = FUNCTIONS[name]
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]

    def results():
        inputs = [tensor(a, requires_grad=True) for a in arrays]
        y = function(*inputs)
        y.backward(np.cos(y.data))
        return [y.data, *(x.grad for x in inputs)]

    several = results()
    monkeypatch.setattr(threads, "count", lambda: 1)
    with blas.one_thread():
        alone = results()
    for actual, wanted in zip(several, alone, strict=True):
        np.testing.assert_array_equal(actual, wanted)


def test_a_thread_that_cannot_be_started_leaves_its_work_to_the_others(monkeypatch):
    """The first one has begun by then: the call must wait for it."""
    done = []

    class Pool:
        def __init__(self, *settings):
            self.started = []

        def submit(self, run, take, number):
            if self.started:
                raise RuntimeError("can't start new thread")
            self.started.append(threading.Thread(target=run, args=(take, number)))
            self.started[0].start()
            time.sleep(0.05)

    def work(part):
        time.sleep(0.1)
        done.append(part)

    monkeypatch.setattr(threads, "count", lambda: 4)
    monkeypatch.setattr(threads, "_of_openmp", lambda: None)
    monkeypatch.setattr(threads, "_pool", Pool())
    threads.run(work, range(4))
    assert sorted(done) == [0, 1, 2, 3]


def test_who_comes_when_all_is_done_does_nothing(monkeypatch):
    late = []

    class Pool:
        def submit(self, run, take, number):
            late.append(take)

    done = []
    monkeypatch.setattr(threads, "count", lambda: 2)
    monkeypatch.setattr(threads, "_of_openmp", lambda: None)
    monkeypatch.setattr(threads, "_pool", Pool())
    threads.run(done.append, range(3))
    late[0]()
    assert done == [0, 2, 1]  # its own, then the last of the other's
