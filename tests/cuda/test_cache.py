"""The kernel cache when things go wrong: spoilt files, several processes, folders that cannot be written."""

import ctypes
import errno
import json
import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from gpunn.cuda import cache, compiler
from gpunn.cuda.emulator import RawKernel
from gpunn.errors import CompileError

pytest.importorskip("cuda.core", reason="NVIDIA has no NVRTC for this system")

CODE = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'


def compiled() -> compiler.Cubin:
    return compiler.compile_cubin(CODE, "small.cu", (), "sm_90")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(cache, "_spares", {})
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The files that NVRTC was asked to compile."""
    asked, nvrtc = [], compiler._nvrtc
    monkeypatch.setattr(compiler, "_nvrtc", lambda code, file, *rest: (asked.append(file), nvrtc(code, file, *rest))[1])
    return asked


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def other_shape(file: Path) -> None:
    file.write_text("[1, 2]")


def other_keys(file: Path) -> None:
    file.write_text(json.dumps({"twice": {"registers": 8}}))


def no_text(file: Path) -> None:
    file.write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("ending", [".cubin", ".json"])
@pytest.mark.parametrize("spoil", [truncate, empty, flip, remove, other_shape, other_keys, no_text])
def test_a_spoilt_file_is_compiled_again(spoil, ending, calls):
    first = compiled()
    content = first.path.read_bytes()
    spoil(first.path.with_suffix(ending))
    assert compiled() == first
    assert first.path.read_bytes() == content
    assert compiled() == first
    assert calls == ["small.cu"] * 2


def test_a_changed_figure_in_the_description_is_noticed(calls):
    described = compiled().path.with_suffix(".json")
    stored = json.loads(described.read_text())
    stored["kernels"]["twice"]["registers"] += 1
    described.write_text(json.dumps(stored))
    assert compiled().resources["twice"].registers == stored["kernels"]["twice"]["registers"] - 1
    assert len(calls) == 2


def test_the_cubin_of_another_process_does_not_go_with_our_description(calls):
    first = compiled()
    other = compiler.compile_cubin(CODE.replace("2", "3"), "small.cu", (), "sm_90")
    first.path.write_bytes(other.path.read_bytes())
    content = compiled().path.read_bytes()
    assert content != other.path.read_bytes()
    assert len(calls) == 3


@pytest.mark.slow
def test_processes_that_compile_the_same_at_once(folder, calls):
    # All wait for a file, so that they begin together.
    code = (
        "import sys, time; from pathlib import Path; from gpunn.cuda import compiler; compiler.nvrtc_version()\n"
        "while not Path(sys.argv[2]).exists(): time.sleep(0.001)\n"
        "for _ in range(3): print(compiler.compile_cubin(sys.argv[1], 'small.cu', (), 'sm_90'))\n"
    )
    start = folder.with_name("start")
    command = [sys.executable, "-c", code, CODE, str(start)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    start.touch()
    ended = [process.communicate(timeout=60) for process in running]
    assert [err for _, err in ended] == [""] * 4
    cubin = compiled()
    assert calls == []  # what they left is whole
    assert {out for out, _ in ended} == {f"{cubin}\n" * 3}
    assert sorted(path.suffix for path in folder.rglob("*.*")) == [".cubin", ".json"]  # and nothing else


def refuse(number: int, where: Path, monkeypatch) -> None:
    """Let every file that is to be put under ``where`` fail with the error ``number``."""
    replace = os.replace

    def fail(source, target):
        if Path(target).is_relative_to(where):
            raise OSError(number, os.strerror(number), str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)


def assert_works_with_one_warning(folder, calls, reason):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = compiled()
        assert compiled() == first
        compiler.compile_cubin(CODE + "//", "small.cu", (), "sm_90")
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert str(warning.message).startswith(f"the kernel cache {folder} cannot be written ({reason}): ")
    assert first.path.read_bytes().startswith(b"\x7fELF")
    assert not first.path.is_relative_to(folder)
    assert calls == ["small.cu"] * 2  # found where it was put instead


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_full_disk_or_a_read_only_folder(number, folder, calls, monkeypatch):
    refuse(number, folder, monkeypatch)
    assert_works_with_one_warning(folder, calls, os.strerror(number))
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_cache_folder_that_is_a_file(folder, calls):
    folder.write_text("mine")
    assert_works_with_one_warning(folder, calls, os.strerror(errno.ENOTDIR))
    assert folder.read_text() == "mine"


def test_a_cache_folder_in_a_place_that_takes_none(calls, monkeypatch):
    monkeypatch.setenv("GPUNN_CACHE_DIR", "/proc/gpunn")
    assert_works_with_one_warning(Path("/proc/gpunn"), calls, os.strerror(errno.ENOENT))


def test_a_read_only_cache_that_is_full_of_kernels_is_used(folder, calls, monkeypatch):
    first = compiled()
    refuse(errno.EROFS, folder, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiled() == first
    assert len(calls) == 1


def test_a_disk_that_fills_up_between_the_two_files(folder, calls, monkeypatch):
    write, written = cache.write_atomically, []

    def once(path, content, **options):
        written.append(path)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content, **options)

    monkeypatch.setattr(cache, "write_atomically", once)
    with pytest.warns(RuntimeWarning, match="No space left"):
        first = compiled()
    monkeypatch.setattr(cache, "write_atomically", write)
    again = compiled()
    assert again.resources == first.resources
    assert again == compiled()


def test_nowhere_to_write_is_an_error_that_names_both_places(folder, monkeypatch):
    refuse(errno.ENOSPC, Path("/"), monkeypatch)
    message = (
        f"small.cu: the compiled kernel cannot be written, neither to the kernel cache {folder} nor .*No space left"
    )
    with pytest.warns(RuntimeWarning), pytest.raises(CompileError, match=message):
        compiled()


def test_the_spare_folder_goes_with_its_process(folder):
    folder.write_text("no folder")
    code = (
        "import warnings; warnings.simplefilter('ignore'); from gpunn.cuda import compiler; import sys\n"
        "print(compiler.compile_cubin(sys.argv[1], 'small.cu', (), 'sm_90').path)"
    )
    ended = subprocess.run([sys.executable, "-c", code, CODE], capture_output=True, text=True, check=True)
    path = Path(ended.stdout.strip())
    assert path.suffix == ".cubin"
    assert not path.parent.exists()


def test_an_architecture_that_nvrtc_does_not_know():
    for arch in ("sm_30", "sm_99", "90", "sm_90b", "", "sm_", "compute_90", "sm_90 "):
        with pytest.raises(CompileError, match=rf"NVRTC \S+ compiles for .*sm_75.*sm_90.*, got '{arch}'"):
            compiler.compile_cubin(CODE, "small.cu", (), arch)
    assert compiler.compile_cubin(CODE, "small.cu", (), "sm_90a").path.exists()


@pytest.mark.slow
def test_the_emulator_works_without_a_writable_cache(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(file))
    x = np.zeros(4, np.float32)
    with pytest.warns(RuntimeWarning, match=r"the kernel cache .* cannot be written"):
        RawKernel('extern "C" __global__ void no_cache(float* x) { x[threadIdx.x] += 1; }', "no_cache")(
            (1,), (4,), (x,)
        )
    np.testing.assert_array_equal(x, 1)


# ---- what others can write ------------------------------------------------------------------------------------------

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX's")


@posix
@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_folders_and_files_are_the_users_alone(umask, folder, calls, monkeypatch):
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(folder / "above" / "cache"))
    folder.mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        first = compiled()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}
    assert {name: mode for name, mode in modes.items() if "." not in name} == dict.fromkeys(
        ("above", "cache", "cubin"), 0o700
    )
    assert {mode for name, mode in modes.items() if "." in name} == {0o600}
    assert compiled() == first
    assert len(calls) == 1


def another_owner(path: Path, monkeypatch) -> None:
    stat_of = Path.stat

    def changed(self, **options):
        found = stat_of(self, **options)
        return os.stat_result((*found[:4], 12345, *found[5:])) if self == path else found

    monkeypatch.setattr(Path, "stat", changed)


@posix
@pytest.mark.parametrize("name", [".", "cubin"])
@pytest.mark.parametrize("how", ["group", "all", "owner"])
def test_a_folder_that_others_can_write_is_not_used(how, name, folder, calls, monkeypatch):
    compiled()
    place = (folder / name).resolve()
    if how == "owner":
        another_owner(place, monkeypatch)
        reason = f"{place} belongs to another user, uid 12345"
    else:
        place.chmod(0o770 if how == "group" else 0o707)
        reason = f"others can write {place}; chmod -R go-w {folder.resolve()} forbids it"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compiled()
        assert compiled() == found
    (warning,) = caught
    assert str(warning.message).startswith(f"the kernel cache {folder} is not used ({reason}): ")
    assert not found.path.is_relative_to(folder)
    assert calls == ["small.cu"] * 2


@posix
@pytest.mark.parametrize("how", ["group", "owner"])
@pytest.mark.parametrize("ending", [".cubin", ".json"])
def test_a_file_that_others_can_write_is_made_again(ending, how, folder, calls, monkeypatch):
    path = compiled().path.with_suffix(ending)
    with warnings.catch_warnings(), monkeypatch.context() as patches:
        warnings.simplefilter("error")
        if how == "owner":
            another_owner(path.resolve(), patches)
        else:
            path.chmod(0o660)
        assert compiled().path == path.with_suffix(".cubin")
        assert len(calls) == 2
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    compiled()
    assert len(calls) == 2


@posix
@pytest.mark.parametrize(("mode", "used"), [(0o777, False), (0o1777, True), (0o775, True)])
def test_a_folder_above_that_everybody_can_write(mode, used, folder, calls, monkeypatch):
    above = folder / "above"
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(above / "cache"))
    compiled()
    above.chmod(mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = compiled()
    assert found.path.is_relative_to(above) == used
    assert [f"anybody can write {above.resolve()}" in str(each.message) for each in caught] == [True] * (not used)


@pytest.mark.slow
@posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file away")
def test_a_library_of_another_owner_is_not_loaded(tmp_path, monkeypatch):
    """The emulator's: it was loaded, and so run."""
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path / "cache"))
    code = 'extern "C" __global__ void taken(float* x) { x[threadIdx.x] += 1; }'
    x = np.zeros(4, np.float32)
    RawKernel(code, "taken")((1,), (4,), (x,))
    (library,) = (tmp_path / "cache" / "emulator").glob("kernel-*.so")
    loaded = []
    monkeypatch.setattr(ctypes, "CDLL", lambda path, load=ctypes.CDLL: loaded.append(Path(path)) or load(path))
    os.chown(library, 12345, 12345)
    RawKernel(code, "taken")((1,), (4,), (x,))
    assert library.stat().st_uid == 0  # made again, and only then loaded
    os.chown(library.parent, 12345, 12345)
    with pytest.warns(RuntimeWarning, match="belongs to another user, uid 12345"):
        RawKernel(code, "taken")((1,), (4,), (x,))
    assert len(loaded) >= 1
    assert not loaded[-1].is_relative_to(tmp_path / "cache")
    np.testing.assert_array_equal(x, 3)
