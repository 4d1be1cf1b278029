import numpy as np
from planned import conv as ops

# Images of more than THREADS pixels, one of them of more than THREADS * PIXELS; a padded edge on every side.
CASES = [((2, 3, 13, 11), 3, (3, 3), (1, 1, 1)), ((1, 2, 24, 23), 4, (2, 3), ((2, 1), (1, 2), 2))]


def run():
    """Every kernel of conv_depthwise.cu: padding, stride, dilation, one and two output channels to a group."""
    rng = np.random.default_rng(0)
    for x_shape, k, kernel, window in CASES:
        settings = (*window, x_shape[1])
        x, w, b = (rng.standard_normal(shape).astype(np.float32) for shape in (x_shape, (k, 1, *kernel), (k,)))
        y = ops.conv2d(x, w, b, *settings)
        gy = rng.standard_normal(y.shape).astype(np.float32)
        yield y
        yield ops.conv2d_bias_relu(x, w, None, *settings)
        yield ops.conv2d_backward_x(gy, w, x_shape, *settings)
        yield ops.conv2d_backward_w(gy, x, w.shape, *settings)
