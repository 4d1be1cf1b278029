"""CUDA kernels: find, specialise, compile, cache and launch them, or run them on the CPU."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gpunn.cuda.capture import alarm, capturing, live, refuse_capture
from gpunn.cuda.launch import c_type, count, emulate, has_warpgroups, index_type, launch, record_launches, takes
from gpunn.cuda.tuning import autotune, deterministic

if TYPE_CHECKING:
    from gpunn.cuda import emulator

__all__ = [
    "alarm",
    "autotune",
    "c_type",
    "capturing",
    "count",
    "deterministic",
    "emulate",
    "emulator",
    "has_warpgroups",
    "index_type",
    "launch",
    "live",
    "record_launches",
    "refuse_capture",
    "takes",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name == "emulator":  # when used: who launches on a GPU does without
            return importlib.import_module("gpunn.cuda.emulator")
        raise AttributeError(f"module 'gpunn.cuda' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
