"""Other libraries: models as ONNX files (:mod:`gpunn.interop.onnx`), functions among those of PyTorch
(:mod:`gpunn.interop.torch`), and the calls that CuPy had of cuDNN (:mod:`gpunn.interop.cudnn`)."""
