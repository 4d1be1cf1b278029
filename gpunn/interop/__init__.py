"""Models for and from other programs: :mod:`gpunn.interop.onnx` writes ONNX files, ``load_state`` reads weights."""

from gpunn.interop.weights import load_state

__all__ = ["load_state"]
