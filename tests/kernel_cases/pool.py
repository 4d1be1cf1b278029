import numpy as np
from planned import pooling as ops


def run():
    """Every kernel of ops.cu, with overlap, padding and an overhang, by single elements and by 16 bytes."""
    for shape in ((2, 5, 9, 7), (1, 3, 5, 16)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for each in (x, x.astype(np.float16)):
            y, place = ops.max_pool2d(each, 3, 2, 1)
            yield y
            yield place
            yield ops.max_pool2d_backward(y, place, x.shape, 3, 2, 1)
        for include in (True, False):
            y = ops.avg_pool2d(x, 3, 2, 1, True, include)
            yield y
            yield ops.avg_pool2d_backward(y, x.shape, 3, 2, 1, True, include)
