"""The digits, minibatches and jitter."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from gpunn.backend import random_generator
from gpunn.data import batches, digits, jitter
from gpunn.data.digits import TRAINING_IMAGES
from gpunn.errors import ArgumentError, GpunnError, ShapeError

# ---- digits --------------------------------------------------------------------------------------------------------


def test_digits_are_all_there_once() -> None:
    from sklearn.datasets import load_digits

    (x, y), (x_test, y_test) = digits(seed=3)
    assert len(x) == TRAINING_IMAGES
    assert (x.shape, x_test.shape, y.shape, y_test.shape) == ((1347, 1, 8, 8), (450, 1, 8, 8), (1347,), (450,))
    assert (x.dtype, y.dtype, x_test.dtype, y_test.dtype) == (np.float32, np.int64, np.float32, np.int64)
    rows = np.concatenate([np.concatenate([x, x_test]).reshape(-1, 64) * 16, np.concatenate([y, y_test])[:, None]], 1)
    source = load_digits()
    expected = np.concatenate([source.data, source.target[:, None]], 1)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


@pytest.mark.parametrize("seed", range(5))
def test_split_is_stratified(seed: int) -> None:
    (_, y), (_, y_test) = digits(seed)
    counts, tested = np.bincount(np.concatenate([y, y_test])), np.bincount(y_test)
    assert np.all(np.abs(tested - counts / 4) <= 1)


def test_the_seed_decides_the_split() -> None:
    first, again, other = digits(1)[1][0], digits(1)[1][0], digits(2)[1][0]
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(GpunnError, match=r'scikit-learn .*pip install "gpunn\[train\]"'):
        digits()


# ---- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "size"), [(1, 1), (7, 3), (6, 3), (5, 9), (13, 1)])
def test_batches_visit_every_pair_once(n: int, size: int) -> None:
    x, y = np.arange(n) * 10.0, np.arange(n)
    parts = list(batches(x, y, size, random_generator(0)))
    assert [len(b) for _, b in parts] == [size] * (n // size) + ([n % size] if n % size else [])
    assert all(np.array_equal(a, b * 10.0) for a, b in parts)
    assert sorted(np.concatenate([b for _, b in parts])) == list(range(n))


def test_batches_are_drawn_anew_and_repeat_with_the_seed() -> None:
    y = np.arange(100)
    generator, twin = random_generator(5), random_generator(5)
    first, second = (next(batches(y, y, 100, generator))[1] for _ in range(2))
    assert not np.array_equal(first, y)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(next(batches(y, y, 100, twin))[1], first)


def test_batches_in_order() -> None:
    y = np.arange(5)
    assert [b.tolist() for _, b in batches(y, y, 2)] == [[0, 1], [2, 3], [4]]


def test_batches_errors_come_with_the_call() -> None:
    x = np.zeros((4, 2))
    with pytest.raises(ShapeError, match="one length, got x=4, y=3"):
        batches(x, np.zeros(3), 2)
    with pytest.raises(ShapeError, match="must not be empty"):
        batches(x[:0], np.zeros(0), 2)
    with pytest.raises(ShapeError, match="axis of examples"):
        batches(x, np.array(1), 2)
    with pytest.raises(ArgumentError, match="batch_size must be at least 1, got batch_size=0"):
        batches(x, np.zeros(4), 0)


# ---- jitter --------------------------------------------------------------------------------------------------------


def test_jitter_of_nothing_is_the_image() -> None:
    x = np.random.default_rng(0).random((3, 2, 5, 7), np.float32)
    np.testing.assert_array_equal(jitter(x, random_generator(0), shift=0, degrees=0, zoom=0), x)


def naive_jitter(x: np.ndarray, seed: int, shift: float, degrees: float, zoom: float) -> np.ndarray:
    """Pixel by pixel, with the corners of the interpolation outside the image taken as zero."""
    generator = random_generator(seed)
    n, channels, height, width = x.shape
    angles = np.deg2rad(generator.uniform(-degrees, degrees, n))
    scales = 1 + generator.uniform(-zoom, zoom, n)
    down, right = generator.uniform(-shift, shift, (2, n))
    out = np.zeros(x.shape)
    for b, c, i, j in np.ndindex(n, channels, height, width):
        turn = np.array([[np.cos(angles[b]), -np.sin(angles[b])], [np.sin(angles[b]), np.cos(angles[b])]])
        centre = np.array([(height - 1) / 2, (width - 1) / 2])
        at = scales[b] * turn @ (np.array([i, j]) - centre) + centre + [down[b], right[b]]
        corner = np.floor(at).astype(int)
        for di, dj in np.ndindex(2, 2):
            row, column = corner[0] + di, corner[1] + dj
            if 0 <= row < height and 0 <= column < width:
                weight = (1 - abs(at[0] - row)) * (1 - abs(at[1] - column))
                out[b, c, i, j] += weight * x[b, c, row, column]
    return out


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (3, 2, 5, 7), (2, 1, 1, 3), (0, 1, 8, 8)])
@pytest.mark.parametrize("amount", [(0.7, 15, 0.15), (0, 180, 0), (6, 0, 0), (0, 0, 0.9)])  # 6: images partly outside
def test_jitter_against_a_loop(shape: tuple[int, ...], amount: tuple[float, float, float]) -> None:
    x = np.random.default_rng(1).random(shape)
    shift, degrees, zoom = amount
    y = jitter(x, random_generator(9), shift=shift, degrees=degrees, zoom=zoom)
    np.testing.assert_allclose(y, naive_jitter(x, 9, shift, degrees, zoom), atol=1e-12)


def test_jitter_keeps_float32_and_moves_images_apart() -> None:
    x = np.tile(digits(0)[0][0][:1], (2, 1, 1, 1))
    y = jitter(x, random_generator(0))
    assert y.dtype == np.float32
    assert not np.array_equal(y[0], y[1])
    with pytest.raises(ShapeError, match=r"x must be \(N, C, H, W\)"):
        jitter(x[0], random_generator(0))
