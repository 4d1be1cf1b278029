"""The CPU's engine: threads over blocks of an array, and oneDNN, Intel's library of neural-network primitives."""

from gpunn.cpu.memory import keep_freed

keep_freed()
