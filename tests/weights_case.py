"""Files of weights as other libraries write them, made without them."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

STORAGES = {
    "f8": "DoubleStorage", "f4": "FloatStorage", "f2": "HalfStorage", "i8": "LongStorage", "i4": "IntStorage",
    "i2": "ShortStorage", "i1": "CharStorage", "u1": "ByteStorage", "b1": "BoolStorage", "c8": "ComplexFloatStorage",
}  # fmt: skip


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(key: str, kind: str, size: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """The opcodes of a tensor, as PyTorch pickles it."""
    storage = (
        b"(" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(key) + text("cpu") + whole(size) + b"tQ"
    )
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + whole(offset) + numbers(shape) + numbers(strides) + b"\x89" + hooks + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"


def pickled(entries: Mapping[str, bytes]) -> bytes:
    """A pickle of an OrderedDict of what the opcodes make."""
    items = b"".join(text(name) + opcodes for name, opcodes in entries.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def archive(pickle: bytes, storages: Mapping[str, bytes], **more: bytes) -> bytes:
    """The zip archive of a ``.pt`` file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as made:
        made.writestr("archive/data.pkl", pickle)
        made.writestr("archive/byteorder", more.get("byteorder", b"little"))
        for key, values in storages.items():
            made.writestr(f"archive/data/{key}", values)
        made.writestr("archive/version", b"3\n")
    return content.getvalue()


def pt(arrays: Mapping[str, np.ndarray]) -> bytes:
    """What ``torch.save`` writes of tensors with these values, each in its own storage."""
    entries, storages = {}, {}
    for key, (name, array) in enumerate(arrays.items()):
        kind = STORAGES[array.dtype.str[1:]]
        strides = tuple(step // array.itemsize for step in np.ascontiguousarray(array).strides)
        entries[name] = tensor(str(key), kind, array.size, array.shape, strides)
        storages[str(key)] = array.tobytes()
    return archive(pickled(entries), storages)
