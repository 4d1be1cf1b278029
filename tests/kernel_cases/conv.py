import numpy as np
from planned import conv as ops


def run():
    """Every kernel of ops.cu, on small odd shapes: padding, stride, dilation, groups, and more than one tile."""
    rng = np.random.default_rng(0)
    x, w, b, gy = (rng.standard_normal(s).astype(np.float32) for s in ((2, 5, 9, 7), (3, 5, 3, 3), 3, (2, 3, 9, 7)))
    yield ops.conv2d(x, w, b, padding=1)
    yield ops.conv2d_backward_x(gy, w, x.shape, padding=1)
    yield ops.conv2d_backward_w(gy, x, w.shape, padding=1)

    # So many pixels that the weight gradient is summed in parts.
    x, gy = (rng.standard_normal(s).astype(np.float32) for s in ((6, 2, 9, 7), (6, 3, 9, 7)))
    yield ops.conv2d_backward_w(gy, x, (3, 2, 3, 3), padding=1)

    settings = {"stride": 2, "padding": (1, 2), "dilation": (2, 1), "groups": 2}
    x, w = (rng.standard_normal(s).astype(np.float32) for s in ((1, 4, 9, 8), (70, 2, 3, 2)))
    y = ops.conv2d(x, w, **settings)
    yield y
    yield ops.conv2d_backward_x(y, w, x.shape, **settings)
    yield ops.conv2d_backward_w(y, x, w.shape, **settings)

    # Enough channels for the tiles with 8 x 8 sums a thread.
    x, w, b = (rng.standard_normal(s).astype(np.float32) for s in ((1, 67, 5, 13), (120, 67, 1, 3), 120))
    y = ops.conv2d_bias_relu(x, w / 16, b) / 16
    yield y
    yield ops.conv2d_backward_x(y, w, x.shape)
    yield ops.conv2d_backward_w(y, x, w.shape)
