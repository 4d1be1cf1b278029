"""How the emulated device starts, and what stops it: none of this needs CuPy. tests/cuda/device has the rest."""

import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

from gpunn.cuda import device
from gpunn.cuda.device import __main__ as command
from gpunn.cuda.device import environment, libraries, wheel
from gpunn.cuda.device.settings import Settings
from gpunn.errors import ArgumentError, CompileError, DeviceError, PackageError


def installed(folder, name, version):
    """A folder with what pip leaves of a wheel of CuPy."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "cupy").mkdir()
    (folder / "cupy" / "__init__.py").write_text("")
    return folder


@pytest.fixture
def found(monkeypatch):
    """Have CuPy found in a folder, or nowhere."""

    def place(folder):
        spec = types.SimpleNamespace(origin=str(folder / "cupy" / "__init__.py")) if folder else None
        monkeypatch.setattr(wheel.importlib.util, "find_spec", lambda name: spec)

    return place


WHEELS = [("cupy-cuda12x", "14.0.1", 12), ("cupy-cuda12x", "14.2.0", 12), ("cupy-cuda13x", "14.1.1", 13)]


@pytest.mark.parametrize(("name", "version", "cuda"), WHEELS)
def test_wheels_that_can_be_served(tmp_path, found, name, version, cuda):
    found(installed(tmp_path, name, version))
    assert wheel.installed() == wheel.Wheel(name, version, cuda)


@pytest.mark.parametrize("version", ["13.6.0", "14.3.0", "15.0.0rc1"])
def test_another_version_is_refused_by_name(tmp_path, found, version):
    found(installed(tmp_path, "cupy-cuda12x", version))
    rule = rf"cupy-cuda12x {version} is installed, and cannot be served \(.*of the versions 14.0, 14.1, 14.2\)"
    with pytest.raises(PackageError, match=rule):
        wheel.installed()


def test_no_cupy_and_another_build_of_it(tmp_path, found):
    found(None)
    with pytest.raises(PackageError, match=r"CuPy is not installed: pip install .*\[device\]"):
        wheel.installed()
    found(installed(tmp_path, "cupy-rocm-7-0", "14.2.0"))
    with pytest.raises(PackageError, match="is none of the wheels that can be served"):
        wheel.installed()


def test_an_interface_that_is_not_ours_is_told():
    theirs = wheel.Interface(
        frozenset({"free", "malloc", "_sys"}), {"free": "PyObject *(intptr_t)", "malloc": "int (int)"}
    )
    ours = wheel.Interface(frozenset({"malloc"}), {"malloc": "int (size_t)"})
    assert theirs.missing_in(ours) == [
        "free",
        "free: PyObject *(intptr_t), ours none",
        "malloc: int (int), ours int (size_t)",
    ]
    assert theirs.missing_in(theirs) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devices=0", "there can be 1 to 64 devices, got devices=0"),
        ("memory=2X", "memory must be a number of bytes as 8G or 512M, got '2X'"),
        ("memory=0", "memory must be positive, got memory=0"),
        ("card=42", r"card must be one of \(75, .*\), got card='42'"),
        ("lazy", "GPUNN_EMULATED_DEVICE: unknown setting 'lazy' in 'lazy'"),
        ("late=1", "unknown setting 'late=1'"),
    ],
)
def test_wrong_settings(text, message):
    with pytest.raises(ArgumentError, match=message):
        Settings.parse(text)


def test_settings_travel_as_text():
    for settings in (Settings(), Settings(2, 512 << 20, True, True, 80), Settings(late=True)):
        assert Settings.parse(settings.text()) == settings
    assert Settings.parse("") == Settings()
    assert Settings.parse("memory=1.5G".replace("1.5", "3")) == Settings(memory=3 << 30)


def test_processes_find_the_device():
    made = environment.extended({"PYTHONPATH": f"a{os.pathsep}b", "OTHER": "1"}, Settings(devices=3))
    assert made["OTHER"] == "1"
    site, *rest = made["PYTHONPATH"].split(os.pathsep)
    assert (Path(site) / "sitecustomize.py").is_file()
    assert rest[-2:] == ["a", "b"]
    assert Settings.parse(made["GPUNN_EMULATED_DEVICE"]) == Settings(devices=3)
    assert environment.extended(made, Settings(devices=3)) == made


def test_other_programs_start_as_before(tmp_path):
    """Nothing is imported but where CuPy is; a sitecustomize of the user's own still runs."""
    (tmp_path / "sitecustomize.py").write_text("print('own')")
    made = environment.extended({**os.environ, "PYTHONPATH": str(tmp_path)}, Settings())
    code = "import sys; print(sorted({'numpy', 'gpunn', 'ctypes', 'cupy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], env=made, capture_output=True, text=True)
    assert done.stdout == "own\n[]\n", done.stderr


def test_the_command_says_what_is_wrong(capsys, monkeypatch):
    monkeypatch.setattr(environment, "real_gpu", lambda: False)
    assert command.main(["--", "no-such-program"]) == 2
    assert "there is no program 'no-such-program'" in capsys.readouterr().err
    assert command.main(["--devices", "99", "--", "true"]) == 2
    assert "there can be 1 to 64 devices, got devices=99" in capsys.readouterr().err
    for card in ("sm_1", "sm_90a", "1"):
        assert command.main(["--card", card, "--", "true"]) == 2
        assert f"card must be one of (75, 80, 86, 89, 90, 100, 120), got card={card!r}\n" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([])
    assert "python -m gpunn.cuda.device [options] -- program" in capsys.readouterr().err


def test_a_real_gpu_is_not_hidden_unless_asked(monkeypatch, capsys):
    """What would run is looked at: the program as it is, or with the device in its environment."""
    ran = []
    monkeypatch.setattr(environment, "real_gpu", lambda: True)
    monkeypatch.setattr(command.os, "execv", lambda *given: ran.append(given))
    monkeypatch.setattr(command.os, "execve", lambda *given: ran.append(given))
    monkeypatch.setattr(command.wheel, "installed", lambda: wheel.Wheel("cupy-cuda12x", "14.2.0", 12))
    monkeypatch.setattr(command.libraries, "built", lambda cuda: {})
    command.main(["--hide-gpu", "--late", "--", "true", "--flag"])
    (_, words, variables) = ran.pop()
    assert words == ["true", "--flag"]
    assert Settings.parse(variables["GPUNN_EMULATED_DEVICE"]) == Settings(late=True)
    command.main(["--", "true", "--flag"])
    assert ran[0][1] == ["true", "--flag"]
    assert len(ran[0]) == 2
    assert "there is a real GPU, which is used; --hide-gpu emulates one" in capsys.readouterr().err


def test_without_a_compiler_or_pythons_headers(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(CompileError, match="'no-such-compiler', which is not a compiler that runs"):
        libraries.built(12)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("GPUNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(libraries.sysconfig, "get_path", lambda name: str(tmp_path))
    libraries._include.cache_clear()
    try:
        with pytest.raises(CompileError, match=r"Python.h is not in .*install Python's headers \(python3-dev"):
            libraries.built(12)
    finally:
        libraries._include.cache_clear()


def test_cupy_that_is_imported_already(monkeypatch):
    monkeypatch.setattr(device, "_running", None)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.api.runtime", types.ModuleType("runtime"))
    with pytest.raises(DeviceError, match="CuPy has been imported already: start the device before that"):
        device.start()


@pytest.mark.parametrize(
    ("visible", "count"), [(None, 2), ("", 0), ("0", 1), ("1", 1), ("1,0", 2), ("5,0", 0), ("0,0", 1), ("none", 0)]
)
def test_cuda_visible_devices(monkeypatch, visible, count):
    from gpunn.cuda.device.process import _visible

    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _visible(2) == count
