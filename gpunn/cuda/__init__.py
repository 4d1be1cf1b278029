"""CUDA kernels: find, specialise, compile, cache and launch them, or run them on the CPU."""

from gpunn.cuda.capture import alarm, capturing, live, refuse_capture
from gpunn.cuda.launch import c_type, count, emulate, has_warpgroups, index_type, launch, record_launches, takes
from gpunn.cuda.tuning import autotune, deterministic

__all__ = [
    "alarm",
    "autotune",
    "c_type",
    "capturing",
    "count",
    "deterministic",
    "emulate",
    "has_warpgroups",
    "index_type",
    "launch",
    "live",
    "record_launches",
    "refuse_capture",
    "takes",
]
