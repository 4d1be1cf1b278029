"""Neural networks on NumPy and CuPy arrays, with CUDA kernels that can be read, and that run on a CPU in tests."""

from gpunn import backend, cuda, errors, functional, nn, ops, optim, testing
from gpunn.backend import manual_seed
from gpunn.tensor import Tensor, no_grad, tensor

__version__ = "0.1.0"

__all__ = [
    "Tensor",
    "backend",
    "cuda",
    "errors",
    "functional",
    "manual_seed",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "tensor",
    "testing",
]
