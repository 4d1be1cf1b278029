"""Other programs: models as ONNX files (:mod:`gpunn.interop.onnx`), the weights of other libraries (``load_state``),
functions among those of PyTorch (:mod:`gpunn.interop.torch`), the calls that CuPy had of cuDNN
(:mod:`gpunn.interop.cudnn`)."""

from gpunn.interop.weights import load_state

__all__ = ["load_state"]
