"""What holds for every kernel of the library, on the cases in tests/kernel_cases/, a file for each kernel file."""

import threading

import numpy as np
import oracles
import pytest
import sanitize
from runners import run_kernel_cases, run_kernel_cases_on_gpu

from gpunn import backend, cuda
from gpunn.cuda import source
from gpunn.cuda.launch import index_type, takes

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


@pytest.mark.parametrize("order", ["reverse", *range(20)])
def test_every_order_of_threads_gives_the_same_bits(stem_and_bits, order):
    stem, expected = stem_and_bits
    with cuda.emulate(order=order):
        assert_same_bits(run_kernel_cases(stem), expected)


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
