"""The installed CuPy: which one it is, and whether the emulated device can serve it."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from gpunn.cuda.device.settings import VARIABLE
from gpunn.errors import PackageError, install_command
from gpunn.files import write_atomically

SUPPORTED = ("14.0", "14.1", "14.2")
_NAMES = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}
_KNOWN = f"the emulated device knows the wheels {' and '.join(_NAMES)} of the versions {', '.join(SUPPORTED)}"


@dataclass(frozen=True)
class Wheel:
    """A wheel of CuPy: its name, its version, and CUDA's major version that it is for."""

    name: str
    version: str
    cuda: int


def installed() -> Wheel:
    """The wheel that is installed. Raises PackageError where there is none, or one that the device cannot serve."""
    spec = importlib.util.find_spec("cupy")
    if spec is None or spec.origin is None:
        raise PackageError(f"device: CuPy is not installed: {install_command('device')} ({_KNOWN})")
    folder = Path(spec.origin).parents[1]
    for found in importlib.metadata.distributions(path=[str(folder)]):
        name = found.metadata["Name"] or ""
        if name in _NAMES:
            wheel = Wheel(name, found.version, _NAMES[name])
            break
    else:
        raise PackageError(f"device: the CuPy in {folder} is none of the wheels that can be served ({_KNOWN})")
    if not wheel.version.startswith(tuple(f"{version}." for version in SUPPORTED)):
        raise PackageError(f"device: {wheel.name} {wheel.version} is installed, and cannot be served ({_KNOWN})")
    return wheel


# ---- the interface of the module that is replaced by a compiled one ------------------------------------------------

RUNTIME = "cupy_backends.cuda.api.runtime"

# What Cython makes of each class, and is of no use to others.
_OF_CYTHON = ("_ThreadLocal", "_export_enum", "_sys", "_threading", "__test__")


@dataclass(frozen=True)
class Interface:
    """What others find in a module: Python's names, and C functions by name and signature."""

    names: frozenset[str]
    functions: dict[str, str]

    def missing_in(self, ours: Interface) -> list[str]:
        """What ``ours`` lacks of this, or has with another signature.

        >>> wheels = Interface(frozenset({"malloc"}), {"malloc": "intptr_t (size_t)"})
        >>> wheels.missing_in(Interface(frozenset(), {"malloc": "int (size_t)"}))
        ['malloc', 'malloc: intptr_t (size_t), ours int (size_t)']
        """
        lacking = sorted(
            name
            for name in self.names - ours.names
            if name not in _OF_CYTHON and not name.startswith("__pyx_unpickle_")
        )
        for name, signature in sorted(self.functions.items()):
            if ours.functions.get(name) != signature:
                lacking.append(f"{name}: {signature}, ours {ours.functions.get(name, 'none')}")
        return lacking


def interface_of(module: object) -> Interface:
    """The interface of an imported module."""
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    capsules = getattr(module, "__pyx_capi__", {})
    functions = {name: (name_of(capsule) or b"").decode() for name, capsule in capsules.items()}
    return Interface(frozenset(dir(module)), functions)


# Run in another process, which has no device: there the wheel's own module is imported.
_DESCRIBE = f"""
import importlib, json
from gpunn.cuda.device.wheel import interface_of
found = interface_of(importlib.import_module({RUNTIME!r}))
print(json.dumps([sorted(found.names), found.functions]))
"""


def check_interface(wheel: Wheel, folder: Path, version: str) -> None:
    """Compare our module, which must be found in place of the wheel's by now, with what the wheel publishes of its own.

    That is done once for each wheel and ``version`` of ours, and noted in ``folder``. Raises PackageError.
    """
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    note = folder / f"interface-{wheel.name}-{wheel.version}{suffix}-{version}.json"
    if note.is_file():
        return
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    done = subprocess.run([sys.executable, "-c", _DESCRIBE], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise PackageError(f"device: {wheel.name} {wheel.version} does not import:\n{done.stderr}")
    names, functions = json.loads(done.stdout)
    missing = Interface(frozenset(names), functions).missing_in(interface_of(importlib.import_module(RUNTIME)))
    if missing:
        raise PackageError(
            f"device: {wheel.name} {wheel.version} cannot be served: its {RUNTIME} has what ours has not: "
            + "; ".join(missing)
        )
    write_atomically(note, b"[]", private=True)
