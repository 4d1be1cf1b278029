"""Every kernel compiles for every architecture with NVRTC: no GPU and no driver needed."""

import pytest

from gpunn.cuda import cache, compiler, source
from gpunn.errors import CompileError

pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
SPECIALISATIONS = [
    pytest.param(name, source.options(macros), id=f"{name} {' '.join(macros.values())}")
    for name in source.sources()
    for macros in source.example_macros(source.flatten(name))
]


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(("name", "options"), SPECIALISATIONS)
def test_every_kernel_compiles(name, options, arch, tmp_path, monkeypatch):
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    code = source.flatten(name)
    cubin = compiler.compile_cubin(code, name, options, arch)
    assert cubin.path.read_bytes().startswith(b"\x7fELF")
    assert sorted(cubin.resources) == sorted(source.kernel_names(code))
    for kernel, used in cubin.resources.items():
        assert 0 < used.registers <= 128, kernel  # 512 threads a multiprocessor at least
        assert used.shared_bytes <= 48 * 1024, kernel
        assert used.stack_bytes <= 32, kernel


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
    with pytest.raises(CompileError, match="define DTYPE, the element type"):
        compiler.compile_cubin(source.flatten(name), name, ("-DKH=1", "-DKW=1", "-DINDEX=int", "-DSIZE=1"), "sm_90")
