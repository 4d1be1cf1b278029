"""Every kernel compiles for every architecture with NVRTC: no GPU and no driver needed."""

import budget
import pytest

from gpunn.cuda import cache, compiler, source
from gpunn.errors import CompileError

pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")

BUDGET_VERSION, BUDGET = budget.read()


def cells():
    """The first specialisation of each file on every architecture, the others on the oldest and on Hopper.

    The quick tier has the first on one.
    """
    files = set()
    for name, macros in budget.specialisations():
        for arch in budget.architectures(name):
            if name in files and arch not in ("sm_75", "sm_90", "sm_90a"):
                continue
            quick = arch in ("sm_90", "sm_90a") and name not in files
            marks = [] if quick else [pytest.mark.slow]
            yield pytest.param(name, macros, arch, id=f"{name} {' '.join(macros.values())}-{arch}", marks=marks)
        files.add(name)


@pytest.mark.parametrize(("name", "macros", "arch"), list(cells()))
def test_every_kernel_compiles_within_its_budget(name, macros, arch):
    code = source.flatten(name)
    cubin = compiler.compile_cubin(code, name, source.options(macros), arch)
    assert cubin.path.read_bytes().startswith(b"\x7fELF")
    assert sorted(cubin.resources) == sorted(source.kernel_names(code))
    for kernel, used in cubin.resources.items():
        assert 0 < used.registers <= 128, kernel  # 512 threads a multiprocessor at least
        assert used.spill_bytes == 0, kernel
        assert used.shared_bytes <= 48 * 1024, kernel
        assert used.stack_bytes <= 32, kernel
    if compiler.nvrtc_version() == BUDGET_VERSION:  # another version counts otherwise
        for entry, figures in budget.figures(name, macros, arch).items():
            assert not budget.over(entry, arch, figures, BUDGET)


def test_the_budget_allows_no_spills():
    assert {cell: figures for cell, figures in BUDGET.items() if figures.spill_bytes} == {}


def test_the_budget_has_no_row_of_a_kernel_that_is_gone():
    kernels = {
        budget.Entry(name, budget.name_of(macros), kernel)
        for name, macros in budget.specialisations()
        for kernel in source.kernel_names(source.flatten(name))
    }
    stale = {entry for entry, _ in BUDGET} - kernels
    assert not stale, "run python tests/budget.py"


def test_the_budget_says_what_grew_and_what_is_missing():
    entry, allowed = budget.Entry("a.cu", "DTYPE=float", "f"), budget.Figures(32, 1024, 0)
    table = {(entry, "sm_90"): allowed}
    assert budget.over(entry, "sm_90", allowed, table) == ""
    assert budget.over(entry, "sm_90", budget.Figures(30, 0, 0), table) == ""
    grown = budget.over(entry, "sm_90", budget.Figures(33, 1024, 8), table)
    assert (
        grown == "a.cu DTYPE=float f on sm_90 grew beyond budget.csv: registers from 32 to 33, spill_bytes from 0 to 8"
    )
    assert (
        budget.over(entry, "sm_80", allowed, table)
        == "a.cu DTYPE=float f is not in budget.csv: run python tests/budget.py"
    )


SMALL = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= FACTOR; }'


def test_a_second_compile_reads_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    first = compiler.compile_cubin(SMALL, "small.cu", ("-DFACTOR=2",), "sm_90")
    monkeypatch.setattr(compiler, "_nvrtc", None)  # calling it would fail
    assert compiler.compile_cubin(SMALL, "small.cu", ("-DFACTOR=2",), "sm_90") == first
    assert first.path.is_relative_to(cache.folder())


@pytest.mark.parametrize(
    ("code", "option", "arch"),
    [(SMALL, "-DFACTOR=3", "sm_90"), (SMALL, "-DFACTOR=2", "sm_80"), (SMALL + "//", "-DFACTOR=2", "sm_90")],
    ids=["macro", "architecture", "source"],
)
def test_the_cache_tells_apart(code, option, arch, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    first = compiler.compile_cubin(SMALL, "small.cu", ("-DFACTOR=2",), "sm_90")
    assert compiler.compile_cubin(code, "small.cu", (option,), arch).path != first.path


def test_a_compile_error_names_the_files_own_line(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    code = '#line 1 "broken.cu"\nextern "C" __global__ void f(float* x) {\n  x[0] = missing;\n}\n'
    with pytest.raises(
        CompileError,
        match=r'(?s)broken.cu: NVRTC does not compile it for sm_90:.*broken.cu\(2\): error: identifier "missing"',
    ):
        compiler.compile_cubin(code, "broken.cu", (), "sm_90")
    assert not list(tmp_path.rglob("*.cubin"))


@pytest.mark.parametrize("name", source.sources())
def test_a_missing_macro_is_named(name):
    for line in source.flatten(name).splitlines():
        if line.startswith("#error"):
            assert line.startswith('#error "define '), line
    examples = source.example_macros(source.flatten(name))
    for missing, example in {macro: macros for macros in examples for macro in macros}.items():
        options = source.options({macro: value for macro, value in example.items() if macro != missing})
        with pytest.raises(CompileError, match=rf'"define [^"]*\b{missing}\b'):
            compiler.compile_cubin(source.flatten(name), name, options, budget.architectures(name)[-1])
