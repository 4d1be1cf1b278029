import numpy as np

from gpunn.ops import conv_depthwise
from gpunn.ops.window import output_size, window

# Images of more than THREADS pixels, one of them of more than THREADS * PIXELS; a padded edge on every side.
CASES = [((2, 3, 13, 11), 3, ((3, 3), 1, 1, 1)), ((1, 2, 24, 23), 4, ((2, 3), (2, 1), (1, 2), 2))]


def run():
    """Every kernel of conv_depthwise.cu: padding, stride, dilation, one and two output channels to a group."""
    rng = np.random.default_rng(0)
    for x_shape, k, settings in CASES:
        win = window("case", *settings)
        out = output_size("case", x_shape[2:], win)
        shapes = (x_shape, (k, 1, *win.kernel), (k,), (x_shape[0], k, *out))
        x, w, b, gy = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
        yield conv_depthwise.forward(x, w, b, win, out)
        yield conv_depthwise.forward(x, w, None, win, out, True)
        yield conv_depthwise.backward_x(gy, w, x_shape, win, out)
        yield conv_depthwise.backward_w(gy, x, w.shape, win, out)
