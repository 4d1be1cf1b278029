"""The one reader of image files: what every kind of pixel means, and how large an image may be."""

from __future__ import annotations

import math
import os
from typing import Any, Literal, TypeAlias

import numpy as np

from gpunn.errors import FileError, PackageError, install_command
from gpunn.files import open_file

Pixels: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]

MAX_PIXELS = 40_000_000
"""The largest image that is read: 120 MB as RGB. The limit is three quarters of it for colours that are made opaque or
converted and for an image that is turned, and half of it for more than 8 bits: they take more memory on the way."""
MAX_RESIZED = 10_000_000
"""The most pixels that an image may have when it is resized, before the middle is cut out of it."""

_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}  # by the orientation that a camera writes. Source: Exif 2.32, tag 0x0112
_ORIENTATION = 0x0112
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0  # tags of a TIFF


def check_pillow() -> None:
    """Raise PackageError, with the command that mends it, where Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise PackageError(f"images are read by Pillow ({error}): {install_command('train')}") from error


def read_image(
    path: str | os.PathLike[str], channels: Literal[1, 3], size: int | None = None, scaled: bool = True
) -> Pixels:
    """Read an image file as (channels, H, W), float32 in [0, 1]; 3 channels are RGB, 1 is grey.

    With ``size`` the shorter side is brought to it (bilinear, unless it has that already) and the middle of the longer
    side is kept: (channels, size, size).

    0 is black. 1 is white: 255 in 8 bits, 65535 in integers of 16 and of 32 bits, 1 in floats; numbers beyond that are
    refused, as nothing says what they mean. With ``scaled=False`` the numbers are those of the file, whatever they are.
    (A TIFF may have 12 bits, with white at 4095, or its white at 0: that is seen to.)
    What is transparent shows white, in its degree. An image is turned as its EXIF orientation says. Of a film, or of a
    file with several pages, it is the first. Colours are taken as sRGB, and grey is ITU-R 601 luma.

    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> path = pathlib.Path(tempfile.mkdtemp(), "a.png")
    >>> Image.fromarray(np.array([[0, 13107, 65535]], np.uint16)).save(path)
    >>> read_image(path, channels=1).tolist()
    [[[0.0, 0.20000000298023224, 1.0]]]

    Raises FileError, with path and cause, for a file that is missing, damaged, no image, too large
    (:data:`MAX_PIXELS`, :data:`MAX_RESIZED`), or whose numbers are not finite or beyond white; PackageError where
    Pillow is not installed.
    """
    check_pillow()
    try:
        image, white = _decoded(path, "RGB" if channels == 3 else "L", scaled)
        if size is not None:
            image = _cut(image, size)
        pixels = np.array(image, np.float32)
    except Exception as error:  # Pillow's decoders raise most kinds for damaged files
        unknown = type(error).__name__ == "UnidentifiedImageError"
        cause = "its format is none that is known" if unknown else getattr(error, "strerror", None) or error
        raise FileError(f"{os.fspath(path)}: the image cannot be read: {cause}") from error
    if scaled:
        pixels /= np.float32(white)
    if pixels.ndim == 3:
        return pixels.transpose(2, 0, 1)
    return pixels[np.newaxis] if channels == 1 else np.repeat(pixels[np.newaxis], channels, axis=0)


def _decoded(path: str | os.PathLike[str], mode: str, scaled: bool) -> tuple[Any, float]:
    """Pillow's image, upright and opaque, and what is white in it; of ``mode`` or, of more than 8 bits, "F"."""
    from PIL import Image

    with open_file(path) as file, Image.open(file) as image:
        deep = image.mode.startswith(("I", "F"))
        _check_size(image, deep)  # before it is decoded: a small file may declare any size
        image.filename = ""  # or Pillow maps the file into memory, and scrambles a TIFF that it turns
        image.load()
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))  # now: Pillow turns a TIFF while it decodes it
        white = _white(image) if deep else 255.0
        image = _deep(image, white, scaled) if deep else _opaque(image, mode)  # the one before is let go of
    return image if turn is None else image.transpose(Image.Transpose[turn]), white


def _check_size(image: Any, deep: bool) -> None:
    plain = image.mode in ("1", "L", "P", "RGB") and not image.has_transparency_data
    pixels, most = math.prod(image.size), MAX_PIXELS
    if pixels <= most:  # only then may the orientation be asked for: in a PNG it can stand behind the pixels
        plain = plain and image.getexif().get(_ORIENTATION, 1) == 1
        most = MAX_PIXELS // 2 if deep else MAX_PIXELS if plain else MAX_PIXELS * 3 // 4
    if pixels > most:
        of = "" if most == MAX_PIXELS else " of such an image"
        raise FileError(f"it has {pixels} pixels, at most {most}{of} are read")


def _opaque(image: Any, mode: str) -> Any:
    from PIL import Image

    if image.has_transparency_data:
        layer = image if image.mode in ("LA", "RGBA") else image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(layer, mask=layer)
    return image if image.mode == mode else image.convert(mode)  # which would copy it


def _white(image: Any) -> float:
    """What is white in an image of more than 8 bits."""
    if image.mode == "F":
        return 1.0
    # 16 bits may be 12 in a TIFF; integers of 32 bits are, in most files, 16 that something has made longer.
    bits = int(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (16,))[0])
    return float(2 ** min(bits, 16) - 1)


def _deep(image: Any, white: float, scaled: bool) -> Any:
    """A grey image of more than 8 bits in floats."""
    from PIL import Image

    grey = np.array(image, np.float32)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:  # Pillow sees to it in 8 bits only
        grey = white - grey
    if "transparency" in image.info:  # of a PNG: one grey is transparent
        grey[grey == image.info["transparency"]] = white
    least, most = float(grey.min()), float(grey.max())
    if scaled and not 0 <= least <= most <= white:  # false for NaN, too
        raise FileError(f"its numbers go from {least:g} to {most:g}, where 0 is black and {white:g} is white")
    return Image.fromarray(grey)


def _cut(image: Any, size: int) -> Any:
    """The middle of ``image``, with its shorter side brought to ``size``."""
    from PIL import Image

    scale = size / min(image.size)
    if scale != 1:
        width, height = (max(size, round(scale * length)) for length in image.size)
        if width * height > MAX_RESIZED:
            wide = f"{image.width}×{image.height}"
            to = f"{width}×{height}, of which the middle would be kept; at most {MAX_RESIZED} pixels are made"
            raise FileError(f"it is {wide}; with its shorter side at {size} it would be {to}")
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = ((length - size) // 2 for length in image.size)
    return image.crop((left, top, left + size, top + size))
