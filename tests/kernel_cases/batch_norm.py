import numpy as np

from gpunn.ops import norm as ops


def run():
    """Every kernel of ops.cu: one slice and several, channels by one and by 32, wide and narrow packs."""
    rng = np.random.default_rng(0)
    for shape in ((3, 2, 40, 40), (2, 3, 11, 7), (3, 5, 37, 29), (70, 37), (1031, 3)):
        x, gy = rng.standard_normal((2, *shape)).astype(np.float32)
        weight, bias = rng.standard_normal((2, shape[1])).astype(np.float32)
        mean, var = ops.batch_norm_statistics(x)
        yield mean
        yield var
        yield ops.batch_norm(x, mean, var, weight, bias, relu=shape[1] == 3)
        for gradient in ops.batch_norm_backward(gy, x, mean, var, weight, bias, relu=shape[1] == 3):
            yield gradient / len(x)
