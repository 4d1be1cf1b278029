import numpy as np
from planned import block as ops


def run():
    """Every kernel of ops.cu: several tiles with overlap and padding; channels in parts."""
    rng = np.random.default_rng(0)
    for shape, settings in (((2, 3, 17, 35), (3, 2, 1, 3)), ((1, 41, 6, 7), (2, 2, 0, 5))):
        x, b = rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape[1]).astype(np.float32)
        y, pooled, place = ops.bias_relu_pool_lrn(x, b, *settings, 0.5)
        gy = rng.standard_normal(y.shape).astype(np.float32)
        yield from (y, pooled, place)
        yield from ops.bias_relu_pool_lrn_backward(gy, pooled, place, shape, *settings, 0.5)
        y, place = ops.bias_relu_lrn_pool(x, b, *settings, 0.5)
        yield from (y, place)
        yield from ops.bias_relu_lrn_pool_backward(gy, x, b, place, *settings, 0.5)
