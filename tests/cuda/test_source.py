import re

import pytest

from gpunn.cuda import source
from gpunn.errors import CompileError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "kernels_folder", lambda: tmp_path)
    return tmp_path


def test_includes_are_flattened_once_with_their_own_lines(folder):
    (folder / "a.cuh").write_text('#include "b.cuh"\nint a;\n')
    (folder / "b.cuh").write_text("int b;\n")
    (folder / "k.cu").write_text('#include <cuda_fp16.h>\n#include "a.cuh"\n  #  include "b.cuh"\nint k;\n')
    assert source.flatten("k.cu").splitlines() == [
        '#line 1 "k.cu"',
        "#include <cuda_fp16.h>",
        '#line 1 "a.cuh"',
        '#line 1 "b.cuh"',
        "int b;",
        '#line 2 "a.cuh"',
        "int a;",
        '#line 3 "k.cu"',
        '#line 4 "k.cu"',
        "int k;",
    ]


def test_files_that_include_each_other_end(folder):
    (folder / "a.cuh").write_text('#include "b.cuh"\n')
    (folder / "b.cuh").write_text('#include "a.cuh"\nint b;\n')
    assert source.flatten("a.cuh").count("int b;") == 1


def test_a_missing_file_is_named(folder):
    (folder / "k.cu").write_text('#include "lost.cuh"\n')
    with pytest.raises(CompileError, match=r"lost.cuh: cannot read the kernel source .*lost.cuh: No such file"):
        source.flatten("k.cu")


def test_kernel_names_with_launch_bounds():
    code = """
    extern "C" __global__ void plain(int n) {}
    extern "C" __global__ void __launch_bounds__((M / 4) * (N / 4))
    bounded(int n) {}
    __device__ void helper() {}
    """
    assert source.kernel_names(code) == ["plain", "bounded"]


def test_options_do_not_depend_on_order():
    assert source.options({"B": 1, "A": "long long"}) == source.options({"A": "long long", "B": 1})


def test_every_kernel_file_has_a_specialisation_and_a_kernel():
    for name in source.sources():
        code = source.flatten(name)
        assert source.example_macros(code), name
        assert source.kernel_names(code), name


_NUMBER = re.compile(r"^\s*(?:#\s*define (\w+)|constexpr int (\w+) =) *\(?\d+\b", re.M)
_DEFINED = re.compile(r"^\s*#\s*define (\w+)", re.M)


@pytest.mark.parametrize("name", source.sources())
def test_no_number_is_written_where_python_gives_it(name):
    code = source.flatten(name)
    given = {macro for macros in source.example_macros(code) for macro in macros}
    assert not given & set(_DEFINED.findall(code))
    # The launch must know how many threads a block has.
    numbers = {a or b for a, b in _NUMBER.findall(code)}
    sizes = re.findall(r"__launch_bounds__\((\w+)", code)
    assert sizes
    assert not [size for size in sizes if size.isdigit() or size in numbers]
