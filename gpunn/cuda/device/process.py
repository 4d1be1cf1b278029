"""Starting the emulated device in this process: its libraries are loaded, and modules of CuPy's wheel replaced."""

from __future__ import annotations

import atexit
import ctypes
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from gpunn.cuda.device import libraries
from gpunn.cuda.device.compiler import Compiler
from gpunn.cuda.device.settings import Settings
from gpunn.cuda.device.wheel import Wheel, check_interface
from gpunn.cuda.emulator import build
from gpunn.cuda.emulator.mode import Mode
from gpunn.cuda.emulator.report import RawReport, readable

_VERSIONS = {12: 12090, 13: 13000}  # of CUDA, by the wheel's major one

_TELL = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)


class Running:
    """The device of this process."""

    def __init__(self, settings: Settings, wheel: Wheel) -> None:
        self.settings, self.wheel, self._process = settings, wheel, os.getpid()
        self.identity = f"{libraries.identity()}{'-check' if settings.check else ''}-sm_{settings.card}"
        places = libraries.built(wheel.cuda)
        self._library = libraries.load(places)
        mode = Mode.of(settings.check)
        _, runtime = build.load_runtime(build.host_compiler(), mode)
        self._tell = _TELL(self._told)
        calls = ("launch", "resume", "report", "end", "find_library")
        self._library.gpunn_device_connect(
            *(ctypes.cast(getattr(runtime, f"gpunn_emulator_{name}"), ctypes.c_void_p) for name in calls),
            self._tell,
            _modules_folder().encode(),
        )
        version = _VERSIONS[wheel.cuda]
        numbers = (
            _visible(settings.devices),
            ctypes.c_size_t(settings.memory),
            settings.late,
            settings.check,
            settings.card,
        )
        self._library.gpunn_device_set(*numbers, version)
        self._library.gpunn_device_finish.restype = ctypes.c_char_p
        atexit.register(self._finish)
        before, after = self._library.gpunn_device_before_fork, self._library.gpunn_device_after_fork
        os.register_at_fork(before=before, after_in_parent=after)
        self._compiler = Compiler(self._library, mode, settings.card, version)
        # What was compiled for this device is no CUDA anywhere else.
        os.environ["CUPY_CACHE_DIR"] = str(libraries.folder_of(f"cupy-{self.identity}"))
        sys.meta_path.insert(0, _Modules(places["runtime"]))
        check_interface(wheel, libraries.folder_of("wheels"), places["runtime"].stem)

    def _told(self, kernel: bytes, library: bytes, place: int, reports: int, count: int) -> None:
        raw = (RawReport * count).from_address(reports)
        base = ctypes.c_void_p.from_address(place).value or 0
        found = readable(list(raw), kernel.decode(), Path(library.decode()), base, build.HEADERS)
        self._library.gpunn_device_set_report("; ".join(map(str, found)).encode())

    def fail(self, error: BaseException) -> None:
        """Leave the device broken by work of a stream that raised, when there is nobody to raise it to."""
        self._library.gpunn_device_set_report(f"{type(error).__name__}: {error}".encode())
        self._library.gpunn_device_break()

    def _finish(self) -> None:
        """Do what still waits; in check mode a mistake that nobody was told of ends the process with status 1."""
        if os.getpid() != self._process:
            return
        said = self._library.gpunn_device_finish()
        if said and self.settings.check:
            sys.stdout.flush()
            print(f"gpunn device: {said.decode()}", file=sys.stderr, flush=True)
            os._exit(1)


def _visible(devices: int) -> int:
    """How many of the devices CUDA_VISIBLE_DEVICES shows: those it names, up to the first that is not there."""
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return devices
    shown: set[int] = set()
    for word in text.split(","):
        number = int(word) if word.strip().isdigit() else devices
        if number >= devices or number in shown:
            break
        shown.add(number)
    return len(shown)


_REPLACED = {
    "cupy.cuda.thrust": "thrust.py",
    "cupy.cuda.cub": "cub.py",
    "cupy.cuda.cufft": "cufft.py",
    "cupy.cuda.jitify": "jitify.py",
    "cupy.random._generator_api": "generator_api.py",
    "cupy_backends.cuda.libs.cusolver": "cusolver.py",
    "cupy_backends.cuda.libs.cusparse": "cusparse.py",
}
"""Modules of the wheel that have device code or a library of NVIDIA's behind them, and what stands in their place."""


class _Modules(importlib.abc.MetaPathFinder):
    """Finds the modules of ours that stand in the place of the wheel's."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = str(runtime)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == "cupy_backends.cuda.api.runtime":
            loader = importlib.machinery.ExtensionFileLoader(name, self._runtime)
            return importlib.util.spec_from_file_location(name, self._runtime, loader=loader)
        file = Path(__file__).parent / "modules" / _REPLACED.get(name, "")
        return importlib.util.spec_from_file_location(name, file) if file.is_file() else None


@functools.cache
def _modules_folder() -> str:
    """A folder for the libraries that this process loads; they are needed to tell where a kernel went wrong."""
    folder, owner = tempfile.mkdtemp(prefix="gpunn-device-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
