"""Folders of images as a data set: read ahead by workers, damaged ones named, left out only if asked."""

from __future__ import annotations

import io
import re
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from data_case import damaged

from gpunn.backend import random_generator
from gpunn.data import ArrayDataset, DataLoader, drop_unreadable, image_folder
from gpunn.data.image_files import ImageFiles
from gpunn.data.sampler import order_generator
from gpunn.errors import DataError, FileError, ShapeError

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = random_generator(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(10):
            pixels = rng.integers(256, size=(9 + i, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return tmp_path


@pytest.mark.parametrize(("workers", "kind"), [(0, "thread"), (3, "thread"), (2, "process")])
def test_a_loader_reads_images_ahead(root: Path, workers: int, kind: str) -> None:
    (images, labels), _, _ = image_folder(root, size=8)
    data = ArrayDataset(images, labels)
    loader = DataLoader(data, 5, shuffle=True, seed=0, workers=workers, worker_kind=kind)
    order = loader.batch_sampler.batches(order_generator(0, 0))
    for (x, y), chosen in zip(loader, order, strict=True):
        np.testing.assert_array_equal(x, images[chosen])
        np.testing.assert_array_equal(y, labels[chosen])
    image, label = data[3]
    np.testing.assert_array_equal(image, images[3:4][0])
    assert (image.shape, label) == ((3, 8, 8), labels[3])
    with pytest.raises(IndexError, match="16 samples, got index=16"):
        images[16]


def test_a_damaged_image_is_named_with_its_number(root: Path) -> None:
    (images, labels), _, _ = image_folder(root, size=8)
    path = images.paths[6]
    path.write_bytes(path.read_bytes()[:80])
    with pytest.raises(DataError, match=rf"sample 6 \(batch 1 .*FileError: {path}: the image cannot be read: .*") as e:
        list(DataLoader(ArrayDataset(images, labels), 4, workers=2))
    assert e.value.sample == 6


def test_damaged_images_are_left_out_counted_and_named(root: Path) -> None:
    (images, labels), _, _ = image_folder(root, size=8)
    bad = [images.paths[i] for i in (2, 9)]
    for path in bad:
        path.write_bytes(b"no image")
    rest, left, left_out = drop_unreadable(images, labels)
    assert len(rest) == len(left) == 14
    assert rest.paths == [p for p in images.paths if p not in bad]
    assert left.tolist() == np.delete(labels, [2, 9]).tolist()
    assert [str(p) in text for p, text in zip(bad, left_out, strict=True)] == [True, True]
    assert len(list(DataLoader(ArrayDataset(rest, left), 4, workers=2))) == 4
    with pytest.raises(ShapeError, match="a label for each image, got images=16, labels=15"):
        drop_unreadable(images, labels[1:])
    with pytest.raises(FileError, match="no image can be read of 2; the first: .*no|2.png"):
        drop_unreadable(ImageFiles(bad, 8), np.zeros(2, np.int64))


def test_one_damaged_image_among_thousands(tmp_path: Path) -> None:
    """Named, with its number, whichever worker meets it; left out only by drop_unreadable."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "bmp")
    for number in range(3000):
        path = tmp_path / "ab"[number % 2] / f"{number:04d}.bmp"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stream.getvalue()[: 60 if number == 1234 else None])
    bad = tmp_path / "a" / "1234.bmp"
    (images, labels), test, _ = image_folder(tmp_path, size=8)
    if bad in test[0].paths:
        images, labels = test
    for workers in (0, 2):
        with pytest.raises(DataError, match=rf"{re.escape(str(bad))}: the image cannot be read: ") as caught:
            list(DataLoader(ArrayDataset(images, labels), 64, shuffle=True, seed=1, workers=workers))
        assert images.paths[caught.value.sample] == bad
    rest, left, (told,) = drop_unreadable(images, labels)
    assert len(rest) == len(left) == len(images) - 1
    assert told.startswith(f"{bad}: the image cannot be read: ")
    assert sum(len(y) for _, y in DataLoader(ArrayDataset(rest, left), 64, workers=2)) == len(rest)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "bmp", "tiff", "webp"])
def test_damaged_images_are_errors_in_words(kind: str, tmp_path: Path) -> None:
    rng = random_generator(0)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(256, size=(9, 12, 3), dtype=np.uint8)).save(stream, kind)
    path = tmp_path / f"x.{kind}"
    images = ImageFiles([path], 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read = 0
    for number in range(350):
        changed = damaged(stream.getvalue(), rng, min(60, len(stream.getvalue())))
        path.write_bytes(changed)
        start, message = time.thread_time(), None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow reads some damaged files in spite of its doubts
            try:
                assert images[0].shape == (3, 8, 8)
                read += 1
            except FileError as error:
                message = str(error)
        assert message is None or message.startswith(f"{path}: the image cannot be read: "), number
        assert time.thread_time() - start < 1, number
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10
    assert 10 < read < 345


def test_a_huge_image_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("L", (8000, 8000)).save(path)
    with pytest.raises(FileError, match="cannot be read: it has 64000000 pixels, at most 40000000 are read"):
        ImageFiles([path], 8)[0]
