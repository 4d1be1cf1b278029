import numpy as np
from planned import conv as ops

from gpunn import backend


def whole_numbers(rng, *shapes, dtype=np.float32):
    """Few bits: every precision has these numbers, and float32 every sum of them, exactly."""
    return [rng.integers(-3, 4, shape).astype(dtype) for shape in shapes]


def passes(x, w, b, **settings):
    """y, gx and gw: by this file's kernels where they run, else by the way for any array module."""
    y = ops.conv2d(x, w, b, **settings)
    return y, ops.conv2d_backward_x(y, w, x.shape, **settings), ops.conv2d_backward_w(y, x, w.shape, **settings)


def run():
    """Every kernel of conv_mma.cu: padding, stride, dilation, groups, more than one tile and more than one split."""
    rng = np.random.default_rng(0)
    with backend.matmul_precision("tf32"):
        x, w, b = whole_numbers(rng, (2, 5, 13, 11), (3, 5, 3, 3), 3)
        tf32 = passes(x, w, b, padding=1)
    with backend.matmul_precision("fp16"):
        x, w = whole_numbers(rng, (1, 4, 9, 8), (70, 2, 3, 2))
        strided = passes(x, w, None, stride=2, padding=(1, 2), dilation=(2, 1), groups=2)
    with backend.matmul_precision("bf16"):  # as in AlexNet's first layer: two taps of three channels share a chunk
        x, w, b = whole_numbers(rng, (2, 3, 19, 15), (6, 3, 11, 11), 6)
        first = passes(x, w, b, stride=4)
    x, w = whole_numbers(rng, (3, 1, 11, 9), (3, 1, 5, 3), dtype=np.float16)  # four taps of one channel
    few = passes(x, w, None, padding=2)
    x, w, b = whole_numbers(rng, (1, 9, 8, 5), (5, 9, 2, 3), 5, dtype=np.float16)
    half = passes(x, w, b, padding=1)
    bfloat = [a.astype(backend.half_dtype("conv_mma", "bf16")) for a in (x, w, b)]
    return [*tf32, *strided, *first, *few, *half, *passes(*bfloat, padding=1)]
