"""What holds for every kernel of the library, on the cases in tests/kernel_cases/, a file for each kernel file."""

import importlib
import sys
import threading
import types

import numpy as np
import oracles
import pytest
import sanitize
from planned import conv, lrn
from planned import pooling as pool
from runners import run_kernel_cases, run_kernel_cases_on_gpu

from gpunn import backend, cuda
from gpunn.cuda import source
from gpunn.cuda.launch import index_type, takes
from gpunn.errors import CompileError, LaunchError, ShapeError
from gpunn.ops import dropout, norm

STEMS = [name.removesuffix(".cu") for name in source.sources()]


def assert_same_bits(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a.view(np.uint8), e.view(np.uint8))


def assert_near(actual, expected):
    """Places, masks and skeletons agree; sums up to rounding: the longest in any case is of some 2000 terms."""
    if actual.dtype.kind == "f":
        oracles.assert_close(actual, expected, terms=2000)
    else:
        np.testing.assert_array_equal(actual, expected)


@pytest.fixture(params=STEMS, scope="module")
def stem_and_bits(request):
    with cuda.emulate():
        return request.param, run_kernel_cases(request.param)


@pytest.mark.parametrize("stem", STEMS)
def test_the_cases_launch_every_kernel_of_their_file(stem, monkeypatch):
    launched = set()
    launch = cuda.launch
    monkeypatch.setattr(cuda, "launch", lambda file, kernel, *rest: (launched.add(kernel), launch(file, kernel, *rest)))
    with cuda.emulate():
        run_kernel_cases(stem)
    assert launched >= set(source.kernel_names(source.flatten(f"{stem}.cu")))


@pytest.mark.parametrize("stem", STEMS)
def test_launches_give_the_macros_that_ci_compiles(stem):
    """Those that the kernel file lists; a macro that has one number in all its lines has this number in launches."""
    with cuda.record_launches() as launched, np.errstate(all="ignore"):
        run_kernel_cases(stem)
    listed = source.example_macros(source.flatten(f"{stem}.cu"))
    numbers = {name: value for name, value in listed[0].items() if value.isdigit()}
    numbers = dict(item for item in numbers.items() if all(item in macros.items() for macros in listed))
    given = [
        dict(o.removeprefix("-D").split("=", 1) for o in options) for file, options in launched if file[:-3] == stem
    ]
    assert given
    for macros in given:
        assert macros.keys() in [each.keys() for each in listed]
        assert macros | numbers == macros


@pytest.mark.slow
@pytest.mark.parametrize("order", ["reverse", *range(20)])
def test_every_order_of_threads_gives_the_same_bits(stem_and_bits, order):
    stem, expected = stem_and_bits
    with cuda.emulate(order=order):
        assert_same_bits(run_kernel_cases(stem), expected)


@pytest.mark.slow
def test_every_kernel_is_clean_under_check_and_near_the_xp_path(stem_and_bits):
    stem, _ = stem_and_bits
    with cuda.emulate(check=True):
        checked = run_kernel_cases(stem)
    for actual, wanted in zip(checked, run_kernel_cases(stem), strict=True):
        assert_near(actual, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("stem", STEMS)
def test_two_runs_on_the_gpu_give_the_same_bits_near_the_cpu(stem):
    wanted = run_kernel_cases(stem)
    runs = [[backend.to_cpu(a) for a in run_kernel_cases_on_gpu(stem)] for _ in range(2)]
    assert_same_bits(*runs)
    for actual, expected in zip(runs[0], wanted, strict=True):
        assert_near(actual, expected)


@pytest.mark.parametrize("stem", STEMS)
def test_the_cases_stay_the_same_on_arrays_that_are_copied(stem, monkeypatch):
    """As to a GPU: a case must not build on what an earlier one changed in place."""
    monkeypatch.setattr(backend, "to_gpu", np.copy)
    with cuda.emulate():
        copied = run_kernel_cases_on_gpu(stem)
    for actual, wanted in zip(copied, run_kernel_cases(stem), strict=True):
        assert_near(actual, wanted)


def test_only_emulated_numpy_arrays_of_the_kernels_dtypes_are_taken():
    x = np.ones(3, np.float32)
    assert not takes(x)
    with cuda.emulate():
        assert takes(x)
        assert takes(x.astype(np.float64))
        assert not takes(x.astype(np.float16))
        with cuda.emulate(check=True):
            assert takes(x)
        assert takes(x)
    assert not takes(x)


def test_index_is_wide_before_it_can_overflow():
    assert index_type(5) == "int"
    assert index_type(5, 2**31 - 2**23) == "long long"


LARGE = 46400  # squared it is more than 2**31


@pytest.fixture
def large_image(tmp_path):
    """A plane of more than 2**31 elements, in a file that is all hole: it takes neither memory nor room on the disk."""
    if sys.platform == "win32":
        pytest.skip("files have no holes there unless they are asked for")
    return np.memmap(tmp_path / "plane", np.float32, "w+", shape=(1, 1, LARGE, LARGE))


def index_types(function, *args, **settings):
    """The index types of the kernels that are launched, which do not run here."""
    with cuda.record_launches() as launched, np.errstate(all="ignore"):
        function(*args, **settings)
    return {option.split("=")[1] for _, options in launched for option in options if option.startswith("-DINDEX=")}


def test_arrays_beyond_32_bits_go_to_kernels_with_wide_indices(large_image):
    w, gy = np.ones((2, 1, 3, 3), np.float32), np.ones((1, 2, 47, 47), np.float32)
    assert index_types(conv.conv2d, large_image, w, stride=1000) == {"long long"}
    assert index_types(conv.conv2d_backward_w, gy, large_image, w.shape, stride=1000) == {"long long"}
    assert index_types(conv.conv2d, large_image, w[:1], stride=1000) == {"long long"}  # depthwise
    assert index_types(pool.max_pool2d, large_image, 3, 1000) == {"long long"}
    assert index_types(pool.avg_pool2d, large_image, 3, 1000) == {"long long"}
    channels = large_image.reshape(-1)[: 8 * 16400 * 16400].reshape(1, 8, 16400, 16400)
    with backend.matmul_precision("bf16"):
        wide = index_types(conv.conv2d, channels, np.ones((8, 8, 3, 3), np.float32), stride=1000)
    assert wide == {"int", "long long"}  # of the filters, and of the images
    assert index_types(conv.conv2d, channels[:, :, :500, :500], np.ones((8, 8, 3, 3), np.float32)) == {"int"}


def test_what_tensor_cores_cannot_count_is_refused_in_words(large_image):
    message = r"conv2d: an image must have fewer than 2\*\*31 pixels, got pixels=2152960000"
    with cuda.record_launches(), backend.matmul_precision("tf32"), pytest.raises(ShapeError, match=message):
        conv.conv2d(large_image, np.ones((2, 1, 3, 3), np.float32), stride=1000)


def shifted(x, by):
    """x, to begin ``by`` bytes after a multiple of 16."""
    room = np.zeros(x.nbytes + 32, np.uint8)
    start = -room.ctypes.data % 16 + by
    result = np.frombuffer(room.data, x.dtype, x.size, start).reshape(x.shape)
    result[...] = x
    return result


OPERATIONS = {
    "conv": lambda x: conv.conv2d(x, np.ones((5, 4, 3, 3), x.dtype), padding=1),
    "depthwise": lambda x: conv.conv2d(x, np.ones((4, 1, 3, 3), x.dtype), groups=4),
    "pool": lambda x: pool.max_pool2d(x, 2),
    "lrn": lambda x: lrn.local_response_norm(x, 3),
    "dropout": lambda x: dropout.dropout(x, 0.5, 1),
    "batch_norm": lambda x: norm.batch_norm_statistics(x)[0],
}


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_an_array_begins_does_not_matter_if_its_elements_are_aligned(operation, dtype, rng):
    x = rng.standard_normal((2, 4, 8, 8)).astype(dtype)
    for check in (False, True):
        with cuda.emulate(check=check):
            wanted = operation(x)
            for by in range(x.itemsize, 16, x.itemsize):
                np.testing.assert_allclose(operation(shifted(x, by)), wanted, rtol=1e-5, atol=1e-6)
            strided = np.repeat(x, 2, axis=3)[:, :, :, ::2]
            np.testing.assert_allclose(operation(strided), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_elements_that_are_not_aligned_are_refused_before_the_launch(operation):
    x = shifted(np.ones((2, 4, 8, 8), np.float32), 2)
    message = r"\w+: arrays must begin at a multiple of their element size, got dtype='float32', shape=\(2, 4, 8, 8\)"
    with cuda.emulate(), pytest.raises(LaunchError, match=message):
        operation(x)


def test_a_device_whose_architecture_nvrtc_does_not_know_is_named(monkeypatch):
    pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")
    launched = importlib.import_module("gpunn.cuda.launch")  # gpunn.cuda.launch is the function
    monkeypatch.setitem(sys.modules, "cupy", types.ModuleType("cupy"))
    with pytest.raises(CompileError, match=r"NVRTC \S+ compiles for .*sm_75.*, got 'sm_30'"):
        launched._compiled("lrn.cu", "lrn_forward", ("-DDTYPE=float",), "sm_30", 0, 0)


def test_a_thread_has_its_own_emulation():
    seen = []
    with cuda.emulate():
        thread = threading.Thread(target=lambda: seen.append(takes(np.ones(1, np.float32))))
        thread.start()
        thread.join()
    assert seen == [False]


SANITIZER = """#!/bin/sh
echo "$@" >>"$(dirname "$0")/calls"
test "$2" != racecheck
"""


def test_the_sanitizer_runs_each_tool_and_tells_which_failed(tmp_path, monkeypatch, capsys):
    (tmp_path / "compute-sanitizer").write_text(SANITIZER)
    (tmp_path / "compute-sanitizer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert sanitize.main([]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "failed: racecheck"
    assert sanitize.main(["memcheck", "--", "conv", "pool"]) == 0
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    assert [call[1] for call in calls] == [*sanitize.TOOLS, "memcheck"]
    assert calls[-1][-3:] == ["--cases", "conv", "pool"]


def test_without_the_sanitizer_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert sanitize.main([]) == 2
    assert "compute-sanitizer is not installed" in capsys.readouterr().err
