"""oneDNN as a library: found or not, by several threads, after a fork, with thousands of shapes, and when it fails."""

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

from gpunn import functional as F
from gpunn import tensor
from gpunn.cpu import library, onednn
from gpunn.cpu.library import found
from gpunn.cuda.emulator.build import host_compiler
from gpunn.errors import ArgumentError, GpunnError, PackageError, ShapeError
from gpunn.ops import conv, norm
from gpunn.ops.activation import onednn as eltwise

needs_library = pytest.mark.skipif(found()[0] is None, reason=found()[1])


def python(code: str, timeout: float = 120, **environment: str) -> str:
    """What a process of its own prints."""
    given = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "GPUNN_ONEDNN")}
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=given | {"OMP_NUM_THREADS": "2"} | environment, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


ABOUT = "from gpunn.cpu import onednn; print(onednn.about())"
CONVOLVED = """
    import numpy as np
    from gpunn import functional as F
    x, w = np.ones((1, 3, 5, 5), np.float32), np.ones((2, 3, 3, 3), np.float32)
    print(F.conv2d(x, w).max())
"""

# ---- found, or not --------------------------------------------------------------------------------------------------


@needs_library
def test_it_is_told_what_is_used():
    loaded, why = found()
    assert why == ""
    assert loaded.version >= (3, 2)
    assert loaded.version_text in onednn.about()
    assert loaded.path in onednn.about()


def test_without_the_library_numpy_computes():
    assert python(ABOUT, GPUNN_ONEDNN="off") == "none: GPUNN_ONEDNN=off"
    assert python(CONVOLVED, GPUNN_ONEDNN="off") == "27.0"


def test_a_processor_without_avx2():
    """oneDNN itself can be told to use less than the processor has."""
    if not library._is_x86():
        pytest.skip("AVX2 is of x86")
    assert python(ABOUT, ONEDNN_MAX_CPU_ISA="SSE41") == "none: this processor has no AVX2"
    assert python(CONVOLVED, ONEDNN_MAX_CPU_ISA="SSE41") == "27.0"


@needs_library
@pytest.mark.parametrize("name", ["OMP_DYNAMIC=true", "OMP_THREAD_LIMIT=1", "OMP_MAX_ACTIVE_LEVELS=0"])
def test_fewer_threads_than_openmp_says(name):
    name, value = name.split("=")
    assert "OpenMP may start fewer threads than it says" in python(ABOUT, **{name: value})
    assert python(CONVOLVED, **{name: value}) == "27.0"


REFUSED = """
    from gpunn.errors import PackageError
    from gpunn.cpu import onednn
    import numpy as np
    try:
        onednn.takes(np.ones(3, np.float32))
    except PackageError as error:
        print(error)
"""


def test_a_named_file_that_is_no_library(tmp_path):
    for path, cause in ((tmp_path / "nowhere.so", "No such file"), (Path(__file__), "")):
        said = python(REFUSED, GPUNN_ONEDNN=str(path))
        assert said.startswith("oneDNN: GPUNN_ONEDNN must name a usable library, or be off")
        assert cause in said
        assert str(path) in said


OTHERS = {
    "too old": ("{2, 7, 3, 0, 2}", "is oneDNN 2.7.3; 3.2 or newer, below 4, is needed"),
    "too new": ("{4, 0, 0, 0, 2}", "is oneDNN 4.0.0; 3.2 or newer, below 4, is needed"),
    "for SYCL": ("{3, 5, 0, 0, 512}", "is built for other threads than OpenMP's"),
    "for TBB": ("{3, 5, 0, 0, 4}", "is built for other threads than OpenMP's"),
}


@pytest.mark.parametrize(("version", "told"), OTHERS.values(), ids=OTHERS)
def test_another_build_of_it(tmp_path, version, told):
    try:
        compiler = host_compiler().command
    except GpunnError as error:
        pytest.skip(str(error))
    source, built = tmp_path / "old.cpp", tmp_path / "libdnnl.so"
    source.write_text(
        "struct V { int major, minor, patch; const char* hash; unsigned cpu, gpu; };\n"
        f'extern "C" const V* dnnl_version() {{ static V v = {version}; return &v; }}\n'
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", built, source], check=True)
    assert told in python(REFUSED, GPUNN_ONEDNN=str(built))


def test_names_of_engines():
    with pytest.raises(ArgumentError, match='engine: name is "auto", "numpy" or "onednn", got name=\'mkl\''):
        onednn.engine("mkl").__enter__()
    code = """
        from gpunn.cpu import onednn
        try:
            onednn.engine("onednn").__enter__()
        except ImportError as error:
            print(type(error).__name__, error)
    """
    said = python(code, GPUNN_ONEDNN="off")
    assert said == "PackageError engine: oneDNN cannot be loaded, got why='GPUNN_ONEDNN=off'"
    assert issubclass(PackageError, ImportError)


# ---- threads and processes ------------------------------------------------------------------------------------------


def problem(number: int):
    rng = np.random.default_rng(number)
    x = rng.standard_normal((2, 16, 9 + number, 11), np.float32)
    return x, rng.standard_normal((32, 16, 3, 3), np.float32)


@needs_library
def test_eight_threads_at_once():
    wanted = [F.conv2d(*problem(number)) for number in range(8)]
    wrong, start = [], threading.Barrier(8)

    def work(number):
        start.wait()
        for _ in range(20):
            for other in range(8):
                which = (number + other) % 8
                if not np.array_equal(F.conv2d(*problem(which)), wanted[which]):
                    wrong.append(which)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


@needs_library
def test_a_fork_after_use():
    """The child has none of the threads that the library has started: it computes with its own one."""
    code = """
        import os
        import numpy as np
        from gpunn import functional as F
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((8, 64, 28, 28), np.float32), rng.standard_normal((64, 64, 3, 3), np.float32)
        before, pooled = F.conv2d(x, w), F.max_pool2d(x, 2)
        child = os.fork()
        if child == 0:
            same = np.allclose(F.conv2d(x, w), before, atol=1e-4) and np.array_equal(F.max_pool2d(x, 2), pooled)
            os._exit(0 if same else 1)
        print(os.waitpid(child, 0)[1], np.array_equal(F.conv2d(x, w), before))
    """
    assert python(code) == "0 True"


@needs_library
@pytest.mark.peer
def test_beside_pytorch_and_its_threads():
    code = """
        import {first}
        import {second}
        import numpy as np
        import sklearn.cluster
        import gpunn.functional as F
        rng = np.random.default_rng(0)
        x, w = rng.standard_normal((8, 64, 28, 28), np.float32), rng.standard_normal((64, 64, 3, 3), np.float32)
        for _ in range(3):
            ours, theirs = F.conv2d(x, w), torch.conv2d(torch.from_numpy(x), torch.from_numpy(w)).numpy()
            sklearn.cluster.KMeans(2, n_init=1).fit(rng.standard_normal((500, 2)))
        print(np.abs(ours - theirs).max() < 1e-3)
    """
    pytest.importorskip("torch")
    for first, second in (("torch", "gpunn"), ("gpunn", "torch")):
        assert python(code.format(first=first, second=second)) == "True"


@needs_library
def test_the_same_bits_again():
    code = """
        import hashlib, numpy as np
        from gpunn import functional as F, tensor
        rng = np.random.default_rng(0)
        shapes = (8, 64, 28, 28), (64, 64, 3, 3)
        x, w = (tensor(rng.standard_normal(shape, np.float32), requires_grad=True) for shape in shapes)
        y = F.max_pool2d(F.conv2d(x, w), 3, 2)
        y.backward(rng.standard_normal(y.shape, np.float32))
        print(hashlib.sha256(b"".join(a.tobytes() for a in (y.data, x.grad, w.grad))).hexdigest())
    """
    for threads in ("1", "2"):
        assert len({python(code, OMP_NUM_THREADS=threads) for _ in range(2)}) == 1


# ---- what is kept ---------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process in memory, without those that are free and kept."""
    getattr(ctypes.CDLL(None), "malloc_trim", lambda kept: None)(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def many_shapes(numbers: range) -> None:
    """A convolution, with its gradients, and a pool, for each of the shapes of these numbers."""
    for number in numbers:
        x = np.ones((1, 4, 3 + number % 97, 3 + number // 97), np.float32)
        w = np.ones((4, 4, 3, 3), np.float32)
        plan = conv.plan(2, x.shape, w.shape, 1, 1)
        gy = conv.forward(plan, x, w)
        conv.backward_x(plan, gy, w)
        conv.backward_w(plan, gy, x)
        F.max_pool2d(x, 2)


@needs_library
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the memory of a process is read as Linux has it")
@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_stays_where_it_is_with_a_new_shape_at_every_call(count):
    with onednn.engine("onednn"):
        many_shapes(range(0, count, 2))
        onednn.release()
        before = resident()
        many_shapes(range(1, count, 2))  # shapes as large as those before
        onednn.release()
    assert resident() - before < 4 << 20


@needs_library
def test_jobs_are_given_up_the_oldest_first(monkeypatch):
    monkeypatch.setattr(onednn, "_KEPT", 4)
    onednn.release()
    with onednn.engine("onednn"):
        for size in (1, 2, 3, 4, 1, 5):
            F.sigmoid(np.ones(size, np.float32))
    assert [settings[-1] for _, _, settings in onednn._here.jobs] == [3, 4, 1, 5]
    onednn.release()
    assert not onednn._here.jobs


# ---- failure --------------------------------------------------------------------------------------------------------


@needs_library
@pytest.mark.parametrize(("status", "kind", "told"), [(1, MemoryError, "out of memory"), (5, RuntimeError, "status 5")])
def test_a_primitive_that_fails(monkeypatch, status, kind, told):
    loaded = found()[0]
    x, w = problem(0)
    onednn.release()
    monkeypatch.setattr(onednn, "Placed", lambda execute: lambda *arguments: status)
    with pytest.raises(kind, match=f"oneDNN {loaded.version_text}: primitive_execute: {told}"):
        F.conv2d(x, w)
    monkeypatch.undo()
    onednn.release()
    F.conv2d(x, w)


ORDERS = {
    "conv2d": (lambda x, w: F.conv2d(x, w, padding=1), (3, 16, 9, 8), (16, 16, 3, 3)),
    "max_pool2d": (lambda x: F.max_pool2d(x, 2), (3, 16, 8, 8)),
    "avg_pool2d": (lambda x: F.avg_pool2d(x, 2), (3, 16, 8, 8)),
    "linear": (F.linear, (5, 64), (32, 64)),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, 64, w, b), (5, 64), (64,), (64,)),
    "softmax": (F.softmax, (5, 64)),
    "sigmoid": (F.sigmoid, (40, 50)),
    "gelu": (F.gelu, (40, 50)),
    "silu": (F.silu, (40, 50)),
    "relu": (F.relu, (40, 50)),
}


def with_gaps(a):
    return np.repeat(a, 2, -1)[..., ::2]


def backwards(a):
    return a[..., ::-1].copy()[..., ::-1]


@needs_library
@pytest.mark.parametrize("name", ORDERS)
def test_arrays_in_another_order_of_memory(name, rng):
    """Operands and gradients: with gaps, backwards, and the first axis innermost."""
    function, *shapes = ORDERS[name]

    def results(order):
        tensors = [tensor(order(a), requires_grad=True) for a in given]
        for t, a in zip(tensors, given, strict=True):
            t.hold(order(a))
        y = function(*tensors)
        y.backward(order(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape)))
        return [y.data, *[t.grad for t in tensors]]

    given = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    with onednn.engine("numpy"):
        wanted = results(np.array)
    with onednn.engine("onednn"):
        for order in (np.asfortranarray, with_gaps, backwards):
            for actual, expected in zip(results(order), wanted, strict=True):
                np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-5)


@needs_library
def test_an_array_of_another_size_is_refused():
    """Whatever a caller forgot to check, nothing is read beyond an array's end."""
    x, y = np.ones(64, np.float32), np.ones(63, np.float32)
    with (
        onednn.engine("onednn"),
        pytest.raises(ShapeError, match="oneDNN: an array must have 256 bytes, got bytes=252"),
    ):
        onednn.run(0, eltwise._forward, (*eltwise._ALGORITHMS["tanh"], 64), x, y)


@needs_library
def test_what_it_does_not_serve_numpy_computes(monkeypatch):
    x, w = problem(1)
    wanted = F.conv2d(x, w)
    onednn.release()
    monkeypatch.setattr(found()[0].c, "dnnl_convolution_forward_primitive_desc_create", lambda *arguments: 3)
    plan = conv.Plan("conv2d", x.shape, w.shape, wanted.shape, conv.plan(2, x.shape, w.shape).window, 1)
    np.testing.assert_allclose(conv.forward(plan, x, w), wanted, rtol=1e-4, atol=1e-4)
    onednn.release()


@needs_library
def test_mean_and_variance_of_another_dtype_or_with_gaps(rng):
    x, gy = rng.standard_normal((2, 6, 8)).astype(np.float32)
    _, *of_rows = norm.layer_norm(x, 8)
    wide = np.stack(of_rows, dtype=np.float64)
    for mean, var in (wide, np.asfortranarray(wide.astype(np.float32))):
        with onednn.engine("numpy"):
            expected = norm.layer_norm_backward(gy, x, mean, var, 8)
        with onednn.engine("onednn"):
            given = norm.layer_norm_backward(gy, x, mean, var, 8)
        for a, b in zip(given, expected, strict=True):
            np.testing.assert_allclose(a, b, 1e-5, 1e-6)
