"""Other libraries: their weights (:func:`load_state`), models as ONNX files (:mod:`gpunn.interop.onnx`), functions
among PyTorch's (:mod:`gpunn.interop.torch`), and the calls that CuPy had of cuDNN (:mod:`gpunn.interop.cudnn`)."""

from gpunn.interop.weights import load_state

__all__ = ["load_state"]
