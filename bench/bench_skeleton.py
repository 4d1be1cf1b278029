import numpy as np
import pytest

from gpunn.ops.image import skeleton

SIZES = {"512": (512, 6), "2048": (2048, 20)}  # pixels a side, and the thickness of the strokes


def strokes(size, thickness):
    """Bands that cross: what thinning has to work on."""
    row, column = np.mgrid[:size, :size]
    return ((row + column // 2) % (6 * thickness) < thickness) | ((row - column) % (8 * thickness) < thickness)


@pytest.mark.parametrize("name", SIZES)
def bench_skeletonize(bench, name):
    from skimage.morphology import skeletonize

    image = strokes(*SIZES[name])
    bench.measure(
        "skeletonize", f"{name} × {name}", [image], lambda x: lambda: skeleton.skeletonize(x),
        lambda x: lambda: skeletonize(x, method="zhang"), peer_name="scikit-image on the CPU",
    )  # fmt: skip
