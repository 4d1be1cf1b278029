"""Run every kernel's small cases on a GPU under NVIDIA's compute-sanitizer.

    python tests/sanitize.py                       # memcheck, racecheck, initcheck and synccheck, one after the other
    python tests/sanitize.py racecheck -- conv pool

The cases are those of tests/kernel_cases/. CuPy's memory pool is off, so that every array is an allocation of its own:
inside a pool's larger ones an access past the end of an array would go unseen. Ends with 1 if a tool found something.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence

from runners import run_kernel_cases_on_gpu

from gpunn.cuda import source

TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
ERRORS = 99  # how the sanitizer ends when it found errors


def main(arguments: Sequence[str]) -> int:
    """Run the tools on the kernel files that ``arguments`` name, all if they name none."""
    tools, stems = list(arguments), []
    if "--" in tools:
        at = tools.index("--")
        tools, stems = tools[:at], tools[at + 1 :]
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        print("compute-sanitizer is not installed: it comes with the CUDA toolkit", file=sys.stderr)
        return 2
    failed = []
    for tool in tools or TOOLS:
        print(f"== {tool}", flush=True)
        command = [sanitizer, "--tool", tool, "--error-exitcode", str(ERRORS), sys.executable, __file__, "--cases"]
        if subprocess.run([*command, *stems]).returncode:
            failed.append(tool)
    print(f"failed: {', '.join(failed)}" if failed else "nothing found")
    return 1 if failed else 0


def run_cases(stems: Sequence[str]) -> None:
    import cupy

    cupy.cuda.set_allocator(None)
    for stem in stems or [name.removesuffix(".cu") for name in source.sources()]:
        print(stem, flush=True)
        run_kernel_cases_on_gpu(stem)
        cupy.cuda.Device().synchronize()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cases"]:
        run_cases(sys.argv[2:])
    else:
        sys.exit(main(sys.argv[1:]))
