"""These tests need a GPU: a real one, or the emulated device. Elsewhere they cannot even be imported."""

from gpunn import backend

collect_ignore_glob = ["*.py"] if backend.why_no_gpu() else []
