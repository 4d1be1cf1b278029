"""CUDA kernels: find, specialise, compile, cache and launch them, or run them on the CPU."""

from gpunn.cuda.launch import c_type, emulate, index_type, launch, record_launches, takes

__all__ = ["c_type", "emulate", "index_type", "launch", "record_launches", "takes"]
