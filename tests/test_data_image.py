"""The reader of image files: what pixels of every kind mean, which way is up, and how much memory a file may take."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpunn.data import image as image_module
from gpunn.data.image import read_image
from gpunn.data.image_files import ImageFiles
from gpunn.errors import FileError
from gpunn.recipes import drawings, inputs

Image = pytest.importorskip("PIL.Image")

RAMP = np.tile(np.linspace(0, 255, 18, dtype=np.uint8), (18, 1))  # every grey is a multiple of 15


def saved(path: Path, pixels: object, **settings: object) -> Path:
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(path, **settings)
    return path


def tiff(*tags: tuple[int, int, int], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of one row with the tags (number, type, value)."""
    place = 8 + 2 + 12 * (len(tags) + 2) + 4
    entries = sorted([*tags, (273, 4, place), (279, 4, len(pixels))])
    packed = b"".join(struct.pack("<HHIHH" if kind == 3 else "<HHII", *(tag, kind, 1, value), *([0] * (kind == 3)))
                      for tag, kind, value in entries)  # fmt: skip
    return struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(entries)) + packed + bytes(4) + pixels


# ---- what pixels mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pixels", "settings"),
    [
        ("8.png", RAMP, {}),
        ("16.png", RAMP.astype(np.uint16) * 257, {}),
        ("16.tif", RAMP.astype(np.uint16) * 257, {"compression": "tiff_lzw"}),
        ("16big.tif", (RAMP.astype(np.uint16) * 257).astype(">u2"), {}),
        ("16.pgm", RAMP.astype(np.int32) * 257, {}),
        ("32.tif", RAMP.astype(np.int32) * 257, {}),
        ("float.tif", RAMP.astype(np.float32) / 255, {}),
        ("rgb.png", np.stack([RAMP] * 3, -1), {}),
        ("white is zero, 16.tif", 65535 - RAMP.astype(np.uint16) * 257, {"tiffinfo": {262: 0}}),
        ("white is zero, float.tif", 1 - RAMP.astype(np.float32) / 255, {"tiffinfo": {262: 0}}),
    ],
)
def test_a_ramp_is_the_same_in_every_depth(name: str, pixels: np.ndarray, settings: dict, tmp_path: Path) -> None:
    path = saved(tmp_path / name, pixels, **settings)
    expected = RAMP.astype(np.float32) / 255
    for channels in (1, 3):
        whole = read_image(path, channels)
        assert (whole.shape, whole.dtype) == ((channels, 18, 18), np.float32)
        np.testing.assert_allclose(whole, np.stack([expected] * channels), atol=1e-6)
    np.testing.assert_allclose(ImageFiles([path], 18)[0], whole, atol=1e-6)
    small = ImageFiles([path], 9)[0]
    np.testing.assert_allclose(small, ImageFiles([saved(tmp_path / "8.png", RAMP)], 9)[0], atol=0.5 / 255)


def test_a_tiff_of_12_bits(tmp_path: Path) -> None:
    path = tmp_path / "12.tif"
    tags = [(256, 4, 2), (257, 4, 1), (258, 3, 12), (259, 3, 1), (262, 3, 1), (277, 3, 1), (278, 4, 1)]
    path.write_bytes(tiff(*tags, pixels=b"\xff\xf5\x55"))
    np.testing.assert_allclose(read_image(path, 1), [[[1, 0x555 / 0xFFF]]], rtol=1e-6)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.array([[0, 1.5]], np.float32), "its numbers go from 0 to 1.5, where 0 is black and 1 is white"),
        (np.array([[-0.5, 1]], np.float32), "its numbers go from -0.5 to 1"),
        (np.array([[np.nan, 1]], np.float32), "its numbers go from nan to nan"),
        (np.array([[np.inf, 1]], np.float32), "its numbers go from 1 to inf"),
        (np.array([[0, 70000]], np.int32), "its numbers go from 0 to 70000, where 0 is black and 65535 is white"),
        (np.array([[-1, 7]], np.int32), "its numbers go from -1 to 7"),
    ],
)
def test_numbers_beyond_white_are_refused(pixels: np.ndarray, said: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.tif", pixels)
    with pytest.raises(FileError, match=f"x.tif: the image cannot be read: {said}"):
        read_image(path, 3)
    np.testing.assert_array_equal(read_image(path, 1, scaled=False)[0], pixels.astype(np.float32))


def test_other_modes(tmp_path: Path) -> None:
    red = saved(tmp_path / "cmyk.tif", Image.new("CMYK", (2, 2), (0, 255, 255, 0)))
    np.testing.assert_array_equal(read_image(red, 3)[:, 0, 0], [1, 0, 0])
    bits = saved(tmp_path / "1.png", Image.fromarray(RAMP > 127))
    np.testing.assert_array_equal(read_image(bits, 1)[0], RAMP > 127)
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putdata([0, 1])
    path = saved(tmp_path / "p.png", palette)
    np.testing.assert_array_equal(read_image(path, 3)[:, 0].T, [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(read_image(path, 1)[0, 0], [76 / 255, 29 / 255])


def test_transparent_pixels_are_white_whatever_colour_they_hide(tmp_path: Path) -> None:
    """Four columns: clear, hiding a colour; opaque, of that colour; in RGBA and LA then half clear, twice."""
    colour = np.full((4, 4, 3), (200, 0, 0), np.uint8)
    alpha = np.tile(np.array([0, 255, 128, 128], np.uint8), (4, 1))
    grey = np.full((4, 4), 100, np.uint8)
    palette = Image.new("P", (4, 4))
    palette.putpalette([200, 0, 0] * 2)
    palette.putdata([0, 1, 1, 1] * 4)
    clear_grey = np.tile(np.array([7, 200, 200, 200], np.uint8), (4, 1))
    cases = {
        "rgba.png": (Image.fromarray(np.dstack([colour, alpha])), {}, (200, 0, 0), 128),
        "la.png": (Image.fromarray(np.dstack([grey, alpha])), {}, (100, 100, 100), 128),
        "p.png": (palette, {"transparency": 0}, (200, 0, 0), 255),
        "l.png": (Image.fromarray(clear_grey), {"transparency": 7}, (200, 200, 200), 255),
        "l16.png": (Image.fromarray(clear_grey.astype(np.uint16) * 257), {"transparency": 7 * 257}, (200,) * 3, 255),
    }
    for name, (picture, settings, solid, half) in cases.items():
        path = saved(tmp_path / name, picture, **settings)
        solid = np.array(solid) / 255
        mixed = solid * half / 255 + 1 - half / 255
        expected = np.stack([np.ones(3), solid, mixed, mixed], axis=1)
        found = read_image(path, 3)
        np.testing.assert_array_equal(found[:, :, 0], 1, err_msg=name)
        np.testing.assert_allclose(found, np.stack([expected] * 4, axis=1), atol=1.5 / 255, err_msg=name)
        resized = read_image(path, 3, size=8)  # the hidden colour does not run into its neighbours
        assert (resized >= np.minimum(solid, 1)[:, None, None] - 1.5 / 255).all(), name


# ---- which way is up -----------------------------------------------------------------------------------------------


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a[::-1].T,  # a quarter turn to the right
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a[:, ::-1].T,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["x.png", "x.webp", "x.tif", "packed.tif", "16.png", "16.tif"])
def test_images_are_turned_as_their_camera_says(name: str, orientation: int, tmp_path: Path) -> None:
    pixels = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    settings = {"x.webp": {"lossless": True}, "packed.tif": {"compression": "tiff_lzw"}}.get(name, {})
    stored = pixels.astype(np.uint16) * 257 if name.startswith("16") else pixels
    path = saved(tmp_path / name, stored, exif=exif, **settings)
    upright = UPRIGHT[orientation](pixels)
    np.testing.assert_allclose(read_image(path, 1)[0], upright / 255, atol=1e-6)
    np.testing.assert_allclose(read_image(path, 3, size=4)[1], _middle(upright) / 255, atol=1e-6)


def test_an_orientation_that_does_not_exist_is_none(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    path = saved(tmp_path / "x.png", RAMP, exif=exif)
    np.testing.assert_allclose(read_image(path, 1)[0], RAMP / 255, atol=1e-6)


def _middle(a: np.ndarray) -> np.ndarray:
    top, left = ((length - 4) // 2 for length in a.shape)
    return a[top : top + 4, left : left + 4]


# ---- who uses it ---------------------------------------------------------------------------------------------------


def test_skeletons_and_digits_are_read_by_the_same_rules(tmp_path: Path) -> None:
    bar = np.zeros((20, 60), np.uint8)
    bar[8:13, 5:55] = 255
    dim = saved(tmp_path / "dim.png", bar.astype(np.uint16) * 100)  # 25500 is less than half of white
    bright = saved(tmp_path / "bright.png", bar.astype(np.uint16) * 257)
    assert drawings.draw_skeleton(tmp_path / "out.png", bright)[0] == 250
    assert drawings.draw_skeleton(tmp_path / "out.png", dim, threshold=0.38)[0] == 250
    hidden = np.zeros((20, 60, 4), np.uint8)
    hidden[8:13, 5:55] = 255
    hidden[..., :3] = 255  # white everywhere, opaque in the bar only
    everything = saved(tmp_path / "hidden.png", hidden)
    assert drawings.draw_skeleton(tmp_path / "out.png", everything)[0] == 20 * 60

    exif = Image.Exif()
    exif[0x0112] = 6
    lying = saved(tmp_path / "lying.png", bar.T[:, ::-1].copy(), exif=exif)
    found, plain = (inputs.digit_images(path)[0] for path in (lying, saved(tmp_path / "plain.png", bar[::-1, ::-1])))
    np.testing.assert_array_equal(found, plain)


# ---- how large -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pixels", "settings", "most"),
    [
        ("rgb.png", np.zeros((20, 10, 3), np.uint8), {}, 200),
        ("l.png", np.zeros((20, 10), np.uint8), {}, 200),
        ("rgba.png", np.zeros((15, 10, 4), np.uint8), {}, 150),
        ("la.png", np.zeros((15, 10, 2), np.uint8), {}, 150),
        ("turned.png", np.zeros((15, 10), np.uint8), {"turned": True}, 150),
        ("cmyk.tif", Image.new("CMYK", (15, 10)), {}, 150),
        ("16.png", np.zeros((10, 10), np.uint16), {}, 100),
        ("float.tif", np.zeros((10, 10), np.float32), {}, 100),
    ],
)
def test_the_largest_image_of_each_kind(
    name: str, pixels: object, settings: dict, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if settings:
        settings = {"exif": Image.Exif()}
        settings["exif"][0x0112] = 3
    path = saved(tmp_path / name, pixels, **settings)
    for limit in (200, 197):
        monkeypatch.setattr(image_module, "MAX_PIXELS", limit)
        if limit == 200:
            assert read_image(path, 3).shape[0] == 3
        else:
            with pytest.raises(
                FileError, match=f"it has {most} pixels, at most {most * limit // 200}( of such .*)? are"
            ):
                read_image(path, 3)


@pytest.mark.parametrize("shape", [(1, 20000), (20000, 1), (3, 200_000)])
def test_an_image_that_grows_when_it_is_resized(shape: tuple[int, int], tmp_path: Path) -> None:
    path = saved(tmp_path / "long.png", np.full(shape, 51, np.uint8))
    assert path.stat().st_size < 2000
    high, wide = shape
    rule = (
        rf"it is {wide}×{high}; with its shorter side at 227 it would be \d+×\d+, .* at most 10000000 pixels are made"
    )
    with pytest.raises(FileError, match=rf"long.png: the image cannot be read: {rule}"):
        ImageFiles([path], 227)[0]
    np.testing.assert_allclose(ImageFiles([path], 8)[0], 0.2)
    np.testing.assert_allclose(read_image(path, 1), np.full((1, *shape), 0.2))


MEASURE = """
import resource, sys
import numpy as np
from PIL import Image
from gpunn.data.image import read_image
read_image(sys.argv[1], 3, 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
read_image(sys.argv[2], 3, 227)
read_image(sys.argv[2], 1)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB")
@pytest.mark.parametrize("kind", ["RGB", "turned", "clear palette", "float"])
def test_the_largest_images_take_less_than_300_megabytes(kind: str, tmp_path: Path) -> None:
    path, settings = tmp_path / "x.tif", {"compression": "tiff_adobe_deflate"}
    if kind == "RGB":
        picture = Image.new("RGB", (8000, 5000))
    elif kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = 6
        path, picture, settings = tmp_path / "x.jpg", Image.new("RGB", (6000, 5000)), {"exif": exif}
    elif kind == "clear palette":
        path, picture, settings = tmp_path / "x.png", Image.new("P", (6000, 5000)), {"transparency": 0}
    else:
        picture = Image.new("F", (5000, 4000))
    saved(path, picture, **settings)
    small = saved(tmp_path / "small.png", RAMP)
    command = [sys.executable, "-c", MEASURE, str(small), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300


@pytest.mark.skipif(sys.platform == "win32", reason="FIFOs are POSIX's")
def test_a_fifo_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(FileError, match=r"a\.png: the image cannot be read: not a regular file, but a FIFO"):
        read_image(tmp_path / "a.png", channels=1)
