"""Find the CUDA sources, flatten their includes, and specialise them by macros."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

from gpunn.errors import CompileError
from gpunn.files import shipped

MacroValue = str | int

_INCLUDE = re.compile(r'\s*#\s*include\s+"([^"]+)"')
_KERNEL = re.compile(r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)')
_EXAMPLE = re.compile(r"^// Specialisation: (.+)$", re.M)
_ARCHITECTURE = re.compile(r"^// Architecture: (\w+)$", re.M)


@functools.cache
def kernels_folder() -> Path:
    """The folder of the CUDA sources: ``gpunn/kernels`` in an installed wheel, ``kernels`` beside it in a checkout."""
    return shipped("kernels")


def sources() -> list[str]:
    """The names of all kernel files.

    >>> "conv.cu" in sources()
    True
    """
    return sorted(path.name for path in kernels_folder().glob("*.cu"))


def flatten(name: str) -> str:
    """The text of kernel file ``name`` with every ``#include "..."`` replaced by the included text.

    ``#line`` directives keep the compilers' messages on the files' own lines; a file is taken once. Flat text makes
    a cache key that sees every byte. Includes in angle brackets are left to the compiler.
    """
    return _flatten_file(name, set())


def _flatten_file(name: str, taken: set[str]) -> str:
    path = kernels_folder() / name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise CompileError(f"{name}: cannot read the kernel source {path}: {error.strerror}") from error
    taken.add(name)
    lines = [f'#line 1 "{name}"']
    for number, line in enumerate(text.splitlines(), 1):
        include = _INCLUDE.match(line)
        if include is None:
            lines.append(line)
        else:
            if include[1] not in taken:
                lines.append(_flatten_file(include[1], taken))
            lines.append(f'#line {number + 1} "{name}"')
    return "\n".join(lines)


def kernel_names(code: str) -> list[str]:
    """The names of the ``extern "C"`` kernels in ``code``.

    >>> kernel_names('extern "C" __global__ void __launch_bounds__(256) scale(float* x) {}')
    ['scale']
    """
    return _KERNEL.findall(code)


def example_macros(code: str) -> list[dict[str, str]]:
    """The specialisations that a kernel file lists in its ``// Specialisation: NAME=value, ...`` lines.

    >>> example_macros("// Specialisation: DTYPE=float, KH=3")
    [{'DTYPE': 'float', 'KH': '3'}]
    """
    return [dict(item.split("=", 1) for item in line.split(", ")) for line in _EXAMPLE.findall(code)]


def only_architecture(code: str) -> str | None:
    """The architecture that a kernel file is for, where it says so: ``// Architecture: sm_90a``; None: any.

    >>> only_architecture("// Architecture: sm_90a"), only_architecture("")
    ('sm_90a', None)
    """
    found = _ARCHITECTURE.search(code)
    return found[1] if found else None


def options(macros: Mapping[str, MacroValue]) -> tuple[str, ...]:
    """Compiler options that define ``macros``, in an order that does not depend on the mapping's.

    >>> options({"DTYPE": "float", "KH": 3})
    ('-DDTYPE=float', '-DKH=3')
    """
    return tuple(f"-D{name}={value}" for name, value in sorted(macros.items()))
