"""The installed CuPy: which one it is, and whether the emulated device can serve it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

from gpunn.errors import PackageError

SUPPORTED = ("14.0", "14.1", "14.2")
_NAMES = {"cupy-cuda12x": 12, "cupy-cuda13x": 13}


@dataclass(frozen=True)
class Wheel:
    """A wheel of CuPy: its name, its version, and CUDA's major version that it is for."""

    name: str
    version: str
    cuda: int


def installed() -> Wheel:
    """The wheel that is installed. Raises PackageError where there is none, or one that the device cannot serve."""
    found = []
    for name, cuda in _NAMES.items():
        try:
            found.append(Wheel(name, importlib.metadata.version(name), cuda))
        except importlib.metadata.PackageNotFoundError:
            continue
    if not found:
        raise PackageError(
            "device: CuPy is not installed: pip install 'gpunn[device]' "
            f"(the wheels {' and '.join(_NAMES)} can be served, of the versions {', '.join(SUPPORTED)})"
        )
    wheel = found[0]
    if not wheel.version.startswith(tuple(f"{version}." for version in SUPPORTED)):
        raise PackageError(
            f"device: {wheel.name} {wheel.version} is installed, and cannot be served: the emulated device knows the "
            f"versions {', '.join(SUPPORTED)}"
        )
    return wheel
