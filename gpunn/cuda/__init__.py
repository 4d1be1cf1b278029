"""CUDA kernels: find, specialise, compile, cache and launch them, or run them on the CPU."""

from gpunn.cuda.launch import c_type, emulate, index_type, launch, record_launches, takes
from gpunn.cuda.tuning import autotune, deterministic

__all__ = ["autotune", "c_type", "deterministic", "emulate", "index_type", "launch", "record_launches", "takes"]
