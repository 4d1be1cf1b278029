"""Models for other programs: :mod:`gpunn.interop.onnx` writes ONNX files."""
