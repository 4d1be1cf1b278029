"""Reader of IDX files, the format of MNIST and Fashion-MNIST.

Two zero bytes, a byte for the type, a byte for the number of axes, the sizes as big-endian uint32, then the numbers,
big-endian, last axis fastest. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", file formats.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np

from gpunn.data.reading import PathLike, Source, bad_file, check_shape, opened

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: PathLike) -> np.ndarray[Any, Any]:
    """Read an IDX file, plain or packed by gzip, as an array of the type and shape that it declares.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> _ = path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 2, 1]))
    >>> read_idx(path)
    array([7, 2, 1], dtype=uint8)

    Raises FileError, with the byte and the cause, for a file that is missing, cut short, too long or no IDX file. The
    sizes it declares are compared with its own size before memory is taken.
    """
    with opened(path) as file:
        source = Source(path, file)
        zero, code, axes = struct.unpack(">HBB", source.read(4, "the magic number"))
        if zero != 0 or code not in _TYPES:
            bad_file(path, f"no IDX file: its magic number is 0x{zero:04x}{code:02x}{axes:02x}", at=0)
        if not 1 <= axes <= 32:
            bad_file(path, f"an IDX file has 1 to 32 axes here, got {axes}", at=3)
        shape = struct.unpack(f">{axes}I", source.read(4 * axes, "the sizes"))
        dtype = np.dtype(_TYPES[code])
        count = math.prod(shape) * dtype.itemsize
        source.expect(source.position + count, f"{dtype.name} numbers of shape {shape}")
        check_shape(path, shape, dtype, at=4)
        content = source.read(count, "the numbers")
        source.end()
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
