"""The tools that plant faults: each way to be caught, on a kernel of its own; their lists fit the sources."""

import os
from pathlib import Path

import mutants
import mutants_gpu
import pytest

from gpunn.cuda import cache

TOY = """\
// Specialisation: DTYPE=float
extern "C" __global__ void shift(const DTYPE* x, DTYPE* y, int n) {
  __shared__ DTYPE tile[8];
  const int i = blockIdx.x * 8 + threadIdx.x;
  tile[threadIdx.x] = i < n ? x[i] : 0;
  __syncthreads();
  for (int k = 0; k < 3; k++) n += 0;
#ifdef FOR_THE_GPU
  n = 0;
#endif
  if (i < n) y[i] = tile[7 - threadIdx.x] + 1;
}
"""
CASES = """\
import numpy as np
from gpunn import cuda

def run():
    x = np.arange(13, dtype=np.float32)
    y = np.zeros_like(x)
    if cuda.takes(x):
        cuda.launch("toy.cu", "shift", {"DTYPE": "float"}, (2,), (8,), [x, y, np.int32(13)])
    else:
        y[:8], y[8:] = x[7::-1] + 1, np.append(x[:7:-1], 0)[[i - 3 for i in range(5)]] + 1
        y[8:] = np.array([0, 0, 0, *x[:7:-1]])[:5] + 1
    yield y
"""


@pytest.fixture(scope="module")
def runner(tmp_path_factory) -> mutants.Runner:
    work = tmp_path_factory.mktemp("mutants")
    (work / "kernel_cases").mkdir()
    (work / "kernel_cases" / "toy.py").write_text(CASES)
    runner = mutants.Runner(work, {"toy.cu": TOY})
    runner.environment["PYTHONPATH"] += os.pathsep + str(work)
    runner.environment["GPUNN_CACHE_DIR"] = str(cache.folder())  # which has the emulator's runtime already
    assert runner.measure("toy") == ""
    return runner


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "caught"),
    [
        (" + 1;", " - 1;", "other numbers"),
        ("tile[7 - ", "tile[8 - ", "check mode: CheckError|other numbers"),
        ("__syncthreads();", ";", "other numbers|other bits in another order|check mode: CheckError"),
        ("if (i < n) ", "", "check mode: CheckError|crashes|cases: LaunchError"),
        ("k < 3; k++", "k < 3; k += 0", "hangs"),
        ("n += 0", "n += 0 * k", ""),
    ],
    ids=["numbers", "index", "barrier", "boundary", "loop", "same"],
)
def test_a_fault_is_caught_and_no_fault_is_not(runner, before, after, caught, monkeypatch):
    monkeypatch.setattr(runner, "limits", {"toy": {"cases": 3, "check mode": 20}})
    outcome = runner.run(mutant(before, after))
    assert outcome.broken == ""
    assert outcome.caught in caught.split("|")


def mutant(before: str, after: str) -> mutants.Mutant:
    number, line = next((i, line) for i, line in enumerate(TOY.split("\n"), 1) if before in line)
    return mutants.Mutant("toy.cu", number, "test", line, line.replace(before, after))


def test_what_does_not_compile_is_not_planted(runner):
    assert "missing" in runner.run(mutant("tile[7", "missing[7")).broken


def test_a_line_for_the_gpu_alone_is_not_planted(runner):
    assert runner.run(mutant("n = 0;", "n = 1;")).broken == "the emulator does not compile this line"


def test_the_rules_reach_every_kernel_file():
    for file, text in mutants.read_kernels().items():
        made = mutants.by_rules(file, text)
        assert len(made) >= 5 or file.endswith(".cuh"), file
        assert mutants.sampled(made) == mutants.sampled(reversed(made))
        assert sorted(mutants.sampled(made), key=str) == sorted(made, key=str)


def test_the_rules_make_the_common_mistakes():
    made = {(m.kind, m.after.strip()) for m in mutants.by_rules("toy.cu", TOY)}
    assert made >= {
        ("dropped barrier", ";"),
        ("<= for <", "if (i <= n) y[i] = tile[7 - threadIdx.x] + 1;"),
        ("unwritten tail", "if (i < n) if (blockIdx.x + 1 != gridDim.x) y[i] = tile[7 - threadIdx.x] + 1;"),
        ("wrong lane", "tile[(threadIdx.x + 1)] = i < n ? x[i] : 0;"),
        ("loop ends early", "for (int k = 0; k < 3 - 1; k++) n += 0;"),
    }
    swapped = {m.after for m in mutants.by_rules("a.cu", "p = oh * sh + ow * sw;") if m.kind == "swapped sides"}
    assert swapped == {
        "p = ow * sh + ow * sw;",
        "p = oh * sw + ow * sw;",
        "p = oh * sh + oh * sw;",
        "p = oh * sh + ow * sh;",
    }


def test_the_mutants_by_hand_and_the_equivalent_ones_are_of_the_sources_as_they_are():
    texts = mutants.read_kernels()
    assert len(mutants.by_hand(texts, texts)) == len(mutants.BY_HAND)
    mutants.check_equivalents(texts, texts)


def test_a_mutant_whose_text_is_gone_is_named(monkeypatch):
    texts = mutants.read_kernels()
    monkeypatch.setattr(mutants, "BY_HAND", [("pool.cu", "no such text", "", "a mistake")])
    with pytest.raises(ValueError, match="BY_HAND: pool.cu holds 'no such text' 0 times, not once"):
        mutants.by_hand(texts, texts)
    monkeypatch.setattr(mutants, "EQUIVALENT", {("pool.cu", "no such line"): "because"})
    with pytest.raises(ValueError, match="EQUIVALENT: no rule makes this of pool.cu any more, .*no such line"):
        mutants.check_equivalents(texts, texts)


def test_a_header_is_tried_with_every_file_that_includes_it():
    texts = {"a.cu": '#include "b.cuh"', "b.cuh": '#include "c.cuh"', "c.cuh": "", "d.cu": ""}
    runner = mutants.Runner(Path(), texts)
    assert runner.stems("c.cuh") == ["a"]
    assert runner.stems("d.cu") == ["d"]


# ---- mutants_gpu.py -------------------------------------------------------------------------------------------------


def test_the_mutants_for_a_gpu_are_of_the_sources_as_they_are():
    mutants_gpu.check_texts()
    assert len(mutants_gpu.MUTANTS) >= 40
    assert len(mutants_gpu.LATE) == 10
    for mutant in mutants_gpu.MUTANTS:
        assert "mark.gpu" in (mutants_gpu.ROOT / mutant.tests).read_text()


def test_a_mutant_for_a_gpu_whose_text_is_gone_is_named(monkeypatch):
    monkeypatch.setattr(
        mutants_gpu, "MUTANTS", [mutants_gpu.Mutant("gpunn/backend.py", "a mistake", "no such text", "")]
    )
    message = "gpunn/backend.py: a mistake: the file holds 'no such text' 0 times, not once"
    with pytest.raises(ValueError, match=message):
        mutants_gpu.check_texts()
    monkeypatch.setattr(mutants_gpu, "MUTANTS", [])
    with pytest.raises(ValueError, match="no mutant has this name any more"):
        mutants_gpu.check_texts()


def test_what_nobody_catches_is_a_gap_unless_it_is_equivalent(capsys):
    caught, equivalent, alive = mutants_gpu.MUTANTS[0], None, None
    for mutant in mutants_gpu.MUTANTS[1:]:
        if (mutant.file, mutant.mistake) in mutants_gpu.EQUIVALENT:
            equivalent = mutant
        elif (mutant.file, mutant.mistake) not in mutants_gpu.LATE:
            alive = mutant
    outcomes = {caught: mutants_gpu.Outcome("late", "test"), equivalent: mutants_gpu.Outcome()}
    assert mutants_gpu._report(outcomes, 1) == 0
    assert "1 planted, 1 caught; 1 more are equivalent" in capsys.readouterr().out
    assert mutants_gpu._report({**outcomes, alive: mutants_gpu.Outcome()}, 1) == 1
    assert f"not caught: {alive}\n    A GAP IN THE TESTS" in capsys.readouterr().out
    assert mutants_gpu._report({**outcomes, equivalent: mutants_gpu.Outcome("eager", "test")}, 1) == 1
