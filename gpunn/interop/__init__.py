"""Other programs: models as ONNX files (:mod:`gpunn.interop.onnx`), and the calls that CuPy had of cuDNN
(:mod:`gpunn.interop.cudnn`)."""
