import numpy as np

from gpunn.ops import lrn


def run():
    """Every kernel of lrn.cu, on more pixels than a block has threads, with an odd and an even window."""
    x, gy = np.random.default_rng(0).standard_normal((2, 2, 5, 9, 11)).astype(np.float32)
    for size in (5, 4):
        yield lrn.local_response_norm(x, size, 0.5)
        yield lrn.local_response_norm_backward(gy, x, size, 0.5)
