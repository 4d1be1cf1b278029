"""The emulator's command line and its fixture for tests."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from gpunn.cuda.emulator.__main__ import main
from gpunn.cuda.emulator.arguments import parse
from gpunn.errors import ArgumentError

KERNELS = """#include "factor.cuh"
template <class T> __global__ void scale(T* x, T factor, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= factor * MORE;
}
extern "C" __global__ void add(float* sums, const float* x, const int* none) {
    extern __shared__ float s[];
    s[threadIdx.x] = x[threadIdx.x];
    if (!none) sums[threadIdx.x] += s[threadIdx.x];
}
extern "C" __global__ void found(int* flag) { *flag = 1; }
"""


@pytest.fixture
def source(tmp_path):
    (tmp_path / "factor.cuh").write_text("#ifndef MORE\n#define MORE 1\n#endif\n")
    (tmp_path / "kernels.cu").write_text(KERNELS)
    return str(tmp_path / "kernels.cu")


def test_run_prints_what_the_arrays_became(source, capsys, tmp_path):
    file = str(tmp_path / "x.npy")
    command = ["run", source, "--kernel", "scale<double>", "--grid", "2", "--block", "8,1", "--option=-DMORE=5"]
    given = ["--arg", "float64[3,4]=arange", "--arg", "float64=2", "--arg", "int32=0xb", "--out", f"0={file}"]
    assert main([*command, *given]) == 0
    first, second = capsys.readouterr().out.split("\n", 1)
    assert first.startswith("scale<double>: ")
    assert first.endswith(" ms on the CPU")
    assert second.startswith("argument 0, float64 (3, 4): [[  0.  10.")
    right = np.arange(12.0).reshape(3, 4) * np.where(np.arange(12) < 11, 10, 1).reshape(3, 4)
    np.testing.assert_array_equal(np.load(file), right)
    assert main(["run", source, *command[2:], "--arg", file, *given[2:6], "--expect", "0=float64=0"]) == 1
    words = "argument 0 is not as expected: 11 of 12 differ, at (0, 1) 100.0 for 0.0"
    assert words in capsys.readouterr().out


def test_expected_results_are_compared(source, capsys):
    command = ["run", source, "--kernel", "add", "--block", "4", "--shared", "16", "--arg", "float32[4]=1"]
    command += ["--arg", "float32[4]=arange", "--arg", "null"]
    assert main([*command, "--expect", "0=float32[4]=1", "--atol", "3.1"]) == 0
    assert main([*command, "--expect", "0=float32[4]=1", "--atol", "2.9"]) == 1
    assert main([*command, "--expect", "0=float32[2]=1"]) == 1
    assert "its shape is (4,), that of what is expected (2,)" in capsys.readouterr().out


def test_check_tells_every_mistake(source, capsys):
    command = ["check", source, "--kernel", "add", "--block", "8", "--shared", "32"]
    arrays = ["--arg", "float32[8]=empty", "--arg", "float32[4]=random", "--arg", "null"]
    assert main([*command, *arrays]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[:3] for line in lines] == [
        ["add", "uninitialised", "kernels.cu:9"],
        ["add", "out-of-bounds", "kernels.cu:8"],
    ]
    assert main(["check", source, "--kernel", "found", "--block", "2", "--arg", "int32[1]"]) == 0
    assert "warning: found: race: kernels.cu:11:" in capsys.readouterr().out


def test_count_tells_what_a_card_would_do(source, capsys, tmp_path):
    file = str(tmp_path / "sums.npy")
    command = ["count", source, "--kernel", "add", "--block", "64", "--shared", "256"]
    command += ["--arg", "float32[64]=1", "--arg", "float32[64]=arange", "--arg", "null"]
    assert main([*command, "--card", "A100"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("add: 1 launch, grid (1, 1, 1), block (64, 1, 1), on A100\n")
    assert "kernels.cu:8" in out
    assert "argument 0" not in out
    assert main([*command, "--json", "--out", f"0={file}", "--expect", "0=float32[64]=0"]) == 1
    described, rest = capsys.readouterr().out.rsplit("}\n", 1)
    counts = json.loads(described + "}")
    assert (counts["card"], counts["kernels"][0]["read_bytes"]) == ("H200", 2 * 256)
    lines = {line["line"]: line for line in counts["kernels"][0]["lines"]}
    assert (lines[8]["loads"], lines[8]["shared_stores"], lines[9]["stores"]) == (2, 2, 2)
    assert "argument 0 is not as expected" in rest
    np.testing.assert_array_equal(np.load(file), np.arange(64) + 1)


@pytest.mark.parametrize("mode", ["run", "check", "count"])
def test_a_cooperative_launch(capsys, tmp_path, mode):
    file = tmp_path / "turned.cu"
    file.write_text("""#include <cooperative_groups.h>
    extern "C" __global__ void turned(const int* x, int* y, int* z) {
        auto grid = cooperative_groups::this_grid();
        int i = grid.thread_rank(), n = grid.size();
        y[i] = x[i] + 1;
        grid.sync();
        z[i] = y[n - 1 - i];
    }""")
    command = [mode, str(file), "--kernel", "turned", "--grid", "3", "--block", "4", "--arg", "int32[12]=arange"]
    command += ["--arg", "int32[12]", "--arg", "int32[12]", "--out", f"2={tmp_path / 'z.npy'}"]
    assert main([*command, "--cooperative"]) == 0
    assert "turned" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), np.arange(12, 0, -1))
    assert main(command) == (1 if mode == "check" else 2)
    told = capsys.readouterr()
    assert "a barrier across the grid in a launch that is not cooperative" in told.out + told.err


@pytest.mark.parametrize("words", [["--card", "A100"], ["--json"]])
@pytest.mark.parametrize("mode", ["run", "check"])
def test_only_count_has_a_card(source, capsys, mode, words):
    assert main([mode, source, "--kernel", "found", "--arg", "int32[1]", *words]) == 2
    assert f"only \"count\" takes --card and --json, got mode='{mode}'" in capsys.readouterr().err


def test_a_card_that_is_not_known_is_said(source, capsys):
    assert main(["count", source, "--kernel", "found", "--arg", "int32[1]", "--card", "H300"]) == 2
    assert "card must be one of H200, A100, RTX 3060, got 'H300'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kernel", "gone"], "no kernel 'gone'"),
        (["--kernel", "found", "--grid", "a"], "grid and block must be 1 to 3 numbers, as 16,16, got given='a'"),
        (["--kernel", "found"], "takes 1 arguments, got 0"),
        (["--kernel", "found", "--arg", "int32[1]", "--out", "1=x.npy"], "must name an argument that is an array"),
        (["--kernel", "found", "--arg", "int32[1]=none"], "int32 does not hold that"),
        (["--kernel", "found", "--arg", "int8=300"], "int8 does not hold that"),
        (["--kernel", "found", "--arg", "int32"], "a number needs a value: TYPE=VALUE"),
        (["--kernel", "found", "--arg", "text=3"], "it must be TYPE=VALUE, TYPE"),
        (["--kernel", "found", "--arg", "gone.npy"], "NumPy cannot read the file"),
    ],
)
def test_what_cannot_be_run_is_said(source, capsys, words, message):
    assert main(["run", source, *words]) == 2
    assert message in capsys.readouterr().err


def test_a_source_that_is_not_there_is_said(capsys):
    assert main(["run", "gone.cu", "--kernel", "k"]) == 2
    assert "gone.cu" in capsys.readouterr().err


def test_arguments():
    assert parse("bool=1") == np.True_
    assert parse("complex64=1+2j") == np.complex64(1 + 2j)
    np.testing.assert_array_equal(parse("uint8[2, 2]=0xff"), np.full((2, 2), 255, np.uint8))
    np.testing.assert_array_equal(parse("float32[3]"), np.zeros(3, np.float32))
    np.testing.assert_array_equal(parse("int16[5]=random", 2), np.random.default_rng(2).integers(0, 100, 5))
    assert parse("float16[1000]=random").std() == pytest.approx(1, abs=0.1)
    assert parse("int64[0]=ones").shape == (0,)
    with pytest.raises(ArgumentError):
        parse("float32[2]=true")


TEST = """
import numpy as np

CODE = 'extern "C" __global__ void flip(float* x) { %s; x[threadIdx.x] = v; }'


def test_flip(cuda_module):
    x = np.arange(4, dtype=np.float32)
    code = CODE % "float v = x[threadIdx.x ^ 1]; __syncthreads()"
    cuda_module(code, filename="k.cu").get_function("flip")((1,), (4,), (x,))
    assert x.tolist() == [1, 0, 3, 2]


def test_flip_without_a_barrier(cuda_module):
    x = np.arange(4, dtype=np.float32)
    cuda_module(CODE % "float v = x[threadIdx.x ^ 1]", filename="k.cu").get_function("flip")((1,), (4,), (x,))
    assert x.tolist() == [1, 0, 3, 2]
"""


def test_the_fixture_runs_a_test_in_every_mode(tmp_path):
    (tmp_path / "test_flip.py").write_text(TEST)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["gpunn.cuda.emulator.pytest"]\n')
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert "4 failed, 4 passed" in done.stdout, done.stdout
    assert "test_flip_without_a_barrier[check]" in done.stdout
