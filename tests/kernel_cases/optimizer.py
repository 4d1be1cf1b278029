import numpy as np

from gpunn.ops import optimizer as ops


def run():
    """Every kernel of ops.cu with every state: aligned, with a head and a tail, without a pack, and unlike."""
    flat = np.random.default_rng(0).standard_normal((5, 1204)).astype(np.float32)
    for part in (slice(0, 1204), slice(1, 1203), slice(3, 6)):
        for step in (
            lambda p, g, m, v, s: ops.sgd_step(p, g, None, 0.1, weight_decay=0.1),
            lambda p, g, m, v, s: ops.sgd_step(p, g, v, 0.1, 0.9, True, 0.1),
            lambda p, g, m, v, s: ops.rmsprop_step(p, g, s, m, v, 0.1, 0.9, 1e-3, 0.1, 0.9, True),
            lambda p, g, m, v, s: ops.rmsprop_step(p, g, s, None, None, 0.1),
            lambda p, g, m, v, s: ops.adam_step(p, g, m, s, 3, 0.1),
            lambda p, g, m, v, s: ops.adam_step(p, g, m, s, 4, 0.1, weight_decay=0.3, decoupled=True),
            lambda p, g, m, v, s: ops.nadam_step(p, g, m, s, 5, 0.1, weight_decay=0.3),
            lambda p, g, m, v, s: ops.radam_step(p, g, m, s, 1, 0.1),
            lambda p, g, m, v, s: ops.adagrad_step(p, g, s, 6, 0.1, 0.1),
            lambda p, g, m, v, s: ops.adadelta_step(p, g, s, v * v, 0.1, weight_decay=0.3),
        ):
            p, g, m, v, s = (a[part] for a in flat.copy())  # anew: a step changes them in place
            s *= s
            s += m * m + 0.1  # the variance s - m * m is not lost in rounding
            yield from step(p, g, m, v, s)
    p, g, m, v, s = flat.copy()
    yield from ops.sgd_step(p[:-1], g[1:], v[:-1], 0.1, 0.9)
