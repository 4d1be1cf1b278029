import numpy as np
from planned import conv as ops

from gpunn import backend


def run():
    """The kernel of conv_hopper.cu: padding, strides, tiles of both sizes that are not full, both dtypes.

    Few bits: bf16 has these numbers, and float32 every sum of them, exactly.
    """
    rng = np.random.default_rng(0)

    def whole(*shapes):
        return [rng.integers(-1, 2, shape).astype(np.float32) for shape in shapes]

    with backend.matmul_precision("bf16"):
        x, w, b = whole((2, 33, 9, 11), (34, 33, 3, 2), 34)
        y = ops.conv2d(x, w, b, stride=(1, 2), padding=(1, 0))
        x, w = whole((1, 32, 5, 18), (70, 32, 2, 1))
        wide = ops.conv2d(x, w, None)
    x, w, b = (a.astype(backend.half_dtype("conv_hopper", "bf16")) for a in whole((1, 32, 4, 3), (32, 32, 1, 1), 32))
    return [y, wide, ops.conv2d_bias_relu(x, w, b)]
