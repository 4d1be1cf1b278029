import numpy as np

from gpunn.ops import skeleton


def run():
    """Every kernel of skeleton.cu: words that are cut by the edge, shapes across words, and several images."""
    blobs = np.random.default_rng(0).random((2, 13, 70)) < 0.9
    yield skeleton.skeletonize(blobs)
    yield skeleton.skeletonize(blobs[0, :, 5:].astype(np.float32))
