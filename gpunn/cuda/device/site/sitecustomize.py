"""Starts the emulated device in each Python process of a program, where CuPy or a binding of CUDA is first imported.

``python -m gpunn.cuda.device`` puts this folder on PYTHONPATH. Other processes' start stays as fast as it was: nothing
is imported here that Python has not imported already.
"""

import os
import sys


class _Starter:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in ("cupy", "cupyx", "cupy_backends", "cuda"):
            sys.meta_path.remove(self)
            from gpunn.cuda import device

            device.start(device.Settings.parse(os.environ["GPUNN_EMULATED_DEVICE"]))


def _run_the_next() -> None:
    """Run the sitecustomize that this one hides, if there is one."""
    import importlib.machinery
    import importlib.util

    here = os.path.dirname(os.path.abspath(__file__))
    others = [folder for folder in sys.path if os.path.abspath(folder or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


if "GPUNN_EMULATED_DEVICE" in os.environ:
    sys.meta_path.insert(0, _Starter())
_run_the_next()
