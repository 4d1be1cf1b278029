import numpy as np

from gpunn.ops import dropout as ops


def run():
    """Every kernel of ops.cu: several blocks with an odd end, misaligned rows, planes larger than a block."""
    x = np.random.default_rng(0).standard_normal((3, 5, 13, 11)).astype(np.float32)
    yield ops.dropout(x, 0.3, 2**64 - 1)
    yield ops.dropout_backward(x, 0.3, 5, 2**32)
    yield ops.dropout(x.ravel()[3:1027], 0.6, 0)
    yield ops.dropout2d(x, 0.4, 7, 2)
    yield ops.dropout2d_backward(x.astype(np.float64), 0.4, 7)
