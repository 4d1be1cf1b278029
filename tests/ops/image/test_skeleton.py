import itertools

import numpy as np
import pytest

import gpunn.functional as F
from gpunn import cuda, tensor
from gpunn.errors import DtypeError, ShapeError
from gpunn.ops.image import neighbourhoods, skeleton

morphology = pytest.importorskip("skimage.morphology")
SAMPLES = {  # scikit-image's own images that come with its package, and the grey value that parts shape from ground
    "horse": 0.5, "camera": 100, "coins": 110, "text": 90, "page": 150, "moon": 110, "clock": 120, "cell": 70,
    "brick": 120, "grass": 120, "gravel": 120, "microaneurysms": 100, "checkerboard": 0, "binary_blobs": 0,
}  # fmt: skip
ROWS, COLUMNS = np.mgrid[0:61, 0:83]


def zhang(image):
    return morphology.skeletonize(image, method="zhang")


def disc(row, column, radius, stretch=1.0):
    return ((ROWS - row) / stretch) ** 2 + (COLUMNS - column) ** 2 < radius**2


def stroke(rng, points, width):
    """A pen of ``width`` drawn along a random walk, like handwriting."""
    image = np.zeros(ROWS.shape, bool)
    at = np.array([30.0, 40.0])
    for turn in np.cumsum(rng.normal(0, 0.5, points)):
        at = np.clip(at + np.array([np.sin(turn), np.cos(turn)]), 0, [60, 82])
        image |= disc(*at, width)
    return image


def polygon(rng, corners):
    """The inside of a star-shaped polygon with random corners."""
    angles = np.arctan2(ROWS - 30, COLUMNS - 40)
    radii = np.interp(angles, np.linspace(-np.pi, np.pi, corners), rng.uniform(5, 40, corners))
    return np.hypot(ROWS - 30, COLUMNS - 40) < radii


def shapes():
    rng = np.random.default_rng(0)
    yield "one pixel", np.ones((1, 1), bool)
    yield "one clear pixel", np.zeros((1, 1), bool)
    yield "a row", np.ones((1, 40), bool)
    yield "a column", np.ones((40, 1), bool)
    yield "two rows", np.ones((2, 33), bool)
    yield "empty", np.zeros((20, 35), bool)
    yield "full", np.ones((37, 64), bool)  # it touches every border, and ends with a word
    yield "full but one", np.arange(45 * 65).reshape(45, 65) != 1500
    yield "ellipse", disc(30, 40, 25, 0.7)
    yield "ring", disc(30, 40, 25) & ~disc(30, 40, 15)
    yield "disc over the corner", disc(0, 82, 30)
    yield "two discs that touch", disc(30, 20, 15) | disc(30, 50, 15)
    yield "comb", (ROWS % 8 < 4) | (COLUMNS < 5)
    yield "diagonal", abs(ROWS - COLUMNS) < 3
    yield "stairs", abs(ROWS // 3 - COLUMNS // 4) < 2
    yield "checkers", (ROWS + COLUMNS) % 2 == 0
    for corners in (4, 6, 9, 15):
        yield f"polygon {corners}", polygon(rng, corners)
    for width in (1, 2, 4, 7):
        yield f"stroke {width}", stroke(rng, 120, width)
    for density in (0.3, 0.6, 0.8, 0.95, 0.99):
        yield f"noise {density}", rng.random((43, 97)) < density


SHAPES = dict(shapes())


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_give_the_pixels_of_scikit_image(run, name):
    image = SHAPES[name]
    y = run(skeleton.skeletonize, image)
    assert y.dtype == bool
    np.testing.assert_array_equal(y, zhang(image))


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_images_give_the_pixels_of_scikit_image(run, name):
    data = pytest.importorskip("skimage.data")
    image = data.binary_blobs(200, rng=0) if name == "binary_blobs" else getattr(data, name)()
    image = image[:300, :301] > SAMPLES[name]
    assert 0.02 < image.mean() < 0.98
    np.testing.assert_array_equal(run(skeleton.skeletonize, image), zhang(image))


def test_every_neighbourhood_gives_the_pixels_of_scikit_image(run):
    images = np.array(list(itertools.product([False, True], repeat=9))).reshape(-1, 3, 3)
    np.testing.assert_array_equal(run(skeleton.skeletonize, images), np.array(list(map(zhang, images))))


def test_noise_of_awkward_sizes_gives_the_pixels_of_scikit_image(run, rng):
    for _ in range(60):
        image = rng.random(rng.integers(1, 70, 2)) < rng.uniform(0.2, 0.99)
        np.testing.assert_array_equal(run(skeleton.skeletonize, image), zhang(image))


def published(number, first):
    """The conditions of Zhang and Suen 1984 on P2 ... P9, the neighbours clockwise from the north."""
    bits = {name: number >> bit & 1 for bit, name in enumerate(["NW", "N", "NE", "W", "E", "SW", "S", "SE"])}
    p2, p3, p4, p5, p6, p7, p8, p9 = circle = [bits[p] for p in ("N", "NE", "E", "SE", "S", "SW", "W", "NW")]
    steps = "".join(map(str, [*circle, p2])).count("01")
    clear = (p2 * p4 * p6 == 0 and p4 * p6 * p8 == 0) if first else (p2 * p4 * p8 == 0 and p2 * p6 * p8 == 0)
    return 2 <= sum((p2, p3, p4, p5, p6, p7, p8, p9)) <= 6 and steps == 1 and clear


def test_the_decisions_are_the_published_ones_but_for_25_neighbourhoods():
    decisions = [published(number, True) + 2 * published(number, False) for number in range(256)]
    assert (decisions != neighbourhoods.REMOVAL).sum() == 25
    assert sum(map(len, neighbourhoods._DEPARTURES.values())) == 25


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
def test_anything_but_zero_is_set(run, dtype):
    image = SHAPES["ring"]
    np.testing.assert_array_equal(run(skeleton.skeletonize, (image * 3).astype(dtype)), zhang(image))


def test_a_batch_is_each_image_alone(run):
    images = np.stack([SHAPES[name] for name in ("ring", "comb", "stroke 4", "disc over the corner", "checkers")])
    expected = np.stack([zhang(image) for image in images])
    np.testing.assert_array_equal(run(skeleton.skeletonize, images), expected)
    np.testing.assert_array_equal(run(skeleton.skeletonize, images.transpose(0, 2, 1)), [zhang(i.T) for i in images])
    for shape in ((0, 4, 5), (2, 0, 5), (0, 0)):
        assert run(skeleton.skeletonize, np.ones(shape)).shape == shape


def test_the_image_stays_as_it_was(run):
    image = SHAPES["ring"].copy()
    run(skeleton.skeletonize, image)
    np.testing.assert_array_equal(image, SHAPES["ring"])


def test_wide_index_gives_the_same_pixels(monkeypatch):
    monkeypatch.setattr(cuda, "index_type", lambda *sizes: "long long")
    with cuda.emulate():
        np.testing.assert_array_equal(skeleton.skeletonize(SHAPES["comb"]), zhang(SHAPES["comb"]))


def test_the_function_takes_tensors_and_gives_arrays():
    y = F.skeletonize(tensor(SHAPES["ring"].astype(np.float32), requires_grad=True))
    np.testing.assert_array_equal(y, zhang(SHAPES["ring"]))


def test_errors_name_rule_and_values(run):
    with pytest.raises(ShapeError, match=r"skeletonize: image must have the dimensions \(H, W\) .*, got shape=\(3,\)"):
        run(skeleton.skeletonize, np.ones(3))
    with pytest.raises(DtypeError, match="image must be of bools, integers or floats, got dtype='complex64'"):
        run(skeleton.skeletonize, np.ones((3, 3), np.complex64))
    with pytest.raises(DtypeError, match="image must be a NumPy or CuPy array, got type='list'"):
        run(skeleton.skeletonize, [[1]])
