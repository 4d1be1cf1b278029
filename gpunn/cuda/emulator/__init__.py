"""Run CUDA C++ kernels on the CPU, unmodified, fast or under checks.

:class:`RawKernel` and :class:`RawModule` have the calls of CuPy's classes and take NumPy arrays. The host's g++ or
clang++ compiles the source; every CUDA thread of a block is a fiber, blocks spread over the cores. README.md in this
folder is a complete example of a repository that tests its kernels so, and says what is covered.

Inline PTX runs by a table of instructions; what is not in it is refused by name and line. What is copied asynchronously
arrives at the wait for it, so a missing wait shows; under checks it is reported. :func:`tensor_map` makes the argument
for a ``CUtensorMap``.

With ``check=True`` a launch also looks for races, accesses out of bounds, reads of shared memory that nobody wrote,
divergent barriers and more, and raises :class:`CheckError` with file, line, block and thread of each:

>>> import numpy as np
>>> code = '''extern "C" __global__ void shift(float* x) {
...     x[threadIdx.x] = x[threadIdx.x + 1];
... }'''
>>> shift = RawKernel(code, "shift", filename="shift.cu", check=True)
>>> try:
...     shift((1,), (4,), (np.arange(4, dtype=np.float32),))
... except CheckError as error:
...     for report in error.reports:
...         print(report.kind, report.file, report.line, report.thread)
race shift.cu 2 (1, 0, 0)
out-of-bounds shift.cu 2 (3, 0, 0)
"""

from gpunn.cuda.emulator.buffers import reachable
from gpunn.cuda.emulator.counting import Count, count
from gpunn.cuda.emulator.module import RawKernel, RawModule
from gpunn.cuda.emulator.report import CheckError, CheckWarning, Report
from gpunn.cuda.emulator.tensor_maps import tensor_map
from gpunn.cuda.emulator.texture import SurfaceObject, TextureObject
from gpunn.cuda.emulator.unwritten import empty

__all__ = [
    "CheckError", "CheckWarning", "Count", "RawKernel", "RawModule", "Report", "SurfaceObject", "TextureObject",
    "count", "empty", "reachable", "tensor_map",
]  # fmt: skip
